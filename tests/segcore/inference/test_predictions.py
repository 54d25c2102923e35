"""Predictions that are filled a window and some classes at a time."""

import pytest
import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind, SemanticPrediction
from segcore.inference.windows import Window

SIZE = (5, 7)
WINDOWS = (Window(0, 5, 0, 3), Window(0, 2, 3, 7), Window(2, 5, 3, 7))


def fill(kind: PredictionKind, scores: Tensor, live: Tensor, chunk: int) -> dict[str, Tensor]:
    prediction = SemanticPrediction(kind, len(scores), SIZE, scores.device)
    for window in WINDOWS:
        for classes in prediction.order(live).split(chunk):
            prediction.add(window, classes, window.of(scores)[classes])
    return prediction.result()


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("k", [1, 2, 6, 12])
def test_best_classes_with_many_ties(k: int, chunk: int) -> None:
    """Few different values, zeros among them: order and ties as of a stable sort."""
    torch.manual_seed(0)
    scores = torch.randint(0, 4, (12, *SIZE)).float() / 4
    live = torch.tensor([9, 1, 4, 4, 10, 7])
    dropped = torch.ones(12, dtype=torch.bool)
    dropped[live] = False
    scores[dropped] = 0
    prediction = fill(PredictionKind("labels", k), scores, live, chunk)
    values, labels = scores.sort(dim=0, descending=True, stable=True)
    assert torch.equal(prediction["sem_seg_labels"], scores.argmax(dim=0))
    assert torch.equal(prediction["top_k_scores"], values[:k])
    assert torch.equal(prediction["top_k_labels"], labels[:k])


def test_scores_of_classes_that_were_never_added_are_zero() -> None:
    scores = torch.rand(6, *SIZE)
    prediction = fill(PredictionKind(), scores, torch.tensor([4, 1]), 1)
    assert prediction.keys() == {"sem_seg"}
    assert torch.equal(prediction["sem_seg"][[1, 4]], scores[[1, 4]])
    assert (prediction["sem_seg"][[0, 2, 3, 5]] == 0).all()


def test_windows_of_windows() -> None:
    maps = torch.arange(35.0).view(SIZE)
    window, frame = Window(1, 4, 2, 7), Window(2, 5, 0, 5)
    inner = window.within(frame)
    assert inner == Window(2, 4, 2, 5) and inner.size == (2, 3)
    assert torch.equal(inner.seen_from(frame).of(frame.of(maps)), inner.of(maps))
    assert window.within(Window(4, 5, 0, 7)) is None
