"""Probabilities of classes are the softmax over all of them, however few have columns."""

import pytest
import torch

from per_pixel.heads import DecodeHead
from segcore.rankseg.scores import DROPPED


def head(num_classes: int) -> DecodeHead:
    made = DecodeHead()
    made.num_classes = num_classes
    return made


@pytest.mark.parametrize("number", [1, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_it_is_the_softmax_over_all_classes(number: int, scale: float) -> None:
    """Where the columns are below ``DROPPED``, too."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randperm(6, generator=generator)[:number].sort().values
    columns = scale * torch.randn(number, 50, generator=generator)
    logits = torch.full((6, 50), DROPPED)
    logits[ids] = columns
    scores = head(6).class_scores(columns, ids)
    wanted = torch.tensor([5, 0, 3])
    torch.testing.assert_close(scores(wanted), logits.softmax(dim=0)[wanted])
    torch.testing.assert_close(scores(torch.arange(6)).sum(dim=0), torch.ones(50))
