"""Whole Segmenter models: published checkpoints, parameter counts, mmsegmentation's own model."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import host_models
from deterministic import noise

from per_pixel.checkpoint import PublishedNames, rename_published
from per_pixel.config import build_decode_head
from per_pixel.losses import accuracy, resize
from per_pixel.segmenter import MaskTransformer
from segcore.config import default_config
from segcore.rankseg.selection import presence

LARGE = {"VIT.EMBED_DIM": 1024, "VIT.DEPTH": 24, "VIT.NUM_HEADS": 16, "VIT.IMAGE_SIZE": 640}
LARGE |= {"PER_PIXEL.CHANNELS": 1024, "PER_PIXEL.NUM_HEADS": 16, "RANKSEG.HIDDEN_DIM": 1024}
NO_BIAS = {"VIT.PATCH_BIAS": False}
RANKSEG = {
    "RANKSEG.FLAG": True,
    "RANKSEG.TOPK": 50,
    "RANKSEG.HIDDEN_DIM": 768,
    "RANKSEG.SHARE_EMBEDDING": True,
    "RANKSEG.CLASS_ROWS": "refined",
    "RANKSEG.POOL": 8,
}
ORIGINAL = {**RANKSEG, "RANKSEG.CLASS_ROWS": "original"}
DECODER = {**ORIGINAL, "RANKSEG.HEAD": "decoder", "RANKSEG.POOL": 16}
GAP = {**ORIGINAL, "RANKSEG.HEAD": "gap", "RANKSEG.SHARE_EMBEDDING": False}
ENCNET = {"ENCNET.FLAG": True}
ESSNET = {"ESSNET.FLAG": True, "ESSNET.DIM": 64, "ESSNET.NEIGHBOURS": 50}
ORACLE = {**ORIGINAL, "RANKSEG.ORACLE": True}


class Model(nn.Module):
    """The parts of a model that a checkpoint fills."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg, ShapeSpec(channels=3))
        self.decode_head = build_decode_head(cfg, self.backbone.output_shape())
        self.auxiliary_head = None
        self.register_load_state_dict_pre_hook(rename_published)


def model(num_classes: int, *settings: Mapping[str, Any]) -> Model:
    """Build a Segmenter with ViT-B/16 for images of 512, and other settings, without values."""
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_vit_backbone"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    for keys in settings:
        for name, value in keys.items():
            section, _, key = name.partition(".")
            cfg.MODEL[section][key] = value
    with torch.device("meta"):
        return Model(cfg)


KEYS = {
    "per_pixel/keys_segmenter_vitb16_k171": (171,),
    "per_pixel/keys_segmenter_rankseg_vitb16_k171_kappa50": (171, RANKSEG),
    "per_pixel/keys_segmenter_rankseg_vitb16_k171_trandec": (171, DECODER),
    "per_pixel/keys_segmenter_rankseg_vitb16_k171_gap": (171, GAP),
    "per_pixel/keys_segmenter_rankseg_vitl16_k150_kappa50": (150, RANKSEG, LARGE),
    "hosts/keys_segmenter_vit_b16_k150": (150, NO_BIAS),
    "hosts/keys_segmenter_vit_l16_k150": (150, NO_BIAS, LARGE),
}
COMPUTED = "decode_head.img_cls_head.position_embedding.pe"


@pytest.mark.parametrize("name", KEYS)
def test_published_checkpoints_fill_every_parameter(golden: Path, name: str) -> None:
    file = json.loads((golden / f"{name}.json").read_text())
    tables = [table for table in file.values() if isinstance(table, dict)]
    keys = max(tables, key=len)
    segmenter = model(*KEYS[name])
    values = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    found = segmenter.load_state_dict(values, strict=False, assign=True)
    assert found.missing_keys == [] and found.unexpected_keys == []
    number = sum(parameter.numel() for parameter in segmenter.parameters())
    assert number == file.get("total_parameters", file.get("parameters"))
    if name.startswith("per_pixel"):  # the layout that our names are written in
        names = PublishedNames(segmenter)
        assert {names.to_published(key) for key in segmenter.state_dict()} == set(keys) - {COMPUTED}


@pytest.mark.parametrize(
    ("millions", "settings"),
    [
        ({150: 102.498, 171: 102.514, 1284: 103.371}, {}),
        ({150: 109.702, 171: 109.734}, RANKSEG),
        ({1284: 111.445}, {**RANKSEG, "RANKSEG.TOPK": 100}),
        ({171: 114.265}, DECODER),
        ({171: 103.236}, GAP),
        ({150: 109.153, 171: 109.185, 1284: 110.898}, ENCNET),
        ({150: 101.416, 171: 101.432, 1284: 102.289}, ESSNET),
        ({150: 333.234}, LARGE),
        ({150: 345.986}, {**RANKSEG, **LARGE}),
    ],
)
def test_parameters_are_those_of_the_papers_tables(millions: dict, settings: dict) -> None:
    for num_classes, expected in millions.items():
        number = sum(p.numel() for p in model(num_classes, settings).parameters())
        assert round(number / 1e6, 3) == expected


