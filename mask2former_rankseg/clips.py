"""A video as overlapping clips, so that its length costs no memory.

Shapes: T frames of a clip, Q queries, C classes, (h, w) the map of the mask logits, (H, W) the
prediction.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind

from .inference import Frame, weighted_masks


class Clip(NamedTuple):
    """What the queries predicts about some frames of a video.

    Attributes:
        frames: their T numbers.
        probabilities: of the classes, (Q, C).
        mask_logits: (Q, T, h, w).
        place: size and place of the frames, the same for all of them.
        classes: ids (n,) of the classes that can have a probability, all others have 0.
        categories: probabilities (C,) that a class is in the clip, where RankSeg tells them.
    """

    frames: range
    probabilities: Tensor
    mask_logits: Tensor
    place: Frame
    classes: Tensor
    categories: Tensor | None = None

    def since(self, frame: int) -> "Clip":
        """The clip without the frames before ``frame``, and without their memory."""
        first = max(frame - self.frames.start, 0)
        return self._replace(
            frames=self.frames[first:], mask_logits=self.mask_logits[:, first:].clone()
        )


def divide(num_frames: int, clip_frames: int, overlap: int) -> Iterator[tuple[range, range]]:
    """The clips of a video, the last one maybe shorter.

    Args:
        num_frames: of the video, 1 or more.
        clip_frames: of a clip; 0 is all of them.
        overlap: frames of a clip that are also in the next one, fewer than ``clip_frames``.
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
    """Semantic predictions by frame: the mean of the scores in all clips that hold the frame."""

    def __init__(self, kind: PredictionKind) -> None:
        """
        Args:
            kind: what is asked for.
        """
        self.kind = kind
        self._clips: list[Clip] = []

    def add(self, clip: Clip) -> None:
        """Take in the next clip; frames before it are forgotten."""
        start = clip.frames.start
        kept = [known.since(start) for known in self._clips if known.frames.stop > start]
        self._clips = [*kept, clip]

    def frame(self, index: int) -> dict[str, Tensor]:
        """The prediction of a frame (H, W), when all its clips have been added.

        The queries of all its clips prediction together, each with its share.

        Returns:
            See :meth:`segcore.inference.predictions.SemanticPrediction.result`.
        """
        clips = [clip for clip in self._clips if index in clip.frames]
        weights = torch.cat([clip.probabilities for clip in clips]) / len(clips)
        masks = [clip.mask_logits[:, clip.frames.index(index)] for clip in clips]
        classes = torch.cat([clip.classes for clip in clips]).unique()
        return weighted_masks(weights, torch.cat(masks), clips[0].place, self.kind, classes)
