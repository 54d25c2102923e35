"""Mask AP: the reference's numbers, no predictions, processes, and errors."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from pycocotools import mask as rle

from segcore.errors import UserError
from segcore.evaluation import InstanceEvaluator
from segcore.evaluation.instances import SCORES, InstanceGroundTruth
from segcore.outlines import encode_masks


@pytest.fixture
def register() -> Callable[[Path], str]:
    """Register an instance file under a free name, for one test."""
    name = "test_instances"

    def make(json_file: Path) -> str:
        ids = [entry["id"] for entry in json.loads(json_file.read_text("utf-8"))["categories"]]
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(
            json_file=str(json_file),
            thing_dataset_id_to_contiguous_id={id: i for i, id in enumerate(ids)},
        )
        return name

    yield make
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def prediction(
    masks: list[np.ndarray], scores: list[float], classes: list[int], size: tuple
) -> dict:
    stacked = np.stack(masks) if masks else np.zeros((0, *size))
    return {
        "instances": SimpleNamespace(
            pred_masks=torch.from_numpy(stacked > 0),
            scores=torch.tensor(scores, dtype=torch.float64),
            pred_classes=torch.tensor(classes, dtype=torch.int64),
        )
    }


def golden_predictions(folder: Path) -> list[tuple[dict, dict]]:
    """Return the stored detections as a model's outputs, in their order."""
    ground_truth = json.loads((folder / "gt.json").read_text("utf-8"))
    ours = {entry["id"]: i for i, entry in enumerate(ground_truth["categories"])}
    detections = json.loads((folder / "pred.json").read_text("utf-8"))
    pairs = []
    for image in ground_truth["images"]:
        mine = [each for each in detections if each["image_id"] == image["id"]]
        masks = [rle.decode(each["segmentation"]) for each in mine]
        scores, classes = [d["score"] for d in mine], [ours[d["category_id"]] for d in mine]
        size = image["height"], image["width"]
        pairs.append(({"image_id": image["id"]}, prediction(masks, scores, classes, size)))
    return pairs


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """One image with one object of category 7, the left half."""
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[..., :3] = True
    content = {
        "images": [{"id": 5, "height": 4, "width": 6}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 7,
                "iscrowd": 0,
                "area": 12,
                "segmentation": encode_masks(mask)[0],
            }
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    return tmp_path / "gt.json"


def half(classes: list[int], size: tuple[int, int] = (4, 6)) -> dict:
    mask = np.zeros(size)
    mask[:, :3] = 1
    return prediction([mask] * len(classes), [0.9] * len(classes), classes, size)


def test_golden_scores(golden: Path, register, tmp_path: Path) -> None:
    folder = golden / "evaluation" / "coco_ap"
    expected = json.loads((golden / "evaluation" / "coco_ap.json").read_text("utf-8"))
    evaluator = InstanceEvaluator(register(folder / "gt.json"), output_dir=tmp_path)
    for item, output in golden_predictions(folder):
        evaluator.process([item], [output])
    scores = evaluator.evaluate()["segm"]
    for name, value in expected["percent"].items():
        assert scores[name] == pytest.approx(value, abs=1e-9)
    for name, value in expected["AP_per_class_percent"].items():
        value = math.nan if value is None else value
        assert scores[f"AP-{name}"] == pytest.approx(value, abs=1e-9, nan_ok=True)
    report = json.loads((tmp_path / "instances_evaluation.json").read_text("utf-8"))
    assert report["scores"]["AP"] == scores["AP"] and report["scores"]["AP-empty"] is None


def test_golden_in_two_processes(golden: Path, register, monkeypatch) -> None:
    """Two processes, each with every other image, give the scores of one."""
    folder = golden / "evaluation" / "coco_ap"
    name, predictions = register(folder / "gt.json"), golden_predictions(folder)

    def run(part: slice) -> InstanceEvaluator:
        evaluator = InstanceEvaluator(name)
        for item, output in predictions[part]:
            evaluator.process([item], [output])
        return evaluator

    one, two = run(slice(None)).evaluate(), [run(slice(i, None, 2)) for i in range(2)]
    monkeypatch.setattr(comm, "gather", lambda _: [evaluator.state() for evaluator in two])
    assert str(two[0].evaluate()) == str(one)  # nan is not equal to itself
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert two[1].evaluate() is None


def test_a_perfect_prediction_and_reset(tiny: Path, register) -> None:
    evaluator = InstanceEvaluator(register(tiny))
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 5}], [half([1])])
        scores = evaluator.evaluate()["segm"]
        assert scores["AP"] == scores["AP-cat"] == scores["APs"] == pytest.approx(100)
        assert math.isnan(scores["AP-dog"]) and math.isnan(scores["APl"])


