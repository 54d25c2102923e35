"""Images of different sizes in one tensor."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


class ImageList:
    """A padded batch of images, and their sizes.

    Attributes:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of every image before padding; tensors in a trace.
    """

    def __init__(self, tensor: torch.Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor, self.image_sizes = tensor, image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> torch.Tensor:
        """Image ``idx`` without padding."""
        size = self.image_sizes[idx]
        return self.tensor[idx, ..., : size[0], : size[1]]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """A new list on another device or of another type."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: list[torch.Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad images at the right and the bottom to one size; can be traced.

        Args:
            tensors: each (..., H, W), alike in everything but H and W.
            size_divisibility: the common size is rounded up to a multiple; 0 is 1.
            pad_value: value of the padding.
            padding_constraints: "size_divisibility" instead of the argument, and "square_size",
                the side of a square to pad to.
        """
        divisor, square = size_divisibility, 0
        if padding_constraints is not None:
            divisor = padding_constraints.get("size_divisibility", divisor)
            square = padding_constraints.get("square_size", 0)
        sizes, height, width = _checked_sizes(tensors)
        if square > 0:
            if max(height, width) > square:
                raise RuntimeError("an image does not fit into the square to pad to")
            height, width = square, square
        if divisor > 1:
            height = (height + divisor - 1) // divisor * divisor
            width = (width + divisor - 1) // divisor * divisor
        padded = []
        for tensor, size in zip(tensors, sizes, strict=True):
            margins = [0, width - size[1], 0, height - size[0]]
            padded.append(F.pad(tensor, margins, value=pad_value))
        return ImageList(torch.stack(padded), sizes)


def _checked_sizes(tensors: Sequence[torch.Tensor]) -> tuple[list, Any, Any]:
    """The sizes of images, and the largest height and width.

    In a trace they are tensors, so that the padding follows the input.
    """
    if not isinstance(tensors, list | tuple) or not tensors:
        raise AssertionError("from_tensors takes a list of at least one image")
    if any(tensor.shape[:-2] != tensors[0].shape[:-2] for tensor in tensors):
        raise AssertionError("the images of a batch differ in their channels")
    if torch.jit.is_tracing():
        traced = [torch.stack(tuple(tensor.shape[-2:])) for tensor in tensors]
        return traced, *torch.stack(traced).amax(dim=0)
    sizes = [tuple(tensor.shape[-2:]) for tensor in tensors]
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return sizes, height, width
