"""Track objects from clip to clip.

Two neighbouring clips share frames. Objects of both are matched by the soft intersection over union
of their masks in these frames, with the Hungarian method. An unmatched track ends; an unmatched
object starts a new one. Source: Hwang et al., "Video Instance Segmentation using Inter-Frame
Communication Transformers", NeurIPS 2021, section 3.3.

Shapes: N tracks, M candidates of a clip, C classes, T frames of a clip, (h, w) the map of the mask
logits.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .clips import Clip
from .inference import best_pairs
from .matcher import assign

NUM_CANDIDATES = 20  # queries of a clip that may be tracks, those with the highest class scores
MIN_OVERLAP = 0.1  # smallest soft intersection over union of a match


class Tracker:
    """Online tracker of a video, clip by clip.

    The class probabilities of a track are the mean over its clips; its mask logits in a frame are
    the mean over its clips with that frame. The tracker keeps the masks of the active tracks in the
    frames of one clip, and the class probabilities of the ended tracks that can still be among the
    best.
    """

    def __init__(self, num_best: int, num_candidates: int = NUM_CANDIDATES) -> None:
        """
        Args:
            num_best: number of pairs of track and class that :meth:`best` returns.
            num_candidates: queries of a clip that may be tracks; raised to ``num_best``.
        """
        self.num_best = num_best
        self.num_candidates = max(num_candidates, num_best)
        self._number = 0  # of the next track
        self._ended: dict[int, Tensor] = {}  # class probabilities (C,) by number
        # Active tracks: numbers, ascending; sum of class probabilities (N, C) and number of clips
        # (N,); sum of mask logits (N, T, h, w) in the frames, and number of clips (N, T).
        self._numbers: list[int] = []
        self._frames = range(0)
        self._probabilities = self._clips = self._logits = self._counts = None

    def add(self, clip: Clip) -> None:
        """Add the next clip, and drop the frames before it."""
        best = clip.probabilities.amax(dim=1)
        best = best.topk(min(self.num_candidates, len(best))).indices
        candidates = best.sort().values  # ties in the order of the queries
        probabilities, logits = clip.probabilities[candidates], clip.mask_logits[candidates]
        if self._logits is None:  # none yet
            self._probabilities, self._logits = probabilities[:0], logits[:0, :0]
            self._clips, self._counts = probabilities.new_empty(0), logits.new_empty(0, 0)
        self._forget(clip.frames.start)
        rows, new = self._match(logits)
        self._numbers += range(self._number, self._number + new)
        self._number += new
        frames = (0, len(clip.frames) - len(self._frames))
        self._frames = clip.frames
        self._probabilities = F.pad(self._probabilities, (0, 0, 0, new))
        self._clips = F.pad(self._clips, (0, new))
        self._logits = F.pad(self._logits, (0, 0, 0, 0, *frames, 0, new))
        self._counts = F.pad(self._counts, (*frames, 0, new))
        self._probabilities[rows] += probabilities
        self._clips[rows] += 1
        self._logits[rows] += logits
        self._counts[rows] += 1

    def frame(self, index: int) -> tuple[list[int], Tensor]:
        """Return the tracks in a frame of the last clip: numbers, and mask logits (N, h, w)."""
        column = self._frames.index(index)
        rows = self._counts[:, column].nonzero()[:, 0]
        logits = self._logits[rows, column] / self._counts[rows, column, None, None]
        return [self._numbers[row] for row in rows.tolist()], logits

    def labels(self) -> dict[int, tuple[int, float]]:
        """Return the class and score so far of every track of the last clip, by number."""
        scores, labels = (self._probabilities / self._clips[:, None]).max(dim=1)
        predictions = zip(labels.tolist(), scores.tolist(), strict=True)
        return dict(zip(self._numbers, predictions, strict=True))

    def best(self) -> list[tuple[int, int, float]]:
        """Return the best pairs of track and class so far: number, class and score, best first."""
        means = self._probabilities / self._clips[:, None]
        return self._best({**self._ended, **dict(zip(self._numbers, means, strict=True))})

    def keep(self, numbers: set[int]) -> None:
        """Keep the tracks of these numbers, and drop all others."""
        self._ended = {n: value for n, value in self._ended.items() if n in numbers}
        self._keep_rows([number in numbers for number in self._numbers])

    def known(self) -> set[int]:
        """Return the numbers of the tracks that can still be among the best."""
        return {*self._numbers, *self._ended}

    def _match(self, logits: Tensor) -> tuple[Tensor, int]:
        """Match candidates, masks (M, T, h, w): their rows (M,), and how many of these are new."""
        rows = torch.full((len(logits),), -1, device=logits.device)
        if self._numbers and self._frames:
            # A track has no mask in frames that it does not cover.
            known = (self._logits / self._counts[..., None, None]).sigmoid().nan_to_num()
            overlaps = soft_overlaps(known, logits[:, : len(self._frames)].sigmoid())
            tracks, candidates = assign([-overlaps])[0]
            same = overlaps[tracks, candidates] >= MIN_OVERLAP
            rows[candidates[same]] = tracks[same]
        new = (rows < 0).nonzero()[:, 0]
        rows[new] = len(self._numbers) + torch.arange(len(new), device=rows.device)
        return rows, len(new)

    def _forget(self, frame: int) -> None:
        """Drop the frames before ``frame``; tracks without a later frame end."""
        first = frame - self._frames.start
        self._frames = self._frames[first:]
        self._logits, self._counts = self._logits[:, first:], self._counts[:, first:]
        active = self._counts.any(dim=1).tolist()
        for row, number in enumerate(self._numbers):
            if not active[row]:
                self._ended[number] = self._probabilities[row] / self._clips[row]
        best = {number for number, _, _ in self._best(self._ended)}
        self._ended = {number: self._ended[number] for number in sorted(best)}
        self._keep_rows(active)

    def _keep_rows(self, kept: list[bool]) -> None:
        self._numbers = [n for n, keep in zip(self._numbers, kept, strict=True) if keep]
        rows = torch.tensor(kept, dtype=torch.bool, device=self._logits.device)
        self._probabilities, self._clips = self._probabilities[rows], self._clips[rows]
        self._logits, self._counts = self._logits[rows], self._counts[rows]

    def _best(self, probabilities: Mapping[int, Tensor]) -> list[tuple[int, int, float]]:
        """See :meth:`best`; ``probabilities`` (C,) of tracks by their number."""
        if not probabilities:
            return []
        numbers = sorted(probabilities)
        best = best_pairs(torch.stack([probabilities[n] for n in numbers]), self.num_best)
        scores, rows, labels = (values.tolist() for values in best)
        return list(zip((numbers[row] for row in rows), labels, scores, strict=True))


def soft_overlaps(masks: Tensor, others: Tensor) -> Tensor:
    """Return the soft IoU of mask probabilities: (N, T, h, w), (M, T, h, w) -> (N, M)."""
    masks, others = masks.flatten(1), others.flatten(1)
    both = masks @ others.T
    return both / (masks.sum(dim=1)[:, None] + others.sum(dim=1) - both).clamp(min=1e-6)
