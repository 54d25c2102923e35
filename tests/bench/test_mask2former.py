"""The benchmark of Mask2Former: baseline, transformers and ours compute the same."""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from mask2former_rankseg.points import RandomPoints

sys.path.insert(0, str(Path(__file__).parents[1]))
from mask2former_models import TINY

SIDE = 96
TASKS = ("semantic", "rankseg", "panoptic", "training")


@pytest.fixture(autouse=True)
def scripts(repository, monkeypatch):
    """They import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(str(repository / "bench"))


@pytest.fixture
def bench():
    return importlib.import_module("mask2former")


class SamePoints(RandomPoints):
    """The same points for every mask, so that the order in which they are drawn is no matter."""

    def draw(self, number: int, points: int, device: torch.device) -> Tensor:
        generator = torch.Generator().manual_seed(points)
        return torch.rand(1, points, 2, generator=generator).expand(number, -1, -1)


def tiny_case(bench, task: str, backbone: str = "swin_t"):
    """A model of a few thousand weights; of ResNets there are only large ones."""
    MetadataCatalog.get("bench_classes").thing_dataset_id_to_contiguous_id = {7: 0, 9: 3}
    options = TINY | {"MODEL.SWIN.DROP_PATH_RATE": 0.0, "DATASETS.TEST": ("bench_classes",)}
    if task == "rankseg":
        options["MODEL.RANKSEG.TOPK"] = 12
    changes = tuple(item for pair in options.items() for item in pair)
    return bench.Case(bench.MODELS[backbone], task, changes, SIDE)


@torch.no_grad()
def disturb(model: nn.Module) -> None:
    """Moves what starts as zero or one, so that nothing hides behind it."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "sampling_offsets" in name or "attention_weights" in name:
            parameter += 0.1 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer += 0.1 * torch.rand_like(buffer)


@pytest.fixture
def built(bench):
    """Makes a disturbed model of a case: (model, cfg, inputs)."""

    def make(case):
        model, cfg = bench.build(case)
        disturb(model)
        model.criterion.points = SamePoints(200)
        return model, cfg, bench.inputs(model, case)

    return make


@pytest.mark.parametrize("task", ["semantic", "rankseg"])
def test_baseline_scores_are_ours(bench, built, task: str) -> None:
    from baseline_mask2former import BaselineMaskFormer

    from segcore.inference.predictions import SCORES

    model, _, items = built(tiny_case(bench, task))
    model.prediction_kind = SCORES
    baseline = BaselineMaskFormer(model).eval()(items)[0]["sem_seg"]
    torch.testing.assert_close(baseline, model(items)[0]["sem_seg"], rtol=1e-4, atol=1e-5)


def test_baseline_segments_are_ours(bench, built) -> None:
    from baseline_mask2former import BaselineMaskFormer

    model, _, items = built(tiny_case(bench, "panoptic"))
    nn.init.zeros_(model.sem_seg_head.predictor.classifier.bias)  # of nine queries most are objects
    segments, info = BaselineMaskFormer(model).eval()(items)[0]["panoptic_seg"]
    ours, our_info = model(items)[0]["panoptic_seg"]
    assert info and info == our_info
    assert (segments != ours).float().mean() < 1e-3


