"""Files of pre-trained backbones, by the names that released configs use, in a trainer's model."""

import pickle
import sys
from pathlib import Path

import detectron2
import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from segcore.backbones.checkpoint import backbone_weights
from segcore.config import load_config
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2]))
from mask2former_models import R50, SWIN_T, TINY

ADDRESS = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> Path:
    """The folder of Detectron2's downloads."""
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "converted"))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "fetched"))
    return tmp_path / "fetched" / "detectron2"


def start(config: str, **options: object) -> nn.Module:
    """The model of a config with its weights, as train_net.py starts it."""
    options = TINY | {"MODEL.DEVICE": "cpu"} | options
    cfg = load_config(config, [item for pair in options.items() for item in pair])
    model = Trainer.build_model(cfg)
    build_checkpointer(cfg, model).resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    return model


def resnet(depth: int) -> dict[str, Tensor]:
    """torchvision's file: each entry has another value."""
    with torch.device("meta"):
        empty = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    return {
        name: torch.full(value.shape, float(i)) for i, (name, value) in enumerate(empty.items())
    }


def converted(weights: dict[str, Tensor]) -> bytes:
    """As Mask2Former's and Detectron2's tools write it: other names, arrays, the classifier."""
    arrays = {}
    for name, value in weights.items():
        if "layer" not in name:
            name = f"stem.{name}"
        for number in (1, 2, 3, 4):
            name = name.replace(f"layer{number}", f"res{number + 1}")
            name = name.replace(f"bn{number}", f"conv{number}.norm")
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        arrays[name] = value.numpy()
    content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    return pickle.dumps(content)


def assert_loaded(model: nn.Module, weights: dict[str, Tensor]) -> None:
    expected = backbone_weights(weights)
    found = model.backbone.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.equal(expected[name]), name


def test_an_address_of_a_released_config(caches) -> None:
    """A downloaded file is read, by Detectron2's checkpointer and by ours."""
    weights = resnet(50)
    path = caches / ADDRESS.removeprefix("detectron2://")
    path.parent.mkdir(parents=True)
    path.write_bytes(converted(weights))
    assert load_config(R50).MODEL.WEIGHTS == ADDRESS
    assert_loaded(start(R50), weights)
    model = start(R50, **{"MODEL.WEIGHTS": ""})
    DetectionCheckpointer(model).load(ADDRESS)
    assert_loaded(model, weights)


@pytest.mark.skipif(not detectron2.__version__.endswith("+lite"), reason="Detectron2 fetches it")
def test_an_address_without_a_file(caches) -> None:
    message = rf"{ADDRESS} cannot be .*R-50\.pkl and save it as {caches.parent}"
    with pytest.raises(UserError, match=message):
        start(R50)


@pytest.mark.parametrize("name", ["R-101.pkl", "resnet101-63fe2227.pth"])
def test_resnet_101(tmp_path, monkeypatch, name: str) -> None:
    """By its name alone, in the folder where the program runs."""
    monkeypatch.chdir(tmp_path)
    weights = resnet(101)
    if name.endswith(".pkl"):
        Path(name).write_bytes(converted(weights))
    else:
        torch.save(weights, name)
    options = {"MODEL.WEIGHTS": name, "MODEL.RESNETS.DEPTH": 101}
    assert_loaded(start(R50, **options), weights)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_swin(tmp_path, suffix: str) -> None:
    """Swin's release, and the same as Mask2Former's tool converts it."""
    names = start(SWIN_T, **{"MODEL.WEIGHTS": ""}).backbone.state_dict()
    weights = {
        name: torch.full(value.shape, float(i))
        for i, (name, value) in enumerate(names.items())
        if not name.startswith("norm")
    }
    more = {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long(),
        "layers.2.blocks.1.attn_mask": torch.zeros(4, 16, 16),
        **{f"norm.{part}": torch.zeros(64) for part in ("weight", "bias")},
        "head.weight": torch.zeros(1000, 64),
        "head.bias": torch.zeros(1000),
    }
    content = {"model": weights | more, "optimizer": {}, "epoch": 3}
    if suffix == ".pkl":
        content = {"model": weights | more, "__author__": "third_party"}
        content["matching_heuristics"] = True
    path = tmp_path / f"swin_tiny_patch4_window7_224{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    model = start(SWIN_T, **{"MODEL.WEIGHTS": str(path)})
    loaded = model.backbone.state_dict()
    for name, value in weights.items():
        assert loaded[name].equal(value), name
    assert all((loaded[f"norm{stage}.weight"] == 1).all() for stage in range(4))


def test_a_missing_file_is_one_message(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = r"the checkpoint R-101\.pkl is no file: set MODEL\.WEIGHTS"
    with pytest.raises(UserError, match=message):
        start(R50, **{"MODEL.WEIGHTS": "R-101.pkl"})
