"""Published checkpoints of per-pixel models: names, optional heads, and backbones alone."""

import logging
import re
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import host_configs

from per_pixel import PerPixelSegmenter
from per_pixel.checkpoint import PublishedNames
from segcore.backbones.relative_positions import resample
from segcore.backbones.vit import resize_positions
from segcore.checkpoint.checkpointer import Checkpointer
from segcore.config import default_config
from segcore.errors import UserError

SMALL = {
    "model": {
        "backbone": {
            "type": "ResNetV1c",
            "depth": 50,
            "dilations": [1, 1, 2, 4],
            "base_channels": 4,
            "stem_channels": 8,
        },
        "decode_head": {
            "type": "ASPPHead",
            "num_classes": 5,
            "in_index": 3,
            "channels": 8,
            "dropout_ratio": 0.1,
            "align_corners": False,
        },
        "auxiliary_head": {"in_index": 2, "channels": 8, "loss_decode": {"loss_weight": 0.4}},
    },
    "mean_std": "ImageNet",
}


def small(**options: object) -> PerPixelSegmenter:
    """Build a small DeepLabv3; options are keys of ``MODEL`` with "__" for the dots."""
    cfg = host_configs.model_config(SMALL)
    pairs = ((f"MODEL.{name.replace('__', '.')}", value) for name, value in options.items())
    cfg.merge_from_list([item for pair in pairs for item in pair])
    return build_model(cfg)


RANKSEG = {
    "RANKSEG__FLAG": True,
    "RANKSEG__TOPK": 3,
    "RANKSEG__HIDDEN_DIM": 8,
    "RANKSEG__SHARE_EMBEDDING": True,
    "RANKSEG__NUM_HEADS": 2,
    "RANKSEG__POOL": 4,
}


def published_file(model: PerPixelSegmenter, file: Path, *left_out: str) -> dict[str, Tensor]:
    """Write the model's weights as mmsegmentation does; return them by our names."""
    state = {
        name: torch.randn_like(v) if v.is_floating_point() else v
        for name, v in model.state_dict().items()
    }
    state = {name: v.abs() if name.endswith("running_var") else v for name, v in state.items()}
    names = PublishedNames(model)
    published = {names.to_published(name): value for name, value in state.items()}
    kept = {n: value for n, value in published.items() if not n.startswith(left_out or ("-",))}
    torch.save({"meta": {"epoch": 1, "CLASSES": ["a"]}, "state_dict": kept}, file)
    return state


