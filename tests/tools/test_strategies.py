"""The ablation of patch inference evaluates what its rows say."""

import importlib.util

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.scenes import SCENES_60, Settings, write_scenes

CONFIG = "catseg_d2/scenes_60.yaml"
DATASET = "strategies_scenes"


@pytest.fixture(scope="module")
def tool(repository):
    spec = importlib.util.spec_from_file_location("strategies", repository / "tools/strategies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=0, num_test=1, size=192), workers=1)
    folders = [root / "scenes-60" / "test" / name for name in ("images", "labels")]
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)


def test_names_say_what_is_done(tool):
    plans = dict(tool.strategies(384))
    assert plans["whole image, training resolution"] is None
    published = plans["tiles of an image of 640, with global view"]
    assert (published.output_size, published.tile, published.overlap) == (640, 384, 0.333)
    assert not plans["tiles of an image of 512, without global view"].global_view
    assert plans["tiles of an image of 768, overlap 50%, with global view"].overlap == 0.5


def test_every_strategy_is_evaluated(tool, dataset, monkeypatch, tmp_path):
    options = {"MODEL.DEVICE": "cpu", "DATASETS.TEST": (dataset,), "DATALOADER.NUM_WORKERS": 0}
    options |= {"INPUT.MIN_SIZE_TEST": 192, "OUTPUT_DIR": str(tmp_path)}
    cfg = load_config(CONFIG, [part for pair in options.items() for part in pair])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    shown = [item for number, item in enumerate(tool.strategies(96)) if number < 3]
    monkeypatch.setattr(tool, "strategies", lambda tile: shown)
    rows = list(tool.compare(cfg, model))
    assert [crops for _, _, crops in rows] == [1, 5, 4]
    assert len({scores["pACC"] for _, scores, _ in rows}) == 3, "every row is another prediction"
    assert model.patches is None
