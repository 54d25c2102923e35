"""Split a video into overlapping clips, so that memory does not depend on its length.

Shapes: T frames of a clip, Q queries, C classes, (h, w) the map of the mask logits, (H, W) the
prediction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind

from .inference import ImageSizes, weighted_masks


class Clip(NamedTuple):
    """The queries' predictions for a clip of a video.

    Attributes:
        frames: indices of its T frames.
        probabilities: class probabilities (Q, C).
        mask_logits: (Q, T, h, w).
        sizes: of the frames, the same for all of them.
        classes: ids (n,) of the classes that can have a probability, all others have 0.
        categories: probabilities (C,) that a class is in the clip; None without RankSeg.
    """

    frames: range
    probabilities: Tensor
    mask_logits: Tensor
    sizes: ImageSizes
    classes: Tensor
    categories: Tensor | None = None

    def since(self, frame: int) -> "Clip":
        """Return the clip without the frames before ``frame``; their memory is freed."""
        first = max(frame - self.frames.start, 0)
        return self._replace(
            frames=self.frames[first:], mask_logits=self.mask_logits[:, first:].clone()
        )


def divide(num_frames: int, clip_frames: int, overlap: int) -> Iterator[tuple[range, range]]:
    """Divide a video into clips, the last one maybe shorter.

    Args:
        num_frames: length of the video, at least 1.
        clip_frames: length of a clip; 0: the whole video is one clip.
        overlap: frames that a clip shares with the next one, fewer than ``clip_frames``.
    Yields:
        The frames of a clip, and those of them that are in no later clip.
    """
    start, clip_frames = 0, clip_frames or num_frames
    while start + clip_frames < num_frames:
        following = start + clip_frames - overlap
        yield range(start, start + clip_frames), range(start, following)
        start = following
    yield range(start, num_frames), range(start, num_frames)


class FrameScores:
    """Semantic predictions of frames: the mean of the scores over all clips with the frame."""

    def __init__(self, kind: PredictionKind) -> None:
        """
        Args:
            kind: the form of the prediction.
        """
        self.kind = kind
        self._clips: list[Clip] = []

    def add(self, clip: Clip) -> None:
        """Add the next clip, and drop the frames before it."""
        start = clip.frames.start
        kept = [known.since(start) for known in self._clips if known.frames.stop > start]
        self._clips = [*kept, clip]

    def frame(self, index: int) -> dict[str, Tensor]:
        """Return the prediction (H, W) of a frame, once all its clips have been added.

        The queries of all its clips are merged, each with the weight of its clip.

        Returns:
            See :meth:`segcore.inference.predictions.SemanticPrediction.result`.
        """
        clips = [clip for clip in self._clips if index in clip.frames]
        weights = torch.cat([clip.probabilities for clip in clips]) / len(clips)
        masks = [clip.mask_logits[:, clip.frames.index(index)] for clip in clips]
        classes = torch.cat([clip.classes for clip in clips]).unique()
        return weighted_masks(weights, torch.cat(masks), clips[0].sizes, self.kind, classes)
