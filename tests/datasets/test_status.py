"""The report of the data sets that are on the disk."""

import subprocess
import sys
from pathlib import Path

import pytest
from downloads import save

from catrank.cli import ROOT
from segcore.datasets.downloads import amount, describe, downloads
from segcore.datasets.status import Status, all_statuses, group_of
from segcore.vocabulary import registered_names, vocabulary_table


def statuses(root: Path) -> dict[str, Status]:
    return {each.name: each for each in all_statuses(root)}


def test_nothing_is_there(tmp_path: Path, repository: Path) -> None:
    run = subprocess.run(
        [sys.executable, repository / "datasets/status.py", "--root", tmp_path / "none"],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert run.returncode == 0 and not run.stderr
    names = [
        name
        for vocabulary in registered_names()
        for name in vocabulary_table(vocabulary).get("datasets", {})
    ]
    missing = [line.split()[1] for line in run.stdout.splitlines() if line.startswith("  missing")]
    assert missing == names
    assert run.stdout.splitlines()[-1].startswith(f"0 of {len(names)} data sets are ready below ")
    for source in downloads().values():
        assert all(command in run.stdout for command in source["prepare"])


def test_every_benchmark_says_how_to_get_it() -> None:
    assert set(downloads()) == {group_of(vocabulary) for vocabulary in registered_names()}
    words = ROOT.words["data"].words["prepare"].words
    for source in downloads().values():
        assert set(source) == {"download", "terms", "prepare"}
        for command in source["prepare"]:
            assert command.startswith("catrank data prepare ") and command.split()[3] in words


def test_images_with_label_maps(tmp_path: Path) -> None:
    folder = tmp_path / "VOCdevkit/VOC2012"
    for i in range(3):
        save(folder / f"JPEGImages/{i}.jpg", [[0]])
    assert statuses(tmp_path)["voc_2012_test_sem_seg"].lacking == (
        "VOCdevkit/VOC2012/annotations_detectron2/val",
    )
    for i in range(2, 5):
        save(folder / f"annotations_detectron2/val/{i}.png", [[0]])
    status = statuses(tmp_path)["voc_2012_test_sem_seg"]
    assert (status.state, status.found, status.published) == ("other", 1, 1449)
    for i in range(1449):
        (folder / f"JPEGImages/{i}.jpg").touch()
        (folder / f"annotations_detectron2/val/{i}.png").touch()
    assert statuses(tmp_path)["voc_2012_test_sem_seg"].state == "ready"
    assert statuses(tmp_path)["voc_2012_test_background_sem_seg"].state == "missing"


def test_panoptic_and_instances(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    save(folder / "val2017/1.jpg", [[0]])
    save(folder / "panoptic_val2017/1.png", [[0]])
    (folder / "annotations").mkdir()
    for name in ("panoptic_val2017", "instances_val2017"):
        (folder / f"annotations/{name}.json").touch()
    found = statuses(tmp_path)
    assert found["coco_2017_val_panoptic"].found == 1 == found["coco_2017_val"].found
    assert found["coco_2017_val_panoptic_with_sem_seg"].lacking == ("coco/panoptic_semseg_val2017",)


def test_videos(tmp_path: Path) -> None:
    folder = tmp_path / "VSPW_480p"
    for video, kinds in (("a", ("origin", "mask")), ("b", ("origin",)), ("c", ())):
        for kind in kinds:
            (folder / "data" / video / kind).mkdir(parents=True)
    (folder / "val.txt").write_text("a\nb\nc")
    (folder / "train.txt").write_text("../a")  # no name of a video
    (tmp_path / "ytvis_2019/train/JPEGImages/x").mkdir(parents=True)
    (tmp_path / "ytvis_2019/train.json").touch()
    scenes = tmp_path / "scenes-60/videos"
    (scenes / "data/x").mkdir(parents=True)
    (scenes / "train.json").write_text('{"videos": [{}, {}]}')
    (scenes / "test.json").write_text("damaged")
    found = statuses(tmp_path)
    assert found["scenes_60_video_train_instance"].found == 2
    assert found["scenes_60_video_test_instance"].state == "missing"
    assert (found["vspw_val"].found, found["vspw_val"].unit) == (1, "videos")
    assert found["vspw_train"].state == "missing"
    assert (found["ytvis_2019_train"].state, found["ytvis_2019_train"].found) == ("other", 1)


@pytest.mark.parametrize(
    ("lacking", "found", "published", "state", "text"),
    [
        ((), 5000, 5000, "ready", "5,000 of 5,000 images"),
        ((), 4, 5000, "other", "4 of 5,000 images"),
        ((), 4, None, "ready", "4 images"),
        ((), 0, None, "missing", "0 images"),
        (("a/b", "c"), 0, 9, "missing", "there is no a/b, nor 1 more"),
    ],
)
def test_what_is_said(
    lacking: tuple, found: int, published: int | None, state: str, text: str
) -> None:
    status = Status("name", "group", "images", found, published, lacking)
    assert (status.state, amount(status)) == (state, text)
    lines = describe([status], "Title", downloads()["voc20"], 10)
    assert (len(lines) == 2) == (state == "ready")


@pytest.mark.parametrize("videos", ["null", "7", '"x"', "[3]"])
def test_damaged_lists_of_videos_hold_none(tmp_path: Path, videos: str) -> None:
    folder = tmp_path / "scenes-60/videos"
    (folder / "data").mkdir(parents=True)
    (folder / "test.json").write_text(f'{{"videos": {videos}}}')
    assert statuses(tmp_path)["scenes_60_video_test_instance"].found == 0
