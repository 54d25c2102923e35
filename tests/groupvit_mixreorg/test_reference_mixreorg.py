"""Mixing and the loss of mixed images against numbers made from the definition.

All cases ``mixreorg_*`` of the folder of reference outputs are run.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from groupvit_mixreorg.losses import mixed_segmentation_loss, patch_probabilities
from groupvit_mixreorg.mixing import mix, restore

SHARED = Path(__file__).parents[2] / ".." / "shared" / "golden"


def case_names() -> list[str]:
    """Return the cases in the folder; one where there is no folder, to skip it."""
    path = Path(os.environ.get("CATRANK_GOLDEN", SHARED)) / "per_pixel"
    if not path.is_dir():
        return ["mixreorg_spec_case"]
    return sorted(file.stem for file in path.glob("mixreorg_*.npz"))


def number(text: str | float) -> float:
    """Return a number of the description, which may be a fraction such as 1/0.07."""
    return math.prod(float(x) ** (-1) ** i for i, x in enumerate(str(text).split("/")))


@pytest.mark.parametrize("name", case_names())
def test_mixing_and_loss(golden: Path, name: str) -> None:
    with np.load(golden / "per_pixel" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file}
    about = json.loads((golden / "per_pixel" / "cases.json").read_text("utf-8"))[name]
    sources = arrays["source_of_patch"].long()
    mixed = mix(arrays["tokens"], sources)
    assert torch.equal(mixed, arrays["mixed_tokens"])
    assert torch.equal(restore(mixed, sources), arrays["tokens"])

    leaves = {key: arrays[key].requires_grad_() for key in ("segments", "texts", "assign1")}
    segments, texts = (F.normalize(leaves[key], dim=-1) for key in ("segments", "texts"))
    shares = arrays["assign2"] @ leaves["assign1"]
    scale = number(about["config"]["scale"])
    probabilities = patch_probabilities(segments, texts, shares, scale)
    expected = arrays["patch_probabilities"]
    torch.testing.assert_close(probabilities, expected, atol=1e-4, rtol=0)
    loss = mixed_segmentation_loss(probabilities, sources)
    torch.testing.assert_close(loss, arrays["loss_mix"], atol=0, rtol=1e-4)
    loss.backward()
    for key, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, arrays[f"grad_{key}"], atol=1e-6, rtol=1e-3)
