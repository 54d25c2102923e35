"""tools/shrink.py --backbone; tests/catseg_d2/test_token_rows.py runs it for a whole model."""

import subprocess
import sys
from pathlib import Path

import torch

from catrank import load_config
from segcore.checkpoint import read_checkpoint
from segcore.engine import Trainer, build_checkpointer

MODELS = Path(__file__).parents[2] / "demo" / "models"


def shrink_backbone(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = ["tools/shrink.py", "--backbone", str(source), str(target)]
    return subprocess.run(
        [sys.executable, *command], cwd=MODELS.parents[1], capture_output=True, text=True
    )


def test_a_maskformer_starts_from_the_backbone_of_a_mask2former(tmp_path: Path) -> None:
    source, target = MODELS / "scenes_60_panoptic.safetensors", tmp_path / "backbone.safetensors"
    done = shrink_backbone(source, target)
    assert done.returncode == 0, done.stderr
    whole, backbone = read_checkpoint(source)["model"], read_checkpoint(target)["model"]
    assert set(backbone) == {name for name in whole if name.startswith("backbone.")}
    opts = ["MODEL.WEIGHTS", str(target), "MODEL.ALLOW_PARTIAL_WEIGHTS", True]
    cfg = load_config("mask2former_rankseg/scenes_60_maskformer.yaml", opts)
    model = Trainer.build_model(cfg)
    build_checkpointer(cfg, model).load(str(target))
    own = model.state_dict()
    weights = {name: value.float() for name, value in backbone.items() if value.is_floating_point()}
    assert all(torch.equal(own[name], value) for name, value in weights.items())


def test_a_checkpoint_without_a_backbone_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "backbone.safetensors"
    done = shrink_backbone(MODELS / "scenes_60.safetensors", target)
    assert done.returncode == 2
    assert "scenes_60.safetensors has no weight whose name begins with 'backbone.'" in done.stderr
    assert not target.exists()
