"""Masks of the objects of an image, as bitmaps or as polygons."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from detectron2.structures.boxes import Boxes


def polygons_to_bitmask(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Draw the polygons of one object, each x0, y0, x1, y1, ...: (height, width) bool."""
    if not len(polygons):
        return np.zeros((height, width), dtype=bool)
    from pycocotools import mask as coco

    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(bool)


def rasterize_polygons_within_box(
    polygons: Sequence[np.ndarray], box: np.ndarray, mask_size: int
) -> np.ndarray:
    """Draw what a box x0, y0, x1, y1 holds of polygons: (mask_size, mask_size) bool."""
    sides = np.maximum(box[2:] - box[:2], 0.1)  # a box without a side is not divided by 0
    moved = [(polygon.reshape(-1, 2) - box[:2]) * (mask_size / sides) for polygon in polygons]
    return polygons_to_bitmask([polygon.reshape(-1) for polygon in moved], mask_size, mask_size)


class BitMasks:
    """The masks of N objects.

    Args:
        tensor: (N, H, W), becomes bool.

    Attributes:
        image_size: (H, W).
    """

    def __init__(self, tensor: torch.Tensor | np.ndarray) -> None:
        tensor = torch.as_tensor(tensor).to(torch.bool)
        if tensor.dim() != 3:
            raise AssertionError(f"masks are (N, H, W), not {tuple(tensor.shape)}")
        self.tensor, self.image_size = tensor, tensor.shape[1:]

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        """On another device."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    def __getitem__(self, item: int | slice | torch.Tensor) -> "BitMasks":
        """The masks of an index, a slice, or a tensor of indices or of bool."""
        chosen = self.tensor[item]
        return BitMasks(chosen[None] if isinstance(item, int) else chosen)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """One (H, W) a mask."""
        yield from self.tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def nonempty(self) -> torch.Tensor:
        """Whether each mask has a pixel: (N,) bool."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Draw the polygons of every object."""
        masks = [polygons_to_bitmask(polygons, height, width) for polygons in polygon_masks]
        return BitMasks(np.stack(masks) if masks else torch.empty(0, height, width))

    @staticmethod
    def from_roi_masks(roi_masks: Any, height: int, width: int) -> "BitMasks":
        """Paste the masks of boxes, which Detectron2 itself makes, into the image."""
        return roi_masks.to_bitmasks(height, width)

    def get_bounding_boxes(self) -> Boxes:
        """The tight boxes; all zero for masks without a pixel."""
        boxes = torch.zeros(len(self), 4)
        for box, mask in zip(boxes, self.tensor, strict=True):
            ys, xs = (torch.where(mask.any(dim=axis))[0] for axis in (1, 0))
            if len(xs):
                box[:] = torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
        return Boxes(boxes)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Cut out one (N, 4) box of each mask: (N, mask_size, mask_size) bool."""
        if len(boxes) != len(self):
            raise AssertionError(f"{len(boxes)} boxes do not fit {len(self)} masks")
        from torchvision.ops import roi_align

        numbers = torch.arange(len(self), device=self.device, dtype=boxes.dtype)[:, None]
        regions = torch.cat([numbers, boxes.to(self.device)], dim=1)
        masks = self.tensor[:, None].to(regions.dtype)
        return roi_align(masks, regions, mask_size, aligned=True)[:, 0] >= 0.5

    @staticmethod
    def cat(bitmasks_list: list["BitMasks"]) -> "BitMasks":
        """All masks of at least one list in a row."""
        if not bitmasks_list or not all(isinstance(masks, BitMasks) for masks in bitmasks_list):
            raise AssertionError("cat takes a list of at least one BitMasks")
        return type(bitmasks_list[0])(torch.cat([masks.tensor for masks in bitmasks_list]))


class PolygonMasks:
    """The masks of N objects, each a list of polygons; they stay on the CPU.

    Args:
        polygons: for every object a list of arrays x0, y0, x1, y1, ... of at least three points;
            they become float64.

    Raises:
        ValueError: it is something else.
    """

    def __init__(self, polygons: list[list[torch.Tensor | np.ndarray]]) -> None:
        if not isinstance(polygons, list):
            raise ValueError(f"the masks are a list with one entry an object, not {polygons!r}")
        self.polygons = [_polygons_of_object(item) for item in polygons]

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        """Itself: polygons have no device."""
        return self

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def __getitem__(self, item: int | slice | list[int] | torch.Tensor) -> "PolygonMasks":
        """The masks of an index, a slice, or indices or a bool for each in a tensor."""
        if isinstance(item, int):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        if isinstance(item, torch.Tensor):
            if item.dtype not in (torch.bool, torch.int32, torch.int64):
                raise ValueError(f"a tensor of {item.dtype} is no index")
            item = (item.nonzero()[:, 0] if item.dtype == torch.bool else item).tolist()
        return PolygonMasks([self.polygons[index] for index in item])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """The polygons of one object after the other."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def nonempty(self) -> torch.Tensor:
        """Whether each object has a polygon: (N,) bool."""
        return torch.tensor([len(polygons) > 0 for polygons in self.polygons], dtype=torch.bool)

    def get_bounding_boxes(self) -> Boxes:
        """The tight boxes."""
        boxes = torch.zeros(len(self), 4)
        for box, polygons in zip(boxes, self.polygons, strict=True):
            points = torch.tensor(np.concatenate([[], *polygons])).float().view(-1, 2)
            box[:2] = torch.cat([points, torch.full((1, 2), torch.inf)]).amin(dim=0)
            box[2:] = torch.cat([points, torch.zeros(1, 2)]).amax(dim=0)
        return Boxes(boxes)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Draw what one (N, 4) box of each object holds: (N, mask_size, mask_size) bool."""
        if len(boxes) != len(self):
            raise AssertionError(f"{len(boxes)} boxes do not fit {len(self)} masks")
        drawn = [
            torch.from_numpy(rasterize_polygons_within_box(polygons, box, mask_size))
            for polygons, box in zip(self.polygons, boxes.cpu().numpy(), strict=True)
        ]
        empty = torch.empty(0, mask_size, mask_size, dtype=torch.bool)
        return torch.stack(drawn).to(boxes.device) if drawn else empty.to(boxes.device)

    def area(self) -> torch.Tensor:
        """The areas of the polygons of every object, added up: (N,)."""
        areas = [sum(_area(polygon) for polygon in polygons) for polygons in self.polygons]
        return torch.tensor(areas)

    @staticmethod
    def cat(polymasks_list: list["PolygonMasks"]) -> "PolygonMasks":
        """All masks of at least one list in a row."""
        if not polymasks_list or not all(isinstance(m, PolygonMasks) for m in polymasks_list):
            raise AssertionError("cat takes a list of at least one PolygonMasks")
        return type(polymasks_list[0])([p for masks in polymasks_list for p in masks.polygons])


def _polygons_of_object(polygons: Any) -> list[np.ndarray]:
    if not isinstance(polygons, list):
        raise ValueError(f"the polygons of an object are a list, not {polygons!r}")
    arrays = [np.asarray(p.cpu() if isinstance(p, torch.Tensor) else p, float) for p in polygons]
    for array in arrays:
        if len(array) % 2 or len(array) < 6:
            raise ValueError(f"{len(array)} numbers make no polygon")
    return arrays


def _area(polygon: np.ndarray) -> float:
    """The area, by the formula of the shoelace."""
    x, y = polygon[::2], polygon[1::2]
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
