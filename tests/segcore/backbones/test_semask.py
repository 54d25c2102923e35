"""SeMask: where its layers attend, any size, pre-trained weights, bad keys."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone

from segcore.backbones.auxiliary import SEMANTIC_LOGITS
from segcore.backbones.published import load_pretrained, to_published
from segcore.backbones.semask import SemanticLayer, SeMaskSwin, merge_semantic_maps
from segcore.backbones.swin import SwinTransformer
from segcore.config import default_config
from segcore.errors import UserError

SMALL = {
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 1, 1, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 2, 4, 8],
    "MODEL.SWIN.WINDOW_SIZE": 4,
    "MODEL.SWIN.SEM_WINDOW_SIZE": 3,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 6,
}


def built(**options: object) -> Backbone:
    """Build a small backbone whose semantic layers have an effect."""
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "D2SeMaskSwinTransformer"
    keys = SMALL | {f"MODEL.SWIN.{name}": value for name, value in options.items()}
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    torch.manual_seed(0)
    backbone = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    for layer in backbone.layers:
        torch.nn.init.constant_(layer.semantic_layer.gamma, 0.5)
    return backbone


def test_as_a_detectron2_backbone() -> None:
    backbone, images = built(), torch.randn(2, 3, 64, 96)
    maps = backbone(images)
    assert list(maps) == ["res2", "res3", "res4", "res5"] and backbone.size_divisibility == 32
    assert maps["res5"].shape == (2, backbone.output_shape()["res5"].channels, 2, 3)
    logits = backbone.train()(images)[SEMANTIC_LOGITS]
    assert logits.shape == (2, 6, 64, 96)
    logits.sum().backward()
    assert all(layer.semantic_layer.query.bias.grad.all() for layer in backbone.layers)


@torch.no_grad()
def test_any_size_and_images_of_a_batch_are_independent() -> None:
    backbone, images = built(), torch.randn(3, 3, 61, 100)
    (together, semantic), (alone, _) = map(backbone.semantic_maps, (images, images[1:2]))
    for ours, single in zip(together, alone, strict=True):
        torch.testing.assert_close(ours[1:2], single)
    assert merge_semantic_maps(semantic).shape == (3, 6, 64, 100)


@pytest.mark.parametrize(
    ("num_classes", "key", "whole"),
    [
        (150, "published", True),
        (19, "published", False),
        (171, "published", False),
        (19, "map", True),
        (150, "windows", False),
    ],
)
def test_the_last_stage(monkeypatch, num_classes: int, key: str, whole: bool) -> None:
    """The released code attends over the whole map for 150 classes alone."""
    monkeypatch.setitem(SMALL, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", num_classes)
    layers = built(SEM_LAST_STAGE=key).layers
    assert [layer.semantic_layer.window for layer in layers] == [3, 3, 3, None if whole else 3]


@torch.no_grad()
def test_a_window_and_the_whole_map_are_one_formula() -> None:
    """A map of one window: softmax(q k^T) v, with no scale."""
    torch.manual_seed(0)
    windows, whole = SemanticLayer(6, 4, 3), SemanticLayer(6, 4, None)
    whole.load_state_dict(windows.state_dict())
    windows.gamma.fill_(0.5)
    whole.gamma.fill_(0.5)
    x = torch.randn(2, 3, 3, 6)
    (out, logits), (expected, _) = windows.eval()(x), whole.eval()(x)
    torch.testing.assert_close(out, expected)
    tokens = whole.norm(x).flatten(1, 2)
    attention = (whole.query(tokens) @ whole.key(tokens).transpose(1, 2)).softmax(dim=-1)
    change = whole.proj(attention @ whole.value(tokens)).view_as(x)
    torch.testing.assert_close(out, whole.norm(x) + 0.5 * change)
    torch.testing.assert_close(logits, whole.query(whole.norm(x)).permute(0, 3, 1, 2))


def test_pretraining_is_that_of_swin() -> None:
    """The semantic layers keep their values."""
    backbone = built()
    swin = SwinTransformer(8, [1] * 4, [1, 2, 4, 8], 4)
    file = {n: torch.full_like(v, 0.25) for n, v in swin.state_dict().items()}
    file = {name: value for name, value in file.items() if not name.startswith("norm")}
    file |= {"norm.weight": torch.ones(64), "head.weight": torch.zeros(10, 64)}
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    weights = load_pretrained(backbone, file)
    assert {name.removeprefix("backbone.") for name in weights} == before.keys()
    for name, value in before.items():
        own = ".semantic_layer." in name or name.startswith("norm")
        expected = value if own else torch.full_like(value, 0.25)
        assert torch.equal(weights[f"backbone.{name}"], expected), name


def test_published_size(golden: Path) -> None:
    layout = json.loads((golden / "hosts/keys_semask_swin_large_backbone.json").read_text())
    options = {"num_classes": 150, "semantic_window": 12, "whole_last_map": True}
    with torch.device("meta"):
        backbone = SeMaskSwin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, **options)
    assert sum(p.numel() for p in backbone.parameters()) == layout["parameters_backbone"]
    published = {n: s for n, s in layout["keys"].items() if not n.endswith("_index")}
    state = backbone.state_dict()
    ours = {to_published(backbone, f"backbone.{n}"): [*v.shape] for n, v in state.items()}
    assert ours == published


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SEM_WINDOW_SIZE", 0, "SEM_WINDOW_SIZE is 0; it has to be 1 or more"),
        ("NUM_SEM_BLOCKS", 2, "NUM_SEM_BLOCKS is 2; it has to be 1"),
        ("SEM_LAST_STAGE", "all", "SEM_LAST_STAGE is 'all'; it has to be one of published, map"),
        ("WINDOW_SIZE", 1, "WINDOW_SIZE is 1"),
    ],
)
def test_bad_keys(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(**{key: value})
