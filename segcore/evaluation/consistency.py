"""Video consistency (VC): the temporal stability of predictions where the ground truth is constant.

From "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild" (Miao et al., CVPR 2021), as
the benchmark computes it: of the pixels whose ground truth is constant in n consecutive frames,
VC-n is the fraction whose prediction is constant too, right or wrong, averaged over all windows of
n frames but the last one of every video.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LENGTHS = (8, 16)
# Fractions are rounded to multiples of this, far below the precision of doubles for their mean.
# Sums of integers are exact, in any order and by any number of processes.
UNIT = 2.0**-60


class VideoConsistency:
    """Accumulate VC-n frame by frame; the pixels of two frames are kept."""

    def __init__(self, lengths: Sequence[int] = LENGTHS) -> None:
        self.lengths = tuple(lengths)
        # by n: number of windows, and the sum of their fractions in multiples of UNIT
        self.totals = {n: [0, 0] for n in self.lengths}
        self.begin_video()

    def begin_video(self) -> None:
        """Start a video: the next frame has no predecessor."""
        self._last: Tensor | None = None  # (2, H, W): ground truth and prediction of the last frame
        self._age: Tensor | None = None  # (2, H, W): number of frames since they changed

    def add(self, ground_truth: Tensor, prediction: Tensor) -> None:
        """Add the next frame.

        Args:
            ground_truth: (H, W) integers as stored, including values that are not evaluated.
            prediction: (H, W) class ids on the same device.
        """
        frame = torch.stack([ground_truth.long(), prediction.long()])
        if self._last is None:
            self._age = torch.ones_like(frame, dtype=torch.int16)
        else:
            # Counted one frame later, because the benchmark omits the window that ends with the
            # last frame.
            self._count_windows()
            same = frame == self._last.to(frame.device)
            age = self._age.to(frame.device)
            self._age = torch.where(same, (age + 1).clamp_(max=max(self.lengths)), 1)
        self._last = frame

    def _count_windows(self) -> None:
        """Count, for each length, the window that ends with the previous frame."""
        settled = torch.stack([self._age >= n for n in self.lengths])  # (lengths, 2, H, W)
        still = settled[:, 0].sum(dim=(1, 2)).tolist()
        both = settled.all(dim=1).sum(dim=(1, 2)).tolist()
        for n, pixels, kept in zip(self.lengths, still, both, strict=True):
            if pixels:  # else nothing is constant, or the video is shorter
                self.totals[n][0] += 1
                self.totals[n][1] += round(kept / pixels / UNIT)

    def state(self) -> dict:
        """Return the state for :meth:`load_state`."""
        video = [each if each is None else each.cpu() for each in (self._last, self._age)]
        return {"totals": {n: list(total) for n, total in self.totals.items()}, "video": video}

    def load_state(self, state: dict) -> None:
        self.totals = {n: list(total) for n, total in state["totals"].items()}
        self._last, self._age = state["video"]


def consistency_scores(states: Sequence[dict]) -> dict[str, float]:
    """Return ``VC8`` and ``VC16`` in percent from the states of all processes; nan if no window."""
    totals = [state["totals"] for state in states]
    scores = {}
    for n in totals[0]:
        windows, units = (sum(total[n][i] for total in totals) for i in range(2))
        scores[f"VC{n}"] = 100 * (units / windows * UNIT) if windows else math.nan
    return scores
