"""Decode heads with decoders of convolutions from configs, and what contradicts itself."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from per_pixel.classifier import LinearClassifier, PixelHead, RankedClassifier
from per_pixel.config import build_decode_head
from per_pixel.pixel_builders import build_auxiliary_head
from segcore.config import default_config
from segcore.errors import UserError
from segcore.rankseg.layers import SeparableProjection

CHANNELS = {"res2": 4, "res3": 6, "res4": 8, "res5": 12}
SHAPES = {n: ShapeSpec(channels=c, stride=4 << i) for i, (n, c) in enumerate(CHANNELS.items())}
CLASSES = 9
UPERNET = {"PER_PIXEL.DECODER": "upernet", "PER_PIXEL.IN_FEATURES": list(CHANNELS)}
RANKSEG = {
    "RANKSEG.FLAG": True,
    "RANKSEG.TOPK": 4,
    "RANKSEG.HIDDEN_DIM": 16,
    "RANKSEG.SHARE_EMBEDDING": True,
    "RANKSEG.NUM_HEADS": 2,
    "RANKSEG.LOSS_WEIGHT": 10.0,
    "RANKSEG.POOL": 2,
}
GAP = {**RANKSEG, "RANKSEG.HEAD": "gap", "RANKSEG.SHARE_EMBEDDING": False}
DECODER = {**RANKSEG, "RANKSEG.HEAD": "decoder"}
OWN = {**RANKSEG, "RANKSEG.SHARE_EMBEDDING": False, "RANKSEG.HIDDEN_DIM": 32}


def config(keys: dict[str, object]) -> CfgNode:
    cfg = default_config()
    node = cfg.MODEL.PER_PIXEL
    node.DECODER, node.IN_FEATURES, node.CHANNELS, node.NORM = "aspp", ["res5"], 16, "BN"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES
    for name, value in keys.items():
        section, _, key = name.rpartition(".")
        part = cfg.MODEL
        for name_of_part in section.split("."):
            part = part[name_of_part]
        part[key] = value
    return cfg


def build(keys: dict[str, object]) -> PixelHead:
    return build_decode_head(config(keys), SHAPES)


def features() -> dict[str, torch.Tensor]:
    return {n: torch.randn(2, c, 16 >> i, 24 >> i) for i, (n, c) in enumerate(CHANNELS.items())}


@pytest.mark.parametrize("host", [{}, UPERNET])
@pytest.mark.parametrize(
    ("keys", "kind", "columns"),
    [
        ({}, LinearClassifier, CLASSES),
        (RANKSEG, RankedClassifier, 4),
        ({**RANKSEG, "RANKSEG.POOL": 0, "RANKSEG.TEST_TOPK": 6}, RankedClassifier, 6),
        ({**RANKSEG, "RANKSEG.CLASS_ROWS": "refined"}, RankedClassifier, 4),
        ({**RANKSEG, "RANKSEG.CLASS_TOKEN_PROJECTION": True}, RankedClassifier, 4),
        (OWN, RankedClassifier, 4),
        (DECODER, RankedClassifier, 4),
        (GAP, RankedClassifier, 4),
    ],
)
@torch.no_grad()
def test_heads(host: dict, keys: dict, kind: type, columns: int) -> None:
    head = build({**host, **keys}).eval()
    assert type(head.classifier) is kind
    size = (16, 24) if host else (2, 3)
    assert head(features()).scores.shape == (2, columns, *size)


def test_settings_reach_the_head() -> None:
    keys = {"PER_PIXEL.DILATIONS": [1, 6], "PER_PIXEL.PROJECTION_SIZE": 1, "PER_PIXEL.NORM": ""}
    head = build({**RANKSEG, **keys, "RANKSEG.GAMMAS": [4.0, 1.0], "PER_PIXEL.DROPOUT": 0.3})
    assert head.criterion.multilabel_weight == 10 and head.criterion.gammas == (4.0, 1.0)
    assert head.dropout.p == 0.3 and len(head.decoder.branches) == 2
    assert head.decoder.bottleneck.conv.kernel_size == (1, 1)
    assert head.decoder.bottleneck.conv.bias is not None
    ranking = head.classifier.ranking
    assert isinstance(ranking.head.input_proj, SeparableProjection) and ranking.pool == 2
    assert isinstance(build(GAP).classifier.ranking.head.input_proj, nn.Linear)
    oracle = build({**RANKSEG, "RANKSEG.ORACLE": True}).classifier.ranking
    assert oracle.head is None
    assert build({**UPERNET, "PER_PIXEL.ALIGN_CORNERS": True}).decoder.align_corners


def test_the_auxiliary_head_reads_its_map() -> None:
    keys = {"PER_PIXEL.AUXILIARY.WEIGHT": 0.4, "PER_PIXEL.AUXILIARY.CHANNELS": 5}
    head = build_auxiliary_head(config({**RANKSEG, **keys}), SHAPES)
    assert isinstance(head.classifier, LinearClassifier) and head.in_features == ("res4",)
    assert head.decoder.convs[0].conv.weight.shape == (5, 8, 3, 3)
    assert head.criterion.multilabel_weight == 0
    assert build_auxiliary_head(config({}), SHAPES) is None
    with pytest.raises(UserError, match=r"AUXILIARY.IN_FEATURE names res9, .* res2, res3"):
        keys["PER_PIXEL.AUXILIARY.IN_FEATURE"] = "res9"
        build_auxiliary_head(config(keys), SHAPES)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"PER_PIXEL.IN_FEATURES": ["res4", "res5"]}, "IN_FEATURES has 2 maps; .* reads one"),
        ({"ENCNET.FLAG": True}, "ENCNET.FLAG is True, but the decoder 'aspp'"),
        ({**UPERNET, "ENCNET.FLAG": True}, "ENCNET.FLAG is True, but the decoder 'upernet'"),
        ({**OWN, "RANKSEG.CLASS_ROWS": "refined"}, "rows have width 32: .*HIDDEN_DIM to 16"),
        ({**RANKSEG, "RANKSEG.CLASS_ROWS": "backbone"}, "CLASS_ROWS is 'backbone': use original"),
        ({**RANKSEG, "RANKSEG.HIDDEN_DIM": 32}, "class embeddings of width 16 cannot be shared"),
        ({**RANKSEG, "RANKSEG.TOPK": 10}, "cannot select 10 of 9 classes"),
        ({**DECODER, "RANKSEG.POOL": 0}, "set MODEL.RANKSEG.POOL"),
    ],
)
def test_contradictions_are_one_message(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(keys)
