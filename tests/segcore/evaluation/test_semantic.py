"""Semantic scores: the reference's numbers, both conventions, processes, and errors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.config import default_config
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.evaluation import SemanticEvaluator, build_evaluator, confusion
from segcore.evaluation.builder import inference_folder
from segcore.evaluation.confusion import boundary_differences, confusion_matrix, semantic_scores
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary


@pytest.fixture
def register(request: pytest.FixtureRequest):
    """Register a data set under a free name, for one test."""
    name = f"test_{request.node.name}"

    def make(*args, **options) -> str:
        register_semantic_dataset(name, *args, image_suffix=".png", **options)
        return name

    yield make
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.fixture
def images(tmp_path: Path, register):
    """Two images with three classes; returns (data set, its dicts, label maps)."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    maps = []
    for i in range(2):
        labels = rng.integers(0, 3, (6, 8), dtype=np.uint8)
        labels[0] = 255
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.png")
        (tmp_path / "images" / f"{i}.png").touch()
        maps.append(labels)
    name = register(tmp_path / "images", tmp_path / "labels", ["a", "b", "c"])
    return name, DatasetCatalog.get(name), maps


def evaluate(evaluator: SemanticEvaluator, files: list[str], predictions: list) -> dict:
    evaluator.reset()
    for file, prediction in zip(files, predictions, strict=True):
        labels = torch.as_tensor(np.asarray(prediction).astype(np.int64))
        evaluator.process([{"file_name": file}], [{"sem_seg_labels": labels}])
    return evaluator.evaluate()["sem_seg"]


def assert_scores(scores: dict, expected: dict) -> None:
    """JSON null stands for nan."""
    for key, value in expected.items():
        assert scores[key] == pytest.approx(
            math.nan if value is None else value, abs=1e-9, nan_ok=True
        )


def run_golden(
    golden: Path, case: str, register, **options
) -> tuple[SemanticEvaluator, dict, dict]:
    folder = golden / "evaluation"
    spec = json.loads((folder / f"{case}.json").read_text("utf-8"))
    boundary = options.pop("boundary", False)
    vocabulary = Vocabulary.from_class_names(spec["classes"])
    name = register(folder / case / "pred", folder / case / "gt", vocabulary, **options)
    files = [str(folder / image["pred"]) for image in spec["images"]]
    evaluator = SemanticEvaluator(name, boundary=boundary)
    return evaluator, evaluate(evaluator, files, [read_labels(file) for file in files]), spec


def test_golden_scores_and_boundaries(golden: Path, register) -> None:
    evaluator, scores, spec = run_golden(golden, "sem_seg", register, boundary=True)
    assert evaluator._counts["regions"].tolist() == spec["confusion_matrix"]["values"]
    assert evaluator._counts["boundaries"].tolist() == spec["boundary_confusion_matrix"]
    assert_scores(scores, spec["detectron2_SemSegEvaluator"])
    older = spec["MESS_evaluator"]["result"]
    assert_scores(scores, {key: older[key] for key in ("fwIoU", "mACC", "pACC")})
    assert scores["mIoU_union"] == pytest.approx(older["mIoU"], abs=1e-9)


def test_golden_background_protocol(golden: Path, register) -> None:
    evaluator, scores, spec = run_golden(golden, "voc20b", register, background_from=20)
    assert evaluator._counts["regions"].tolist() == spec["confusion_matrix"]["values"]
    assert_scores(scores, spec["CAT_Seg_VOCbEvaluator"])


def test_scores_by_hand() -> None:
    ground_truth = torch.tensor([[0, 0, 0, 1, 1, 3]])  # 3 = ignored
    prediction = torch.tensor([[0, 0, 2, 1, 0, 1]])
    matrix = confusion_matrix(prediction, ground_truth, 3)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    scores = semantic_scores(matrix, ["a", "b", "c"])
    assert scores["IoU-a"] == pytest.approx(50) and scores["IoU-b"] == pytest.approx(50)
    assert math.isnan(scores["IoU-c"]) and math.isnan(scores["ACC-c"])
    assert scores["mIoU"] == pytest.approx(50)
    assert scores["mIoU_union"] == pytest.approx(100 / 3)
    assert scores["pACC"] == pytest.approx(60)
    assert scores["mACC"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)


def test_counting_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, ground_truth = torch.randint(0, 6, (2, 31, 17), generator=generator)
    whole = confusion_matrix(prediction, ground_truth, 5)
    assert whole.sum() == 31 * 17
    monkeypatch.setattr(confusion, "CHUNK", 10)
    assert torch.equal(confusion_matrix(prediction, ground_truth, 5), whole)


def test_boundary_of_a_square() -> None:
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[5:15, 5:15] = 3
    ring = boundary_differences(labels)
    assert ring.sum() == 3 * (100 - 64)  # one pixel wide
    assert ring[5, 5] == 3 and ring[6, 6] == 0
    assert boundary_differences(torch.ones(20, 20, dtype=torch.int64))[0].tolist() == [1] * 20


