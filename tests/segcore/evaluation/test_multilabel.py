"""Multi-label scores: the reference's numbers, ground truth of each kind, processes."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from PIL import Image

from segcore.errors import UserError
from segcore.evaluation import MultilabelEvaluator, multilabel
from segcore.evaluation.multilabel import average_precision, multilabel_scores


@pytest.fixture
def register() -> Callable[..., str]:
    """Register dicts under a free name, for one test."""
    name = "test_multilabel"

    def make(items: list[dict], **metadata) -> str:
        DatasetCatalog.register(name, lambda: items)
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield make
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def golden_case(golden: Path) -> tuple[torch.Tensor, torch.Tensor, dict]:
    folder = golden / "evaluation"
    expected = json.loads((folder / "multilabel.json").read_text("utf-8"))
    with np.load(folder / "multilabel.npz") as arrays:
        scores = torch.from_numpy(arrays["logits"])
        present = torch.from_numpy(arrays["pixel_counts"]) > 0
    return scores, present, expected


def test_golden_scores(golden: Path) -> None:
    scores, present, expected = golden_case(golden)
    results = multilabel_scores(scores, present, [1, 5, 10, 20])
    image = 100 * expected["RankSeg_img_average_precision"]
    assert results["mAP-image"] == pytest.approx(image, abs=1e-4)
    by_class = 100 * expected["class_wise_mAP_not_from_the_reference"]
    assert results["mAP"] == pytest.approx(by_class, abs=1e-4)
    for k, values in expected["top_k"].items():
        assert results[f"recall@{k}"] == pytest.approx(100 * values["img_recall"], abs=1e-4)
        assert results[f"precision@{k}"] == pytest.approx(100 * values["img_precision"], abs=1e-4)


def test_golden_each_image(golden: Path) -> None:
    scores, present, expected = golden_case(golden)
    for ours, theirs in zip(average_precision(scores, present), expected["per_image"], strict=True):
        value = math.nan if theirs is None else theirs
        assert ours.item() == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_golden_in_two_processes(golden: Path, register, monkeypatch) -> None:
    scores, present, _ = golden_case(golden)
    items = [
        {
            "file_name": f"{i}.jpg",
            "segments_info": [{"category_id": int(c)} for c in row.nonzero()],
        }
        for i, row in enumerate(present)
    ]
    name = register(items)

    def run(part: slice) -> MultilabelEvaluator:
        evaluator = MultilabelEvaluator(name, top=(3, 20, 21))
        evaluator.process(items[part], [{"category_scores": row} for row in scores[part]])
        return evaluator

    one = run(slice(None)).evaluate()
    by_name = sorted(range(12), key=str)
    assert one["multilabel"] == multilabel_scores(scores[by_name], present[by_name], [3, 20])
    two = [run(slice(i, None, 2)) for i in range(2)]
    monkeypatch.setattr(comm, "gather", lambda _: [evaluator.state() for evaluator in two])
    assert two[0].evaluate() == one
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert two[1].evaluate() is None


def test_by_hand() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    present = torch.tensor([[True, False, True], [False, True, False]])
    results = multilabel_scores(scores, present, [1, 2, 4])
    assert results["mAP-image"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2)
    assert results["mAP"] == pytest.approx(100 * (1 + 1 + 1 / 2) / 3)
    assert results["recall@1"] == pytest.approx(75) and results["precision@2"] == 50
    assert "recall@4" not in results


def test_equal_scores_share_one_rank() -> None:
    positive = torch.tensor([[True, False, False, True]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        found = average_precision(torch.ones(1, 4), positive[:, order])
        assert found.item() == 0.5


def test_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 30, generator=generator)
    positive = torch.rand(9, 30, generator=generator) > 0.7
    whole = average_precision(scores, positive)
    monkeypatch.setattr(multilabel, "CHUNK", 2)
    assert torch.equal(average_precision(scores, positive), whole)


def test_nothing_is_present() -> None:
    results = multilabel_scores(torch.randn(2, 3), torch.zeros(2, 3, dtype=torch.bool), [1])
    assert math.isnan(results["mAP"]) and math.isnan(results["recall@1"])
    assert results["precision@1"] == 0


@pytest.mark.parametrize("kind", ["segments_info", "annotations", "label map"])
def test_ground_truth_of_each_kind(tmp_path: Path, register, kind: str) -> None:
    item = {"file_name": "a.jpg"}
    if kind == "label map":
        item["sem_seg_file_name"] = str(tmp_path / "a.png")
        Image.fromarray(np.array([[2, 255], [0, 0]], dtype=np.uint8)).save(tmp_path / "a.png")
    else:
        item[kind] = [{"category_id": c} for c in (2, 0, 0)]
    evaluator = MultilabelEvaluator(register([item], ignore_label=255), output_dir=tmp_path)
    evaluator.process([item], [{"category_scores": torch.tensor([3.0, 1.0, 2.0])}])
    scores = evaluator.evaluate()["multilabel"]
    assert scores == {
        "mAP": 100,
        "mAP-envelope": 100,
        "mAP-image": 100,
        "recall@1": 50,
        "precision@1": 100,
    }
    report = json.loads((tmp_path / "multilabel_evaluation.json").read_text("utf-8"))
    assert report["scores"] == scores
    with pytest.raises(UserError, match=r"holds the value 2|has class 2, but"):
        evaluator.process([item], [{"category_scores": torch.zeros(2)}])


def test_errors(register) -> None:
    evaluator = MultilabelEvaluator(register([{"file_name": "a.jpg"}]))
    output = {"category_scores": torch.zeros(3)}
    with pytest.raises(UserError, match="neither label maps nor segments nor annotations"):
        evaluator.process([{"file_name": "a.jpg"}], [output])
    with pytest.raises(UserError, match=r"b\.jpg is no image of dataset 'test_multilabel'"):
        evaluator.process([{"file_name": "b.jpg"}], [output])
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


@pytest.mark.parametrize("ties", [False, True])
def test_envelope_is_the_best_precision_at_later_ranks(ties: bool) -> None:
    """As computed one class after the other; equal scores share a rank."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand((5, 30), generator=draw)
    scores = (scores * 6).round() if ties else scores
    positive = torch.rand((5, 30), generator=draw) < 0.3
    found = average_precision(scores, positive, envelope=True)
    for row, mask, result in zip(scores, positive, found, strict=True):
        precision = {s: mask[row >= s].double().mean().item() for s in row.unique().tolist()}
        best = [max(precision[t] for t in precision if t <= s) for s in row[mask].tolist()]
        assert result.item() == pytest.approx(sum(best) / len(best), abs=1e-12)
