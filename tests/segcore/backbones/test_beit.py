"""BEiT: any size, relative positions of another grid, published and pre-trained weights."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import get_norm
from detectron2.modeling import build_backbone
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq
from torch import Tensor

from segcore.backbones.beit import Beit
from segcore.backbones.published import from_published, load_pretrained, load_published
from segcore.backbones.relative_positions import RelativePositions, fit, resample, token_index
from segcore.config import default_config
from segcore.errors import UserError


def small(**options) -> Beit:
    torch.manual_seed(0)
    return Beit(24, 5, 2, (4, 4), (0, 1, 3, 4), patch_size=8, layer_scale=0.5, **options).eval()


def filled(**options) -> Beit:
    """A backbone whose tables are not zero."""
    backbone = small(**options)
    for positions in backbone.positions:
        torch.nn.init.normal_(positions.table)
    return backbone


def reference():
    """timm's network, whose blocks ours has."""
    from timm.models.beit import Beit as Reference

    torch.manual_seed(1)
    network = Reference(
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=5,
        num_heads=2,
        init_values=0.5,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
    )
    for block in network.blocks:
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
    return network.eval()


def bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in weights.items()}


@torch.no_grad()
def test_equals_timm_at_the_size_of_the_tables() -> None:
    ours, theirs = small(), reference()
    ours.load_state_dict(bare(load_pretrained(ours, theirs.state_dict())))
    images = torch.randn(2, 3, 32, 32)
    maps = theirs.forward_intermediates(
        images, indices=[0, 1, 3, 4], norm=False, intermediates_only=True
    )
    torch.testing.assert_close(ours.maps(images), maps)


@torch.no_grad()
@pytest.mark.parametrize(("size", "grid"), [((32, 32), (4, 4)), ((30, 57), (4, 8))])
def test_any_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    backbone, images = filled(), torch.randn(3, 3, *size)
    maps = backbone(images)
    scales = {"res2": 4, "res3": 2, "res4": 1, "res5": 0.5}
    for name, scale in scales.items():
        assert maps[name].shape == (3, 24, *(int(side * scale) for side in grid))
        torch.testing.assert_close(maps[name][1:2], backbone(images[1:2])[name])


def test_the_class_token_has_rows_of_its_own() -> None:
    positions = RelativePositions((3, 4), 2)
    with torch.no_grad():
        positions.table.copy_(torch.arange(len(positions.table))[:, None].expand(-1, 2))
    biases = positions((3, 4), token_index((3, 4)))[0, 0]
    offsets = 5 * 7
    assert biases[0].tolist() == [offsets + 2] + 12 * [offsets]
    assert biases[1:, 0].tolist() == 12 * [offsets + 1]
    # From the patch in row 1, column 2 to the one in row 0, column 3: one down, one to the left.
    assert biases[1 + 6, 1 + 3] == (1 + 2) * 7 + (-1 + 3)


def expected_resampling(offsets: np.ndarray, size: int) -> np.ndarray:
    """Resample a square map by FITPACK's spline of two variables: the original recipe."""
    half, reach = len(offsets) // 2, size // 2

    def end(ratio: float) -> float:
        return sum(ratio**power for power in range(half)) - reach

    ratio = brentq(end, 1.01, 1.5) if end(1.01) < 0 < end(1.5) else (1.01 if end(1.01) > 0 else 1.5)
    steps = np.cumsum([ratio**power for power in range(half)])
    source = np.concatenate([-steps[::-1], [0], steps])
    target = np.arange(-reach, reach + 1).clip(source[0], source[-1])
    return RectBivariateSpline(source, source, offsets, s=0)(target, target)


@pytest.mark.parametrize(("old", "new"), [(4, 9), (14, 40), (9, 4), (3, 20)])
def test_a_table_of_another_grid(old: int, new: int) -> None:
    torch.manual_seed(0)
    table = torch.randn((2 * old - 1) ** 2 + 3, 2)
    resampled = fit(table, (new, new))
    assert torch.equal(resampled[-3:], table[-3:])
    for head in range(2):
        offsets = table[:-3, head].view(2 * old - 1, -1).double().numpy()
        expected = expected_resampling(offsets, 2 * new - 1)
        computed = resampled[:-3, head].view(2 * new - 1, -1)
        # The ratio of the distances is found to 1e-6.
        np.testing.assert_allclose(computed, expected, atol=1e-3)


def test_rows_and_columns_are_resampled_apart() -> None:
    table = torch.randn(5 * 7 + 3, 2)
    assert resample(table, (3, 4), (3, 4)) is table
    assert resample(table, (3, 4), (5, 3)).shape == (9 * 5 + 3, 2)
    constant = resample(torch.full((5 * 7 + 3, 2), 2.0), (3, 4), (6, 9))
    torch.testing.assert_close(constant, torch.full((11 * 17 + 3, 2), 2.0))
    # As many offsets, but other ones.
    assert not torch.allclose(resample(table, (3, 4), (4, 3)), table)


