"""Axis-aligned boxes."""

from collections.abc import Iterator

import torch

from detectron2.structures.box_mode import BoxMode as BoxMode


class Boxes:
    """Boxes as rows of x0, y0, x1, y1.

    Args:
        tensor: (N, 4), or empty; becomes float32 on its device.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        if not isinstance(tensor, torch.Tensor):
            tensor = torch.as_tensor(tensor, dtype=torch.float32)
        tensor = tensor.to(torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 4)
        if tensor.dim() != 2 or tensor.shape[1] != 4:
            raise AssertionError(f"boxes are (N, 4), not {tuple(tensor.shape)}")
        self.tensor = tensor

    def clone(self) -> "Boxes":
        """A copy."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device) -> "Boxes":
        """Return the boxes on another device."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> torch.Tensor:
        """(N,)."""
        sides = self.tensor[:, 2:] - self.tensor[:, :2]
        return sides[:, 0] * sides[:, 1]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip the boxes to an image of (height, width), in place."""
        if not self.tensor.isfinite().all():
            raise AssertionError("the boxes hold a number that is not finite")
        height, width = box_size
        limit = self.tensor.new_tensor([width, height, width, height])
        self.tensor = self.tensor.clamp(min=0).minimum(limit)

    def nonempty(self, threshold: float = 0.0) -> torch.Tensor:
        """Whether both sides exceed ``threshold``: (N,) bool."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> torch.Tensor:
        """Whether they stay within an image of (height, width) and a margin: (N,) bool."""
        height, width = box_size
        low = self.tensor[:, :2] >= -boundary_threshold
        limit = self.tensor.new_tensor([width, height]) + boundary_threshold
        return (low & (self.tensor[:, 2:] < limit)).all(dim=1)

    def get_centers(self) -> torch.Tensor:
        """(N, 2), x and y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale by two factors, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """Concatenate boxes; of an empty list no box."""
        if not isinstance(boxes_list, list | tuple):
            raise AssertionError("cat takes a list of Boxes")
        tensors = [boxes.tensor for boxes in boxes_list]
        return cls(torch.cat(tensors) if tensors else torch.empty(0))

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    def __getitem__(self, item: int | slice | torch.Tensor) -> "Boxes":
        """The boxes of an index, a slice, or a tensor of indices or of bool."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, -1))
        chosen = self.tensor[item]
        if chosen.dim() != 2:
            raise AssertionError(f"{item} gives {tuple(chosen.shape)}, no boxes")
        return Boxes(chosen)

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """One (4,) a box."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"
