"""Configs that `catrank data config` writes: they load, and train what was imported."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catrank import import_families
from catrank.cli import main
from catrank.starting_configs import write_starting_config
from catrank.starting_models import STARTS
from segcore.config import load_config
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, VideoSettings, write_scenes, write_videos

pytestmark = pytest.mark.usefixtures("forget_datasets")
TASKS = {
    "panoptic": {"images": "test/images", "panoptic_json": "test/panoptic.json",
                 "labels": "test/panoptic"},
    "instance": {"images": "test/images", "instance_json": "test/instances.json"},
    "semantic": {"images": "test/images", "labels": "test/labels"},
    "video-instance": {"images": "videos/data", "track_json": "videos/test.json"},
    "video-semantic": {"images": "videos/data/<video>/origin", "labels": "videos/data/<video>/mask",
                       "video_list": "videos/test.txt"},
}  # fmt: skip
QUICK = ("SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "0")
QUICK += ("SOLVER.IMS_PER_BATCH", "2", "MODEL.DEVICE", "cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, SCENES_60, Settings(num_train=0, num_test=2, size=96), panoptic=True)
    write_videos(folder, SCENES_60, VideoSettings(num_train=0, num_test=1, num_frames=2, size=32))
    return folder / "scenes-60"


@pytest.fixture
def describe(scenes: Path) -> Callable[..., Path]:
    """Return a function that describes data sets of one task, "start_train" and "start_val"."""

    def describe(task: str) -> Path:
        path = scenes / f"{task}.json"
        names = ("start_train", "start_val")
        table: dict = {"datasets": dict.fromkeys(names, TASKS[task])}
        if "semantic" in task:
            table["classes"] = [each.name for each in SCENES_60.classes]
        path.write_text(json.dumps(table))
        return path

    return describe


@pytest.mark.parametrize("tiny", [False, True], ids=["full", "tiny"])
@pytest.mark.parametrize(("model", "task"), STARTS, ids="-".join)
def test_they_load(describe: Callable, tmp_path: Path, model: str, task: str, tiny: bool) -> None:
    path = tmp_path / "config.yaml"
    assert write_starting_config(describe(task), path, model, tiny=tiny) == task
    import_families(str(path), [])
    cfg = load_config(path, ["MODEL.WEIGHTS", ""])
    assert (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) == ("start_train", "start_val")
    assert cfg.OUTPUT_DIR == "output/config" and "# " in path.read_text()
    number = 54 if task.endswith("instance") else 60
    if model == "catseg":
        assert str(describe(task)) == cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON
    else:
        assert number == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if cfg.MODEL.get("RANKSEG", {}).get("FLAG"):
        assert (10 if tiny else number) == cfg.MODEL.RANKSEG.TOPK
        assert cfg.MODEL.RANKSEG.TEST_TOPK == 0, (
            "those of the base may exceed the classes of the data"
        )
    if "semantic" in task or task == "panoptic":
        assert cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE == 255
    assert (1 if task.startswith("video") else 2) == cfg.SOLVER.IMS_PER_BATCH
    assert (200 if tiny else 1000) == cfg.SOLVER.MAX_ITER


def test_a_task_without_data(describe: Callable, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has data sets for instance, and catseg does semantic"):
        write_starting_config(describe("instance"), tmp_path / "c.yaml", "catseg")
    with pytest.raises(UserError, match="none for semantic"):
        write_starting_config(
            describe("instance"), tmp_path / "c.yaml", "mask2former", task="semantic"
        )


def test_a_config_is_not_replaced(describe: Callable, tmp_path: Path, capsys) -> None:
    words = ["data", "config", str(describe("semantic")), "--output", str(tmp_path / "c.yaml")]
    assert main(words) == 0
    with pytest.raises(SystemExit):
        main(words)
    assert "exists: give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["catseg", "mask2former", "segmenter", "deeplabv3"])
def test_from_masks_to_a_model(tmp_path: Path, monkeypatch, scenes: Path, model: str) -> None:
    """Three commands, from a raw export to scores."""
    monkeypatch.chdir(tmp_path)
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (scenes / "test/labels").iterdir():
        stored = np.asarray(Image.open(path)) > 5
        Image.fromarray(stored.astype(np.uint8) * 255).save(masks / path.name)
    images = str(scenes / "test/images")
    source = ["masks", "--images", images, "--table", "ground=0, thing=255"]
    assert main(["data", "import", *source, "--output", "new", "--name", "start_masks"]) == 0
    words = ["new/start_masks.json", "--model", model, "--tiny", "--output", "c.yaml"]
    assert main(["data", "config", *words]) == 0
    assert main(["train", "c.yaml", *QUICK]) == 0
    report = tmp_path / "output/c/inference/start_masks_val/sem_seg_evaluation.json"
    assert "mIoU" in report.read_text()
