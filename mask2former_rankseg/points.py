"""Sample masks at points: mask losses on points need less memory than on all pixels.

Importance sampling prefers points where a mask is uncertain. Source: PointRend (CVPR 2020),
section 3.1, as used by Mask2Former (CVPR 2022), section 3.3.

Shapes: N masks, C channels, P points. A point is (x, y) with both in 0 ... 1, so that masks of any
resolution share it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps (N, C, h, w) bilinearly at points (N, P, 2): (N, C, P); zero outside.

    Gradients flow to the maps.
    """
    grid = 2 * points[:, None] - 1
    return F.grid_sample(maps, grid, mode="bilinear", align_corners=False)[:, :, 0]


def sample_masks(masks: Tensor, points: Tensor) -> Tensor:
    """Sample boolean masks bilinearly, without gradient and without converting them to float.

    Args:
        masks: (N, H, W) bool.
        points: (N, P, 2), or (1, P, 2) for all masks alike.
    Returns:
        (N, P) float32.
    """
    height, width = masks.shape[-2:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    pixels = masks.flatten(1)
    total = x.new_zeros(())
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            values = pixels.gather(1, index.expand(len(masks), -1))
            total = total + values * (weight_x * weight_y * inside)
    return total


class RandomPoints:
    """Samples the points at which masks are compared."""

    def __init__(
        self,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
    ) -> None:
        """
        Args:
            num_points: P, per mask.
            oversample_ratio: candidates per point, at least 1.
            importance_ratio: fraction of the points that are the most uncertain candidates,
                0 ... 1; the others are sampled uniformly.
        """
        self.num_points = num_points
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_ratio)

    def draw(self, number: int, points: int, device: torch.device) -> Tensor:
        """Sample uniform points: (number, points, 2)."""
        return torch.rand(number, points, 2, device=device)

    def uniform(self, number: int, device: torch.device) -> Tensor:
        """Sample P uniform points for each of ``number`` images: (number, P, 2)."""
        return self.draw(number, self.num_points, device)

    @torch.no_grad()
    def uncertain(self, logits: Tensor) -> Tensor:
        """Sample points by importance: mask logits (N, h, w) -> (N, P, 2)."""
        candidates = self.draw(len(logits), self.num_candidates, logits.device)
        certainty = sample_maps(logits[:, None], candidates)[:, 0].abs()
        index = certainty.topk(self.num_uncertain, dim=1, largest=False).indices
        uncertain = candidates.gather(1, index[..., None].expand(-1, -1, 2))
        num_uniform = self.num_points - self.num_uncertain
        return torch.cat([uncertain, self.draw(len(logits), num_uniform, logits.device)], dim=1)
