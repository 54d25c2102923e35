"""A model's scores beside those of its controls."""

import importlib.util
import subprocess
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes
from segcore.text import embed_prompts
from segcore.vocabulary import Vocabulary

CONFIG = "catseg_d2/scenes_60.yaml"
DATASET = "controls_scenes"


@pytest.fixture(scope="module")
def tool(repository):
    spec = importlib.util.spec_from_file_location("controls", repository / "tools/controls.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=1, num_test=4), workers=1)
    return root


@pytest.fixture(scope="module")
def dataset(root):
    folders = [root / "scenes-60" / "test" / name for name in ("images", "labels")]
    register_semantic_dataset(DATASET, *folders, "scenes_60", image_suffix=".png")
    yield DATASET
    DatasetCatalog.remove(DATASET)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu"])).eval()


@pytest.fixture
def controls(tool, dataset, model):
    return tool.Controls(load_config(CONFIG, ["DATALOADER.NUM_WORKERS", "0"]), model, dataset)


def test_no_class_keeps_its_words(tool):
    for words in ("scenes_60", ["a", "b"]):
        vocabulary = Vocabulary.load(words)
        other = tool.shuffled(vocabulary)
        assert other.names == vocabulary.names and other.seen == vocabulary.seen
        assert sorted(other.prompts) == sorted(vocabulary.prompts)
        assert all(a != b for a, b in zip(other.prompts, vocabulary.prompts, strict=True))


def test_rows_of_the_table(controls, model):
    """The scores are those of the label maps that each row stands for."""
    table = dict(controls.table(kept=[0, 5]))
    assert list(table) == ["decoded", "decoded, best 5 kept", "raw cost volume", "shuffled words"]
    assert all(0 <= scores["mIoU-seen"] <= 100 for scores in table.values())
    assert len({scores["pACC"] for scores in table.values()}) == 4, (
        "every row is another prediction"
    )
    assert (model.max_classes, model.vocabulary.name) == (256, "scenes_60")
    assert type(model.aggregator).__name__ == "CostAggregator"


def test_the_raw_cost_volume_is_the_nearest_words(controls, tool, model):
    (batch, (prediction,)), *_ = controls._predictions(
        "raw", controls.vocabulary, 0, tool.CostAlone()
    )
    pixels = (batch[0]["image"] - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        features = torch.nn.functional.normalize(model.clip.encode_image(pixels[None])[0][0], dim=0)
        text = embed_prompts(model.clip, controls.vocabulary.prompts, "single")[:, 0]
    nearest = torch.einsum("chw,tc->thw", features, text)
    centres = (
        prediction["sem_seg"].unfold(1, 8, 8).unfold(2, 8, 8)[..., 3:5, 3:5].mean(dim=(-2, -1))
    )
    agreement = (centres.argmax(dim=0) == nearest.argmax(dim=0)).float().mean()
    assert agreement > 0.8, "at the middle of a cell little of its neighbours is mixed in"


def test_recall_counts_the_classes_shown(controls):
    recall = controls.recall([1, 30, 60])
    assert recall[60] == 100 and 0 <= recall[1] <= recall[30] < 100


def test_the_first_images_alone(tool, dataset, model):
    cfg = load_config(CONFIG, ["DATALOADER.NUM_WORKERS", "0"])
    controls = tool.Controls(cfg, model, dataset, images=3)
    predictions = controls._predictions("raw", controls.vocabulary, 0, tool.CostAlone())
    files = [batch[0]["file_name"] for batch, _ in predictions]
    assert files == [record["file_name"] for record in DatasetCatalog.get(dataset)][:3]


def test_a_vocabulary_without_unseen_classes_is_one_sentence(tool, root, model):
    folders = [root / "scenes-60" / "test" / name for name in ("images", "labels")]
    register_semantic_dataset("all_seen", *folders, ["one", "two"], image_suffix=".png")
    try:
        with pytest.raises(UserError, match="which classes are seen"):
            tool.Controls(load_config(CONFIG), model, "all_seen")
    finally:
        DatasetCatalog.remove("all_seen")


def test_from_the_command_line(repository, root, model, tmp_path):
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    command = [sys.executable, "tools/controls.py", "--config-file", CONFIG, "--recall", "60", "--"]
    command += ["MODEL.WEIGHTS", str(tmp_path / "model.pth"), "DATALOADER.NUM_WORKERS", "0"]
    command += ["DATASETS.TEST", "('scenes_60_test',)", "MODEL.DEVICE", "cpu"]
    done = subprocess.run(
        command,
        cwd=repository,
        env={"DETECTRON2_DATASETS": str(root), "PYTHONPATH": str(repository), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line[:7] for line in lines] == ["decoded", "raw cos", "shuffle", "among t"]
    assert lines[-1].split()[-6] == "100.0"
