"""The plain Vision Transformer: any size, class embeddings, published and pre-trained weights."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_backbone
from torch import Tensor

from segcore.backbones.published import from_published, load_pretrained, load_published
from segcore.backbones.vit import VisionTransformer, fit_positions, resize_positions
from segcore.config import default_config
from segcore.errors import UserError


def small(**options) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(24, 3, 2, (4, 4), patch_size=8, **options).eval()


def weights(backbone: VisionTransformer) -> dict[str, Tensor]:
    """The weights of a checkpoint of AugReg: timm's names, with its classifier."""
    ours = {name: torch.randn(value.shape) for name, value in backbone.state_dict().items()}
    ours["pos_embed"] = ours.pop("positions")
    return ours | {"head.weight": torch.zeros(1000, 24), "head.bias": torch.zeros(1000)}


@torch.no_grad()
@pytest.mark.parametrize(("size", "grid"), [((32, 32), (4, 4)), ((30, 41), (4, 6))])
def test_any_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    images = torch.randn(3, 3, *size)
    tokens = small()(images)["tokens"]
    assert tokens.shape == (3, 24, *grid)
    torch.testing.assert_close(tokens[1:2], small()(images[1:2])["tokens"])


@torch.no_grad()
def test_the_padding_is_zeros_at_the_right_and_bottom() -> None:
    images = torch.randn(1, 3, 27, 30)
    padded = torch.zeros(1, 3, 32, 32)
    padded[..., :27, :30] = images
    assert torch.equal(small()(images)["tokens"], small()(padded)["tokens"])


@torch.no_grad()
def test_equals_timm_at_the_size_of_the_positions() -> None:
    """The whole network of timm, whose blocks ours has."""
    from timm.models.vision_transformer import VisionTransformer as Reference

    torch.manual_seed(1)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    reference = Reference(**options, num_classes=0).eval()
    ours = small()
    loaded = load_pretrained(ours, reference.state_dict())
    ours.load_state_dict({n.removeprefix("backbone."): value for n, value in loaded.items()})
    images = torch.randn(2, 3, 32, 32)
    tokens = reference.forward_features(images)[:, 1:]
    torch.testing.assert_close(ours(images)["tokens"].flatten(2).transpose(1, 2), tokens)


def test_positions_of_another_grid() -> None:
    positions = torch.randn(1, 1 + 16, 6)
    assert resize_positions(positions, (4, 4), (4, 4)) is positions
    resized = resize_positions(positions, (4, 4), (6, 3))
    assert resized.shape == (1, 1 + 18, 6)
    assert torch.equal(resized[:, 0], positions[:, 0])
    constant = torch.full((1, 1 + 16, 6), 3.0)
    torch.testing.assert_close(
        resize_positions(constant, (4, 4), (5, 7)), torch.full((1, 36, 6), 3.0)
    )
    # As many positions, but other ones.
    assert not torch.allclose(resize_positions(positions, (4, 4), (2, 8)), positions)


def test_a_pre_training_of_another_grid() -> None:
    backbone, checkpoint = small(), weights(small())
    checkpoint["pos_embed"] = torch.randn(1, 1 + 36, 24)
    loaded = load_pretrained(backbone, checkpoint)
    assert {name.removeprefix("backbone.") for name in loaded} == set(backbone.state_dict())
    expected = resize_positions(checkpoint["pos_embed"], (6, 6), (4, 4))
    assert torch.equal(loaded["backbone.positions"], expected)


def test_a_pre_training_has_no_class_embeddings() -> None:
    backbone = small(num_classes=5)
    loaded = load_pretrained(backbone, weights(small()))
    assert loaded["backbone.class_embeddings"].equal(backbone.class_embeddings)


def test_other_checkpoints_are_no_pre_training() -> None:
    backbone = small()
    model = {f"backbone.{name}": value for name, value in weights(small()).items()}
    assert load_pretrained(backbone, model) is not None
    assert load_pretrained(backbone, model | {"decode_head.cls_emb": torch.zeros(1)}) is None
    assert load_pretrained(backbone, {"conv1.weight": torch.zeros(1)}) is None


