"""Reduced precision, torch.compile, and channels-last memory format."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

BFLOAT16 = ("MODEL.PRECISION", "bfloat16")
WINDOWS = ("TEST.SLIDING_WINDOW", "True", "TEST.PATCH_INFERENCE.OUTPUT_SIZE", "160")
WINDOWS += ("TEST.PATCH_INFERENCE.TILE", "96", "MODEL.SEM_SEG_HEAD.MAX_CLASSES", "4")
# Without instructions for bfloat16 a CPU takes tens of times as long.
FEW = ("MODEL.SEM_SEG_HEAD.MAX_CLASSES", "2")


@pytest.fixture
def item() -> dict:
    return {"image": deterministic.image("rounding", 96, 96)}


class Products(TorchDispatchMode):
    """Records the types of the inputs of matrix products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket._qualified_op_name in (
            "aten::addmm",
            "aten::mm",
            "aten::convolution",
        ):
            self.dtypes.add(args[-1].dtype if isinstance(args[-1], torch.Tensor) else args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_bfloat16_by_config(tiny, item) -> None:
    model, reduced = tiny(*FEW), tiny(*FEW, *BFLOAT16)
    expected = model([item])[0]["sem_seg"]
    reduced([item])  # fills the cache of the text
    with Products() as products:
        scores = reduced([item])[0]["sem_seg"]
    assert products.dtypes == {torch.bfloat16}
    assert scores.dtype == torch.float32
    assert 0 < (scores - expected).abs().max() < 2e-2


def test_what_stays_in_float32(tiny, item) -> None:
    """Text embeddings, and the cosine similarities that choose the classes of a crop."""
    from catseg_d2.aggregator import cost_volume, strongest_classes

    model, reduced = tiny(), tiny(*BFLOAT16)
    texts = [each.text_cache.get(each.clip, each.vocabulary, "single") for each in (model, reduced)]
    assert torch.equal(*texts)
    features = torch.randn(1, model.clip.joint_width, 6, 6)
    cost = cost_volume(features, texts[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cost_volume(features, texts[0]), cost)
        assert strongest_classes(cost, 5).shape == (1, 5)


def test_sums_over_classes_are_float32_under_autocast(tiny) -> None:
    category = tiny().aggregator.layers[0].category
    keys = [(torch.rand(1, 3, 2, 2, 4, 8, dtype=torch.bfloat16),) * 2 for _ in range(3)]
    pad = torch.rand(4, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        memory, mass = category.attention.summarise(keys, (pad, pad, 7))
    assert memory.dtype == mass.dtype == torch.float32


def test_training_does_not_read_the_precision(tiny, item) -> None:
    labels = torch.zeros(96, 96, dtype=torch.long)
    losses = []
    for options in ((), BFLOAT16):
        model = tiny(*options).train()
        losses.append(sum(model([item | {"sem_seg": labels}]).values()))
    assert torch.equal(*losses)


@pytest.fixture
def traced(monkeypatch) -> list[str]:
    """Compiles graphs without generating code; returns the modes, one for each network."""
    modes, compiling = [], torch.compile

    def trace(function, *, mode, **options):
        modes.append(mode)
        return compiling(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", trace)
    return modes


def test_compiled_networks_predict_the_same(tiny, traced, item) -> None:
    """The aggregation has no graph break: with ``fullgraph`` that would be an error."""
    options = (*FEW, "MODEL.SEM_SEG_HEAD.CLASS_CHUNK", 1)
    expected = tiny(*options)([item])[0]["sem_seg"]
    model = tiny(*options, "MODEL.COMPILE", "reduce-overhead")
    assert traced == ["reduce-overhead"] * 2
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected)
    assert set(model.state_dict()) == set(tiny().state_dict())


def test_results_of_compiled_networks_are_copied(tiny, traced, monkeypatch, item) -> None:
    """CUDA graphs write every result to the same memory."""
    monkeypatch.setattr("catseg_d2.inference.batches_crops", lambda device: True)
    expected = tiny(*WINDOWS)([item])[0]["sem_seg"]
    model = tiny(*WINDOWS, "MODEL.COMPILE", "reduce-overhead")
    for chunk in (model.class_chunk, model.crop_chunk):
        chunk.size = 1
    for network in (model.clip, model.aggregator):
        network._compiled_call_impl = partial(overwriting, network.forward, [])
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected, atol=2e-6, rtol=0)


def overwriting(function, kept: list, *inputs):
    """Call a network whose results of earlier calls are lost."""
    for result in kept:
        result.fill_(torch.nan)
    result = function(*inputs)
    kept[:] = [result] if isinstance(result, torch.Tensor) else [result[0], *result[1]]
    return result


@pytest.mark.slow
def test_generated_code_predicts_the_same(tiny, item) -> None:
    expected = tiny(*WINDOWS)([item])[0]["sem_seg"]
    scores = tiny(*WINDOWS, "MODEL.COMPILE", "default")([item])[0]["sem_seg"]
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_channels_last(tiny, item) -> None:
    model = tiny()
    expected = model([item])[0]["sem_seg"]
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected, rtol=1e-4, atol=1e-5)
