"""Reading images, checking them against their records, and the default augmentation."""

import numpy as np
import torch
from PIL import Image, ImageOps

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager

# ITU-R BT.601, as it stands in "YUV" of Wikipedia: luminance in 0..1, two differences around 0.
_YUV = "YUV-BT.601"
_YUV_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_RGB_FROM_YUV = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])


class SizeMismatchError(ValueError):
    """An image is not as large as its record says."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Turn an image into an array.

    Args:
        image: the image.
        format: a mode of Pillow, "BGR", "YUV-BT.601", or None for the image's own mode.

    Returns:
        (H, W, C) uint8; "L" gives (H, W, 1), None whatever the mode holds: (H, W) for grey
        images and for the indices of a palette; YUV is float64, its first channel in 0..1.
    """
    if format is not None:
        image = image.convert("RGB" if format in ("BGR", _YUV) else format)
    array = np.asarray(image)
    if format == "L":
        return array[:, :, None]
    if format == _YUV:
        return np.dot(array / 255.0, _YUV_FROM_RGB.T)
    return array[:, :, ::-1] if format == "BGR" else array


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """Turn an array of :func:`read_image` in some format into (H, W, 3) RGB of 0..255.

    uint8 but for YUV, which gives float64, and "BGR", which keeps its type.
    """
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[:, :, [2, 1, 0]]
    if format == _YUV:
        return np.dot(image, _RGB_FROM_YUV.T) * 255.0
    grey_levels = (image[:, :, 0] if format == "L" else image).astype(np.uint8)
    return np.asarray(Image.fromarray(grey_levels, mode=format).convert("RGB"))


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image, turned as its EXIF tag asks; see :func:`convert_PIL_to_numpy`."""
    with PathManager.open(file_name, "rb") as file:
        return convert_PIL_to_numpy(ImageOps.exif_transpose(Image.open(file)), format)


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Check an image against "width" and "height" of its record; sets them where absent.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    if "width" in dataset_dict or "height" in dataset_dict:
        expected = (dataset_dict["width"], dataset_dict["height"])
        if (width, height) != expected:
            raise SizeMismatchError(
                f"{dataset_dict.get('file_name', 'an image')} is {width}x{height} pixels, "
                f"but its record says {expected[0]}x{expected[1]}"
            )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return the augmentations of ``cfg.INPUT``: resizing, and in training flipping."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    resize = T.ResizeShortestEdge(
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    )
    direction = cfg.INPUT.RANDOM_FLIP
    if direction == "none":
        return [resize]
    return [
        resize,
        T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical"),
    ]


build_transform_gen = build_augmentation  # the name of older releases
