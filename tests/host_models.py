"""Weights and images of the reference outputs of RankSeg's hosts: per-pixel ones and MaskFormer."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import deterministic
import torch
from torch import Tensor

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
REPOSITORY = Path(__file__).parents[1]
GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", REPOSITORY / ".." / "shared" / "golden"))
INPUT = re.compile(r"values\('([^']+)', ?\(([\d, ]+)\)\)")


def cases_of(
    file: str, select: Callable[[str, Mapping], bool], default: Sequence[str]
) -> list[str]:
    """Return the names of all cases of this kind in a file of the reference outputs.

    Without the outputs return the known names: their tests are skipped.
    """
    path = GOLDEN / file
    cases = json.loads(path.read_text()) if path.is_file() else {}
    return [name for name, case in cases.items() if select(name, case)] or list(default)


def published_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the weights of a host by published names; counters and index tables are left out."""
    derived = ("num_batches_tracked", "relative_position_index")
    shapes = {n: tuple(shape) for n, shape in shapes.items() if not n.endswith(derived)}
    plain = deterministic.weights(shapes)
    return {name: _weight(name, shape, plain[name]) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...], plain: Tensor) -> Tensor:
    """Rescale what the rules for kernels, norms and biases would make vanish or explode."""
    noise, leaf = deterministic.noise(name, shape), name.rpartition(".")[2]
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf == "running_var":
        return 1 + 0.1 * noise.abs()
    if name.endswith("bn3.weight"):
        return 0.2 * (1 + 0.1 * noise)
    if name.endswith("query_embed.weight"):
        return noise
    if leaf in ("pos_embed", "cls_token"):
        return 0.2 * noise
    if leaf in ("relative_position_bias_table", "cls_emb"):
        return 0.5 * noise
    if leaf == "cls_bias_emb":
        return 0.05 * noise
    if name.endswith("query_embed.weight"):
        return noise
    if leaf in ("gamma_1", "gamma_2", "gamma"):
        return 0.5 + 0.1 * noise
    if leaf == "W" and len(shape) == 3:
        return noise / shape[-1] ** 0.5
    if leaf == "b" and len(shape) == 2:
        return 0.05 * noise
    return plain


def noise_of(recipe: str) -> Tensor:
    """Return the input that a case describes, such as "values('name',(2,3))"."""
    name, shape = INPUT.search(recipe).groups()
    return deterministic.noise(name, tuple(map(int, shape.split(","))))


def images(case: Mapping) -> Tensor:
    """Return the normalised images (B, 3, H, W) of a case of ``hosts/cases.json``."""
    (pattern, number, height, width), statistics = case["input"], case["mean_std"]
    mean, std = torch.tensor(IMAGENET if statistics == "ImageNet" else statistics)[..., None, None]
    names = (pattern.replace("<b>", str(index)) for index in range(number))
    return (torch.stack([deterministic.image(n, height, width) for n in names]) - mean) / std