@pytest.mark.parametrize("offsets", [8, 15, 16, 9])
def test_a_table_of_no_square_is_a_user_error(offsets: int) -> None:
    with pytest.raises(
        UserError, match=rf"positions of {offsets} offsets.*MODEL\.BEIT\.IMAGE_SIZE"
    ):
        fit(torch.zeros(offsets + 3, 2), (4, 4))


def test_a_pre_training_of_another_grid() -> None:
    backbone, checkpoint = small(), reference().state_dict()
    for name in [name for name in checkpoint if name.endswith("table")]:
        checkpoint[name] = torch.randn(11 * 11 + 3, 2)
    loaded = bare(load_pretrained(backbone, checkpoint))
    assert loaded.keys() == backbone.state_dict().keys()
    table = checkpoint["blocks.2.attn.relative_position_bias_table"]
    assert torch.equal(loaded["positions.2.table"], resample(table, (6, 6), (4, 4)))
    assert torch.equal(loaded["pyramid.up2.0.weight"], backbone.pyramid.up2[0].weight)


def test_a_pre_training_with_one_table_for_all_blocks() -> None:
    backbone, checkpoint = small(), reference().state_dict()
    names = [name for name in checkpoint if name.endswith("table")]
    table = [checkpoint.pop(name) for name in names][-1]
    shared = {
        "rel_pos_bias.relative_position_bias_table": table,
        "mask_token": torch.zeros(1, 1, 24),
    }
    loaded = bare(load_pretrained(backbone, checkpoint | shared))
    assert loaded.keys() == backbone.state_dict().keys()
    assert all(torch.equal(loaded[f"positions.{i}.table"], table) for i in range(5))


def test_both_published_layouts() -> None:
    """mmsegmentation's, and the original release's, which RankSeg's files have."""
    backbone = filled()
    ours = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    original = {
        "backbone.blocks.1.norm1.weight": "backbone.blocks.1.norm1.weight",
        "backbone.blocks.1.attn.q_bias": "backbone.blocks.1.attn.q_bias",
        "backbone.blocks.1.gamma_2": "backbone.blocks.1.gamma_2",
        "backbone.blocks.1.attn.relative_position_bias_table": "backbone.positions.1.table",
        "backbone.fpn1.1.running_mean": "backbone.pyramid.up4.1.running_mean",
        "backbone.fpn2.0.weight": "backbone.pyramid.up2.0.weight",
        "backbone.patch_embed.proj.bias": "backbone.patch_embed.proj.bias",
    }
    derived = {"backbone.blocks.1.attn.relative_position_index": torch.zeros(17, 17)}
    loaded = load_published(backbone, {p: ours[name] for p, name in original.items()} | derived)
    assert loaded.keys() == set(original.values())
    assert all(torch.equal(loaded[name], ours[name]) for name in loaded)
    for published, name in original.items():
        assert from_published(backbone, published) == name
    assert from_published(backbone, "neck.upsample_4x.3.bias") == "backbone.pyramid.up4.3.bias"


def test_computed_again_in_the_backward_pass() -> None:
    images, gradients = torch.randn(2, 3, 32, 24), []
    for backbone in (filled(), filled(checkpointing=True)):
        sum(m.square().sum() for m in backbone(images).values()).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_blocks_are_left_out_in_training_alone() -> None:
    backbone = filled(drop_path=0.9, norm=partial(get_norm, "FrozenBN"))
    images = torch.randn(1, 3, 32, 32).expand(16, -1, -1, -1)
    whole = backbone(images)["res4"]
    torch.testing.assert_close(whole[1:], whole[:-1])
    parts = backbone.train()(images)["res4"]
    assert len(parts.flatten(1)[:, 0].unique()) > 3  # each image drops other blocks


def test_published_names_and_shapes(golden: Path) -> None:
    keys = json.loads((golden / "hosts/keys_upernet_beit_large_k150.json").read_text())["keys"]
    with torch.device("meta"):
        cfg = default_config()
        cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_beit_backbone", "MODEL.BEIT.NORM", "BN"])
        backbone = build_backbone(cfg)
        published = {
            name: torch.empty(shape)
            for name, shape in keys.items()
            if name.startswith(("backbone.", "neck."))
        }
    loaded = bare(load_published(backbone, published))
    ours = {name: value.shape for name, value in backbone.state_dict().items()}
    assert {name: value.shape for name, value in loaded.items()} == ours


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NUM_HEADS", 7),
        ("PATCH_SIZE", 6),
        ("IMAGE_SIZE", 32),
        ("LAYER_SCALE", 0.0),
        ("OUT_BLOCKS", [1, 2, 3]),
        ("OUT_BLOCKS", [1, 3, 2, 4]),
        ("OUT_BLOCKS", [7, 11, 15, 24]),
        ("NORM", ""),
        ("OUT_FEATURES", ["res6"]),
    ],
)
def test_what_cannot_be_built_is_one_message(key: str, value: object) -> None:
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_beit_backbone", f"MODEL.BEIT.{key}", value])
    with pytest.raises(UserError, match=rf"MODEL\.BEIT\.{key} is"):
        build_backbone(cfg)
