"""Which frames of a video make a clip."""

from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode

from segcore.errors import UserError


@dataclass(frozen=True)
class ClipSampler:
    """Draws the frames of a clip with NumPy's random numbers.

    Attributes:
        num_frames: of a clip.
        reach: how far the others may be from the first frame that is drawn.
        shuffle: leave the order to chance.
        interval: where given, the frames are so far apart, and the clip begins anywhere; behind the
            end of the video follows its beginning.
    """

    num_frames: int = 2
    reach: int = 20
    shuffle: bool = False
    interval: int | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ClipSampler":
        """By the keys ``SAMPLING_*`` of ``INPUT``.

        Raises:
            UserError: one of them has no sense.
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
        """Numbers of frames of a video of ``length`` frames, at least 1.

        A frame occurs twice only where the video is too short for so many different ones.
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
