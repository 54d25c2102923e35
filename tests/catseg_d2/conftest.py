"""Models that the tests of CAT-Seg share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import catseg_d2
from catseg_d2.checkpoint import to_published
from segcore.config import load_config

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

VITB = "catseg_d2/vitb_384.yaml"
TINY = "catseg_d2/scenes_60.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread_a_worker() -> None:
    """Parallel test processes must not compete for the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def build_vitb() -> Callable[..., catseg_d2.CATSeg]:
    """Builds ViT-B models with the weights of the reference outputs."""

    def build(*options: str) -> catseg_d2.CATSeg:
        model = build_model(load_config(VITB, ["MODEL.CLIP_WEIGHTS", "", *options]))
        shapes = {to_published(name): value.shape for name, value in model.named_parameters()}
        model.load_state_dict(deterministic.weights(shapes))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def published_vitb(build_vitb) -> catseg_d2.CATSeg:
    """ViT-B, shared by the tests that leave its weights alone."""
    return build_vitb()


@pytest.fixture
def tiny() -> Callable[..., catseg_d2.CATSeg]:
    """Builds very small models: ``tiny("MODEL.X", "value", ...)``, always with the same weights."""

    def build(*options: object) -> catseg_d2.CATSeg:
        torch.manual_seed(0)
        model = build_model(load_config(TINY, list(map(str, options))))
        return model.eval()

    return build
