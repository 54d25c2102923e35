"""OpenAI's archives become plain weights, once and on request."""

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

import catseg_d2  # noqa: F401  its encoders are registered with open_clip
from catseg_d2.checkpoint import load_clip_weights
from catseg_d2.encoders import build_encoders
from segcore.errors import UserError


class Archive(nn.Module):
    """A module with CLIP's names and half-precision weights, as OpenAI's archives hold them."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in weights.items():
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_buffer(leaf, value.half())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_convert(repository: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    library = open_clip.CLIP(**open_clip.get_model_config("scenes-tiny"))
    archive, target = tmp_path / "clip.pt", tmp_path / "clip.safetensors"
    torch.jit.save(torch.jit.script(Archive(library.state_dict())), archive)
    clip = build_encoders("scenes-tiny")
    with pytest.raises(UserError, match="TorchScript"):
        load_clip_weights(clip, "scenes-tiny", str(archive))

    command = [sys.executable, repository / "tools" / "convert_clip.py", archive, target]
    subprocess.run(command, check=True, cwd=repository)
    load_clip_weights(clip, "scenes-tiny", str(target))
    expected = library.visual.proj.half().float()
    assert torch.equal(clip.visual.proj, expected)


def test_other_files_are_one_sentence(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"no archive")
    command = [
        sys.executable,
        "tools/convert_clip.py",
        tmp_path / "x.pt",
        tmp_path / "y.safetensors",
    ]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 2
    assert "not a TorchScript archive" in result.stderr and "Traceback" not in result.stderr
