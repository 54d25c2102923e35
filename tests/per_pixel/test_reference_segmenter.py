"""Segmenter's head, plain and with RankSeg, EncNet and ESSNet, against the published modules.

All cases ``segmenter_head_*`` of the folder of reference outputs are run.
"""

import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from deterministic import noise, weights

from per_pixel.criterion import Criterion
from per_pixel.encnet import ContextEncoding, EncNetSegmenterHead, context_loss
from per_pixel.losses import recalls
from per_pixel.names.segmenter import head_pairs
from per_pixel.ranking import PixelRanking
from per_pixel.segmenter import MaskTransformer, SegmenterHead
from per_pixel.segmenter_essnet import EssnetSegmenterHead
from segcore.checkpoint.renaming import Renaming
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import NormScores, scatter_columns
from segcore.rankseg.selection import presence

START = "segmenter_head_"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "golden"
HEADS = {"RankSegDecoderHead": "decoder", "RankSegGlobalPoolingHead": "gap"}
IMAGES = {"masks", "labels", "loss_img", "loss_seg"}  # arrays with a row an image


def kind_of(case: dict) -> str:
    """Return which head a case is about."""
    config = case["config"]
    if "num_codes" in config:
        return "encnet"
    if "d_ess" in config:
        return "essnet"
    if "img_cls_head" in config:
        return HEADS[config["img_cls_head"]["type"]]
    if "mask_norm.gamma" in case["overrides"]:
        return "oracle"
    return "encoder" if "topk_cls" in config else "plain"


def build(case: dict) -> SegmenterHead:
    """Build the head of a case, filled by the published names of its parameters."""
    config, kind = case["config"], kind_of(case)
    width, num_classes = config["d_model"], config["n_cls"]
    encoder = kind == "encoder"
    transformer = MaskTransformer(
        width,
        num_layers=config["n_layers"] - encoder,
        num_heads=config["n_heads"],
        dropout=config["dropout"],
        similarity_dim=config.get("d_ess"),
    )
    gammas = tuple(config.get("asymmetric", (0, 0))[:2])
    criterion = Criterion(multilabel_weight=config.get("img_loss_weight", 0), gammas=gammas)
    args = (config["d_encoder"], num_classes, transformer, criterion)
    if kind == "encnet":
        context = ContextEncoding(config["d_encoder"], width, config["num_codes"], num_classes)
        head = EncNetSegmenterHead(context, *args)
    elif kind == "essnet":
        head = EssnetSegmenterHead(*args, neighbours=config["topk_cls"])
    elif kind == "plain":
        head = SegmenterHead(*args)
    else:
        head = SegmenterHead(*args, ranking=ranking(config, kind), rank_projected=encoder)
    fill(head, None if kind in ("plain", "encnet", "essnet") else kind)
    return head.train(kind == "encnet")


def ranking(config: dict, kind: str) -> PixelRanking:
    width, num_classes = config["d_model"], config["n_cls"]
    kappa = config.get("topk_cls", num_classes)
    pool = config.get("downsample") or 0
    head = None
    if kind != "oracle":
        settings = config.get("img_cls_head", {})
        head = build_multilabel_head(
            kind,
            width,
            num_classes,
            hidden_dim=width,
            shared_width=None if kind == "gap" else width,
            num_heads=settings.get("nhead", config["n_heads"]),
            feedforward_dim=settings.get("dim_feedforward"),
            dropout=config["dropout"],
            grid=(pool, pool) if pool else None,
            projection="none" if kind == "encoder" else "linear",
        )
    return PixelRanking(
        head,
        NormScores(kappa, no_object=False, unbiased=kind == "oracle"),
        kappa=kappa,
        test_kappa=kappa,
        pool=pool,
        share_classes=kind != "gap",
        class_rows="refined" if kind == "encoder" else "original",
    )


def fill(head: nn.Module, kind: str | None) -> None:
    names = Renaming(head_pairs(kind, len(head.transformer.blocks)))
    state = {}
    for name, value in head.state_dict().items():
        published = names.to_published(name)
        assert names.to_ours(published) == name
        if not name.endswith("num_batches_tracked"):
            state[name] = published_value(published, tuple(value.shape))
    assert head.load_state_dict(state, strict=False).unexpected_keys == []


