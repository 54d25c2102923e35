"""Clips of a video, identities of tracks across clips, and means over clips that share a frame."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mask2former_rankseg.clips import Clip, FrameScores, divide
from mask2former_rankseg.inference import ImageSizes, semantic
from mask2former_rankseg.tracks import Tracker, soft_overlaps
from segcore.inference.predictions import SCORES

SIZES = ImageSizes((32, 32), (32, 32), (32, 32))


@pytest.mark.parametrize(
    ("num_frames", "size", "overlap"),
    [(1, 0, 2), (7, 0, 2), (7, 7, 2), (8, 7, 2), (30, 7, 2), (30, 7, 6), (5, 1, 0), (2, 4, 3)],
)
def test_clips(num_frames: int, size: int, overlap: int) -> None:
    clips, finals = zip(*divide(num_frames, size, overlap), strict=True)
    assert [i for final in finals for i in final] == [*range(num_frames)]
    for clip, final in zip(clips, finals, strict=True):
        assert clip.start == final.start and len(clip) <= (size or num_frames)
    for one, following in pairwise(clips):
        assert len(one) == size and one.stop - following.start == overlap
        assert following.stop > one.stop


def squares(corners: list[tuple[int, int] | None]) -> Tensor:
    """Mask logits (T, 8, 8): 3 x 3 cells at (row, column), or nothing."""
    masks = torch.full((len(corners), 8, 8), -8.0)
    for mask, corner in zip(masks, corners, strict=True):
        if corner:
            mask[corner[0] : corner[0] + 3, corner[1] : corner[1] + 3] = 8.0
    return masks


def clip(frames: range, *queries: tuple[list, list[float]]) -> Clip:
    """Queries with a path over the whole video and class probabilities each."""
    masks = torch.stack([squares([path[i] for i in frames]) for path, _ in queries])
    probabilities = torch.tensor([scores for _, scores in queries])
    return Clip(frames, probabilities, masks, SIZES, torch.arange(probabilities.shape[1]))


DOWN = [(min(i, 5), 0) for i in range(12)]
UP = [(max(5 - i, 0), 5) for i in range(12)]
LATE = [None] * 7 + [(3, i - 7) for i in range(7, 12)]
NOWHERE = [None] * 12


def test_identities_are_carried_over() -> None:
    """However the queries are ordered; one object leaves, one comes."""
    tracker = Tracker(num_best=10)
    tracker.add(clip(range(0, 4), (DOWN, [0.9, 0.1]), (UP, [0.2, 0.6])))
    assert tracker.labels().keys() == {0, 1}
    tracker.add(clip(range(2, 6), (UP, [0.1, 0.2]), (DOWN, [0.5, 0.1])))
    found = tracker.labels()
    assert found.keys() == {0, 1} and [label for label, _ in found.values()] == [0, 1]
    assert [score for _, score in found.values()] == pytest.approx([0.7, 0.4])
    tracker.add(clip(range(4, 8), (NOWHERE, [0.0, 0.1]), (DOWN, [0.7, 0.1])))
    numbers, logits = tracker.frame(5)
    assert numbers == [0, 1, 2]  # the second one ends with the previous clip
    assert torch.equal(
        logits[:2] > 0, torch.stack([squares([DOWN[5]]), squares([UP[5]])])[:, 0] > 0
    )
    assert tracker.frame(6)[0] == [0, 2]
    tracker.add(clip(range(6, 10), (LATE, [0.3, 0.9]), (DOWN, [0.7, 0.1])))
    assert tracker.labels().keys() == {0, 2, 3}
    assert tracker.known() == {0, 1, 2, 3}
    best = tracker.best()
    assert best[0] == (3, 1, pytest.approx(0.9)) and best[1] == (0, 0, pytest.approx(0.7))
    assert (1, 1, pytest.approx(0.4)) in best


def test_masks_are_means_of_logits() -> None:
    tracker = Tracker(num_best=10)
    first, second = torch.randn(2, 1, 4, 8, 8)
    scores, every = torch.ones(1, 1), torch.arange(1)
    first[:, 2:, :4], second[:, :2, :4] = 9.0, 9.0
    tracker.add(Clip(range(0, 4), scores, first, SIZES, every))
    tracker.add(Clip(range(2, 6), scores, second, SIZES, every))
    assert torch.equal(tracker.frame(3)[1], (first[:, 3] + second[:, 1]) / 2)
    assert torch.equal(tracker.frame(4)[1], second[:, 2])


def test_a_longer_overlap_than_half_a_clip() -> None:
    """A frame is then in more than two clips."""
    tracker = Tracker(num_best=10)
    for start in range(4):
        queries = [(DOWN, [0.9]), (UP, [0.5])]
        tracker.add(clip(range(start, start + 4), *(queries if start % 2 else queries[::-1])))
    assert tracker.known() == {0, 1}
    assert tracker.labels() == {0: (0, pytest.approx(0.5)), 1: (0, pytest.approx(0.9))}


def test_few_ended_tracks_are_kept() -> None:
    """Every clip has other objects, of which those with the highest class scores are kept."""
    tracker, generator = Tracker(num_best=3), torch.Generator().manual_seed(0)
    seen = []
    for start in range(0, 60, 3):
        scores = torch.rand(40, 5, generator=generator)
        seen.append(scores)
        at = [(start % 2 * 4, 0)] * 61  # neighbouring clips have nothing in common
        tracker.add(clip(range(start, start + 4), *((at, row.tolist()) for row in scores)))
        assert len(tracker.known()) <= 2 * tracker.num_candidates + 3
    expected = torch.stack(seen).flatten().topk(3).values.tolist()
    assert [score for _, _, score in tracker.best()] == pytest.approx(expected)
    tracker.keep({number for number, _, _ in tracker.best()})
    assert [score for _, _, score in tracker.best()] == pytest.approx(expected)


def test_soft_overlaps() -> None:
    masks = torch.zeros(2, 1, 2, 2)
    masks[0, 0, 0] = 1.0
    masks[1] = 0.5
    assert soft_overlaps(masks, masks).tolist() == [
        [1.0, pytest.approx(1 / 3)],
        [pytest.approx(1 / 3)] * 2,
    ]


def test_scores_are_means_over_clips() -> None:
    torch.manual_seed(0)
    clips = []
    for frames in (range(0, 4), range(2, 6), range(4, 7)):
        logits = torch.randn(5, 4)
        masks = torch.randn(5, len(frames), 8, 8)
        clips.append(
            (logits, Clip(frames, logits.softmax(1)[:, :-1], masks, SIZES, torch.arange(3)))
        )
    scores = FrameScores(SCORES)
    for at, final in enumerate((range(0, 2), range(2, 4), range(4, 7))):
        scores.add(clips[at][1])
        for index in final:
            parts = [
                semantic(
                    logits, one.mask_logits[:, index - one.frames.start], SIZES, SCORES, one.classes
                )
                for logits, one in clips
                if index in one.frames
            ]
            expected = torch.stack([part["sem_seg"] for part in parts]).mean(dim=0)
            torch.testing.assert_close(scores.frame(index)["sem_seg"], expected)
