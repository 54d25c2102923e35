"""Pictures of different sizes in one tensor."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


class ImageList:
    """A padded batch that remembers the sizes.

    Attributes:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of every picture before padding.
    """

    def __init__(self, tensor: torch.Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor, self.image_sizes = tensor, image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> torch.Tensor:
        """Picture ``idx`` without padding."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """A new list on another device or of another type."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[torch.Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad pictures at the right and the bottom to one size.

        Args:
            tensors: each (..., H, W), alike in everything but H and W.
            size_divisibility: the common size is rounded up to a multiple; 0 is 1.
            pad_value: value of the padding.
            padding_constraints: "size_divisibility" in place of the argument, and "square_size",
                the side of a square to pad to.
        """
        if not tensors:
            raise AssertionError("cannot make a batch out of no pictures")
        if any(tensor.shape[:-2] != tensors[0].shape[:-2] for tensor in tensors):
            raise AssertionError("the pictures of a batch differ in their channels")
        constraints = padding_constraints or {}
        divisor = constraints.get("size_divisibility", size_divisibility)
        sizes = [(int(tensor.shape[-2]), int(tensor.shape[-1])) for tensor in tensors]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        if square := constraints.get("square_size", 0):
            if max(height, width) > square:
                raise RuntimeError(f"a {height}x{width} picture does not fit a square of {square}")
            height = width = square
        if divisor > 1:
            height, width = (-(-side // divisor) * divisor for side in (height, width))
        padded = [
            F.pad(tensor, (0, width - w, 0, height - h), value=pad_value)
            for tensor, (h, w) in zip(tensors, sizes, strict=True)
        ]
        return ImageList(torch.stack(padded), sizes)
