"""Swin as a backbone: any size, any batch, separate windows."""

import json

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone

from segcore.backbones import D2SwinTransformer
from segcore.backbones.published import load_pretrained, load_published, to_published
from segcore.backbones.swin import (
    PatchMerging,
    SwinTransformer,
    from_unfolded,
    from_windows,
    shift_mask,
    to_windows,
)
from segcore.config import default_config
from segcore.errors import UserError

SIZES = {  # width, depths, heads, window, parameters of the published models without classifier
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 27_519_354),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 48_837_258),
}


def small(**options) -> SwinTransformer:
    torch.manual_seed(0)
    return SwinTransformer(8, (2, 2), (2, 4), 4, **options).eval()


def config(*opts):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "D2SwinTransformer", *opts])
    return cfg


def test_as_a_detectron2_backbone() -> None:
    swin = build_backbone(config("MODEL.SWIN.EMBED_DIM", 24, "MODEL.SWIN.DEPTHS", [1, 1, 2, 1]))
    assert isinstance(swin, D2SwinTransformer) and isinstance(swin, Backbone)
    assert swin.size_divisibility == 32
    shapes = swin.output_shape()
    assert shapes["res3"] == ShapeSpec(channels=48, stride=8)
    maps = swin.eval()(torch.zeros(2, 3, 64, 96))
    assert {k: [*v.shape] for k, v in maps.items()} == {
        name: [2, spec.channels, 64 // spec.stride, 96 // spec.stride]
        for name, spec in shapes.items()
    }


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size: str) -> None:
    *sizes, parameters = SIZES[size]
    with torch.device("meta"):
        swin = SwinTransformer(*sizes)
    norms = sum(2 * width for width in swin.widths[:-1])  # released files end in one norm
    assert sum(p.numel() for p in swin.parameters()) - norms == parameters


@torch.no_grad()
def test_images_of_a_batch_are_independent() -> None:
    swin, images = small(), torch.randn(3, 3, 40, 56)
    for together, alone in zip(swin(images), swin(images[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone)


@torch.no_grad()
def test_any_size() -> None:
    maps = small()(torch.randn(1, 3, 37, 50))
    assert [[*m.shape[2:]] for m in maps] == [[10, 13], [5, 7]]


@torch.no_grad()
def test_computed_again_in_the_backward_pass() -> None:
    kept, again = small(), small(checkpointing=True)
    images, gradients = torch.randn(1, 3, 32, 32), []
    for swin in (kept, again):
        with torch.enable_grad():
            swin(images)[-1].square().sum().backward()
        gradients.append([p.grad for p in swin.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


def test_windows_and_back() -> None:
    x = torch.arange(2 * 8 * 12).view(2, 8, 12, 1)
    windows = to_windows(x, 4)
    assert windows.shape == (2, 6, 16, 1)
    assert windows[0, 1].flatten().tolist()[:5] == [4, 5, 6, 7, 16]
    assert torch.equal(from_windows(windows, (8, 12), 4), x)


def test_the_shift_mask() -> None:
    mask = shift_mask(8, 12, 4, 2, torch.device("cpu"))
    assert mask.shape == (6, 16, 16)
    assert [bool(window.any()) for window in mask] == [False, False, True, True, True, True]
    corner = mask[5].view(4, 4, 4, 4)
    assert corner[0, 0, 0, 1].item() is False and corner[0, 0, 0, 2].item() is True
    # The last window is masked as a map of one window is.
    assert torch.equal(shift_mask(4, 4, 4, 2, torch.device("cpu"))[0], mask[5])


@torch.no_grad()
def test_blocks_are_left_out_in_training_alone() -> None:
    swin, images = small(drop_path=0.9), torch.randn(1, 3, 32, 32).expand(16, -1, -1, -1)
    whole = swin(images)[-1]
    torch.testing.assert_close(whole[1:], whole[:-1])
    parts = swin.train()(images)[-1]
    assert len(parts.flatten(1)[:, 0].unique()) > 3  # each image drops other blocks
    assert [b.drop_path.p for layer in swin.layers for b in layer.blocks] == pytest.approx(
        [0.0, 0.3, 0.6, 0.9]
    )


def test_released_files_hold_tables_that_are_left_out() -> None:
    swin = small()
    released = dict(swin.state_dict())
    released["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    released["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    assert len(released) == len(swin.state_dict()) + 2
    assert swin.load_state_dict(released, strict=True) == ([], [])


@pytest.mark.parametrize(
    "opts",
    [("APE", True), ("NUM_HEADS", [3, 6, 12, 5]), ("OUT_FEATURES", ["res9"]), ("WINDOW_SIZE", 1)],
)
def test_what_cannot_be_built_is_one_message(opts) -> None:
    with pytest.raises(UserError, match=f"MODEL.SWIN.{opts[0]} is"):
        build_backbone(config(f"MODEL.SWIN.{opts[0]}", opts[1]))


def test_merging_of_unfolded_patches() -> None:
    """mmsegmentation unfolds the map, whose patches are ordered by channel first."""
    torch.manual_seed(0)
    merging, published = PatchMerging(3), PatchMerging(3)
    x = torch.randn(2, 6, 4, 3)
    patches = F.unfold(x.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)  # (B, n, 4 C)
    expected = published.reduction(published.norm(patches)).view(2, 3, 2, 6)
    merging.load_state_dict({n: from_unfolded(v) for n, v in published.state_dict().items()})
    torch.testing.assert_close(merging(x), expected)


def test_published_names_of_mmsegmentation(golden) -> None:
    keys = json.loads((golden / "hosts/keys_upernet_swin_base_k150.json").read_text())["keys"]
    with torch.device("meta"):
        swin = SwinTransformer(128, (2, 2, 18, 2), (4, 8, 16, 32), 12)
        published = {n: torch.empty(s) for n, s in keys.items() if n.startswith("backbone.")}
    loaded = load_published(swin, published)
    ours = {f"backbone.{name}": value.shape for name, value in swin.state_dict().items()}
    assert {name: value.shape for name, value in loaded.items()} == ours
    derived = "relative_position_index"
    assert {to_published(swin, n) for n in ours} == {n for n in keys if n in published} - {
        name for name in published if name.endswith(derived)
    }


def test_both_layouts_of_a_pre_training() -> None:
    """The original release's order of merged patches is ours; the classifier is left out."""
    swin = small()
    weights = {n: torch.randn(v.shape) for n, v in swin.state_dict().items() if n[:4] != "norm"}
    rest = {"norm.weight": torch.zeros(16), "head.bias": torch.zeros(10)}
    rest["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    original = load_pretrained(swin, weights | rest)
    assert original.keys() == {f"backbone.{name}" for name in swin.state_dict()}
    assert all(torch.equal(original[f"backbone.{name}"], value) for name, value in weights.items())
    mmsegmentation = load_pretrained(
        swin,
        {
            to_published(swin, f"backbone.{n}").removeprefix("backbone."): v
            for n, v in weights.items()
        },
    )
    name = "backbone.layers.0.downsample.reduction.weight"
    assert torch.equal(mmsegmentation.pop(name), from_unfolded(original.pop(name)))
