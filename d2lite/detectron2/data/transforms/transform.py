"""The transform that fvcore lacks."""

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import Transform
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
                f"this resize is for images of {self.h}x{self.w}, not of shape {img.shape}"
            )
        if img.ndim > 4:
            raise AssertionError(f"cannot resize an array of {img.ndim} dimensions")
        method = self.interp if interp is None else interp
        resize = self._with_pillow if img.dtype == np.uint8 else self._with_torch
        return resize(img, method).reshape(self.new_h, self.new_w, *img.shape[2:])

    def _with_pillow(self, img: np.ndarray, method: int) -> np.ndarray:
        is_single = img.ndim == 3 and img.shape[2] == 1
        image = Image.fromarray(img[:, :, 0] if is_single else img)
        return np.asarray(image.resize((self.new_w, self.new_h), method))

    def _with_torch(self, img: np.ndarray, method: int) -> np.ndarray:
        channels_last = torch.from_numpy(np.ascontiguousarray(img.reshape(self.h, self.w, -1)))
        channels = channels_last.permute(2, 0, 1)[None]  # (1, C, h, w)
        resized = F.interpolate(channels, (self.new_h, self.new_w), **_TORCH_MODES[method])
        return resized[0].permute(1, 2, 0).numpy()

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resize a label map, (h, w), taking the nearest pixel."""
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale points, (N, 2) as x, y, in place; integer results are truncated."""
        for axis, factor in enumerate((self.new_w / self.w, self.new_h / self.h)):
            coords[:, axis] = coords[:, axis] * factor
        return coords

    def inverse(self) -> "ResizeTransform":
        """Return the resize back to the original size."""
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)
