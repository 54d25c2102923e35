"""The scripts that prepare downloads, on downloads of a few small images."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from downloads import load, save
from PIL import Image

from segcore.annotations import read_annotations
from segcore.annotations.panoptic_png import PanopticFile, encode_ids
from segcore.datasets.instance import read_instance_records
from segcore.datasets.panoptic import read_panoptic_records
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.outlines import decode_mask
from segcore.vocabulary import Vocabulary, vocabulary_table

WALL, BED, CAR = 0, 7, 20  # ADE20K's class ids: stuff, and two things
BED_NUMBER, CAR_NUMBER = 1, 9  # their classes in the maps of instances


class TestADE20K:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """One image a split: a wall over the upper row, things below; two beds and a car."""
        folder = tmp_path / "ADEChallengeData2016"
        labels = [[1, 1, 1, 0], [8, 8, 21, 21], [8, 8, 21, 21]]
        numbers = [[0, 0, 0, 0], [1, 2, 3, 0], [1, 2, 3, 0]]
        red = [[0, BED_NUMBER, BED_NUMBER, CAR_NUMBER][number] for row in numbers for number in row]
        instances = np.zeros((3, 4, 3))
        instances[..., 0], instances[..., 1] = np.reshape(red, (3, 4)), numbers
        for split, stem in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
            save(folder / "images" / split / f"{stem}.jpg", np.zeros((3, 4, 3)))
            save(folder / "annotations" / split / f"{stem}.png", labels)
            save(folder / "annotations_instance" / split / f"{stem}.png", instances)
        return folder

    @pytest.fixture
    def module(self) -> ModuleType:
        return load("ade20k")

    def test_the_numbers_of_instances_are_those_of_the_table(self, module) -> None:
        classes = vocabulary_table("ade20k_panoptic_150")["classes"]
        assert len(module.THINGS) == 100 and set(module.THINGS) == set(range(1, 101))
        assert module.THINGS[BED_NUMBER] == BED and classes[BED]["name"] == "bed"
        assert module.THINGS[CAR_NUMBER] == CAR and classes[CAR]["name"] == "car"

    def test_label_maps(self, module, folder: Path) -> None:
        module.prepare(folder.parent, task="semantic", workers=1)
        labels = read_labels(folder / "annotations_detectron2/validation/ADE_val_1.png")
        assert labels.tolist() == [[0, 0, 0, 255], [7, 7, 20, 20], [7, 7, 20, 20]]
        assert not (folder / "ade20k_panoptic_val.json").exists()

    def test_segments(self, module, folder: Path) -> None:
        module.prepare(folder.parent, task="all", workers=1)
        file = PanopticFile(folder / "ade20k_panoptic_val.json", folder / "ade20k_panoptic_val")
        assert (len(file), len(file.categories)) == (1, 150)
        assert sum(category.isthing for category in file.categories.values()) == 100
        segments = file.segments("ADE_val_1")
        assert segments.ids.tolist() == [[1, 1, 1, 0], [2, 3, 4, 0], [2, 3, 4, 0]]
        assert segments.categories == {1: WALL, 2: BED, 3: BED, 4: CAR}
        assert [each.area for each in file.entry("ADE_val_1").segments] == [3, 2, 2, 2]
        listed = read_annotations(file.path)["annotations"][0]["segments_info"]
        assert listed[3]["bbox"] == [2, 1, 1, 2]

    def test_stuff_keeps_its_area_below_objects(self, module, folder: Path) -> None:
        path = folder / "annotations_instance/validation/ADE_val_1.png"
        pixels = np.asarray(Image.open(path)).copy()
        pixels[0, :3] = (BED_NUMBER, 9, 0)
        save(path, pixels)
        module.prepare(folder.parent, task="all", workers=1)
        segments = PanopticFile(
            folder / "ade20k_panoptic_val.json", folder / "ade20k_panoptic_val", listed_areas=True
        ).segments("ADE_val_1")
        assert segments.categories[1] == WALL and segments.areas[1] == 3
        assert 1 not in segments.ids and segments.index().max() == 5

    def test_a_second_run_goes_on_where_the_first_one_stopped(
        self, module, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def save_one(path: Path, content: object) -> None:
            if path.name == "ADE_train_2.json":
                raise KeyboardInterrupt
            write_json(path, content)

        write_json = module.write_json
        monkeypatch.setattr(module, "write_json", save_one)
        for kind in ("annotations", "annotations_instance"):
            source = folder / kind / "training/ADE_train_1.png"
            source.with_name("ADE_train_2.png").write_bytes(source.read_bytes())
        with pytest.raises(KeyboardInterrupt):
            module.prepare(folder.parent, task="all", workers=1)
        monkeypatch.setattr(module, "write_json", write_json)
        first = folder / "ade20k_panoptic_train/ADE_train_1.png"
        made = first.stat().st_mtime_ns
        module.prepare(folder.parent, task="all", workers=1)
        file = PanopticFile(folder / "ade20k_panoptic_train.json", first.parent)
        assert file.entry("ADE_train_1").segments == file.entry("ADE_train_2").segments
        assert first.stat().st_mtime_ns == made and not list(folder.glob("*.parts"))

        monkeypatch.setattr(module, "merge", None)  # nothing is left to do
        module.prepare(folder.parent, task="all", workers=1)

    def test_objects_have_the_images_of_the_panoptic_file(self, module, folder: Path) -> None:
        module.prepare(folder.parent, task="all", workers=1)
        content = read_annotations(folder / "ade20k_instance_val.json")
        assert [image["id"] for image in content["images"]] == ["ADE_val_1"]
        assert len(content["categories"]) == 100
        found = {entry["id"]: entry for entry in content["annotations"]}
        assert {id: entry["category_id"] for id, entry in found.items()} == {1: BED, 2: BED, 3: CAR}
        mask = decode_mask(found[3]["segmentation"], (3, 4), "the car")
        assert np.argwhere(mask).tolist() == [[1, 2], [2, 2]]

    def test_what_is_written_is_what_the_data_sets_read(self, module, folder: Path) -> None:
        module.prepare(folder.parent, task="all", workers=1)
        vocabulary = Vocabulary.registered("ade20k_panoptic_150")
        things = {i: i for i in range(150) if vocabulary.isthing[i]}
        stuff = {i: i for i in range(150) if not vocabulary.isthing[i]}
        images = folder / "images/training"
        (record,) = read_panoptic_records(
            "ade",
            images,
            folder / "ade20k_panoptic_train.json",
            folder / "ade20k_panoptic_train",
            things,
            stuff,
            folder / "annotations_detectron2/training",
        )
        for key in ("file_name", "pan_seg_file_name", "sem_seg_file_name"):
            assert Path(record[key]).is_file()
        assert [each["isthing"] for each in record["segments_info"]] == [False, True, True, True]
        ids = {theirs: ours for ours, theirs in enumerate(things)}
        (record,) = read_instance_records("ade", images, folder / "ade20k_instance_train.json", ids)
        assert [each["category_id"] for each in record["annotations"]] == [0, 0, ids[CAR]]

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.full((3, 4, 3), (101, 1, 0)), r"object 1 of .*ADE_train_1\.png has the classes"),
            (np.full((4, 3, 3), (1, 1, 0)), r"\(4, 3\), but the label map of the same name"),
            ([[[1, 1, 0], [2, 1, 0], [0, 0, 0], [0, 0, 0]]] * 3, r"has the classes \[1, 2\]"),
        ],
    )
    def test_faults(self, module, folder: Path, pixels: np.ndarray, message: str) -> None:
        save(folder / "annotations_instance/training/ADE_train_1.png", pixels)
        with pytest.raises(UserError, match=message):
            module.prepare(folder.parent, task="all", workers=1)
        assert not (folder / "ade20k_panoptic_train.json").exists()

    def test_missing_and_damaged_files(self, module, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"there is no folder .*annotations/training: unpack"):
            module.prepare(tmp_path / "elsewhere", task="all", workers=1)
        path = folder / "annotations_instance/training/ADE_train_1.png"
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(UserError, match=r"cannot read .*ADE_train_1\.png"):
            module.prepare(folder.parent, task="all", workers=1)
        path.unlink()
        with pytest.raises(UserError, match=r"no file at .*annotations_instance"):
            module.prepare(folder.parent, task="all", workers=1)

    def test_command_line(self, folder: Path, repository: Path) -> None:
        command = [sys.executable, repository / "datasets/prepare_ade20k.py", "--workers", "2"]
        command += ["--root", folder.parent]
        subprocess.run(command, check=True, capture_output=True, cwd=repository)
        assert (folder / "ade20k_instance_train.json").is_file()
        (folder / "annotations_detectron2/training/ADE_train_1.png").write_text("damaged")
        (folder / "annotations/training/ADE_train_1.png").write_text("no image")
        run = subprocess.run(command, capture_output=True, text=True, cwd=repository)
        assert run.returncode == 2
        assert run.stderr.splitlines()[-1].startswith("error: cannot read ")


class TestCOCO:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """One image of a person (1), a rug (200) and void; ids of three bytes."""
        folder = tmp_path / "coco"
        listed = [{"id": 70000, "category_id": 1}, {"id": 5, "category_id": 200}]
        content = {
            "images": [{"id": 9, "file_name": "9.jpg", "height": 2, "width": 2}],
            "annotations": [{"image_id": 9, "file_name": "9.png", "segments_info": listed}],
            "categories": [
                {"id": 1, "name": "person", "isthing": 1},
                {"id": 200, "name": "rug-merged", "isthing": 0},
            ],
        }
        (folder / "annotations").mkdir(parents=True)
        (folder / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
        save(folder / "panoptic_val2017/9.png", encode_ids(np.array([[70000, 0], [5, 5]])))
        return folder

    def test_label_maps(self, folder: Path) -> None:
        load("coco_panoptic").prepare(folder.parent, workers=1)
        labels = read_labels(folder / "panoptic_semseg_val2017/9.png")
        assert labels.tolist() == [[0, 255], [132, 132]] and labels.dtype == np.uint8

    def test_faults(self, folder: Path) -> None:
        module, path = load("coco_panoptic"), folder / "panoptic_val2017/9.png"
        save(path, encode_ids(np.array([[70000, 6], [5, 5]])))
        with pytest.raises(UserError, match=r"9\.png holds the segment id 6"):
            module.prepare(folder.parent, workers=1)
        json_file = folder / "annotations/panoptic_val2017.json"
        json_file.write_text(json_file.read_text().replace("200", "12"))
        with pytest.raises(UserError, match=r"panoptic_val2017\.json has the category id 12"):
            save(path, encode_ids(np.array([[70000, 0], [5, 5]])))
            module.prepare(folder.parent, workers=1)
        json_file.unlink()
        with pytest.raises(UserError, match=r"there is no .*panoptic_val2017\.json"):
            module.prepare(folder.parent, workers=1)

    def test_stuff(self, tmp_path: Path) -> None:
        module, folder = load("coco_stuff"), tmp_path / "coco-stuff"
        save(folder / "annotations/val2017/1.png", [[0, 181, 255, 11, 12]])  # 11 is unused
        module.prepare(tmp_path, workers=1)
        labels = read_labels(folder / "annotations_detectron2/val2017/1.png")
        assert labels.tolist() == [[0, 170, 255, 255, 11]]
        with pytest.raises(UserError, match=r"there is no .*annotations/val2017: unpack"):
            module.prepare(tmp_path / "elsewhere", workers=1)