def test_scores_and_labels_are_taken_alike(images) -> None:
    name, items, _ = images
    generator = torch.Generator().manual_seed(0)
    predictions = [torch.rand(3, 6, 8, generator=generator) for _ in items]
    by_scores, by_labels = SemanticEvaluator(name), SemanticEvaluator(name)
    by_scores.process(items, [{"sem_seg": p} for p in predictions])
    by_labels.process(items, [{"sem_seg_labels": p.argmax(0)} for p in predictions])
    assert by_scores.evaluate() == by_labels.evaluate()


def test_perfect_prediction_and_report(images, tmp_path: Path) -> None:
    name, items, maps = images
    evaluator = SemanticEvaluator(name, output_dir=tmp_path / "out")
    files = [item["file_name"] for item in items]
    scores = evaluate(evaluator, files, [np.minimum(labels, 2) for labels in maps])
    assert scores["mIoU"] == scores["mIoU_union"] == scores["pACC"] == 100
    report = json.loads((tmp_path / "out" / "sem_seg_evaluation.json").read_text("utf-8"))
    assert report["num_images"] == 2
    assert report["vocabulary_hash"] == Vocabulary.load(["a", "b", "c"]).hash
    assert report["scores"]["mIoU"] == 100
    assert set(report["conventions"]) == {"mIoU", "mIoU_union"}


def test_scores_without_a_value_become_null(images, tmp_path: Path) -> None:
    name, items, _ = images
    labels = Path(items[0]["sem_seg_file_name"])
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(labels)
    evaluator = SemanticEvaluator(name, output_dir=tmp_path)
    scores = evaluate(evaluator, [items[0]["file_name"]], [np.zeros((6, 8))])
    assert math.isnan(scores["IoU-b"]) and scores["mIoU"] == 100
    report = json.loads((tmp_path / "sem_seg_evaluation.json").read_text("utf-8"))
    assert report["scores"]["IoU-b"] is None


def test_reset_forgets(images) -> None:
    name, items, maps = images
    evaluator = SemanticEvaluator(name)
    files = [item["file_name"] for item in items]
    first = evaluate(evaluator, files, [np.zeros((6, 8))] * 2)
    evaluate(evaluator, files, [np.minimum(labels, 2) for labels in maps])
    assert evaluate(evaluator, files, [np.zeros((6, 8))] * 2) == first


WORKER = """
import json, sys
import torch
from detectron2.data import DatasetCatalog
from segcore.datasets import register_semantic_dataset
from segcore.evaluation import SemanticEvaluator

folder, rank, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if size > 1:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=size)
register_semantic_dataset(
    "images", folder + "/images", folder + "/labels", ["a", "b", "c"], image_suffix=".png"
)
evaluator = SemanticEvaluator("images")
for i, item in enumerate(DatasetCatalog.get("images")):
    labels = torch.randint(0, 3, (6, 8), generator=torch.Generator().manual_seed(i))
    if i % size == rank:
        evaluator.process([item], [{"sem_seg_labels": labels}])
print(json.dumps(evaluator.evaluate()))
"""


def test_two_processes_give_the_scores_of_one(images, run_processes, tmp_path: Path) -> None:
    one, two = (run_processes(WORKER, tmp_path, size) for size in (1, 2))
    assert two == [*one, None]
    assert one[0]["sem_seg"]["mIoU"] > 0


def test_seen_and_unseen(tmp_path: Path, register) -> None:
    classes = [
        {"name": "a", "seen": True},
        {"name": "b", "seen": True},
        {"name": "c", "seen": False},
    ]
    vocabulary = tmp_path / "vocabulary.json"
    vocabulary.write_text(json.dumps({"classes": classes}))
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.array([[0, 0, 1, 2, 2, 2]], dtype=np.uint8)).save(tmp_path / "labels/0.png")
    (tmp_path / "images/0.png").touch()
    name = register(tmp_path / "images", tmp_path / "labels", vocabulary)
    file = DatasetCatalog.get(name)[0]["file_name"]
    scores = evaluate(SemanticEvaluator(name), [file], [[[0, 0, 1, 2, 0, 0]]])
    seen, unseen = (50 + 100) / 2, 100 / 3
    assert scores["mIoU-seen"] == pytest.approx(seen)
    assert scores["mIoU-unseen"] == pytest.approx(unseen)
    assert scores["hIoU"] == pytest.approx(2 * seen * unseen / (seen + unseen))
    assert scores["mIoU-closed"] == 100, "the pixels of c are ignored"
    scores = evaluate(SemanticEvaluator(name), [file], [[[2, 2, 2, 0, 0, 0]]])
    assert scores["hIoU"] == 0
    assert scores["mIoU-closed"] == 0, "an unseen class for pixels of seen ones is wrong"


