"""Files of annotations with one thing changed: each reader refuses them with one message, or
training and scoring read the same from them.

The ground truth of a training record is evaluated as a prediction: its scores have to be 100.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.annotations.panoptic_png import segments_of_record
from segcore.datasets.custom import register_custom_file
from segcore.datasets.instance import read_instance_records
from segcore.datasets.panoptic import read_panoptic_records
from segcore.datasets.tracks import read_track_records
from segcore.datasets.video_semantic import read_videos
from segcore.errors import UserError, holds_control
from segcore.evaluation import InstanceEvaluator, PanopticEvaluator, VideoInstanceEvaluator
from segcore.outlines import draw_outline, encode_masks
from segcore.scenes import SCENES_60, Settings, VideoSettings, write_scenes, write_videos

sys.path.insert(0, str(Path(__file__).parent))
from mutations import NASTY, RAW, mutants

NUMBER = 2751
NAME = "test_mutations"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, SCENES_60, Settings(num_train=0, num_test=2, size=32), panoptic=True)
    write_videos(root, SCENES_60, VideoSettings(0, 1, num_frames=2, size=32))
    return root / "scenes-60"


@pytest.fixture
def metadata():
    """Of a registered data set, forgotten after the test."""
    DatasetCatalog.register(NAME, list)
    yield MetadataCatalog.get(NAME)
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def read_document(path: Path) -> tuple[dict, dict[int, int]]:
    """Return a file with three annotations at most, and with the categories that these have.

    pycocotools is slow for many categories.
    """
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:2] + content["annotations"][2:][-1:]
    used = {entry.get("category_id") for entry in content["annotations"]} | {
        segment["category_id"]
        for entry in content["annotations"]
        for segment in entry.get("segments_info", ())
    }
    content["categories"] = [each for each in content["categories"] if each["id"] in used]
    ids = {each["id"]: number for number, each in enumerate(content["categories"])}
    return content, ids


def survive(path: Path, document: dict, use: Callable[[], object], seed: int) -> None:
    """Read every mutant: it is valid, or raises one message that names the file."""
    path.write_text(json.dumps(document))
    use()
    failures, refused = [], 0
    for what, text in mutants(document, NUMBER, seed):
        path.write_text(text)
        try:
            use()
        except UserError as error:
            refused += 1
            named = path.name in str(error) or str(path.parent) in str(error)
            if holds_control(str(error)) or not named:
                failures.append(f"{what}: message {error!r}")
        except Exception as error:
            failures.append(f"{what}: {type(error).__name__} {str(error)[:200]}")
    assert not failures, f"{len(failures)} of {NUMBER}: " + "\n".join(failures[:20])
    assert NUMBER / 4 < refused < NUMBER


@pytest.mark.slow
def test_instances(scenes: Path, metadata, tmp_path: Path) -> None:
    document, ids = read_document(scenes / "test/instances.json")
    first, second = document["annotations"][:2]
    first["segmentation"] = [[3, 4, 20, 4, 20, 25, 3, 25], [1, 1, 2, 2]]
    second["segmentation"] = {"size": [32, 32], "counts": [100, 30, 2, 30, 862]}
    path = tmp_path / "instances.json"
    metadata.set(json_file=str(path), thing_dataset_id_to_contiguous_id=ids)

    def use() -> None:
        records = read_instance_records(NAME, scenes / "test/images", path, ids)
        evaluator = InstanceEvaluator(NAME, distributed=False)
        visible = True
        for record in records:
            size = record["height"], record["width"]
            objects = [entry for entry in record["annotations"] if not entry["iscrowd"]]
            masks = [draw_outline(entry["segmentation"], size, "it") for entry in objects]
            visible &= all(mask.any() for mask in masks)
            found = SimpleNamespace(
                pred_masks=torch.zeros(len(masks), *size, dtype=torch.bool),
                scores=torch.ones(len(masks)),
                pred_classes=torch.tensor([entry["category_id"] for entry in objects]),
            )
            for number, mask in enumerate(masks):
                found.pred_masks[number] = torch.from_numpy(mask)
            evaluator.process([record], [{"instances": found}])
        if records and visible:
            score = evaluator.evaluate()["segm"]["AP"]
            assert math.isnan(score) or score == pytest.approx(100), score

    survive(path, document, use, seed=1)


@pytest.mark.slow
def test_panoptic(scenes: Path, metadata, tmp_path: Path) -> None:
    document, ids = read_document(scenes / "test/panoptic.json")
    path, folder = tmp_path / "panoptic.json", tmp_path / "png"
    folder.symlink_to(scenes / "test/panoptic")
    kinds = {each["id"]: bool(each["isthing"]) for each in document["categories"]}
    things = {theirs: ours for theirs, ours in ids.items() if kinds[theirs]}
    stuff = {theirs: ours for theirs, ours in ids.items() if not kinds[theirs]}
    metadata.set(
        panoptic_json=str(path),
        panoptic_root=str(folder),
        thing_dataset_id_to_contiguous_id=things,
        stuff_dataset_id_to_contiguous_id=stuff,
    )

    def use() -> None:
        records = read_panoptic_records(NAME, scenes / "test/images", path, folder, things, stuff)
        evaluator = PanopticEvaluator(NAME, distributed=False)
        for record in records:
            segments = segments_of_record(record)
            segments.index()
            keys = ("id", "category_id", "isthing")
            listed = [{key: each[key] for key in keys} for each in record["segments_info"]]
            output = {"panoptic_seg": (torch.from_numpy(segments.ids), listed)}
            evaluator.process([record], [output])
        if records:
            score = evaluator.evaluate()["panoptic_seg"]["PQ"]
            assert math.isnan(score) or score == pytest.approx(100), score

    survive(path, document, use, seed=2)


@pytest.mark.slow
def test_tracks(scenes: Path, metadata, tmp_path: Path) -> None:
    document, ids = read_document(scenes / "videos/test.json")
    document["annotations"][0]["segmentations"][0] = [[3, 4, 20, 4, 20, 25, 3, 25]]
    path = tmp_path / "tracks.json"
    metadata.set(
        json_file=str(path),
        thing_classes=[each["name"] for each in document["categories"]],
        thing_dataset_id_to_contiguous_id=ids,
    )

    def use() -> None:
        records = read_track_records(NAME, scenes / "videos/data", path, ids)
        evaluator = VideoInstanceEvaluator(NAME, distributed=False)
        visible = True
        for record in records:
            size, tracks = (record["height"], record["width"]), {}
            nothing = torch.zeros(record["length"], *size, dtype=torch.bool)
            for frame, objects in enumerate(record.get("frame_annotations", ())):
                for entry in objects:
                    key = (entry["id"], entry["category_id"], entry["iscrowd"])
                    mask = draw_outline(entry["segmentation"], size, "it")
                    visible &= bool(mask.any())
                    tracks.setdefault(key, nothing.clone())[frame] = torch.from_numpy(mask.copy())
            tracks = {key: masks for key, masks in tracks.items() if not key[2]}
            output = {
                "pred_scores": [1.0] * len(tracks),
                "pred_labels": [category for _, category, _ in tracks],
                "pred_masks": [encode_masks(masks) for masks in tracks.values()],
            }
            evaluator.process([record], [output])
        scores = evaluator.evaluate()
        if scores and visible and all(map(_is_seen, document_tracks(path))):
            score = scores["segm"]["AP"]
            assert math.isnan(score) or score == pytest.approx(100), score

    survive(path, document, use, seed=3)


def document_tracks(path: Path) -> list[dict]:
    return json.loads(path.read_text())["annotations"]


def _is_seen(track: dict) -> bool:
    """Whether a track has an outline: one without counts as never found."""
    return any(
        isinstance(each, dict) or any(len(polygon) >= 6 for polygon in each or ())
        for each in track["segmentations"]
    )


def test_lists_of_videos(scenes: Path, tmp_path: Path) -> None:
    folders = [f"{scenes}/videos/data/<video>/{kind}" for kind in ("origin", "mask")]
    names = [each for each in (*NASTY, *RAW.values()) if isinstance(each, str)]
    path = tmp_path / "test.txt"
    for number, name in enumerate(names):
        for lines in (name, f"test_0000\n{name}", f"{name}\r\ntest_0000\n\n", f"  {name}\t\n"):
            path.write_bytes(lines.encode("utf-8", "surrogatepass"))
            try:
                videos = read_videos("it", path, *folders)
            except UserError as error:
                assert not holds_control(str(error)) and len(str(error)) < 800, number
            else:
                assert [video["video_id"] for video in videos] == ["test_0000"], number


def test_descriptions_of_custom_datasets(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folders = {"images": str(scenes / "test/images"), "labels": str(scenes / "test/labels")}
    document = {
        "name": "pets",
        "classes": ["grass", "cat, kitten", {"name": "dog", "color": [1, 2, 3]}],
        "ignore_label": 255,
        "datasets": {
            "own_a": folders,
            "own_b": folders | {"image_suffix": ".png", "label_suffix": ".png"},
        },
    }
    (tmp_path / "a/b/c/d").mkdir(parents=True)  # so that ".." and "~" are small folders
    path = tmp_path / "a/b/c/d/pets.json"
    before = set(DatasetCatalog.list())

    def use() -> None:
        try:
            for name in register_custom_file(path):
                assert len(DatasetCatalog.get(name)) == 2
        except UserError as error:
            # For a missing folder the message names the data set and the folder.
            raise UserError(f"{path}: {error}" if "dataset '" in str(error) else error) from error
        finally:
            for name in set(DatasetCatalog.list()) - before:
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)

    survive(path, document, use, seed=4)
