"""SeMask, compared with outputs of the published code."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
import host_models
from semask_cases import CASES, load, semask

from segcore.backbones.semask import merge_semantic_maps

# Every n-th channel, row and column of an array.
STRIDES = {
    "out_res2": (7, 2, 2),
    "out_res3": (7, 2, 2),
    "out_res4": (7, 2, 2),
    "out_res5": (5, 1, 1),
    "cls_res2": (9, 2, 2),
    "cls_res3": (9, 2, 2),
    "cls_res4": (9, 2, 2),
    "cls_res5": (9, 1, 1),
    "sem_head_pred": (15, 6, 6),
}


def close(found: Tensor, expected: np.ndarray, name: str) -> None:
    channels, rows, columns = STRIDES[name]
    reference = torch.from_numpy(expected)
    tolerance = 2e-5 * max(1.0, reference.std().item())
    part = found[:, ::channels, ::rows, ::columns]
    torch.testing.assert_close(
        part, reference, atol=tolerance, rtol=0, msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_maps(golden: Path, name: str) -> None:
    case = CASES[name] | {"mean_std": "ImageNet"}
    backbone = semask(case["config"]).eval()
    load(backbone, case["keys"])
    images = host_models.images(case)
    features, (_, semantic) = backbone(images), backbone.semantic_maps(images)
    with np.load(golden / "hosts" / f"{name}.npz") as arrays:
        for (stage, features_of), logits in zip(features.items(), semantic, strict=True):
            close(features_of, arrays[f"out_{stage}"], f"out_{stage}")
            close(logits, arrays[f"cls_{stage}"], f"cls_{stage}")
        close(merge_semantic_maps(semantic), arrays["sem_head_pred"], "sem_head_pred")
