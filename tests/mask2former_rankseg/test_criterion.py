"""Matching and losses: reference outputs, images with no or many objects, several processes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mask2former_rankseg.criterion import Criterion
from mask2former_rankseg.matcher import Weights, assign, matching_costs
from mask2former_rankseg.points import RandomPoints
from segcore.rankseg.scores import NormScores, gather_columns
from segcore.rankseg.selection import select_top, with_no_object

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import criterion_run
from deterministic import noise

LAYERS = ("aux0", "aux1", "final")  # in the order of the decoder
SUFFIXES = dict(zip(LAYERS, ("_0", "_1", ""), strict=True))


def unit(name: str, shape: tuple[int, ...]) -> Tensor:
    return (noise(name, shape) / math.sqrt(3) + 1) / 2


class FixedPoints(RandomPoints):
    """The points of the reference run, layer by layer."""

    def __init__(self, prefix: str, num_points: int) -> None:
        super().__init__(num_points)
        self.prefix = prefix
        self.matching, self.losses = iter(LAYERS), iter(LAYERS)

    def uniform(self, number: int, device: torch.device) -> Tensor:
        name = f"{self.prefix}/match_points/{next(self.matching)}"
        shape = (1, self.num_points, 2)
        return torch.cat([unit(f"{name}/{b}", shape) for b in range(number)])

    def uncertain(self, logits: Tensor) -> Tensor:
        name = f"{self.prefix}/loss_points/{next(self.losses)}"
        return unit(name, (len(logits), self.num_points, 2))


def rectangles(boxes: Sequence, height: int, width: int) -> Tensor:
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


class Case:
    """A stored case of the criterion: its inputs, generated, and the reference outputs."""

    def __init__(self, golden: Path, name: str) -> None:
        with np.load(golden / "mask2former_rankseg" / f"criterion_{name}.npz") as arrays:
            self.expected = {key: arrays[key] for key in arrays}
        self.meta = json.loads(str(self.expected.pop("meta")))
        video = name.startswith("video")
        p = self.prefix = "m2f/vcrit" if video else "m2f/crit"
        batch, queries, self.classes = (2, 10, 40) if video else (3, 20, 150)
        shape = (batch, queries, 2, 12, 16) if video else (batch, queries, 24, 32)
        self.num_points = 128 if video else 256
        self.logits = {
            layer: (2 * noise(f"{p}/logits/{layer}", (batch, queries, self.classes + 1)))
            for layer in LAYERS
        }
        self.mask_logits = {layer: 3 * noise(f"{p}/masks/{layer}", shape) for layer in LAYERS}
        self.category_logits = noise(f"{p}/img_pred", (batch, self.classes))
        self.labels = [torch.tensor(labels) for labels in self.meta["labels"]]
        size = (48, 64) if video else (96, 128)
        self.masks = [rectangles(boxes, *size) for boxes in self.meta["rectangles_y0x0y1x1"]]
        if video:
            self.masks = [torch.stack([m, m.roll((3, 5), (1, 2))], dim=1) for m in self.masks]
        kappa = self.expected.get("topk_index_with_no_object", np.empty((0, 1))).shape[1] - 1
        self.norm = None
        if kappa:
            self.norm = NormScores(kappa)
            for name, at, by in (("weight", 1, 0.1), ("bias", 0, 0.05)):
                value = at + by * noise(f"{p}/ml_norm.{name}", (kappa + 1,))
                getattr(self.norm, name).data = value

    def run(self) -> tuple[dict[str, Tensor], list]:
        """The losses and the pairs of each layer."""
        for tensor in (*self.logits.values(), *self.mask_logits.values(), self.category_logits):
            tensor.requires_grad_()
        options, logits = {}, self.logits
        if self.norm is not None:
            ids = select_top(self.category_logits, self.norm.kappa)
            columns = with_no_object(ids, self.classes)
            assert columns.tolist() == self.expected["topk_index_with_no_object"].tolist()
            logits = {k: self.norm(gather_columns(v, columns)) for k, v in logits.items()}
            options = {"selected": ids, "category_logits": self.category_logits}
        criterion = Criterion(
            self.classes, points=FixedPoints(self.prefix, self.num_points), multilabel_weight=10
        )
        found = []
        match = criterion.match
        criterion.match = lambda *inputs: found.extend(match(*inputs)) or found
        predictions = [(logits[layer], self.mask_logits[layer]) for layer in LAYERS]
        return criterion(predictions, self.labels, self.masks, **options), found

    def assert_gradient(self, name: str, tensor: Tensor) -> None:
        expected = torch.from_numpy(self.expected[name])
        tolerance = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(tensor.grad, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["image_plain", "image_rank50", "video_rank15"])
def test_golden_losses_pairs_and_gradients(golden: Path, name: str) -> None:
    case = Case(golden, name)
    losses, pairs = case.run()
    for layer, found in zip(LAYERS, pairs, strict=True):
        for b, (queries, objects) in enumerate(found):
            expected = case.expected[f"indices/{layer}/{b}"]
            assert [queries.tolist(), objects.tolist()] == expected.tolist(), (layer, b)
        for part in ("ce", "mask", "dice"):
            key = f"loss_{part}{SUFFIXES[layer]}"
            assert losses[key].item() == pytest.approx(case.meta["weighted"][key], rel=1e-4)
    if case.norm is not None:
        assert losses["loss_ml"].item() == pytest.approx(
            10 * case.meta["loss_ml_unweighted"], rel=1e-4
        )
    total = sum(losses.values())
    assert total.item() == pytest.approx(case.meta["total"], rel=1e-4)
    total.backward()
    for layer in LAYERS:
        case.assert_gradient(f"grad_logits/{layer}", case.logits[layer])
        case.assert_gradient(f"grad_masks/{layer}", case.mask_logits[layer])
    if case.norm is not None:
        case.assert_gradient("grad_img_pred", case.category_logits)
        case.assert_gradient("grad_ml_norm_weight", case.norm.weight)
        case.assert_gradient("grad_ml_norm_bias", case.norm.bias)


def test_golden_costs(golden: Path) -> None:
    case = Case(golden, "image_plain")
    points = FixedPoints(case.prefix, case.num_points)
    for layer in LAYERS:
        costs = matching_costs(
            case.logits[layer],
            case.mask_logits[layer][:, :, None],
            case.labels,
            [mask[:, None] for mask in case.masks],
            points.uniform(3, torch.device("cpu")),
            Weights(),
        )
        for b, cost in enumerate(costs):
            expected = torch.from_numpy(case.expected[f"cost/{layer}/{b}"])
            torch.testing.assert_close(
                cost, expected, rtol=0, atol=1e-5 * expected.abs().max().item()
            )


def inputs(counts: Sequence[int], classes: int = 5, queries: int = 6) -> tuple:
    """Two layers of predictions and ``counts`` random objects for each image."""
    generator = torch.Generator().manual_seed(sum(counts))
    batch = len(counts)
    predictions = [
        (
            torch.randn(batch, queries, classes + 1, generator=generator).requires_grad_(),
            torch.randn(batch, queries, 8, 8, generator=generator).requires_grad_(),
        )
        for _ in range(2)
    ]
    labels = [torch.randint(classes, (count,), generator=generator) for count in counts]
    masks = [torch.rand(count, 32, 32, generator=generator) > 0.5 for count in counts]
    return predictions, labels, masks


def backward(losses: dict[str, Tensor], predictions: list) -> None:
    sum(losses.values()).backward()
    for tensor in (tensor for pair in predictions for tensor in pair):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (1, 500)])
def test_no_object_and_five_hundred(counts: tuple[int, int]) -> None:
    predictions, labels, masks = inputs(counts)
    losses = Criterion(5, points=RandomPoints(64))(predictions, labels, masks)
    assert sorted(losses) == sorted(
        f"loss_{part}{suffix}" for part in ("ce", "mask", "dice") for suffix in ("", "_0")
    )
    backward(losses, predictions)
    if not any(counts):
        assert losses["loss_mask"] == losses["loss_dice"] == 0 and losses["loss_ce"] > 0


def test_objects_outside_the_selection_train_the_multi_label_head_alone() -> None:
    """Without its third object the image has the same losses, except the multi-label loss."""
    predictions, _, masks = inputs((3,), classes=4)
    predictions = [(logits[..., [0, 1, 4]], mask_logits) for logits, mask_logits in predictions]
    labels, ids = torch.tensor([3, 1, 0]), torch.tensor([[3, 1]])
    category_logits = torch.zeros(1, 4)
    results = []
    for number in (3, 2):
        torch.manual_seed(0)
        results.append(
            Criterion(4, points=RandomPoints(64))(
                predictions,
                [labels[:number]],
                [masks[0][:number]],
                selected=ids,
                category_logits=category_logits,
            )
        )
    with_it, without = results
    assert with_it.pop("loss_ml") > without.pop("loss_ml")
    assert with_it == without


def test_the_final_prediction_alone() -> None:
    predictions, labels, masks = inputs((2, 1))
    losses = Criterion(5, points=RandomPoints(64))(predictions[-1:], labels, masks)
    assert sorted(losses) == ["loss_ce", "loss_dice", "loss_mask"]


def test_a_perfect_prediction_costs_nothing() -> None:
    masks = rectangles([(0, 0, 32, 1), (0, 1, 32, 32)], 32, 32)  # no point on the outline
    mask_logits = 1e4 * (masks.float() - 0.5).repeat(2, 1, 1)[None]
    class_logits = torch.full((1, 4, 3), -50.0)
    for query, label in enumerate((2, 2, 1, 0)):  # two "no object", then the two in turn
        class_logits[0, query, label] = 50.0
    criterion = Criterion(2, points=criterion_run.FixedPoints(20))
    losses = criterion([(class_logits, mask_logits)], [torch.tensor([1, 0])], [masks])
    assert all(loss.item() == pytest.approx(0, abs=1e-6) for loss in losses.values())
    swapped = criterion([(class_logits, mask_logits)], [torch.tensor([0, 1])], [masks])
    assert sum(swapped.values()) > 10


def test_a_diverged_model_shows_in_its_losses() -> None:
    predictions, labels, masks = inputs((2, 3))
    predictions[-1][0].data.fill_(torch.nan)
    losses = Criterion(5, points=RandomPoints(64))(predictions, labels, masks)
    assert losses["loss_ce"].isnan() and losses["loss_ce_0"].isfinite()


def test_half_precision_is_compared_in_full() -> None:
    predictions, labels, masks = inputs((2, 3))
    halves = [(a.detach().bfloat16(), b.detach().bfloat16()) for a, b in predictions]
    criterion = Criterion(5, points=RandomPoints(64))
    torch.manual_seed(0)
    expected = criterion([(a.float(), b.float()) for a, b in halves], labels, masks)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert criterion(halves, labels, masks) == expected


def test_pairs_have_the_lowest_cost() -> None:
    costs = [torch.tensor([[1.0, 9.0], [0.0, 1.0], [0.5, 9.0]]), torch.empty(3, 0)]
    (queries, objects), (nothing, _) = assign(costs)
    assert queries.tolist() == [1, 2] and objects.tolist() == [1, 0]
    assert len(nothing) == 0


def test_two_processes_have_the_gradients_of_one(tmp_path: Path, repository: Path) -> None:
    """Mask gradients always; class gradients where both match equally many objects."""
    cases = [inputs(counts) for counts in ((2, 2), (4, 1))]
    detached = [
        ([tuple(t.detach() for t in pair) for pair in case[0]], *case[1:]) for case in cases
    ]
    torch.save(detached, tmp_path / "inputs.pt")
    command = [sys.executable, criterion_run.__file__, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), *sys.path])}
    running = [
        subprocess.Popen([*command, str(rank), "2"], env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    two = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for i, case in enumerate(cases):
        for layer, (classes, masks) in enumerate(criterion_run.gradients(*case)):
            # What distributed training does: the mean over the processes of gradients of one sum.
            parts = [[tensor / 2 for tensor in part[i][layer]] for part in two]
            torch.testing.assert_close(torch.cat([part[1] for part in parts]), masks)
            if i == 0:
                torch.testing.assert_close(torch.cat([part[0] for part in parts]), classes)


@pytest.mark.gpu
def test_a_gpu_has_the_losses_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        predictions, labels, masks = inputs((3, 0, 2))
        predictions = [
            tuple(t.detach().to(device).requires_grad_() for t in p) for p in predictions
        ]
        criterion = Criterion(5, points=criterion_run.FixedPoints(64))
        losses = criterion(
            predictions,
            [label.to(device) for label in labels],
            [mask.to(device) for mask in masks],
            selected=torch.tensor([[1, 3, 0, 2, 4]] * 3, device=device),
            category_logits=torch.zeros(3, 5, device=device),
        )
        backward(losses, predictions)
        found.append({name: loss.item() for name, loss in losses.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-4)
