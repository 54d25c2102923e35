"""Zero-shot segmentation: class names score segments, and pixels have the scores of their segment.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 4.

Shapes: B windows, S segments, (h, w) the grid of patches, L = h * w, (H, W) a window or an image,
T classes, C joint width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.inference.windows import Window, WindowResize

Size = tuple[int, int]


def segment_scores(
    vectors: Tensor, segments: Tensor, texts: Tensor, scale: Tensor, keep: int
) -> Tensor:
    """Return scores of classes, products of two softmaxes over them: (B, S, T), 0 to 1.

    The second softmax is over the classes of an image alone, those that its vector is most similar
    to; the others have the score 0.

    Args:
        vectors: (B, C), of the images, unit norm.
        segments: (B, S, C), unit norm.
        texts: (T, C), unit norm.
        scale: factor of the cosine similarities.
        keep: number of classes of an image; 0 = all.
    """
    logits = scale * segments @ texts.T
    keep = min(keep or len(texts), len(texts))
    kept = (vectors @ texts.T).topk(keep, dim=-1).indices
    others = torch.full_like(logits[:, 0], -torch.inf).scatter_(1, kept, 0.0)
    restricted = logits + others[:, None]
    return logits.softmax(dim=-1) * restricted.softmax(dim=-1)


def with_background(scores: Tensor, threshold: float) -> Tensor:
    """Put the background before the classes: (B, S, T) -> (B, S, 1 + T).

    Its score is 1 for segments whose best score is below the threshold, or below the best one of
    all segments where that is lower, else 0.
    """
    best = scores.amax(dim=-1, keepdim=True)
    limit = best.amax(dim=1, keepdim=True).clamp(max=threshold)
    return torch.cat([(best < limit).to(scores.dtype), scores], dim=-1)


def segments_of_pixels(shares: Tensor, grid: Size, size: Size) -> Tensor:
    """Return the segment of every pixel: (B, S, L) -> (B, H, W) uint8.

    Args:
        shares: of the segments in each patch.
        grid: (h, w).
        size: (H, W).
    """
    shares = shares.unflatten(-1, grid)
    return F.interpolate(shares, size=size, mode="bilinear").argmax(dim=1).to(torch.uint8)


@dataclass(frozen=True)
class SegmentedWindow:
    """The segments of a part of an image, and their scores.

    Attributes:
        window: the part.
        segments: (H, W) uint8, the segment of each pixel.
        scores: (S, T) float32.
    """

    window: Window
    segments: Tensor
    scores: Tensor


@dataclass(frozen=True)
class UnmergedSegments:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction`: small, whatever T is.

    Attributes:
        windows: of the image, at least one; every pixel is in one.
        image_size: (height, width) of the image that they divide.
        size: (H, W) of the prediction.
    """

    windows: Sequence[SegmentedWindow]
    image_size: Size
    size: Size
    category_scores: Tensor | None = None

    @property
    def num_classes(self) -> int:
        """T."""
        return self.windows[0].scores.shape[1]

    @cached_property
    def classes(self) -> Tensor:
        """Ids of the classes that have a score above 0 in any window."""
        scored = [(part.scores > 0).any(dim=0) for part in self.windows]
        return torch.stack(scored).any(dim=0).nonzero()[:, 0]

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from classes (t,) to their scores (t, height, width) in the window."""
        to_size = WindowResize(self.image_size, self.size, window)
        needed = to_size.needs
        parts = [
            (covered.seen_from(needed), covered.seen_from(part.window).of(part.segments), part)
            for part in self.windows
            if (covered := part.window.within(needed))
        ]
        count = parts[0][2].scores.new_zeros(needed.size)
        for where, _, _ in parts:
            where.of(count).add_(1)

        def scores(classes: Tensor) -> Tensor:
            total = count.new_zeros(len(classes), *needed.size)
            for where, segments, part in parts:
                where.of(total).add_(part.scores.T[classes][:, segments.long()])
            return to_size(total.div_(count))

        return scores