def published_value(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a parameter of the reference; linear layers there are 1x1 convolutions or not."""
    value = noise(name, shape)
    leaf = name.rpartition(".")[2]
    match leaf:
        case "cls_emb":
            return 0.5 * value
        case "W":
            return value / math.sqrt(shape[-1])
        case "b":
            return 0.05 * value
        case "gamma":
            return 1 + 0.1 * value
        case "scale":
            return -0.1 * value.abs()
        case "running_var":
            return 1 + 0.1 * value.abs()
        case "running_mean":
            return 0.1 * value
    return weights({name: shape})[name]


def map_of(case: dict, cases: dict[str, dict]) -> Tensor:
    """Return the backbone's map: a sum of terms like ``2*fill.values('name', (2,192,12,12))``."""
    term = r"(?:(\d+)\*)?fill\.values\('([^']+)',\s*\(([\d,\s]+)\)\)"
    terms = re.findall(term, case.get("input", ""))
    if not terms:
        return map_of(cases[START + "baseline"], cases)
    parts = [
        float(factor or 1) * noise(name, tuple(int(n) for n in shape.split(",")))
        for factor, name, shape in terms
    ]
    return sum(parts)


def load(golden: Path) -> dict[str, dict]:
    return json.loads((golden / "per_pixel" / "cases.json").read_text("utf-8"))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def close_loss(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-4)


def close_gradient(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-3)


def gradient_norms(head: SegmenterHead, kind: str | None, names: list[str]) -> Tensor:
    table = Renaming(head_pairs(kind, len(head.transformer.blocks)))
    parameters = dict(head.named_parameters())
    return torch.stack([parameters[table.to_ours(name)].grad.norm() for name in names])


def run(head: SegmenterHead, maps: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Any]:
    head.zero_grad()
    present = presence(list(labels), head.num_classes)
    losses, found = head.losses({"tokens": maps}, labels, present)
    sum(losses.values()).backward()
    return losses, found


class Case:
    """A case: its description, arrays, and the head."""

    def __init__(self, golden: Path, name: str) -> None:
        cases = load(golden)
        self.about = cases[name]
        self.config, self.kind = self.about["config"], kind_of(self.about)
        with np.load(golden / "per_pixel" / f"{name}.npz") as arrays:
            self.arrays = {key: torch.from_numpy(arrays[key]) for key in arrays}
        self.labels = self.arrays["labels"][:, 0].long()
        self.maps = map_of(self.about, cases)[: len(self.labels)]
        self.head = build(self.about)


def check_plain(case: Case) -> None:
    losses, found = run(case.head, case.maps, case.labels)
    close(found.scores, case.arrays["masks"])
    close_loss(losses["loss_ce"], case.arrays["loss_seg"])
    close_gradient(case.head.mask_norm.weight.grad, case.arrays["grad_mask_norm_weight"])
    names = ["cls_emb", "proj_dec.weight", "proj_patch", "proj_classes"]
    names += ["blocks.0.attn.qkv.weight", "blocks.1.mlp.fc2.weight"]
    close_gradient(gradient_norms(case.head, None, names), case.arrays["grad_norms"])


def check_encoder(case: Case) -> None:
    """The published head takes one image at a time; ours takes all, too."""
    arrays, head = case.arrays, case.head
    together = head({"tokens": case.maps})
    close(together.category_logits, arrays["img_pred"])
    assert torch.equal(together.classes, arrays["topk_index"].long())
    close(together.scores, arrays["masks"])
    scores = scatter_columns(together.scores.movedim(1, -1), together.classes, head.num_classes)
    assert (scores.argmax(dim=-1) == arrays["eval_argmax"]).float().mean() >= 0.995
    pixels, classes = recalls(case.labels, together.classes, head.num_classes)
    close_loss(pixels, arrays["pixel_recall"])
    close_loss(classes, arrays["image_recall"])
    for i in range(len(case.maps)):
        losses, found = run(head, case.maps[i : i + 1], case.labels[i : i + 1])
        close(found.scores, arrays["masks"][i : i + 1])
        close_loss(losses["loss_ml"], arrays["loss_img"][i])
        close_loss(losses["loss_ce"], arrays["loss_seg"][i])
        gradient = head.ranking.scores.weight.grad
        close_gradient(gradient, arrays["grad_mask_norm_weight"][i])
        norms = gradient_norms(head, "encoder", case.about["grad_norm_names"])
        close_gradient(norms, arrays["grad_norms"][i])


def check_other_heads(case: Case) -> None:
    losses, found = run(case.head, case.maps, case.labels)
    close(found.category_logits, case.arrays["img_pred"])
    assert torch.equal(found.classes, case.arrays["topk_index"].long())
    close(found.scores, case.arrays["masks"])
    close_loss(losses["loss_ml"], case.arrays["loss_img"])
    close_loss(losses["loss_ce"], case.arrays["loss_seg"])
    norms = gradient_norms(case.head, case.kind, ["cls_emb", "proj_dec.weight"])
    close_gradient(norms, case.arrays["grad_norms"])


def check_oracle(case: Case) -> None:
    present = presence(list(case.labels), case.head.num_classes)
    together = case.head({"tokens": case.maps}, present)
    scores = scatter_columns(
        together.scores.movedim(1, -1), together.classes, case.head.num_classes
    )
    assert (scores.argmax(dim=-1) == case.arrays["eval_argmax"]).float().mean() >= 0.995
    for i in range(len(case.maps)):
        expected = case.arrays[f"masks_{i}"]
        close(together.scores[i, : len(expected)], expected)
        losses, found = run(case.head, case.maps[i : i + 1], case.labels[i : i + 1])
        assert torch.equal(found.classes[0], case.arrays[f"present_{i}"].long())
        close(found.scores[0], expected)
        close_loss(losses["loss_ce"], case.arrays["loss_seg"][i])
        assert "loss_ml" not in losses


def check_encnet(case: Case) -> None:
    losses, found = run(case.head, case.maps, case.labels)
    close(found.scores, case.arrays["masks"])
    close_loss(losses["loss_ce"], case.arrays["loss_seg"])
    _, logits = case.head.context(case.maps)
    close(logits, case.arrays["se_logits"])
    close_loss(losses["loss_context"], case.arrays["loss_se"])
    present = presence(list(case.labels), case.head.num_classes)
    close_loss(0.2 * context_loss(logits, present), case.arrays["loss_se"])


def check_essnet(case: Case) -> None:
    head, arrays = case.head, case.arrays
    losses, found = run(head, case.maps, case.labels)
    close_loss(losses["loss_ce"], arrays["loss_seg"])
    names = ["cls_emb", "proj_patch", "proj_classes", "mask_norm.weight"]
    close_gradient(gradient_norms(head, None, names), arrays["grad_norms"])
    labels = case.labels[0]
    known = labels.where(labels < head.num_classes, 0)  # as there, though these have no loss
    compared = head.compared_scores(found.scores[0], known).T.unflatten(-1, labels.shape)
    close(compared[None, :, ::6, ::6], arrays["train_logits"])
    scores = head({"tokens": case.maps}).scores
    assert torch.equal((scores > -100).sum(dim=1), arrays["eval_kept"].long())
    assert (scores.argmax(dim=1) == arrays["eval_argmax"]).float().mean() >= 0.995
    close(scores[0, :, 3, 4], arrays["eval_logits_pixel"])


CHECKS: dict[str, Callable[[Case], None]] = {
    "plain": check_plain,
    "encoder": check_encoder,
    "decoder": check_other_heads,
    "gap": check_other_heads,
    "oracle": check_oracle,
    "encnet": check_encnet,
    "essnet": check_essnet,
}


def case_names() -> list[str]:
    """Return the names of all cases in the folder; of one where there is no folder, to skip it."""
    golden = Path(os.environ.get("CATRANK_GOLDEN", SHARED))
    if not golden.is_dir():
        return [START + "baseline"]
    return [name for name in load(golden) if name.startswith(START)]


@pytest.mark.parametrize("name", case_names())
def test_head_equals_reference(golden: Path, name: str) -> None:
    case = Case(golden, name)
    CHECKS[case.kind](case)
