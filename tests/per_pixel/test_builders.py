"""Segmenter's head from configs: which parts it has, and what contradicts itself."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from per_pixel.config import build_decode_head
from per_pixel.encnet import EncNetSegmenterHead
from per_pixel.segmenter import SegmenterHead
from per_pixel.segmenter_essnet import EssnetSegmenterHead
from segcore.config import default_config
from segcore.errors import UserError

WIDTH, CLASSES = 24, 9
RANKSEG = {
    "RANKSEG.FLAG": True,
    "RANKSEG.TOPK": 4,
    "RANKSEG.HIDDEN_DIM": 16,
    "RANKSEG.SHARE_EMBEDDING": True,
    "RANKSEG.CLASS_ROWS": "refined",
    "RANKSEG.NUM_HEADS": 2,
    "RANKSEG.LOSS_WEIGHT": 10.0,
    "RANKSEG.POOL": 2,
}
GAP = {**RANKSEG, "RANKSEG.HEAD": "gap", "RANKSEG.SHARE_EMBEDDING": False}
GAP["RANKSEG.CLASS_ROWS"] = "original"
DECODER = {**RANKSEG, "RANKSEG.HEAD": "decoder", "RANKSEG.CLASS_ROWS": "original"}
ESSNET = {"ESSNET.FLAG": True, "ESSNET.DIM": 6, "ESSNET.NEIGHBOURS": 3}


def config(**keys: object) -> CfgNode:
    cfg = default_config()
    node = cfg.MODEL.PER_PIXEL
    node.CHANNELS, node.NUM_HEADS, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 16, 2, CLASSES
    for name, value in keys.items():
        section, _, key = name.rpartition(".")
        cfg.MODEL[section][key] = value
    return cfg


def build(keys: dict[str, object], width: int = WIDTH) -> SegmenterHead:
    return build_decode_head(config(**keys), {"tokens": ShapeSpec(channels=width, stride=16)})


def features(width: int = WIDTH, **classes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"tokens": torch.randn(2, width, 4, 5), **classes}


@pytest.mark.parametrize(
    ("keys", "kind", "columns"),
    [
        ({}, SegmenterHead, CLASSES),
        (RANKSEG, SegmenterHead, 4),
        ({**RANKSEG, "RANKSEG.POOL": 0}, SegmenterHead, 4),
        ({**RANKSEG, "RANKSEG.CLASS_ROWS": "original"}, SegmenterHead, 4),
        ({**RANKSEG, "RANKSEG.SCORES": "shared"}, SegmenterHead, 4),
        ({**RANKSEG, "RANKSEG.TEST_TOPK": 7}, SegmenterHead, 7),
        (DECODER, SegmenterHead, 4),
        (GAP, SegmenterHead, 4),
        ({"ENCNET.FLAG": True, "ENCNET.NUM_CODES": 5}, EncNetSegmenterHead, CLASSES),
        (ESSNET, EssnetSegmenterHead, CLASSES),
    ],
)
@torch.no_grad()
def test_heads(keys: dict[str, object], kind: type, columns: int) -> None:
    head = build(keys).eval()
    assert type(head) is kind
    assert head(features()).scores.shape == (2, columns, 4, 5)


def test_settings_reach_the_head() -> None:
    head = build({**RANKSEG, "RANKSEG.GAMMAS": [4.0, 1.0], "PER_PIXEL.PIXELS": "valid"})
    criterion = head.criterion
    assert (criterion.pixels, criterion.multilabel_weight) == ("valid", 10.0)
    assert criterion.gammas == (4.0, 1.0)
    assert len(head.transformer.blocks) == 2 and head.ranking.pool == 2
    assert build(ESSNET).transformer.pixel_proj.shape == (16, 6)
    assert build({"ENCNET.FLAG": True}).context.encoding.codewords.shape == (64, 16)


def test_the_multilabel_head_starts_from_the_prior() -> None:
    head = build({**RANKSEG, "RANKSEG.PRIOR": 0.01})
    torch.testing.assert_close(
        head.ranking.head.classifier.bias.sigmoid(), torch.full((1, CLASSES), 0.01)
    )


def test_the_oracle_has_no_multilabel_head_and_no_loss_of_it() -> None:
    head = build({**RANKSEG, "RANKSEG.ORACLE": True, "RANKSEG.TOPK": CLASSES})
    assert head.ranking.head is None and head.ranking.scores.unbiased
    assert head.criterion.multilabel_weight == 0


@torch.no_grad()
@pytest.mark.parametrize("keys", [{}, RANKSEG, GAP, DECODER])
def test_class_tokens_of_the_backbone(keys: dict[str, object]) -> None:
    head = build({**keys, "RANKSEG.CLASS_ROWS": "backbone"}, width=16).eval()
    assert head.class_embeddings is None
    found = head(features(16, classes=torch.randn(2, CLASSES, 16)))
    assert found.scores.shape[:2] == (2, 4 if keys else CLASSES)
    assert head.ranking is None or head.ranking.refined == (keys is RANKSEG)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"PER_PIXEL.IN_FEATURES": ["tokens", "tokens"]}, "IN_FEATURES.* reads one map"),
        ({"PER_PIXEL.IN_FEATURES": ["res5"]}, "IN_FEATURES names res5"),
        ({"PER_PIXEL.NUM_HEADS": 3}, "CHANNELS is 16; .* multiple of the 3 attention heads"),
        ({"PER_PIXEL.PIXELS": "some"}, "PIXELS is 'some'"),
        ({"PER_PIXEL.SAMPLED_PIXELS": 0.0}, "SAMPLED_PIXELS is 0.0: use a share"),
        ({"RANKSEG.CLASS_ROWS": "backbone"}, "class tokens have width 24: set .*CHANNELS"),
        ({**RANKSEG, "RANKSEG.TOPK": 10}, "cannot select 10 of 9 classes"),
        ({**RANKSEG, "RANKSEG.TEST_TOPK": 10}, "TEST_TOPK is 10"),
        ({**RANKSEG, "RANKSEG.PRIOR": 1.0}, "PRIOR is 1.0"),
        ({**RANKSEG, "RANKSEG.HIDDEN_DIM": 32}, "class embeddings of width 16 cannot be shared"),
        ({**GAP, "RANKSEG.SHARE_EMBEDDING": True}, "no class embeddings to share"),
        ({**GAP, "RANKSEG.CLASS_ROWS": "refined"}, "CLASS_ROWS is 'refined'"),
        ({**RANKSEG, "RANKSEG.SHARE_EMBEDDING": False}, "refined.*SHARE_EMBEDDING True"),
        ({**RANKSEG, "RANKSEG.CLASS_ROWS": "other"}, "CLASS_ROWS is 'other'"),
        ({**DECODER, "RANKSEG.POOL": 0}, "set MODEL.RANKSEG.POOL"),
        ({**RANKSEG, **ESSNET}, "RANKSEG.FLAG and MODEL.ESSNET.FLAG are True"),
        ({**ESSNET, "ESSNET.OWN_CLASS": "mine"}, "OWN_CLASS is 'mine'"),
        ({**ESSNET, "ESSNET.NEIGHBOURS": 9}, "NEIGHBOURS is 9"),
        ({**ESSNET, "ESSNET.SEARCH_FRACTION": 0.5}, "SEARCH_FRACTION is 0.5, but the mask transf"),
    ],
)
def test_contradictions_are_one_message(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(keys)