def test_faults_of_files(images) -> None:
    name, items, _ = images
    evaluator, item = SemanticEvaluator(name), items[0]

    def process(shape: tuple[int, int]) -> None:
        evaluator.process([item], [{"sem_seg_labels": torch.zeros(shape, dtype=torch.int64)}])

    with pytest.raises(UserError, match=r"labels/0\.png has \(height, width\) \(6, 8\)"):
        process((8, 6))
    path = Path(item["sem_seg_file_name"])
    Image.fromarray(np.full((6, 8), 3, dtype=np.uint8)).save(path)
    with pytest.raises(UserError, match=r"labels/0\.png holds the value 3"):
        process((6, 8))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .*labels/0\.png"):
        process((6, 8))
    with pytest.raises(UserError, match="is no image of dataset"):
        evaluator.process([{"file_name": "x"}], [{"sem_seg_labels": torch.zeros(6, 8).long()}])


def test_faults_of_the_model(images) -> None:
    name, items, _ = images
    evaluator = SemanticEvaluator(name)
    with pytest.raises(UserError, match=r"scores 4 classes, but .* has 3"):
        evaluator.process(items[:1], [{"sem_seg": torch.rand(4, 6, 8)}])
    with pytest.raises(UserError, match="predicts class 3, but"):
        evaluator.process(items[:1], [{"sem_seg_labels": torch.full((6, 8), 3)}])
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


def test_a_folder_that_cannot_be_written(images, tmp_path: Path) -> None:
    name, items, _ = images
    (tmp_path / "file").touch()
    evaluator = SemanticEvaluator(name, output_dir=tmp_path / "file")
    with pytest.raises(UserError, match="cannot write"):
        evaluate(evaluator, [items[0]["file_name"]], [np.zeros((6, 8))])


def test_boundary_needs_few_classes() -> None:
    with pytest.raises(UserError, match="less than 255"):
        SemanticEvaluator("context_459_test_sem_seg", boundary=True)


def test_build_evaluator(tmp_path: Path) -> None:
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    for name in ("ade20k_150_test_sem_seg", "voc_2012_test_background_sem_seg"):
        evaluator = build_evaluator(cfg, name)
        assert isinstance(evaluator, SemanticEvaluator)
        assert evaluator.output_dir == tmp_path / "inference" / name
    with pytest.raises(UserError, match="nearest registered one is 'ade20k_150_test_sem_seg'"):
        build_evaluator(cfg, "ade20k_150_test")


def test_build_evaluator_with_a_section_of_another_family(tmp_path: Path) -> None:
    """As if CAT-Seg alone is imported, whose configs set one key of ``MODEL.MASK_FORMER``."""
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.MODEL.MASK_FORMER = CfgNode({"SIZE_DIVISIBILITY": 32})
    assert isinstance(build_evaluator(cfg, "ade20k_150_test_sem_seg"), SemanticEvaluator)


def test_no_name_leads_to_another_folder(tmp_path: Path) -> None:
    """A data set can be registered under any name."""
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    assert inference_folder(cfg, "a_b") == tmp_path / "inference" / "a_b"
    for name in ("../../outside", "/tmp/x", "a" * 256):
        with pytest.raises(UserError, match="the name of a data set"):
            inference_folder(cfg, name)


def test_build_evaluator_of_an_unknown_type(register) -> None:
    name = register("none", "none", ["a"], evaluator_type="panoptic_of_tomorrow")
    with pytest.raises(UserError, match="has the evaluator type 'panoptic_of_tomorrow'"):
        build_evaluator(default_config(), name)


def test_chance_is_that_of_random_labels() -> None:
    """Compared with random labels, of frequencies 1/2, 3/10, 1/5 and an absent class."""
    generator = torch.Generator().manual_seed(0)
    ground_truth = torch.tensor([0] * 5 + [1] * 3 + [2] * 2).repeat(60_000)[None]
    drawn = torch.randint(0, 4, ground_truth.shape, generator=generator)
    matrix = confusion_matrix(drawn, ground_truth, 4)
    scores = semantic_scores(matrix, list("abcd"))
    assert confusion.chance_miou(matrix) == pytest.approx(scores["mIoU"], abs=0.1)
    equal = confusion_matrix(ground_truth, torch.arange(10).repeat(60_000)[None], 10)
    assert confusion.chance_miou(equal) == pytest.approx(100 / 19)


def test_results_below_chance_get_a_warning(images, caplog) -> None:
    ground_truth = torch.tensor([[0, 1], [2, 2]])
    wrong = confusion_matrix((ground_truth + 1) % 3, ground_truth, 3)
    flat = confusion_matrix(torch.full_like(ground_truth, 2), ground_truth, 3)
    assert confusion.only_prediction(wrong) is None and confusion.only_prediction(flat) == 2
    assert (
        confusion.only_prediction(confusion_matrix(ground_truth * 0, ground_truth * 0, 3)) is None
    )
    evaluator = SemanticEvaluator(images[0], distributed=False)
    remark = evaluator._remark
    size = evaluator.num_classes
    ground_truth = torch.arange(size)[None]
    remark(confusion_matrix(ground_truth, ground_truth, size), 100.0)
    assert not caplog.text
    remark(confusion_matrix((ground_truth + 1) % size, ground_truth, size), 0.0)
    assert "is below that of random labels" in caplog.text
    caplog.clear()
    remark(confusion_matrix(ground_truth * 0, ground_truth, size), 99.0)
    assert "every pixel is predicted to be" in caplog.text
