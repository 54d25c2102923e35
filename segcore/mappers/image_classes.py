"""Map semantic data sets for multi-label classifiers: a square image, and the classes in it.

Source of the recipe: Liu et al., "Query2Label: A Simple Transformer Way to Multi-Label
Classification", 2021; cutout: DeVries and Taylor, "Improved Regularization of Convolutional Neural
Networks with Cutout", 2017; RandAugment: Cubuk et al., CVPR 2020.
"""

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from PIL import Image
from torchvision.transforms import RandAugment

from segcore.datasets import first_training_metadata, shown_classes
from segcore.errors import UserError
from segcore.images import read_image
from segcore.mappers.augmentations import IMAGE_PADDING
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import GROUND_TRUTH, check_ignore_label, to_tensor


class ImageClassesMapper:
    """Read an image and resize it to a square, neither cropped nor flipped.

    In training the classes of the whole stored label map are read, and the image passes cutout and
    RandAugment. Testing reads no ground truth.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        size: int,
        image_format: str,
        num_classes: int,
        ignore_label: int,
        cutout: float = 0.0,
        rand_augment: tuple[int, int] = (0, 0),
    ) -> None:
        """
        Args:
            is_train: augment, and read the classes.
            size: side of the square.
            image_format: ``"RGB"`` or ``"BGR"``.
            num_classes: K; a label map with another class is refused.
            ignore_label: label of pixels without a class.
            cutout: side of a square hole over that of the image, 0 ... 1; 0: none.
            rand_augment: number of operations, and their magnitude, 0 ... 30.

        Raises:
            UserError: a value is out of range.
        """
        key = "INPUT.IMAGE_CLASSES"
        if size < 1:
            raise UserError(f"{key}.SIZE is {size}; it has to be a number of pixels")
        if not 0 <= cutout <= 1:
            raise UserError(f"{key}.CUTOUT is {cutout}; it has to be from 0 to 1")
        operations, magnitude = rand_augment if len(rand_augment) == 2 else (-1, 0)
        if operations < 0 or not 0 <= magnitude <= 30:
            raise UserError(
                f"{key}.RAND_AUGMENT is {list(rand_augment)}; it has to be a number of operations "
                "and a magnitude from 0 to 30"
            )
        self.is_train, self.image_format = is_train, image_format
        self.num_classes, self.ignore_label, self.cutout = num_classes, ignore_label, cutout
        self.resize = T.Resize((size, size))
        self.rand_augment = None
        if operations:
            self.rand_augment = RandAugment(operations, magnitude, fill=[IMAGE_PADDING] * 3)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict:
        """Return the constructor's arguments from ``INPUT.IMAGE_CLASSES``."""
        if is_train:
            check_ignore_label(first_training_metadata(cfg).name, cfg)
        node, head = cfg.INPUT.get("IMAGE_CLASSES"), cfg.MODEL.SEM_SEG_HEAD
        if node is None:
            raise UserError("the mapper image_classes is for Query2Label, of the family per_pixel")
        return {
            "is_train": is_train,
            "size": node.SIZE,
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": head.NUM_CLASSES,
            "ignore_label": head.IGNORE_VALUE,
            "cutout": node.CUTOUT,
            "rand_augment": tuple(node.RAND_AUGMENT),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``file_name``, and in training ground truth: a label map, segments or
                annotations.

        Returns:
            the entries of ``dataset_dict`` without its ground truth, with ``image``
            (3, size, size) uint8, and ``height`` and ``width`` of the image as stored; in training
            with ``category_ids`` (n,) int64, ascending.

        Raises:
            UserError: a file cannot be read, or has a class that the model lacks.
        """
        if "file_names" in dataset_dict:
            raise UserError("the mapper image_classes is for images, but the data set holds videos")
        output = {key: value for key, value in dataset_dict.items() if key not in GROUND_TRUTH}
        image = read_image(dataset_dict["file_name"], "RGB")
        output["height"], output["width"] = image.shape[:2]
        image = self.resize.get_transform(image).apply_image(image)
        if self.is_train:
            image = self._augment(image)
            shown = shown_classes(dataset_dict, self.num_classes, self.ignore_label)
            output["category_ids"] = torch.from_numpy(shown)
        output["image"] = to_tensor(image if self.image_format == "RGB" else image[..., ::-1])
        return output

    def _augment(self, image: np.ndarray) -> np.ndarray:
        image = cut_out(image, self.cutout)
        if self.rand_augment is None:
            return image
        return np.asarray(self.rand_augment(Image.fromarray(image)))


def cut_out(image: np.ndarray, share: float) -> np.ndarray:
    """Fill a square hole of an image with a random colour; its centre is any pixel.

    Args:
        image: (S, S, 3) uint8.
        share: side of the hole over that of the image; 0 returns the image itself.
    """
    side = round(share * len(image))
    if not side:
        return image
    image = image.copy()
    top, left = np.random.randint(len(image), size=2) - side // 2
    colour = np.random.randint(256, size=3)
    image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = colour
    return image


@MAPPER_REGISTRY.register()
def image_classes(cfg: CfgNode, is_train: bool) -> ImageClassesMapper:
    """Build the mapper of Query2Label."""
    return ImageClassesMapper(cfg, is_train)