def test_positions_of_no_square_are_a_user_error() -> None:
    with pytest.raises(UserError, match=r"positions of 15 patches.*MODEL.VIT.IMAGE_SIZE"):
        fit_positions(torch.zeros(1, 1 + 15, 4), (4, 4))


@torch.no_grad()
def test_class_embeddings_join_the_last_block() -> None:
    backbone, images = small(num_classes=5), torch.randn(2, 3, 32, 24)
    features = backbone(images)
    assert features["tokens"].shape == (2, 24, 4, 3) and features["classes"].shape == (2, 5, 24)
    # The embeddings change the tokens through the last block alone, each image its own classes.
    assert not torch.allclose(features["classes"][0], features["classes"][1])
    plain = small()
    plain.load_state_dict(backbone.state_dict(), strict=False)
    assert not torch.allclose(plain(images)["tokens"], features["tokens"])
    backbone.blocks[-1] = torch.nn.Identity()
    plain.blocks[-1] = torch.nn.Identity()
    assert torch.equal(plain(images)["tokens"], backbone(images)["tokens"])
    names = {"cls_emb": "backbone.class_embeddings", "pos_embed": "backbone.positions"}
    for published, ours in names.items():
        assert from_published(backbone, f"backbone.{published}") == ours


def test_computed_again_in_the_backward_pass() -> None:
    images, gradients = torch.randn(1, 3, 32, 32), []
    for backbone in (small(), small(checkpointing=True)):
        backbone(images)["tokens"].square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_blocks_are_left_out_in_training_alone() -> None:
    backbone = small(drop_path=0.9)
    images = torch.randn(1, 3, 32, 32).expand(16, -1, -1, -1)
    tokens = backbone(images)["tokens"]
    torch.testing.assert_close(tokens[1:], tokens[:-1])
    tokens = backbone.train()(images)["tokens"]
    assert len(tokens.flatten(1)[:, 0].unique()) > 3  # each image drops other blocks
    assert [block.drop_path1.drop_prob for block in backbone.blocks[1:]] == [0.45, 0.9]


KEYS = {  # embed dim, depth, heads, image size, bias of the patches
    "hosts/keys_segmenter_vit_b16_k150": (768, 12, 12, 512, False),
    "hosts/keys_segmenter_vit_l16_k150": (1024, 24, 16, 640, False),
    "per_pixel/keys_segmenter_vitb16_k171": (768, 12, 12, 512, True),
    "per_pixel/keys_segmenter_rankseg_vitl16_k150_kappa50": (1024, 24, 16, 640, True),
}


@pytest.mark.parametrize("name", KEYS)
def test_published_names_and_shapes(golden: Path, name: str) -> None:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_vit_backbone"
    sizes = zip(
        ("EMBED_DIM", "DEPTH", "NUM_HEADS", "IMAGE_SIZE", "PATCH_BIAS"), KEYS[name], strict=True
    )
    for key, value in sizes:
        cfg.MODEL.VIT[key] = value
    keys = json.loads((golden / f"{name}.json").read_text())["keys"]
    with torch.device("meta"):
        backbone = build_backbone(cfg)
        published = {n: torch.empty(s) for n, s in keys.items() if n.startswith("backbone.")}
    loaded = load_published(backbone, published)
    ours = {f"backbone.{n}": value.shape for n, value in backbone.state_dict().items()}
    assert {n: value.shape for n, value in loaded.items()} == ours


@pytest.mark.parametrize(
    ("key", "value"),
    [("NUM_HEADS", 7), ("NUM_HEADS", 0), ("DEPTH", 0), ("IMAGE_SIZE", 8), ("DROP_PATH_RATE", 1.0)],
)
def test_what_cannot_be_built_is_one_message(key: str, value: object) -> None:
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_vit_backbone", f"MODEL.VIT.{key}", value])
    with pytest.raises(UserError, match=f"MODEL.VIT.{key} is"):
        build_backbone(cfg)


def test_as_a_detectron2_backbone() -> None:
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_vit_backbone", "MODEL.VIT.DEPTH", 1])
    backbone = build_backbone(cfg)
    spec = backbone.output_shape()["tokens"]
    assert (spec.channels, spec.stride) == (768, 16)