@pytest.mark.parametrize("classes", [[], [0]])
def test_a_class_that_no_query_predicts(tiny: Path, register, classes: list[int]) -> None:
    evaluator = InstanceEvaluator(register(tiny))
    evaluator.process([{"image_id": 5}], [half(classes)])
    scores = evaluator.evaluate()["segm"]
    assert scores["AP"] == scores["AP-cat"] == scores["AR100"] == 0
    assert set(SCORES) < set(scores)


def test_faults_of_the_model(tiny: Path, register) -> None:
    evaluator = InstanceEvaluator(register(tiny))
    with pytest.raises(UserError, match=r"an instance of class 2, which is not in .*gt\.json"):
        evaluator.process([{"image_id": 5}], [half([2])])
    with pytest.raises(UserError, match=r"\(4, 6\) in .*gt\.json, but the prediction has \(6, 4\)"):
        evaluator.process([{"image_id": 5}], [half([1], size=(6, 4))])
    with pytest.raises(UserError, match="has no image with the id 4"):
        evaluator.process([{"image_id": 4}], [half([1])])
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"category_id": 7',
            '"category_id": 8',
            r"annotations\[0\]: 'category_id' is 8, but has to",
        ),
        (
            '"category_id": 7',
            '"category_id": [7]',
            r"'category_id' is a list of 1, but has to be a",
        ),
        ('"image_id": 5', '"image_id": 6', r"annotations\[0\]: 'image_id' is 6, but has to be"),
        ('"area": 12', '"area": "12"', r"annotations\[0\]: 'area' is '12', but has to be a number"),
        ('"area": 12', '"area": 1e999', r"annotations\[0\]: 'area' is inf, but has to be a number"),
        ('"area": 12', '"area": NaN', "is not valid JSON: it holds NaN"),
        ('"area": 12', '"area": null', r"annotations\[0\]: 'area' is null, but has to be a number"),
        (
            '"area": 12',
            '"area": 12, "bbox": null',
            r"annotations\[0\]: 'bbox' is null, but has to be \[x",
        ),
        (
            '"iscrowd": 0',
            '"iscrowd": null',
            r"annotations\[0\]: 'iscrowd' is null, but has to be 0",
        ),
        ('"area": 12', '"area": 12, "area": 13', "the key 'area' occurs twice in the entry"),
        ("annotations", "notes", r"gt\.json has no 'annotations': add it"),
        ('"height": 4, ', "", r"gt\.json: images\[0\] has no 'height': add it"),
        (
            '"height": 4, ',
            '"height": 1e999, ',
            r"images\[0\]: 'height' is inf, but has to be a whole",
        ),
        (
            '"id": 7, "name"',
            '"id": 3, "name"',
            r"categories\[1\]: 'id' is 3, but has to be one that",
        ),
        (
            '"id": 7, "name"',
            '"id": "7", "name"',
            r"categories\[1\]: 'id' is '7', but has to be a wh",
        ),
        (
            '"size": [4, 6]',
            '"size": [6, 4]',
            r"annotations\[0\]: 'segmentation': the RLE has the size",
        ),
        ('"size": [4, 6]', '"size": [1e999, 6]', r"the RLE has the size \[inf, 6\], but the image"),
        ("{", "", "is not valid JSON"),
    ],
)
def test_faults_of_the_json_file(tiny: Path, old: str, new: str, message: str) -> None:
    text = tiny.read_text()
    assert old in text
    tiny.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        InstanceGroundTruth("it", tiny, {3: 0, 7: 1})


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "a polygon lies outside of its image of 6 x 4 pixels"),
        ([[0, 0, 4, 0, 4]], "a polygon is no list of pairs of numbers"),
        ([0, 0, 4, 0, 4, 4], "a polygon is no list of pairs of numbers"),
        ({"size": [2, 3], "counts": [6]}, "the RLE has the size"),
        ({"size": [4, 6], "counts": [5]}, "the RLE is damaged: it does not fill 4 x 6 pixels"),
        ({"size": [4, 6], "counts": "ZZZZZZZZ"}, "the RLE is damaged"),
        ({"size": [4, 6]}, "is neither a list of polygons nor an RLE"),
        ("a cat", "is neither a list of polygons nor an RLE"),
    ],
)
def test_outlines_are_checked_before_pycocotools_gets_them(
    tiny: Path, outline: object, message: str
) -> None:
    content = json.loads(tiny.read_text())
    content["annotations"][0]["segmentation"] = outline
    tiny.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"annotations\[0\]: 'segmentation'.*{message}"):
        InstanceGroundTruth("it", tiny, {3: 0, 7: 1})