@pytest.mark.parametrize(
    "options", [{}, RANKSEG, RANKSEG | {"RANKSEG__CLASS_TOKEN_PROJECTION": True}]
)
def test_a_published_file_loads_by_its_name(tmp_path: Path, options: dict) -> None:
    model = small(**options)
    expected = published_file(small(**options), tmp_path / "published.pth")
    Checkpointer(model).load_for_use(str(tmp_path / "published.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_one_by_one_convolutions_fill_linear_layers() -> None:
    """The published multi-label head projects features by convolutions."""
    model = small(**RANKSEG)
    names, state = PublishedNames(model), model.state_dict()
    published = {names.to_published(name): value.clone() for name, value in state.items()}
    start = "decode_head.img_cls_head.proj_dec."
    for part in ("depthwise_conv", "pointwise_conv"):
        weight = published[f"{start}{part}.conv.weight"]
        published[f"{start}{part}.conv.weight"] = weight.reshape(*weight.shape[:2], 1, 1)
    assert model.load_state_dict(published) == ([], [])


def test_an_auxiliary_head_may_be_missing_or_unneeded(tmp_path: Path) -> None:
    file = tmp_path / "published.pth"
    model = small()
    own = {n: v.clone() for n, v in model.state_dict().items() if n.startswith("auxiliary_head.")}
    expected = published_file(model, file, "auxiliary_head.")
    Checkpointer(model).load_for_use(str(file))
    assert all(torch.equal(v, own.get(n, expected[n])) for n, v in model.state_dict().items())
    expected, without = published_file(model, file), small(PER_PIXEL__AUXILIARY__WEIGHT=0.0)
    Checkpointer(without).load_for_use(str(file))
    assert all(torch.equal(v, expected[n]) for n, v in without.state_dict().items())


def test_a_backbone_alone_starts_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small(**RANKSEG)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backbone = {
        name: torch.randn_like(v) if v.is_floating_point() else v
        for name, v in model.backbone.state_dict().items()
    }
    classifier = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}
    torch.save({"state_dict": backbone | classifier}, tmp_path / "pretrained.pth")
    with caplog.at_level(logging.WARNING):
        Checkpointer(model).load(str(tmp_path / "pretrained.pth"))
    assert "holds a backbone" in caplog.text
    for name, value in model.state_dict().items():
        bare = name.removeprefix("backbone.")
        assert torch.equal(value, backbone[bare] if bare != name else before[name]), name
    with pytest.raises(UserError, match="holds a backbone alone"):
        Checkpointer(small(**RANKSEG)).load_for_use(str(tmp_path / "pretrained.pth"))


def test_a_classifier_of_other_classes_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "published.pth"
    published_file(small(SEM_SEG_HEAD__NUM_CLASSES=9), file)
    with pytest.raises(UserError, match=r"does not fit the model .* decode_head.classifier"):
        Checkpointer(small()).load_for_use(str(file))
    model = small()
    before = model.decode_head.classifier.linear.weight.clone()
    Checkpointer(model, allow_partial=True).load(str(file))
    assert torch.equal(model.decode_head.classifier.linear.weight, before)


@pytest.mark.parametrize("size", [{"SEM_SEG_HEAD__NUM_CLASSES": 9}, {"ESSNET__DIM": 4}])
def test_an_essnet_table_of_another_size_is_a_user_error(tmp_path: Path, size: dict) -> None:
    essnet = {"ESSNET__FLAG": True, "ESSNET__NEIGHBOURS": 3}
    file = tmp_path / "published.pth"
    published_file(small(**essnet, **size), file)
    message = r"does not fit the model .*decode_head.embedding_table.weight"
    with pytest.raises(UserError, match=message):
        Checkpointer(small(**essnet)).load_for_use(str(file))


def test_own_checkpoints_load(tmp_path: Path) -> None:
    first, second = small(**RANKSEG), small(**RANKSEG)
    Checkpointer(first, str(tmp_path), save_to_disk=True).save("model")
    Checkpointer(second).load_for_use(str(tmp_path / "model.pth"))
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


TRANSFORMERS = {
    "VIT": ("build_vit_backbone", "mask_transformer", ["tokens"], "backbone.positions"),
    "BEIT": (
        "build_beit_backbone",
        "upernet",
        ["res2", "res3", "res4", "res5"],
        "backbone.positions.0.table",
    ),
}


def small_transformer(kind: str, image_size: int) -> PerPixelSegmenter:
    """Build a model of a few thousand weights over a ViT or BEiT."""
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "PerPixelSegmenter", "cpu"
    node, backbone = cfg.MODEL.PER_PIXEL, cfg.MODEL[kind]
    cfg.MODEL.BACKBONE.NAME, node.DECODER, node.IN_FEATURES, _ = TRANSFORMERS[kind]
    backbone.IMAGE_SIZE, backbone.EMBED_DIM = image_size, 8
    backbone.DEPTH, backbone.NUM_HEADS = 4, 2
    cfg.MODEL.BEIT.OUT_BLOCKS, cfg.MODEL.BEIT.NORM, node.NORM = [0, 1, 2, 3], "BN", "BN"
    node.CHANNELS, node.NUM_HEADS, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 8, 2, 5
    return build_model(cfg)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_own_checkpoints_of_another_image_size_load(tmp_path: Path, kind: str) -> None:
    """The positions are resampled; everything else is as it was."""
    first, second = small_transformer(kind, 64), small_transformer(kind, 96)
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    Checkpointer(first, str(tmp_path), save_to_disk=True).save("model")
    Checkpointer(second).load_for_use(str(tmp_path / "model.pth"))
    old, new = first.state_dict(), second.state_dict()
    name, grids = TRANSFORMERS[kind][-1], ((4, 4), (6, 6))
    resize = {"VIT": resize_positions, "BEIT": resample}[kind]
    torch.testing.assert_close(new[name], resize(old[name], *grids))
    assert all(torch.equal(new[n], v) for n, v in old.items() if v.shape == new[n].shape)


def test_positions_of_no_grid_are_a_user_error(tmp_path: Path) -> None:
    model = small_transformer("VIT", 64)
    for entry in (torch.zeros(1, 0, 8), torch.zeros(1, 1, 8), torch.zeros(1, 4, 8)):
        weights = model.state_dict() | {"backbone.positions": entry}
        torch.save(weights, tmp_path / "model.pth")
        with pytest.raises(UserError, match=r"positions of -?\d patches, no square grid"):
            Checkpointer(model).load_for_use(str(tmp_path / "model.pth"))


# mmsegmentation's names of BEiT, and those of the original release and of RankSeg's code.
RELEASES = (
    (r"^backbone\.layers\.", "backbone.blocks."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^neck\.upsample_4x\.", "backbone.fpn1."),
    (r"^neck\.upsample_2x\.", "backbone.fpn2."),
)


def test_both_releases_of_beit_load() -> None:
    heads = {key: SMALL["model"][key] for key in ("decode_head", "auxiliary_head")}
    heads["decode_head"] = heads["decode_head"] | {"type": "UPerHead", "in_index": [0, 1, 2, 3]}
    backbone = {
        "type": "BEiT",
        "img_size": [48, 48],
        "patch_size": 16,
        "embed_dims": 8,
        "num_layers": 4,
        "num_heads": 2,
        "out_indices": [0, 1, 2, 3],
        "drop_path_rate": 0.0,
    }
    case = SMALL | {"model": {"backbone": backbone, **heads}}
    model = build_model(host_configs.model_config(case))
    names, values = PublishedNames(model), {n: v.clone() for n, v in model.state_dict().items()}
    first = {names.to_published(name): value for name, value in values.items()}
    second = {}
    for name, value in first.items():
        for pattern, other in RELEASES:
            name = re.sub(pattern, other, name)
        second[name] = value
    assert any(name.startswith("neck.") for name in first)
    assert any(name.startswith("backbone.fpn1.") for name in second)
    for published in (first, second):
        for value in model.state_dict().values():
            value.zero_()
        assert model.load_state_dict(published) == ([], [])
        assert all(torch.equal(v, values[n]) for n, v in model.state_dict().items())
