"""The demo's scripts import each other by name, as they do when they are run."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import catseg_d2  # noqa: F401
from segcore.config import load_config

# CAT-Seg with the smallest encoders there are.
TINY = """
_BASE_: {repository}/configs/catseg_d2/vitb_384.yaml
MODEL:
  CLIP_WEIGHTS: ""
  SEM_SEG_HEAD:
    CLIP_PRETRAINED: scenes-tiny
    TEXT_GUIDANCE_DIM: 64
    APPEARANCE_GUIDANCE_DIM: 64
    FEATURE_RESOLUTION: [12, 12]
    WINDOW_SIZES: 6
    NUM_LAYERS: 1
    TEST_CLASS_JSON: voc20
INPUT:
  MIN_SIZE_TEST: 96
"""


@pytest.fixture(autouse=True)
def demo_scripts(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "demo"))


@pytest.fixture
def demo(monkeypatch):
    """Runs the command line in this process; returns its exit code."""
    script = importlib.import_module("demo")

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            script.main()
        return stop.value.code

    return call


@pytest.fixture(scope="session")
def tiny_model(repository, tmp_path_factory) -> tuple[Path, Path]:
    """A config and a checkpoint that fits it: random weights, which segment all the same."""
    folder = tmp_path_factory.mktemp("tiny")
    config, weights = folder / "tiny.yaml", folder / "tiny.pth"
    config.write_text(TINY.format(repository=repository))
    torch.manual_seed(0)
    model = build_model(load_config(config, ["MODEL.DEVICE", "cpu"]))
    torch.save({"model": model.state_dict()}, weights)
    return config, weights