def test_class_tokens_of_the_backbone_replace_those_of_the_head() -> None:
    ours = model(171, RANKSEG, {"RANKSEG.CLASS_ROWS": "backbone"})
    names = {PublishedNames(ours).to_published(name) for name in ours.state_dict()}
    assert "backbone.cls_emb" in names and "decode_head.cls_emb" not in names
    plain = model(171, RANKSEG)
    assert len(names) == len(plain.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in plain.parameters())


def test_names_of_the_oracle() -> None:
    oracle = model(171, ORACLE, {"RANKSEG.TOPK": 171})
    names = {PublishedNames(oracle).to_published(name) for name in oracle.state_dict()}
    assert {"decode_head.mask_norm.gamma", "decode_head.mask_norm.beta"} <= names


def small_segmenter(case: dict) -> Model:
    """Build mmsegmentation's Segmenter of a case, with the weights of the reference."""
    backbone, head = case["model"]["backbone"], case["model"]["decode_head"]
    settings = {
        "VIT.IMAGE_SIZE": backbone["img_size"][0],
        "VIT.PATCH_SIZE": backbone["patch_size"],
        "VIT.EMBED_DIM": backbone["embed_dims"],
        "VIT.DEPTH": backbone["num_layers"],
        "VIT.NUM_HEADS": backbone["num_heads"],
        "VIT.DROP_PATH_RATE": backbone["drop_path_rate"],
        "PER_PIXEL.CHANNELS": head["embed_dims"],
        "PER_PIXEL.NUM_LAYERS": head["num_layers"],
        "PER_PIXEL.NUM_HEADS": head["num_heads"],
        "PER_PIXEL.DROPOUT": head["dropout_ratio"],
    }
    segmenter = model(head["num_classes"], NO_BIAS, settings).to_empty(device="cpu")
    weights = host_models.published_weights(case["keys"])
    assert segmenter.load_state_dict(weights) == ([], [])
    return segmenter


def labels_of(batch: int, height: int, width: int, num_classes: int) -> Tensor:
    """Labels of the training part of the reference outputs, from the coordinates alone."""
    b, y, x = torch.meshgrid(*map(torch.arange, (batch, height, width)), indexing="ij")
    labels = (7 * (y // 8) + 13 * (x // 8) + 31 * b) % num_classes
    return labels.masked_fill((y // 16 + x // 24 + b) % 7 == 0, 255)


def test_mmsegmentations_model(golden: Path) -> None:
    cases = json.loads((golden / "hosts" / "cases.json").read_text())
    names = [name for name in cases if name.startswith("segmenter_")]
    assert names
    for name in names:
        _compare(cases[name], np.load(golden / "hosts" / f"{name}.npz"))


def _compare(case: dict, reference: np.lib.npyio.NpzFile) -> None:
    segmenter, images = small_segmenter(case), host_models.images(case)
    head, size = segmenter.decode_head, images.shape[-2:]
    features = segmenter.backbone(images)
    backbone = torch.from_numpy(reference["backbone0"])
    tolerance = 2e-5 * max(1.0, backbone.std().item())
    found = features["tokens"][:, ::3, ::2, ::2]
    torch.testing.assert_close(found, backbone, atol=tolerance, rtol=0)

    scores = head(features).scores
    logits = torch.from_numpy(reference["logits"])
    tolerance = 2e-5 * max(1.0, logits.std().item())
    torch.testing.assert_close(scores, logits, atol=tolerance, rtol=0)
    best = resize(scores, size, False).argmax(dim=1)[:, ::2, ::2]
    assert (best == torch.from_numpy(reference["argmax"])).float().mean() >= 0.995

    survive_stochastic_depth(head.transformer)
    labels = labels_of(len(images), *size, head.num_classes)
    losses, trained = head.losses(features, labels, presence(list(labels), head.num_classes))
    expected = torch.from_numpy(reference["loss_decode"])
    torch.testing.assert_close(losses["loss_ce"], expected, atol=0, rtol=1e-5)
    correct = 100 * accuracy(trained.scores, labels, None, head.num_classes, False)
    torch.testing.assert_close(correct, torch.from_numpy(reference["acc"])[0])
    losses["loss_ce"].backward()
    _compare_gradients(segmenter, case)


def survive_stochastic_depth(transformer: MaskTransformer) -> None:
    """Scale MLPs as mmsegmentation does in training, where ours has no stochastic depth.

    Its rate rises from 0 to 0.1 with the layers. The run of the reference dropped no MLP.
    """
    rates = torch.linspace(0, 0.1, len(transformer.blocks)).tolist()
    for block, rate in zip(transformer.blocks, rates, strict=True):
        block.mlp.register_forward_hook(lambda _, __, x, kept=1 - rate: x / kept)


def _compare_gradients(segmenter: Model, case: dict) -> None:
    to_ours, parameters = PublishedNames(segmenter).to_ours, dict(segmenter.named_parameters())
    for published, (norm, probe) in case["grad_norm_and_probe"].items():
        gradient = parameters[to_ours(published)].grad
        shape = tuple(case["keys"][published])
        direction = noise(f"probe/{published}", shape)
        if published.endswith(("patch_proj.weight", "classes_proj.weight")):
            direction = direction.T  # of a linear layer there
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3)
        found = (gradient * direction.reshape(gradient.shape)).sum().item()
        assert found == pytest.approx(probe, rel=1e-3, abs=1e-3 * norm)
