"""Mask AP: the reference's numbers, nothing predicted, processes, and faults."""

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
from pycocotools import mask as run_lengths

from segcore.errors import UserError
from segcore.evaluation import InstanceEvaluator
from segcore.evaluation.instances import SCORES, read_instances
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


def answer(masks: list[np.ndarray], scores: list[float], classes: list[int], size: tuple) -> dict:
    stacked = np.stack(masks) if masks else np.zeros((0, *size))
    return {
        "instances": SimpleNamespace(
            pred_masks=torch.from_numpy(stacked > 0),
            scores=torch.tensor(scores, dtype=torch.float64),
            pred_classes=torch.tensor(classes, dtype=torch.int64),
        )
    }


def golden_answers(folder: Path) -> list[tuple[dict, dict]]:
    """The stored detections as a model would have given them, in their order."""
    truth = json.loads((folder / "gt.json").read_text("utf-8"))
    ours = {entry["id"]: i for i, entry in enumerate(truth["categories"])}
    detections = json.loads((folder / "pred.json").read_text("utf-8"))
    pairs = []
    for image in truth["images"]:
        mine = [each for each in detections if each["image_id"] == image["id"]]
        masks = [run_lengths.decode(each["segmentation"]) for each in mine]
        scores, classes = [d["score"] for d in mine], [ours[d["category_id"]] for d in mine]
        size = image["height"], image["width"]
        pairs.append(({"image_id": image["id"]}, answer(masks, scores, classes, size)))
    return pairs


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """One picture with one object of category 7, the left half."""
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
    return answer([mask] * len(classes), [0.9] * len(classes), classes, size)


def test_golden_scores(golden: Path, register, tmp_path: Path) -> None:
    folder = golden / "evaluation" / "coco_ap"
    expected = json.loads((golden / "evaluation" / "coco_ap.json").read_text("utf-8"))
    evaluator = InstanceEvaluator(register(folder / "gt.json"), output_dir=tmp_path)
    for item, output in golden_answers(folder):
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
    """What two processes gather, each with every other picture, has the scores of one."""
    folder = golden / "evaluation" / "coco_ap"
    name, answers = register(folder / "gt.json"), golden_answers(folder)

    def run(part: slice) -> InstanceEvaluator:
        evaluator = InstanceEvaluator(name)
        for item, output in answers[part]:
            evaluator.process([item], [output])
        return evaluator

    one, two = run(slice(None)).evaluate(), [run(slice(i, None, 2)) for i in range(2)]
    monkeypatch.setattr(comm, "gather", lambda _: [evaluator.state() for evaluator in two])
    assert str(two[0].evaluate()) == str(one)  # nan is not equal to itself
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert two[1].evaluate() is None


def test_a_perfect_answer_and_reset(tiny: Path, register) -> None:
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
    with pytest.raises(UserError, match=r"an instance of class 2, which .*gt\.json does not know"):
        evaluator.process([{"image_id": 5}], [half([2])])
    with pytest.raises(UserError, match=r"\(4, 6\) in .*gt\.json, but the prediction has \(6, 4\)"):
        evaluator.process([{"image_id": 5}], [half([1], size=(6, 4))])
    with pytest.raises(UserError, match="has no picture with the id 4"):
        evaluator.process([{"image_id": 4}], [half([1])])
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"category_id": 7', '"category_id": 8', "object 1 has the category_id 8, which is not"),
        ('"image_id": 5', '"image_id": 6', "object 1 has the image_id 6, which is not"),
        ('"area": 12, ', "", r"gt\.json: object 1 has no 'area': add it"),
        ("annotations", "notes", "is no instance file of COCO's format: KeyError"),
        ('"height": 4, ', "", "is no instance file"),
        ("{", "", "is not valid JSON"),
    ],
)
def test_faults_of_the_json_file(tiny: Path, old: str, new: str, sentence: str) -> None:
    tiny.write_text(tiny.read_text().replace(old, new))
    with pytest.raises(UserError, match=sentence):
        read_instances(tiny)


def test_a_data_set_of_another_kind() -> None:
    with pytest.raises(UserError, match="has no instances: its metadata has no json_file"):
        InstanceEvaluator("ade20k_150_test_sem_seg")
