"""GroupViT against the published modules, and its names and shapes against the release.

All cases ``groupvit_*`` and key tables ``keys_groupvit_*`` of the folder of reference outputs are
run.
"""

import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from deterministic import image, noise, weights

from groupvit_mixreorg.checkpoint import from_published, to_published
from groupvit_mixreorg.image_encoder import ImageEncoder
from groupvit_mixreorg.model import GroupViTModel
from groupvit_mixreorg.projector import Projector
from groupvit_mixreorg.text_encoder import TextEncoder
from groupvit_mixreorg.zero_shot import segment_scores, segments_of_pixels, with_background
from segcore.text import contrastive_loss

START = "groupvit_"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "golden"
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
TABLES = ("group_token", "pos_embed", "positional_embedding", "token_embedding.weight")


def folder() -> Path | None:
    path = Path(os.environ.get("CATRANK_GOLDEN", SHARED)) / "per_pixel"
    return path if path.is_dir() else None


def case_names(pattern: str, otherwise: str) -> list[str]:
    """Return the cases in the folder; one where there is no folder, to skip it."""
    if (path := folder()) is None:
        return [otherwise]
    return sorted(file.stem for file in path.glob(pattern))


def build(config: dict, side: int) -> GroupViTModel:
    images, texts = config["img_encoder"], config["text_encoder"]
    width, patch = images["embed_dim"], images.get("patch_size", 16)
    (num_heads,) = set(images["num_heads"])
    return GroupViTModel(
        ImageEncoder(
            grid=(side // patch, side // patch),
            patch_size=patch,
            width=width,
            num_heads=num_heads,
            depths=images["depths"],
            group_tokens=images["num_group_tokens"],
            output_groups=images["num_output_groups"],
        ),
        TextEncoder(
            width=texts["width"],
            num_layers=texts["layers"],
            num_heads=texts["width"] // 64,
            context_length=texts["context_length"],
        ),
        Projector(width, joint_width=config["output_dim"]),
        Projector(texts["width"], joint_width=config["output_dim"]),
        multi_label=config["multi_label"] > 0,
    )


def fill(model: GroupViTModel) -> None:
    state = {}
    for ours, value in model.state_dict().items():
        name = to_published(f"model.{ours}")
        assert from_published(name) == f"model.{ours}"
        leaf = name.rpartition(".")[2]
        if leaf != "num_batches_tracked":
            state[ours] = published_value(name, leaf, tuple(value.shape))
    assert model.load_state_dict(state, strict=False).unexpected_keys == []


def published_value(name: str, leaf: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("logit_scale"):
        return torch.tensor(math.log(1 / 0.07))
    value = noise(name, shape)
    if name.endswith(TABLES):
        return 0.2 * value
    if leaf == "running_mean":
        return 0.1 * value
    if leaf == "running_var":
        return 1 + 0.1 * value.abs()
    return weights({name: shape})[name]


def normalised(images: list[tuple[str, str, str]]) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return torch.stack([(image(name, int(h), int(w)) - mean) / std for name, h, w in images])


def strided(value: Tensor, like: Tensor) -> Tensor:
    """Take every n-th entry of each axis, so that the shape is that of the reference."""
    for axis, (own, wanted) in enumerate(zip(value.shape, like.shape, strict=True)):
        value = value.index_select(axis, torch.arange(0, own, max(own // wanted, 1)))
    return value


class Case:
    """A case: its description, arrays, and the model."""

    def __init__(self, name: str) -> None:
        path = folder()
        self.about = json.loads((path / "cases.json").read_text("utf-8"))[name]
        with np.load(path / f"{name}.npz") as arrays:
            self.arrays = {key: torch.from_numpy(arrays[key]) for key in arrays}
        batch, _, last = self.about["input"].partition("segmentation")
        pattern = r"fill\.image\('([^']+)',\s*(\d+),\s*(\d+)\)"
        found = [re.findall(pattern, text) for text in (batch, last)]
        self.images, self.segmented = map(normalised, found)
        self.model = build(self.about["config"], self.images.shape[-1]).eval()
        fill(self.model)

    def close(self, name: str, found: Tensor) -> None:
        expected = self.arrays[name]
        torch.testing.assert_close(strided(found, expected), expected, atol=1e-4, rtol=0)

    def close_gradient(self, name: str, leaf: Tensor) -> None:
        torch.testing.assert_close(leaf.grad, self.arrays[name], atol=1e-6, rtol=1e-3)

    def mostly_equal(self, name: str, found: Tensor) -> None:
        expected = self.arrays[name]
        assert (strided(found, expected) == expected).float().mean() >= 0.995


@pytest.fixture(scope="module", params=case_names("groupvit_*.npz", "groupvit_forward"))
def case(golden: Path, request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@torch.no_grad()
def test_images(case: Case) -> None:
    found = case.model.embed_images(case.images)
    first, second = found.features.assignments
    case.close("group_tokens", found.features.segments)
    case.close("image_vector", found.features.vector)
    case.close("assign1_soft_strided", first)
    case.close("assign2_soft", second)
    case.close("product_strided", found.features.shares.transpose(1, 2))
    case.mostly_equal("hard1_argmax", first.argmax(dim=1))
    case.close("image_embedding", case.model.image_projector(found.features.vector))
    case.close("group_embedding", case.model.image_projector(found.features.segments))


@torch.no_grad()
def test_texts(case: Case) -> None:
    tokens = case.arrays["tokens"].long()
    case.close("text_vectors", case.model.text_encoder(tokens[0, :3]))
    texts = case.model.encode_text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    case.close("text_embedding", texts[0, :3])
    case.close("text_x", texts[:, 0])
    case.close("text_multi_label_x", texts[:, 1:])
    classes = F.normalize(texts[:, :3].flatten(0, 1), dim=-1)
    case.close("class_text_embedding", classes)


def test_losses(case: Case) -> None:
    names = "image_embedding", "text_x", "text_multi_label_x"
    leaves = [case.arrays[name].clone().requires_grad_() for name in names]
    image, text, prompts = (F.normalize(leaf, dim=-1) for leaf in leaves)
    with torch.no_grad():
        scales = case.model.scale, case.model.multi_label_scale
    losses = (
        contrastive_loss(image, text[:, None], scales[0]),
        contrastive_loss(image, prompts, scales[1]),
    )
    for name, loss in zip(("contrastive_loss", "multi_label_loss"), losses, strict=True):
        torch.testing.assert_close(loss, case.arrays[name], atol=0, rtol=1e-4)
    sum(losses).backward()
    for name, leaf in zip(names, leaves, strict=True):
        case.close_gradient(f"grad_{name}", leaf)


@torch.no_grad()
def test_segmentation(case: Case) -> None:
    found = case.model.embed_images(case.segmented)
    classes = case.arrays["class_text_embedding"]
    scores = segment_scores(found.vector, found.segments, classes, case.model.scale, keep=5)
    case.close("seg_group_class_scores", scores[0])
    size = tuple(case.segmented.shape[-2:])
    segments = segments_of_pixels(found.features.shares, found.features.grid, size)[0]
    case.mostly_equal("seg_group_map_strided", segments)
    whole = with_background(scores, case.about["background_threshold"])[0]
    pixels = whole.T[:, segments.long()]
    expected = case.arrays["seg_scores_strided"]
    same = (strided(pixels, expected) - expected).abs() < 1e-4
    assert same.float().mean() >= 0.995  # the segment of a pixel on an edge may differ
    case.mostly_equal("seg_labels", pixels.argmax(dim=0))
    case.mostly_equal("seg_labels_without_background", pixels[1:].argmax(dim=0))


@pytest.mark.parametrize("name", case_names("keys_groupvit_*.json", "keys_groupvit_gcc_yfcc"))
def test_names_and_sizes(golden: Path, name: str) -> None:
    table = json.loads((folder() / f"{name}.json").read_text("utf-8"))
    config = {
        "img_encoder": {
            "embed_dim": 384,
            "num_heads": [6, 6, 6],
            "depths": [6, 3, 3],
            "num_group_tokens": [64, 8, 0],
            "num_output_groups": [64, 8],
        },
        "text_encoder": {"width": 256, "layers": 12, "context_length": 77},
        "output_dim": 256,
        "multi_label": int("multi_label_logit_scale" in table["keys"]),
    }
    with torch.device("meta"):
        model = build(config, 224)
    shapes = {to_published(f"model.{k}"): [*v.shape] for k, v in model.state_dict().items()}
    assert shapes.keys() == table["keys"].keys()
    for key, shape in table["keys"].items():
        assert shape in (shapes[key], [*shapes[key], 1]), key  # 1x1 convolutions are linear here
    parts = {
        "total": model,
        "image_encoder": model.image_encoder,
        "text_encoder": model.text_encoder,
        "image_projector": model.image_projector,
        "text_projector": model.text_projector,
    }
    counts = {n: sum(p.numel() for p in part.parameters()) for n, part in parts.items()}
    assert counts == table["parameters"]