@pytest.mark.parametrize(
    "ids",
    [(0, 1), (0, 0), (1, 1), (None, "x"), ([], {})],
    ids=["from 0", "all 0", "once an image", "odd", "odder"],
)
def test_ids_of_objects_do_not_matter(tmp_path: Path, register, ids: tuple) -> None:
    """In pycocotools the id 0 means "not matched", and equal ids replace each other."""
    box = [[0, 0, 3, 0, 3, 4, 0, 4]]
    content = {
        "images": [{"id": i, "height": 4, "width": 6} for i in range(2)],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"id": id, "image_id": i, "category_id": 7, "segmentation": box}
            for i, id in enumerate(ids)
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    evaluator = InstanceEvaluator(register(tmp_path / "gt.json"))
    evaluator.process([{"image_id": 0}, {"image_id": 1}], [half([0])] * 2)
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
    for entry in content["annotations"]:
        del entry["id"]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    evaluator = InstanceEvaluator("test_instances")
    evaluator.process([{"image_id": 0}, {"image_id": 1}], [half([0])] * 2)
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_objects_without_an_outline_are_left_out(tiny: Path, register, caplog) -> None:
    content = json.loads(tiny.read_text())
    (cat,) = content["annotations"]
    for outline in ([], None, [[0, 0, 3, 3]]):
        content["annotations"].append(cat | {"segmentation": outline, "bbox": [0, 0, 3, 3]})
    content["annotations"].append({k: v for k, v in cat.items() if k != "segmentation"})
    tiny.write_text(json.dumps(content))
    evaluator = InstanceEvaluator(register(tiny))
    evaluator.process([{"image_id": 5}], [half([1])])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
    assert caplog.text.count("gt.json: 4 of 5 objects have no outline") == 1


def test_areas(tmp_path: Path) -> None:
    """The file's, which determine the size ranges; without them the pixels of the outline."""
    entry = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]}
    content = {
        "images": [{"id": 1, "height": 4, "width": 6}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [entry, entry | {"area": 11.5}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    ground_truth = InstanceGroundTruth("it", tmp_path / "gt.json", {1: 0}).as_coco()
    assert [entry["area"] for entry in ground_truth.dataset["annotations"]] == [12, 11.5]


def test_image_ids_of_both_kinds(tmp_path: Path, register) -> None:
    content = {
        "images": [{"id": id, "height": 4, "width": 6} for id in ("5", 5, "a")],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [
            {"image_id": id, "category_id": 7, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]}
            for id in ("5", 5, "a")
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    evaluator = InstanceEvaluator(register(tmp_path / "gt.json"))
    evaluator.process([{"image_id": id} for id in (5, "a", "5")], [half([0])] * 3)
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_an_unknown_category(tiny: Path) -> None:
    """As in training, instead of counting as never found."""
    with pytest.raises(UserError, match=r"gt\.json has the category id 7, which is none of the 1"):
        InstanceGroundTruth("it", tiny, {3: 0})


def test_a_data_set_of_another_kind() -> None:
    with pytest.raises(UserError, match="has no instances: its metadata has no json_file"):
        InstanceEvaluator("ade20k_150_test_sem_seg")
