"""MODEL.PRECISION in every family: predictions in bfloat16 are those of float32, rounded."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

import groupvit_mixreorg  # noqa: F401  (adds its models and its config keys)
import mask2former_rankseg  # noqa: F401
import per_pixel  # noqa: F401
from segcore.config import load_config
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
import deterministic

# The tests of CAT-Seg are in tests/catseg_d2.
MODELS = {
    "groupvit_mixreorg/scenes_60_groupvit.yaml": "sem_seg",
    "mask2former_rankseg/scenes_60_maskformer_rankseg.yaml": "sem_seg",
    "per_pixel/scenes_60_segmenter.yaml": "sem_seg",
    "per_pixel/scenes_1k_query2label.yaml": "category_scores",
}


def build(config: str, *options: object) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(load_config(config, ["MODEL.DEVICE", "cpu", *options])).eval()
    model.may_predict = True  # with random weights
    return model


class Precisions:
    """Records the types of the outputs of linear layers and convolutions."""

    def __init__(self, model: nn.Module) -> None:
        self.found: set[torch.dtype] = set()
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: Iterable, output: torch.Tensor) -> None:
        self.found.add(output.dtype)


@pytest.mark.parametrize("config", MODELS)
def test_predictions(config: str) -> None:
    item = {"image": deterministic.image("precisions", 64, 64)}
    expected = build(config)([item])[0][MODELS[config]]
    model = build(config, "MODEL.PRECISION", "bfloat16")
    model([item])  # GroupViT embeds its class names in float32 once
    precisions = Precisions(model)
    scores = model([item])[0][MODELS[config]]
    assert torch.bfloat16 in precisions.found
    assert scores.dtype == torch.float32
    # Classes or queries with nearly equal scores may change their ranks.
    assert 0 < (scores - expected).abs().max() < 5e-2
    assert (scores - expected).abs().mean() < 5e-3


@pytest.mark.parametrize("config", MODELS)
def test_only_catseg_is_compiled(config: str) -> None:
    with pytest.raises(UserError, match=r"MODEL\.COMPILE is default, but .* is not compiled"):
        build(config, "MODEL.COMPILE", "default")
