"""Transforms beside those of fvcore."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import HFlipTransform, NoOpTransform, Transform
from PIL import Image

_TORCH_MODES = {
    Image.NEAREST: {"mode": "nearest"},
    Image.BILINEAR: {"mode": "bilinear", "align_corners": False},
    Image.BICUBIC: {"mode": "bicubic", "align_corners": False},
}


class ResizeTransform(Transform):
    """Resize to a fixed size.

    uint8 arrays go through Pillow, which averages when it shrinks; others go through torch, which
    does not. The nearest pixel of both differs at odd ratios.

    Args:
        h, w: size of the input.
        new_h, new_w: size of the output.
        interp: interpolation, as Pillow numbers it; bilinear by default.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = Image.BILINEAR if interp is None else interp

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resize an array, (h, w, ...) to (new_h, new_w, ...)."""
        if img.shape[:2] != (self.h, self.w):
            raise AssertionError(
                f"this resize is for pictures of {self.h}x{self.w}, not of shape {img.shape}"
            )
        if img.ndim > 4:
            raise AssertionError(f"cannot resize an array of {img.ndim} dimensions")
        method = self.interp if interp is None else interp
        resize = self._with_pillow if img.dtype == np.uint8 else self._with_torch
        return resize(img, method).reshape(self.new_h, self.new_w, *img.shape[2:])

    def _with_pillow(self, img: np.ndarray, method: int) -> np.ndarray:
        is_single = img.ndim == 3 and img.shape[2] == 1
        picture = Image.fromarray(img[:, :, 0] if is_single else img)
        return np.asarray(picture.resize((self.new_w, self.new_h), method))

    def _with_torch(self, img: np.ndarray, method: int) -> np.ndarray:
        channels_last = torch.from_numpy(np.ascontiguousarray(img.reshape(self.h, self.w, -1)))
        channels = channels_last.permute(2, 0, 1)[None]  # (1, C, h, w)
        resized = F.interpolate(channels, (self.new_h, self.new_w), **_TORCH_MODES[method])
        return resized[0].permute(1, 2, 0).numpy()

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize a label map, (h, w), taking the nearest pixel."""
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale points, (N, 2) as x, y, in place; integers are cut off to integers."""
        for axis, factor in enumerate((self.new_w / self.w, self.new_h / self.h)):
            coords[:, axis] = coords[:, axis] * factor
        return coords

    def inverse(self) -> "ResizeTransform":
        """The resize back."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class ExtentTransform(Transform):
    """Cut out a rectangle, which may reach over the borders, and resize it.

    Args:
        src_rect: x0, y0, x1, y1 in the input.
        output_size: (height, width) of the output.
        interp: interpolation, as Pillow numbers it.
        fill: value of what lies outside the input.
    """

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = Image.BILINEAR,
        fill: int = 0,
    ) -> None:
        super().__init__()
        self.src_rect, self.output_size = src_rect, output_size
        self.interp, self.fill = interp, fill

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Cut out of a uint8 array, (h, w) or (h, w, C)."""
        is_single = img.ndim == 3 and img.shape[2] == 1
        image = Image.fromarray(img[:, :, 0] if is_single else img).transform(
            size=self.output_size[::-1],
            method=Image.EXTENT,
            data=self.src_rect,
            resample=interp or self.interp,
            fill=self.fill,
        )
        return np.asarray(image).reshape(*self.output_size, *img.shape[2:])

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Cut out of a segmentation map, taking the nearest pixel."""
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Move and scale points, (N, 2) as x, y, to float32."""
        x0, y0, x1, y1 = self.src_rect
        height, width = self.output_size
        moved = coords.astype(np.float32)
        for axis, low, high, length in ((0, x0, x1, width), (1, y0, y1, height)):
            moved[:, axis] -= 0.5 * (low + high)
            moved[:, axis] *= length / (high - low)
            moved[:, axis] += 0.5 * length
        return moved


class ColorTransform(Transform):
    """Apply a function to the image and leave everything else.

    Args:
        op: from array to array.
    """

    def __init__(self, op: Callable[[np.ndarray], np.ndarray]) -> None:
        if not callable(op):
            raise ValueError(f"op must be a function, not {op!r}")
        super().__init__()
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        """Nothing: colours are not brought back."""
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """A :class:`ColorTransform` whose function takes and returns an image of Pillow."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))


def _flip_rotated(transform: HFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Flip (N, 5) centre x, centre y, width, height, counter-clockwise degrees, in place."""
    rotated_boxes[:, 0] = transform.width - rotated_boxes[:, 0]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def _resize_rotated(transform: ResizeTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Scale such boxes in place; a skewed box becomes the rectangle with scaled side lengths."""
    x, y = transform.new_w / transform.w, transform.new_h / transform.h
    angles = np.deg2rad(rotated_boxes[:, 4])
    cosines, sines = np.cos(angles), np.sin(angles)
    rotated_boxes[:, 0] *= x
    rotated_boxes[:, 1] *= y
    rotated_boxes[:, 2] *= np.hypot(x * cosines, y * sines)
    rotated_boxes[:, 3] *= np.hypot(x * sines, y * cosines)
    rotated_boxes[:, 4] = np.rad2deg(np.arctan2(x * sines, y * cosines))
    return rotated_boxes


HFlipTransform.register_type("rotated_box", _flip_rotated)
ResizeTransform.register_type("rotated_box", _resize_rotated)
NoOpTransform.register_type("rotated_box", lambda t, x: x)
