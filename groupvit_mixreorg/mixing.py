"""Mix the tokens of several images, and restore them.

Source: Cai et al., "MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner for
Open-World Semantic Segmentation", ICCV 2023.

Shapes: G groups of M images, (h, w) their grid of patches, L = h * w tokens, D width.
"""

import torch
from torch import Tensor


def draw_sources(
    num_groups: int,
    group_size: int,
    grid: tuple[int, int],
    cell: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw, for every position of a group's grid, a random permutation of its images.

    Args:
        num_groups: G.
        group_size: M.
        grid: (h, w).
        cell: side, in patches, of the squares that are mixed as a whole.
        device: of the result.
    Returns:
        (G, M, L) int64: mixed image m takes at position p the token of image ``sources[:, m, p]``.
        This is its mask, too.
    """
    rows, columns = (-(-side // cell) for side in grid)
    order = torch.rand(num_groups, group_size, rows, columns, device=device).argsort(dim=1)
    order = order.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)
    return order[:, :, : grid[0], : grid[1]].flatten(2)


def mix(tokens: Tensor, sources: Tensor) -> Tensor:
    """Take every token of the mixed images from its source: (G, M, L, D) -> the same shape.

    Args:
        tokens: of the original images.
        sources: (G, M, L), as :func:`draw_sources` returns it.
    """
    return tokens.gather(1, sources[..., None].expand_as(tokens))


def restore(mixed: Tensor, sources: Tensor) -> Tensor:
    """Undo :func:`mix`: every token goes back to the image that it is from."""
    return mix(mixed, sources.argsort(dim=1))
