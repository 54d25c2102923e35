"""Sample the frames of a training clip from a video."""

from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode

from segcore.errors import UserError


@dataclass(frozen=True)
class ClipSampler:
    """Draw the frames of a clip with NumPy's random numbers.

    Attributes:
        num_frames: of a clip.
        reach: largest distance of the other frames from the first one drawn.
        shuffle: whether the order of the frames is random.
        interval: distance between consecutive frames; the clip begins anywhere and wraps around
            the end of the video. None draws frames within ``reach``.
    """

    num_frames: int = 2
    reach: int = 20
    shuffle: bool = False
    interval: int | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ClipSampler":
        """Build the sampler from the keys ``SAMPLING_*`` of ``INPUT``.

        Raises:
            UserError: one of them is out of range.
        """
        node = cfg.INPUT
        for key, least in (
            ("SAMPLING_FRAME_NUM", 1),
            ("SAMPLING_FRAME_RANGE", 0),
            ("SAMPLING_INTERVAL", 1),
        ):
            if node[key] < least:
                raise UserError(f"INPUT.{key} is {node[key]}: it has to be at least {least}")
        return cls(
            node.SAMPLING_FRAME_NUM,
            node.SAMPLING_FRAME_RANGE,
            node.SAMPLING_FRAME_SHUFFLE,
            None if node.SAMPLING_RANDOM else node.SAMPLING_INTERVAL,
        )

    def __call__(self, length: int) -> list[int]:
        """Return frame indices of a video of ``length`` frames, at least 1.

        A frame occurs twice only if the video has too few different ones.
        """
        first = np.random.randint(length)
        frames = self._strided(first, length) if self.interval else self._around(first, length)
        frames = sorted(frames)
        if self.shuffle:
            np.random.shuffle(frames)
        return frames

    def _around(self, first: int, length: int) -> list[int]:
        begin, end = max(first - self.reach, 0), min(first + self.reach + 1, length)
        others = [frame for frame in range(begin, end) if frame != first] or [first]
        wanted = self.num_frames - 1
        return [first, *np.random.choice(others, wanted, replace=wanted > len(others)).tolist()]

    def _strided(self, first: int, length: int) -> list[int]:
        return [(first + step * self.interval) % length for step in range(self.num_frames)]
