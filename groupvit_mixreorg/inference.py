"""Segment images of any size: as one square, or in sliding windows.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 4.

Shapes: B windows, S segments, T classes, C joint width.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError
from segcore.inference.precision import FLOAT32, Precision
from segcore.inference.sliding import Sliding
from segcore.inference.windows import Window

from .model import GroupViTModel
from .zero_shot import (
    SegmentedWindow,
    Size,
    UnmergedSegments,
    segment_scores,
    segments_of_pixels,
    with_background,
)

PIXELS = 1 << 21  # of the windows that pass through the network at a time; 10 of 448 x 448


@dataclass(frozen=True)
class ZeroShot:
    """Settings of zero-shot segmentation, the keys of ``MODEL.ZERO_SHOT``.

    Attributes:
        threshold: a segment whose best class has a lower score is background; 0: no background.
        keep_classes: classes that an image may have; 0 = all.
        window: side of the windows in pixels.
        stride: pixels from one window to the next; 0: the image is resized to one window.
    """

    threshold: float = 0.0
    keep_classes: int = 5
    window: int = 448
    stride: int = 224

    def __post_init__(self) -> None:
        rules = {
            "BACKGROUND_THRESHOLD": (
                0 <= self.threshold <= 1,
                self.threshold,
                "a score from 0 to 1, 0 for no background",
            ),
            "KEEP_CLASSES": (
                self.keep_classes >= 0,
                self.keep_classes,
                "a number of classes, 0 for all",
            ),
            "WINDOW": (self.window > 0, self.window, "a number of pixels"),
            "STRIDE": (
                0 <= self.stride <= self.window,
                self.stride,
                f"a number of pixels, at most the WINDOW, {self.window}, or 0 to resize the image "
                "to one window",
            ),
        }
        for key, (kept, value, demand) in rules.items():
            if not kept:
                raise UserError(f"MODEL.ZERO_SHOT.{key} is {value}; it has to be {demand}.")

    def prepare(self, image: Tensor) -> Tensor:
        """Resize an image (3, H, W) to one window, if there is one alone."""
        return image if self.stride else _resize(image[None], (self.window, self.window))[0]

    def windows(self, size: Size) -> list[Window]:
        """Return the windows of a prepared image."""
        sides = ((side, side) for side in (self.window, self.stride or self.window))
        return Sliding(*sides).windows(size)


def segment_images(
    model: GroupViTModel,
    images: Sequence[Tensor],
    texts: Sequence[Tensor | None],
    sizes: Sequence[Size],
    settings: ZeroShot,
    precision: Precision = FLOAT32,
) -> list[UnmergedSegments]:
    """Segment images; windows of one size pass through the network together.

    Args:
        model: GroupViT.
        images: normalised, (3, H, W) of any sizes.
        texts: (T, C), unit norm, the classes of each image, without the background; None: the
            segments themselves are the classes, each the one of its pixels.
        sizes: (height, width) of the predictions.
        settings: of the windows and scores.
        precision: of the image encoder.
    """
    images = [settings.prepare(image) for image in images]
    waiting: dict[Size, list[tuple[int, Window]]] = defaultdict(list)
    for index, image in enumerate(images):
        for window in settings.windows(tuple(image.shape[-2:])):
            waiting[window.size].append((index, window))
    found: list[list[SegmentedWindow]] = [[] for _ in images]
    for (height, width), group in waiting.items():
        at_once = max(PIXELS // (height * width), 1)
        for start in range(0, len(group), at_once):
            batch = group[start : start + at_once]
            pixels = torch.stack([window.of(images[index]) for index, window in batch])
            own = [texts[index] for index, _ in batch]
            segmented = _segment(model, pixels, own, settings, precision)
            for (index, window), parts in zip(batch, segmented, strict=True):
                found[index].append(SegmentedWindow(window, *parts))
    return [
        UnmergedSegments(parts, tuple(image.shape[-2:]), size)
        for parts, image, size in zip(found, images, sizes, strict=True)
    ]


def _segment(
    model: GroupViTModel,
    windows: Tensor,
    texts: Sequence[Tensor | None],
    settings: ZeroShot,
    precision: Precision,
) -> list[tuple[Tensor, Tensor]]:
    """Return the segment of each pixel and the scores of the segments, of windows (B, 3, H, W)."""
    size = tuple(windows.shape[-2:])
    pixels = _whole_patches(windows, model.image_encoder.patch_size)
    with precision.autocast(windows.device):
        found = model.embed_images(pixels)
    segments = segments_of_pixels(found.features.shares.float(), found.features.grid, size)
    results = []
    for index, text in enumerate(texts):
        if text is None:
            scores = torch.eye(found.segments.shape[1], device=windows.device)
        else:
            vector, rows = found.vector[index][None], found.segments[index][None]
            scores = segment_scores(vector, rows, text, model.scale, settings.keep_classes)
            scores = (
                with_background(scores, settings.threshold) if settings.threshold else scores
            )[0]
        results.append((segments[index], scores))
    return results


def _whole_patches(windows: Tensor, patch_size: int) -> Tensor:
    """Enlarge windows (B, 3, H, W) until their sides are multiples of the patch size."""
    size = tuple(-(-side // patch_size) * patch_size for side in windows.shape[-2:])
    return windows if size == tuple(windows.shape[-2:]) else _resize(windows, size)


def _resize(images: Tensor, size: Size) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
