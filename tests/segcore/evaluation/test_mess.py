"""The scores of MESS: its evaluator's numbers, and its means over domains."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.evaluation import SemanticEvaluator
from segcore.evaluation.confusion import confusion_matrix, semantic_scores
from segcore.evaluation.mess import (
    aggregate,
    classes_of_interest,
    interest_scores,
    mess_datasets,
)
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary


def golden_spec(golden: Path, name: str) -> dict:
    return json.loads((golden / "evaluation" / name).read_text("utf-8"))


def count(folder: Path, images: list[dict], num_classes: int, ignore_label: int) -> torch.Tensor:
    """The confusion matrix of stored label maps."""
    total = 0
    for image in images:
        ground_truth = torch.from_numpy(read_labels(folder / image["gt"]).astype("int64"))
        ground_truth[ground_truth == ignore_label] = num_classes
        prediction = torch.from_numpy(read_labels(folder / image["pred"]).astype("int64"))
        total = total + confusion_matrix(prediction, ground_truth, num_classes)
    return total


@pytest.mark.parametrize("case", ["MESS_evaluator", "MESS_evaluator_binary"])
def test_golden_scores(golden: Path, case: str) -> None:
    whole = golden_spec(golden, "sem_seg.json")
    spec = whole[case]
    names = spec.get("classes", whole["classes"])
    images = spec.get("images", whole["images"])
    matrix = count(golden / "evaluation", images, len(names), whole["ignore_label"])
    scores = semantic_scores(matrix, names)
    scores |= interest_scores(matrix, spec["classes_of_interest"])
    expected = spec["result"]
    assert ("Sensitivity" in scores) == (len(names) == 2) == ("Sensitivity" in expected)
    for key in set(expected) & {"CoI-mIoU", "CoI-mACC", "Specificity", "Sensitivity", "fwIoU"}:
        assert scores[key] == pytest.approx(expected[key], abs=1e-9)
    assert scores["mIoU_union"] == pytest.approx(expected["mIoU"], abs=1e-9)


def test_a_class_of_interest_that_is_only_predicted() -> None:
    ground_truth, prediction = torch.tensor([[0, 0, 2, 2]]), torch.tensor([[0, 1, 2, 1]])
    matrix = confusion_matrix(prediction, ground_truth, 4)
    assert interest_scores(matrix, [1, 2]) == {"CoI-mIoU": 25.0, "CoI-mACC": 50.0}
    nothing = interest_scores(matrix, [3])
    assert all(map(math.isnan, nothing.values()))


def test_only_the_classes_of_a_benchmark_are_of_interest() -> None:
    assert classes_of_interest(Vocabulary.registered("mess_dram")) == tuple(range(11))
    assert classes_of_interest(Vocabulary.registered("ade20k_150")) is None
    assert classes_of_interest(Vocabulary.from_class_names(["a", "b"])) is None
    assert classes_of_interest(None) is None


@pytest.mark.parametrize(("name", "binary"), [("mess_suim", False), ("mess_chase_db1", True)])
def test_the_evaluator_knows_the_classes_of_interest(
    name: str, binary: bool, tmp_path: Path
) -> None:
    """Half of class 1 is predicted, and all of class 0."""
    for folder, value in (("images", 0), ("labels", [[0, 1], [0, 1]])):
        (tmp_path / folder).mkdir()
        pixels = np.broadcast_to(np.uint8(value), (2, 2))
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / folder / "a.png")
    folders = (tmp_path / "images", tmp_path / "labels")
    register_semantic_dataset("test_mess", *folders, name, image_suffix=".png")
    try:
        evaluator = SemanticEvaluator("test_mess")
        prediction = torch.tensor([[0, 1], [0, 0]])
        item = {"file_name": str(tmp_path / "images/a.png")}
        evaluator.process([item], [{"sem_seg_labels": prediction}])
        scores = evaluator.evaluate()["sem_seg"]
    finally:
        DatasetCatalog.remove("test_mess")
        MetadataCatalog.remove("test_mess")
    assert scores["CoI-mIoU"] == scores["CoI-mACC"] == 50
    assert [scores.get("Specificity"), scores.get("Sensitivity")] == (
        [100, 50] if binary else [None, None]
    )


def test_golden_means(golden: Path) -> None:
    spec = golden_spec(golden, "mess_aggregate.json")
    for model, inputs in spec["inputs"].items():
        found, exact = aggregate(inputs), dict(spec["exact"][model])
        assert found.mean == pytest.approx(exact.pop("Mean"), abs=1e-9)
        assert found.domains == pytest.approx(exact, abs=1e-9)
        assert not found.missing
        rounded = dict(spec["toolkit_per_dataset_2dp"][model])
        del rounded["Mean"]
        assert found.datasets == pytest.approx(rounded, abs=0.0051)


def test_golden_domains(golden: Path) -> None:
    spec = golden_spec(golden, "mess_aggregate.json")
    found = mess_datasets()
    assert {domain: set(of) for domain, of in found.items()} == {
        domain: set(titles) for domain, titles in spec["domains"].items()
    }
    assert set(found["Medical Sciences"]["PAXRay-4"]) == set(spec["paxray_parts"])


def test_what_is_missing() -> None:
    parts = mess_datasets()["Medical Sciences"]["PAXRay-4"]
    scores = {"suim_sem_seg_test": 30.0, "cwfid_sem_seg_test": 50.0, "ade20k_150": 0.0}
    found = aggregate(scores | {parts[0]: 10.0})
    assert found.datasets == {"SUIM": 30.0, "CWFID": 50.0}
    assert found.domains == {"Agriculture and Biology": 40.0} and found.mean == 40.0
    assert len(found.missing) == 22 and set(parts[1:]) < set(found.missing)
    assert aggregate(dict.fromkeys(parts, 10.0)).datasets == {"PAXRay-4": 10.0}
    with pytest.raises(UserError, match="none of the scores is of a whole data set of MESS"):
        aggregate({parts[0]: 1.0})
