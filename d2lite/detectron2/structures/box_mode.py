"""Box formats, and conversion between them."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import torch

from detectron2._absent import absent_message


class BoxMode(IntEnum):
    """Format of a box; datasets store the number."""

    XYXY_ABS = 0  # x0, y0, x1, y1 in pixels
    XYWH_ABS = 1  # x0, y0, width, height in pixels
    XYXY_REL = 2  # relative to the image's size: only the name is known
    XYWH_REL = 3
    XYWHA_ABS = 4  # rotated boxes: known by name only

    @staticmethod
    def convert(box: Any, from_mode: "BoxMode", to_mode: "BoxMode") -> Any:
        """Convert a box or several to another format.

        Args:
            box: a list or a tuple of 4 numbers, or an (N, 4) array or tensor, which is not changed.
            from_mode, to_mode: both in pixels.

        Returns:
            The same type.

        Raises:
            AssertionError: a mode is relative, or the box has another length.
            NotImplementedError: a mode is that of rotated boxes.
        """
        if from_mode == to_mode:
            return box
        relative = (BoxMode.XYXY_REL, BoxMode.XYWH_REL)
        if from_mode in relative or to_mode in relative:
            raise AssertionError("boxes relative to the image cannot be converted")
        convert = _CONVERSIONS.get((from_mode, to_mode))
        if convert is None:
            raise NotImplementedError(absent_message(f"Turning {from_mode!r} into {to_mode!r}"))
        if isinstance(box, list | tuple):
            if len(box) != 4:
                raise AssertionError(f"a box has 4 numbers, not {len(box)}")
            return type(box)(convert(torch.tensor(box)[None])[0].tolist())
        if isinstance(box, np.ndarray):
            return convert(torch.from_numpy(box)).numpy()
        return convert(box)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _sides(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)


_CONVERSIONS: dict[tuple[int, int], Callable[[torch.Tensor], torch.Tensor]] = {
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _corners,
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _sides,
}
