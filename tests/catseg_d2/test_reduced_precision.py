"""Reduced precision, torch.compile, and channels-last memory format."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic


@pytest.fixture
def item() -> dict:
    return {"image": deterministic.image("rounding", 96, 96)}


def test_the_aggregation_is_one_graph(tiny, item) -> None:
    """torch.compile has no graph break in it; with ``fullgraph`` that would be an error."""
    model = tiny("MODEL.SEM_SEG_HEAD.CLASS_CHUNK", 25)
    expected = model([item])[0]["sem_seg"]
    model.aggregator = torch.compile(model.aggregator, fullgraph=True, backend="eager")
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected)


def test_half_precision(tiny, item) -> None:
    model = tiny()
    expected = model([item])[0]["sem_seg"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model([item])[0]["sem_seg"]
    assert scores.dtype == torch.float32
    assert 0 < (scores - expected).abs().max() < 0.05


def test_channels_last(tiny, item) -> None:
    model = tiny()
    expected = model([item])[0]["sem_seg"]
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected, rtol=1e-4, atol=1e-5)
