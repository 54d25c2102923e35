"""The ways in which a box may be written, and how to turn one into another."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import torch


class BoxMode(IntEnum):
    """How the four or five numbers of a box are meant; the number stands in datasets."""

    XYXY_ABS = 0  # x0, y0, x1, y1 in pixels
    XYWH_ABS = 1  # x0, y0, width, height in pixels
    XYXY_REL = 2  # as shares of the image's size: known by name only
    XYWH_REL = 3
    XYWHA_ABS = 4  # centre x, centre y, width, height in pixels, counter-clockwise degrees

    @staticmethod
    def convert(box: Any, from_mode: "BoxMode", to_mode: "BoxMode") -> Any:
        """Write a box or several in another way.

        Args:
            box: a list or a tuple of 4 or 5 numbers, or an (N, 4) or (N, 5) array or tensor, which
                is not changed.
            from_mode, to_mode: both in pixels.

        Returns:
            The same type.

        Raises:
            AssertionError: a mode is relative, or the box has another length.
            NotImplementedError: there is no way between the two.
        """
        if from_mode == to_mode:
            return box
        relative = (BoxMode.XYXY_REL, BoxMode.XYWH_REL)
        if from_mode in relative or to_mode in relative:
            raise AssertionError("boxes relative to the image cannot be converted")
        convert = _CONVERSIONS.get((from_mode, to_mode))
        if convert is None:
            raise NotImplementedError(f"no conversion of boxes from {from_mode!r} to {to_mode!r}")
        if isinstance(box, list | tuple):
            if len(box) not in (4, 5):
                raise AssertionError(f"a box has 4 or 5 numbers, not {len(box)}")
            return type(box)(convert(torch.tensor(box)[None])[0].tolist())
        if isinstance(box, np.ndarray):
            return convert(torch.from_numpy(box)).numpy()
        return convert(box)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _sides(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)


def _unrotated(boxes: torch.Tensor) -> torch.Tensor:
    """The smallest upright boxes around rotated ones."""
    if boxes.shape[-1] != 5:
        raise AssertionError(f"rotated boxes are (N, 5), not {tuple(boxes.shape)}")
    centre, (width, height) = boxes[:, :2].double(), boxes[:, 2:4].double().unbind(1)
    angle = torch.deg2rad(boxes[:, 4].double())
    cosine, sine = angle.cos().abs(), angle.sin().abs()
    sides = torch.stack([cosine * width + sine * height, cosine * height + sine * width], dim=1)
    return torch.cat([centre - sides / 2, centre + sides / 2], dim=1).to(boxes.dtype)


def _rotated(boxes: torch.Tensor) -> torch.Tensor:
    """Upright boxes as rotated ones of 0 degrees."""
    exact = boxes.double()
    centres = exact[:, :2] + exact[:, 2:] / 2
    angles = exact.new_zeros(len(exact), 1)
    return torch.cat([centres, exact[:, 2:], angles], dim=1).to(boxes.dtype)


_CONVERSIONS: dict[tuple[int, int], Callable[[torch.Tensor], torch.Tensor]] = {
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _corners,
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _sides,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _unrotated,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _rotated,
}
