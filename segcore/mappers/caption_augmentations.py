"""The augmentation of DeiT, for images with captions.

Source: Touvron et al., "Training data-efficient image transformers", ICML 2021, appendix; the
transforms are timm's and torchvision's.
"""

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop

from segcore.errors import UserError, printable

MEAN, STD = (
    255 * torch.tensor(values).view(3, 1, 1)
    for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
)


class DeitAugmentation:
    """Crop, flip, RandAugment or colour jitter, and random erasing; all random states are global.

    Erased rectangles are filled with noise of the mean and the standard deviation of ImageNet.
    """

    def __init__(self, cfg: CfgNode, side: int) -> None:
        """
        Args:
            cfg: the section ``INPUT.CAPTION``.
            side: of the square that is returned, in pixels.

        Raises:
            UserError: a key is out of range.
        """
        _check(cfg)
        self.flip = cfg.FLIP
        self.crop = RandomResizedCrop(
            side, tuple(cfg.SCALE), interpolation=InterpolationMode.BICUBIC
        )
        self.colours = None
        if cfg.RAND_AUGMENT:
            self.colours = _rand_augment(cfg.RAND_AUGMENT, side)
        elif cfg.COLOR_JITTER:
            self.colours = ColorJitter(*3 * [cfg.COLOR_JITTER])
        self.erase = RandomErasing(cfg.ERASING, mode="pixel", device="cpu")

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """Return the augmented image (3, side, side) uint8 of an RGB image (H, W, 3) uint8."""
        image = self.crop(Image.fromarray(image))
        if np.random.random() < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.colours is not None:
            image = self.colours(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        erased = self.erase((pixels.float() - MEAN) / STD)
        return (erased * STD + MEAN).round().clamp(0, 255).byte()


def _rand_augment(config: str, side: int) -> object:
    fill = tuple(round(255 * mean) for mean in IMAGENET_DEFAULT_MEAN)
    options = {"translate_const": int(side * 0.45), "img_mean": fill}
    try:
        return rand_augment_transform(config, options)
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"INPUT.CAPTION.RAND_AUGMENT is {printable(config)!r}: write it as timm does, such as "
            "rand-m9-mstd0.5-inc1"
        ) from error


def _check(cfg: CfgNode) -> None:
    scale = cfg.SCALE
    rules = {
        "SCALE": (
            len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1,
            "two fractions of the area of an image, such as (0.08, 1.0)",
        ),
        "FLIP": (0 <= cfg.FLIP <= 1, "a probability"),
        "ERASING": (0 <= cfg.ERASING <= 1, "a probability"),
        "COLOR_JITTER": (0 <= cfg.COLOR_JITTER <= 1, "a number from 0 to 1"),
    }
    for key, (kept, demand) in rules.items():
        if not kept:
            raise UserError(f"INPUT.CAPTION.{key} is {cfg[key]!r}; it has to be {demand}")
