"""MaskFormer's matching and losses, compared with the published code; RankSeg as specified."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mask2former_rankseg.checkpoint import MASKFORMER, NAMES
from mask2former_rankseg.criterion import Criterion
from mask2former_rankseg.matcher import Weights
from mask2former_rankseg.queries import Decoded
from mask2former_rankseg.ranking import QueryRanking, pooled_pixels
from mask2former_rankseg.whole_masks import WholeMaskCriterion
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import build_rank_scores, scatter_columns
from segcore.rankseg.selection import presence, with_no_object

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import deterministic
import host_models
from maskformer_cases import rectangles

LAYERS = ("aux0", "aux1", "final")  # in the order of the decoder
SUFFIXES = ("_0", "_1", "")
WEIGHTS = Weights(classes=1.0, mask=20.0, dice=1.0)

CRITERIA = host_models.cases_of(
    "maskformer/cases.json", lambda _, case: "targets_class_y0x0y1x1" in case, ("criterion",)
)
RANKSEG = host_models.cases_of(
    "hosts/rankseg_spec_cases.json",
    lambda name, _: name.startswith("maskformer"),
    ("maskformer_rankseg",),
)


class Inputs:
    """Predictions of three layers and the targets of a stored case."""

    def __init__(self, case: Mapping, prefix: str) -> None:
        batch, queries, classes = case["B"], case["Q"], case["C"]
        self.classes = classes
        self.logits = [
            2 * deterministic.noise(f"{prefix}/logits/{layer}", (batch, queries, classes + 1))
            for layer in LAYERS
        ]
        self.masks = [
            3 * deterministic.noise(f"{prefix}/masks/{layer}", (batch, queries, *case["mask"]))
            for layer in LAYERS
        ]
        targets = [rectangles(each, *case["gt"]) for each in case["targets_class_y0x0y1x1"]]
        self.labels, self.targets = map(list, zip(*targets, strict=True))
        for tensor in (*self.logits, *self.masks):
            tensor.requires_grad_()


def close(found: Tensor, expected: np.ndarray, tolerance: float) -> None:
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    largest = max(1.0, float(expected.abs().max()))
    assert (found - expected).abs().max() <= tolerance * largest


@pytest.mark.parametrize("name", CRITERIA)
def test_losses_pairs_and_gradients(golden: Path, name: str) -> None:
    case = json.loads((golden / "maskformer" / "cases.json").read_text())[name]
    reference = np.load(golden / "maskformer" / f"{name}.npz")
    inputs = Inputs(case, case["prefix"])
    criterion = WholeMaskCriterion(inputs.classes, weights=WEIGHTS)
    predictions = list(zip(inputs.logits, inputs.masks, strict=True))
    with_frames = [(logits, masks[:, :, None]) for logits, masks in predictions]
    pairs = criterion.match(with_frames, inputs.labels, [m[:, None] for m in inputs.targets])
    for b, (queries, objects) in enumerate(pairs[-1]):
        assert [queries.tolist(), objects.tolist()] == reference[f"match_final_{b}"].tolist()
    losses = criterion(predictions, inputs.labels, inputs.targets)
    for suffix in SUFFIXES:
        for part, weight in (("ce", 1), ("mask", 20), ("dice", 1)):
            expected = weight * reference[f"loss_{part}{suffix}"].item()
            assert losses[f"loss_{part}{suffix}"].item() == pytest.approx(expected, rel=1e-5)
    total = sum(losses.values())
    assert total.item() == pytest.approx(reference["total"].item(), rel=1e-5)
    total.backward()
    for layer, logits, masks in zip(LAYERS, inputs.logits, inputs.masks, strict=True):
        expected = reference[f"grad_logits_{layer}"]
        error = np.abs(logits.grad.numpy() - expected).max()
        assert error <= 1e-5 * np.abs(expected).max(), layer
        expected = reference[f"grad_masks_{layer}"]
        error = np.abs(masks.grad[:, ::2, ::2, ::2].numpy() - expected).max()
        assert error <= 1e-5 * np.abs(expected).max(), layer


class Ranked(nn.Module):
    """RankSeg of a stored case, with its published names."""

    def __init__(self, case: Mapping) -> None:
        super().__init__()
        keys = case["keys"]
        (width, channels), (hidden, _) = keys["ml_head.proj_dec.weight"], keys[FC]
        head = build_multilabel_head(
            "encoder", channels, case["C"], hidden_dim=width, num_heads=4, feedforward_dim=hidden
        )
        self.ranking = QueryRanking(
            head,
            build_rank_scores("norm", case["kappa"]),
            kappa=case["kappa"],
            test_kappa=case["kappa"],
            features=pooled_pixels,
        )
        weights = host_models.published_weights(keys)
        names = {NAMES[MASKFORMER].to_ours(key): value for key, value in weights.items()}
        self.load_state_dict(names)


FC = "ml_head.block.mlp.fc1.weight"


@pytest.mark.parametrize("name", RANKSEG)
def test_rankseg(golden: Path, name: str) -> None:
    """The multi-label head on pooled mask features, ranked logits, losses, and scores of all."""
    case = json.loads((golden / "hosts" / "rankseg_spec_cases.json").read_text())[name]
    reference = np.load(golden / "hosts" / "rankseg_spec_cases.npz")
    inputs = Inputs(case, "spec")
    mask_features = host_models.noise_of(case["inputs"]["mask_features"])
    ranking = Ranked(case).ranking.eval()
    decoded = Decoded([], [], mask_features)
    assert pooled_pixels(decoded).shape[1] == math.prod(case["pooled_to"])
    ranked = ranking(decoded, inputs.logits, torch.empty(0), None)
    close(ranked.category_logits, reference["mf_img_pred"], 2e-5)
    assert ranked.selected.tolist() == reference["mf_index"].tolist()
    close(ranked.logits[-1], reference["mf_normed_final"], 2e-5)
    columns = with_no_object(ranked.selected, inputs.classes)
    scattered = scatter_columns(ranked.logits[-1], columns, inputs.classes + 1)
    close(scattered[:, ::3], reference["mf_scattered_final"], 2e-5)
    present = presence(inputs.labels, inputs.classes)
    assert present.tolist() == reference["mf_presence"].astype(bool).tolist()
    compare_losses(inputs, ranked, ranking, reference)


def compare_losses(inputs: Inputs, ranked, ranking: QueryRanking, reference: Mapping) -> None:
    criterion: Criterion = WholeMaskCriterion(
        inputs.classes, weights=WEIGHTS, multilabel_weight=10.0
    )
    losses = criterion(
        list(zip(ranked.logits, inputs.masks, strict=True)),
        inputs.labels,
        inputs.targets,
        selected=ranked.selected,
        category_logits=ranked.category_logits,
    )
    for suffix in SUFFIXES:
        for part, weight in (("ce", 1), ("mask", 20), ("dice", 1)):
            found = losses[f"loss_{part}{suffix}"].item() / weight
            assert found == pytest.approx(reference[f"mf_loss_{part}{suffix}"].item(), rel=1e-5)
    expected = reference["mf_loss_ml_weighted"].item()
    assert losses["loss_ml"].item() == pytest.approx(expected, rel=1e-5)
    total = sum(losses.values())
    assert total.item() == pytest.approx(reference["mf_total"].item(), rel=1e-5)
    total.backward()
    close(inputs.logits[-1].grad, reference["mf_grad_logits_final"], 1e-5)
    close(ranking.scores.weight.grad, reference["mf_grad_ml_norm_weight"], 1e-5)