@pytest.mark.parametrize("backbone", ["swin_t", "r50"])
def test_baseline_losses_and_gradients_are_ours(bench, built, backbone: str) -> None:
    from baseline_mask2former import BaselineMaskFormer

    model, _, items = built(tiny_case(bench, "training", backbone))
    gradients = []
    ways = (model, BaselineMaskFormer(model).train())
    losses = [way(items) for way in ways]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-4)
    for loss in losses:
        model.zero_grad()
        sum(loss.values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        error = (gradient - gradients[1][name]).norm()
        assert error <= 1e-2 * gradient.norm() + 1e-5, name


@pytest.mark.parametrize("backbone", ["swin_t", "r50"])
def test_transformers_compute_the_same(bench, built, backbone: str) -> None:
    """Class and mask logits behind every layer, of the same weights."""
    pytest.importorskip("transformers", reason="transformers is not installed: extra `bench`")
    from transformers_weights import normalised, to_transformers

    model, cfg, items = built(tiny_case(bench, "semantic", backbone))
    theirs = to_transformers(model, cfg)
    images = normalised(model, [item["image"] for item in items])
    with torch.no_grad():
        decoded = model.sem_seg_head(model.backbone(images), every_layer=True)
        prediction = theirs(images, output_auxiliary_logits=True)
    found = [
        (a["class_queries_logits"], a["masks_queries_logits"]) for a in prediction.auxiliary_logits
    ]
    found.append((prediction.class_queries_logits, prediction.masks_queries_logits))
    assert len(found) == len(decoded.predictions)
    for ours, others in zip(decoded.predictions, found, strict=True):
        for a, b in zip(ours, others, strict=True):
            assert (a - b).abs().max() <= 1e-4 * a.abs().max()


def test_transformers_computes_the_same_losses(bench, built, monkeypatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: extra `bench`")
    from transformers_weights import TransformersMaskFormer

    model, cfg, items = built(tiny_case(bench, "training"))
    theirs = TransformersMaskFormer(model, cfg).train()
    model.criterion.points = RandomPoints(12544)
    torch.manual_seed(1)
    expected = sum(model(items).values())
    found = theirs(items)["loss"]
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)  # the points are random


@pytest.mark.parametrize("way", ["baseline", "transformers", "ours"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.filterwarnings("ignore:no query is a segment")
def test_every_way_is_measured(bench, way: str, task: str, monkeypatch) -> None:
    if way == "transformers":
        pytest.importorskip("transformers", reason="transformers is not installed: extra `bench`")
    case = tiny_case(bench, task)
    if way not in bench.ways(case, ours_alone=False):
        pytest.skip("transformers has no RankSeg")
    found = vars(bench.measure(case, way))
    back = {name for name in found if name.endswith("_back")}
    assert all((found[name] > 0) == (task == "training") for name in back)
    assert all(found[name] > 0 for name in found.keys() - back - {"memory"})
    parts = found.keys() - {"total", "memory"}
    assert math.isclose(found["total"], sum(found[name] for name in parts))


def test_arithmetic_is_that_of_the_layers(bench) -> None:
    """Forward, a part alone; backward about twice the forward."""
    counted = bench.arithmetic(tiny_case(bench, "training"))
    forward = counted.backbone + counted.pixel_decoder + counted.decoder
    back = counted.backbone_back + counted.pixel_decoder_back + counted.decoder_back
    assert 1.5 * forward < back < 2.5 * forward
    small, large = (bench.arithmetic(tiny_case(bench, task)) for task in ("semantic", "rankseg"))
    assert small.backbone == large.backbone and small.rest < large.rest


def test_a_fifth_of_the_queries_is_an_object(bench) -> None:
    """The fraction that the published classes would give, whatever the queries are."""
    torch.manual_seed(0)
    model = SimpleNamespace(
        num_classes=150,
        sem_seg_head=SimpleNamespace(predictor=SimpleNamespace(classifier=nn.Linear(256, 151))),
    )
    bench._predict_objects(model)
    queries = torch.nn.functional.layer_norm(torch.randn(2000, 256), (256,))
    labels = model.sem_seg_head.predictor.classifier(queries).argmax(dim=1)
    assert 0.15 < (labels != 150).float().mean() < 0.25


def test_parts_in_order(monkeypatch) -> None:
    """Seconds are found where they are spent, forward and backward."""
    import parts as module
    from parts import Parts

    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, there: float, back: float) -> Tensor:
            ctx.back = back
            clock[0] += there
            return x.clone()

        @staticmethod
        def backward(ctx, gradient: Tensor) -> tuple:
            clock[0] += ctx.back
            return gradient, None, None

    class Part(nn.Module):
        def __init__(self, *seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": Slow.apply(x, *self.seconds)}

    first, second = Part(2, 0), Part(0, 4)
    parts = Parts({"first": first, "second": second})
    x = torch.zeros((), requires_grad=True)
    loss, there = parts.forward(lambda: second(first(x)["x"])["x"] * 2)
    back = parts.backward(loss)
    assert (*there.parts, there.rest) == (2, 0, 0)
    assert (*back.parts, back.rest) == (0, 4, 0)


def test_a_table_is_printed(bench, monkeypatch, capsys) -> None:
    """Also where a way does not fit the memory."""
    numbers = bench.Measured(4, 1, 2, 0.5, 0.5, 0, 0, 0, 0, 3e9)
    measure = importlib.import_module("measure")
    monkeypatch.setattr(
        measure, "alone", lambda _, case, way: None if way == "baseline" else numbers
    )
    monkeypatch.setattr(measure, "product_rate", lambda: 2e10)
    monkeypatch.setattr(bench, "arithmetic", lambda case: bench.Measured(*[2e10] * 9, 0))
    monkeypatch.setattr(
        "sys.argv", ["mask2former.py", "--models", "r50", "--tasks", "semantic", "--runs", "3"]
    )
    bench.main()
    lines = {row.split()[0]: row.split() for row in capsys.readouterr().out.splitlines()[1:]}
    assert " ".join(lines["baseline"]) == "baseline does not fit the memory"
    assert lines["ours"] == ["ours", "4.00", "1.00", "2.00", "0.50", "0.50", "3.00"]
    assert lines["limit"][1:3] == ["1.00", "1.00+1.00"]
