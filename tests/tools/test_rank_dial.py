"""Recall and scores against the number of kept classes; adapters written by the tool."""

import importlib.util
from types import ModuleType

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

import catseg_d2  # noqa: F401  adds its model and its config keys
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes

CONFIG = "catseg_d2/scenes_60.yaml"
HEAD = ["MODEL.RANKSEG.FLAG", "True", "MODEL.RANKSEG.HIDDEN_DIM", "16"]
DATASET = "dial_scenes"


@pytest.fixture
def load(repository):
    def of_name(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, repository / f"tools/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return of_name


@pytest.fixture
def dataset(tmp_path):
    write_scenes(tmp_path, SCENES_60, Settings(num_train=1, num_test=2), workers=1)
    folders = [tmp_path / "scenes-60" / "test" / name for name in ("images", "labels")]
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)


@pytest.fixture
def base(tmp_path):
    """A checkpoint without a head, and one with a head on top of it."""
    torch.manual_seed(0)
    ranked = build_model(load_config(CONFIG, HEAD)).state_dict()
    torch.save({"model": ranked}, tmp_path / "ranked.pth")
    plain = {name: value for name, value in ranked.items() if not name.startswith("ranking.")}
    torch.save({"model": plain}, tmp_path / "base.pth")
    return tmp_path / "base.pth"


def test_tables(load, dataset, base, tmp_path, monkeypatch, capsys) -> None:
    adapter = load("rank_adapter")
    adapter.write_adapter(
        load_config(CONFIG, HEAD), tmp_path / "ranked.pth", tmp_path / "h.safetensors"
    )
    assert "0.0" in capsys.readouterr().out
    dial = load("rank_dial")
    words = ["rank_dial.py", "--config-file", CONFIG, "--adapters", str(tmp_path / "h.safetensors")]
    words += ["--recall", "4", "60", "--keep", "2", "0.5", "--images", "2"]
    words += ["--output", str(tmp_path / "rows.json"), "--plot", str(tmp_path / "dial.svg"), "--"]
    words += ["MODEL.WEIGHTS", str(base), "DATASETS.TEST", f"('{DATASET}',)"]
    words += ["DATALOADER.NUM_WORKERS", "0", "TEST.PATCH_INFERENCE.OUTPUT_SIZE", "128"]
    words += ["TEST.PATCH_INFERENCE.TILE", "96"]
    monkeypatch.setattr("sys.argv", words)
    dial.main()
    printed = capsys.readouterr().out
    table = [line.split(" | ") for line in printed.splitlines() if line]
    assert [row[0].strip("| ") for row in table[2:5]] == [dial.WHOLE, dial.PATCHES, "head, h"]
    assert all(row[2].startswith("100.0") for row in table[2:5]), "all 60 hold every class"
    assert [row[1] for row in table[7:]] == ["2", "2", "2", "0.5"]  # no threshold for cosines
    assert "polyline" in (tmp_path / "dial.svg").read_text()

    def never(*_: object) -> None:
        raise AssertionError("a finished row is computed again")

    monkeypatch.setattr(dial.Dial, "recall", never)
    monkeypatch.setattr(dial.Dial, "scores", never)
    dial.main()
    assert capsys.readouterr().out == printed


def test_a_checkpoint_without_head_gives_no_adapter(load, base, tmp_path) -> None:
    tool = load("rank_adapter")
    target = tmp_path / "h.safetensors"
    with pytest.raises(UserError, match="FLAG of the config is False"):
        tool.write_adapter(load_config(CONFIG), base, target)
    with pytest.raises(UserError, match="has no ranking head"):
        tool.write_adapter(load_config(CONFIG, HEAD), base, target)
    with pytest.raises(UserError, match="must end in"):
        tool.write_adapter(load_config(CONFIG, HEAD), base, tmp_path / "h.pth")
