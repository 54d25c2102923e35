"""MODEL.PRECISION and MODEL.COMPILE: their values, and what is rounded."""

import logging
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from segcore.config import default_config
from segcore.config.numerics import MODES, compile_mode, precision_from_config, refuse_compile
from segcore.errors import UserError
from segcore.inference import precision as module
from segcore.inference.precision import FLOAT32, Precision, has_bfloat16, in_precision


def config(**keys: object):
    cfg = default_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "PerPixelSegmenter"
    for key, value in keys.items():
        cfg.MODEL[key] = value
    return cfg


class Found(NamedTuple):
    scores: Tensor
    classes: Tensor | None


class Model(nn.Module):
    device = torch.device("cpu")

    def __init__(self, precision: Precision) -> None:
        super().__init__()
        self.precision, self.layer = precision, nn.Linear(8, 8)

    @in_precision
    def predict(self, x: Tensor) -> Found:
        scores = self.layer(x)
        self.computed_in = scores.dtype
        return Found(scores, scores.argmax(dim=-1))


@pytest.mark.parametrize("training", [False, True])
def test_a_network_predicts_in_its_precision_and_its_results_are_float32(training: bool) -> None:
    model = Model(Precision("bfloat16")).train(training)
    found = model.predict(torch.rand(3, 8))
    assert model.computed_in == (torch.float32 if training else torch.bfloat16)
    assert isinstance(found, Found) and found.scores.dtype == torch.float32
    assert found.classes.dtype == torch.int64


def test_float32_keeps_the_autocast_of_the_caller() -> None:
    model = Model(FLOAT32).eval()
    with torch.autocast("cpu", torch.bfloat16):
        model.predict(torch.rand(3, 8))
    assert model.computed_in == torch.bfloat16


def test_the_precision_of_a_config() -> None:
    assert precision_from_config(config()) == FLOAT32
    with pytest.raises(UserError, match=r"MODEL\.PRECISION is fp8: use float32 or bfloat16"):
        precision_from_config(config(PRECISION="fp8"))


@pytest.mark.parametrize("known", [{"avx2": True, "avx512_bf16": False}, {"bf16": True}])
def test_a_cpu_without_the_instructions_is_a_warning(monkeypatch, caplog, known: dict) -> None:
    monkeypatch.setattr(module.torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert has_bfloat16(torch.device("cpu")) == ("bf16" in known)
    with caplog.at_level(logging.WARNING):
        assert precision_from_config(config(PRECISION="bfloat16")).name == "bfloat16"
    assert ("take longer than in float32" in caplog.text) == ("bf16" not in known)


def test_a_gpu_without_bfloat16_is_an_error(monkeypatch) -> None:
    cuda = SimpleNamespace(is_bf16_supported=lambda including_emulation: False)
    monkeypatch.setattr(module.torch, "cuda", cuda)
    with pytest.raises(UserError, match="this GPU does not have: use float32"):
        precision_from_config(config(PRECISION="bfloat16", DEVICE="cuda"))


def test_modes_of_compile() -> None:
    assert compile_mode(config()) == ""
    with pytest.raises(UserError, match=r"MODEL\.COMPILE is fast: use default, .*reduce-overhead"):
        compile_mode(config(COMPILE="fast"))
    refuse_compile(config())
    with pytest.raises(UserError, match="PerPixelSegmenter is not compiled, only CATSeg is"):
        refuse_compile(config(COMPILE=MODES[0]))


@pytest.mark.parametrize(
    ("device", "needed"),
    [("cpu", r"a C\+\+ compiler: g\+\+9"), ("cuda", "triton and a C compiler")],
)
def test_no_compiler_is_one_message(monkeypatch, tmp_path, device: str, needed: str) -> None:
    assert compile_mode(config(COMPILE="default")) == "default"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "g++9")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(UserError, match=f"install .*{needed}"):
        compile_mode(config(COMPILE="default", DEVICE=device))
