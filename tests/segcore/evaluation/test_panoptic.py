"""Panoptic quality: the reference's numbers, its rules one by one, processes, and errors."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.annotations.panoptic_png import PanopticFile, Segments, read_segment_ids
from segcore.errors import UserError
from segcore.evaluation import PanopticEvaluator
from segcore.evaluation.panoptic_quality import UNIT, Counts, add_counts, count_segments

sys.path.insert(0, str(Path(__file__).parent))
import panoptic_run


@pytest.fixture
def register() -> Callable[[Path, Path], str]:
    """Register a panoptic JSON and its folder under a free name, for one test."""
    yield lambda json_file, folder: panoptic_run.register("test_panoptic", json_file, folder)
    DatasetCatalog.remove("test_panoptic")
    MetadataCatalog.remove("test_panoptic")


def segments(rows: list[list[int]], categories: dict[int, int], **options) -> Segments:
    return Segments(np.array(rows, dtype=np.int64), categories, **options)


def write_png(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = [ids >> shift & 255 for shift in (0, 8, 16)]
    Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A data set of two images: thing 7 and stuff 9, ids of three bytes."""
    annotations = []
    for i in range(2):
        write_png(tmp_path / "png" / f"{i}.png", np.array([[70000, 70000, 0], [5, 5, 5]]))
        listed = [{"id": 70000, "category_id": 7}, {"id": 5, "category_id": 9, "iscrowd": 0}]
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": listed})
    categories = [{"id": 7, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
    content = {"annotations": annotations, "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    return tmp_path


PERFECT = (
    torch.tensor([[1, 1, 0], [2, 2, 2]]),
    [
        {"id": 1, "category_id": 0, "isthing": True},
        {"id": 2, "category_id": 1, "isthing": False},
    ],
)


def test_golden_scores_and_counts(golden: Path, register, tmp_path: Path) -> None:
    folder = golden / "evaluation" / "panoptic"
    expected = json.loads((golden / "evaluation" / "panoptic.json").read_text("utf-8"))
    name = register(folder / "gt.json", folder / "gt")
    evaluator = PanopticEvaluator(name, output_dir=tmp_path)
    for item, output in panoptic_run.predictions(folder):
        evaluator.process([item], [output])
    for category, counts in expected["counts_per_class"].items():
        ours = evaluator._counts.get(int(category), Counts())
        assert (ours.tp, ours.fp, ours.fn) == tuple(counts[key] for key in ("tp", "fp", "fn"))
        assert ours.sum_iou == pytest.approx(counts["sum_iou"], rel=1e-15)
    scores = evaluator.evaluate()["panoptic_seg"]
    for group, suffix in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
        for key in ("pq", "sq", "rq"):
            value = 100 * expected["panopticapi"][group][key]
            assert scores[key.upper() + suffix] == pytest.approx(value, rel=1e-14)
    report = json.loads((tmp_path / "panoptic_evaluation.json").read_text("utf-8"))
    assert report["scores"] == scores and report["num_images"] == 4
    per_class = expected["panopticapi"]["per_class"]
    assert report["categories"]["thing_c"]["PQ"] == pytest.approx(100 * per_class["3"]["pq"])
    assert "thing_unseen" not in report["categories"]


def test_golden_each_image(golden: Path) -> None:
    folder = golden / "evaluation" / "panoptic"
    expected = json.loads((golden / "evaluation" / "panoptic.json").read_text("utf-8"))
    ground_truth = PanopticFile(folder / "gt.json", folder / "gt")
    predicted = json.loads((folder / "pred.json").read_text("utf-8"))["annotations"]
    for entry, counts in zip(predicted, expected["counts_per_image"], strict=True):
        categories = {each["id"]: each["category_id"] for each in entry["segments_info"]}
        ids = read_segment_ids(folder / "pred" / entry["file_name"])
        found = count_segments(Segments(ids, categories), ground_truth.segments(entry["image_id"]))
        for category, each in counts.items():
            ours = found.get(int(category), Counts())
            assert (ours.tp, ours.fp, ours.fn) == (each["tp"], each["fp"], each["fn"])
            assert ours.sum_iou == pytest.approx(each["sum_iou"], rel=1e-15)


def test_equal_to_panopticapi(tmp_path: Path) -> None:
    """On images of random segments, if panopticapi is installed."""
    evaluation = pytest.importorskip(
        "panopticapi.evaluation", reason="panopticapi is not installed: it is the cross-check"
    )
    rng = np.random.default_rng(0)
    categories = {i: {"id": i, "name": str(i), "isthing": i % 2} for i in range(1, 6)}
    listed = {"gt": [], "pred": []}
    for image in range(8):
        ground_truth = rng.integers(0, 9, (8, 8)).repeat(5, axis=0).repeat(5, axis=1)
        noise = rng.random(ground_truth.shape) < 0.2
        maps = {
            "gt": ground_truth,
            "pred": np.where(noise, rng.integers(0, 9, ground_truth.shape), ground_truth),
        }
        for kind, ids in maps.items():
            write_png(tmp_path / kind / f"{image}.png", ids)
            segments = [
                {
                    "id": int(i),
                    "category_id": int(i) % 5 + 1,
                    "area": int((ids == i).sum()),
                    "iscrowd": int(kind == "gt" and i == 8),
                }
                for i in np.unique(ids)
                if i
            ]
            if kind == "gt":  # stuff below objects: all of it, and a part
                segments[0]["area"] += 7
                segments.append({"id": 99, "category_id": 2, "area": 30, "iscrowd": 0})
            entry = {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
            listed[kind].append(entry)
    theirs = evaluation.pq_compute_single_core(
        0,
        list(zip(listed["gt"], listed["pred"], strict=True)),
        tmp_path / "gt",
        tmp_path / "pred",
        categories,
    )
    (tmp_path / "gt.json").write_text(
        json.dumps({"annotations": listed["gt"], "categories": list(categories.values())})
    )
    ground_truth = PanopticFile(tmp_path / "gt.json", tmp_path / "gt", listed_areas=True)
    parts = []
    for entry in listed["pred"]:
        known = {each["id"]: each["category_id"] for each in entry["segments_info"]}
        ids = read_segment_ids(tmp_path / "pred" / entry["file_name"])
        parts.append(count_segments(Segments(ids, known), ground_truth.segments(entry["image_id"])))
    ours = add_counts(parts)
    for category in categories:
        stat = theirs[category]
        assert (stat.tp, stat.fp, stat.fn) == (
            ours[category].tp,
            ours[category].fp,
            ours[category].fn,
        )
        assert ours[category].sum_iou == pytest.approx(stat.iou, rel=1e-14)


def test_stuff_below_objects_is_missed() -> None:
    ground_truth = segments([[1, 1]], {1: 7, 5: 9}, coverable=frozenset([5]))
    found = count_segments(segments([[1, 1]], {1: 7}), ground_truth)
    assert found == {7: Counts(tp=1, iou_units=2**53), 9: Counts(fn=1)}


@pytest.mark.parametrize("area", [0, 1, 5, 10**6])
def test_areas_are_those_of_the_map(tiny: Path, register, area: int) -> None:
    content = json.loads((tiny / "gt.json").read_text())
    for entry in content["annotations"]:
        for segment in entry["segments_info"]:
            segment["area"] = area
    (tiny / "gt.json").write_text(json.dumps(content))
    evaluator = PanopticEvaluator(register(tiny / "gt.json", tiny / "png"))
    evaluator.process([{"image_id": 0}], [{"panoptic_seg": PERFECT}])
    assert set(evaluator.evaluate()["panoptic_seg"].values()) == {100}


def test_ade20k_lists_stuff_as_it_was_below_objects(tiny: Path, register) -> None:
    """Its published scores are of these areas; other areas are refused."""
    name = register(tiny / "gt.json", tiny / "png")
    MetadataCatalog.get(name).__dict__["evaluator_type"] = "ade20k_panoptic_seg"

    def quality(area: int) -> float:
        content = json.loads((tiny / "gt.json").read_text())
        for segment in content["annotations"][0]["segments_info"]:
            segment["area"] = area  # of the cat, 2 pixels, it does not count
        (tiny / "gt.json").write_text(json.dumps(content))
        evaluator = PanopticEvaluator(name)
        evaluator.process([{"image_id": 0}], [{"panoptic_seg": PERFECT}])
        scores = evaluator.evaluate()["panoptic_seg"]
        assert scores["PQ_th"] == 100
        return scores["PQ_st"]

    assert quality(3) == 100 and quality(5) == pytest.approx(60)
    for area in (2, 7):
        with pytest.raises(UserError, match=rf"0\.png has 3 pixels of the .*id 5.*area {area}"):
            quality(area)


def test_an_iou_of_one_half_is_no_match() -> None:
    ground_truth = segments([[1, 1, 1, 0]], {1: 7})
    found = count_segments(segments([[2, 2, 0, 0]], {2: 7}), ground_truth)
    assert found == {7: Counts(tp=1, iou_units=round(2 / 3 / UNIT))}
    found = count_segments(
        segments([[2, 2, 2, 2, 2, 2]], {2: 7}), segments([[1] * 3 + [3] * 3], {1: 7, 3: 8})
    )
    assert found == {7: Counts(fp=1, fn=1), 8: Counts(fn=1)}


def test_void_is_in_no_union_and_excuses_more_than_half() -> None:
    ground_truth = segments([[0, 0, 0, 1, 1, 1]], {1: 7})
    whole = segments([[2, 2, 2, 2, 2, 2]], {2: 7})
    assert count_segments(whole, ground_truth) == {7: Counts(tp=1, iou_units=2**53)}
    excused = segments([[3, 3, 3, 3, 0, 0]], {3: 8})
    assert count_segments(excused, ground_truth) == {7: Counts(fn=1)}
    half = segments([[0, 0, 3, 3, 0, 0]], {3: 8})
    assert count_segments(half, ground_truth) == {8: Counts(fp=1), 7: Counts(fn=1)}


def test_a_crowd_excuses_its_own_category() -> None:
    ground_truth = segments([[4, 4, 4, 4]], {4: 7}, crowds=frozenset([4]))
    assert count_segments(segments([[1, 1, 0, 0]], {1: 7}), ground_truth) == {}
    assert count_segments(segments([[1, 1, 0, 0]], {1: 8}), ground_truth) == {8: Counts(fp=1)}
    assert count_segments(segments([[0, 0, 0, 0]], {}), ground_truth) == {}


def test_no_prediction_and_no_ground_truth() -> None:
    nothing, one = segments([[0, 0]], {}), segments([[0, 3]], {3: 7})
    assert count_segments(nothing, nothing) == {}
    assert count_segments(nothing, one) == {7: Counts(fn=1)}
    assert count_segments(one, nothing) == {}  # all of it in void
    assert math.isnan(Counts().quality["PQ"])


def test_sums_of_ious_are_exact() -> None:
    """Sums of doubles would lose small differences, and depend on the order."""
    ious = [2 / 3, 0.9, 5 / 7] * 1000
    total = add_counts({0: Counts(tp=1, iou_units=round(iou / UNIT))} for iou in ious)[0]
    assert Fraction(total.iou_units) * Fraction(UNIT) == sum(map(Fraction, ious))


def test_a_perfect_prediction_and_reset(tiny: Path, register) -> None:
    evaluator = PanopticEvaluator(register(tiny / "gt.json", tiny / "png"))
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 0}, {"image_id": 1}], [{"panoptic_seg": PERFECT}] * 2)
        assert set(evaluator.evaluate()["panoptic_seg"].values()) == {100}
        assert evaluator._counts[7].tp == 2


def test_without_things_their_scores_are_nan(tiny: Path, register) -> None:
    evaluator = PanopticEvaluator(register(tiny / "gt.json", tiny / "png"))
    content = json.loads((tiny / "gt.json").read_text())
    content["annotations"][0]["segments_info"] = [{"id": 5, "category_id": 9}]
    (tiny / "gt.json").write_text(json.dumps(content))
    write_png(tiny / "png" / "0.png", np.array([[0, 0, 0], [5, 5, 5]]))
    ids, listed = PERFECT
    output = {"panoptic_seg": (ids.where(ids == 2, 0), listed[1:])}
    evaluator.process([{"image_id": 0}], [output])
    scores = evaluator.evaluate()["panoptic_seg"]
    assert scores["PQ"] == scores["PQ_st"] == 100 and math.isnan(scores["PQ_th"])


def test_two_processes_give_the_scores_of_one(golden: Path, tmp_path: Path, repository) -> None:
    folder = golden / "evaluation" / "panoptic"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), *sys.path])}
    command = [sys.executable, panoptic_run.__file__, str(folder), str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(rank)], env=env, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    printed = [process.communicate()[0] for process in running]
    two = [json.loads(lines.splitlines()[-1]) for lines in printed]
    assert two == [panoptic_run.scores(folder), None]


def test_faults_of_the_ground_truth(tiny: Path, register) -> None:
    name = register(tiny / "gt.json", tiny / "png")

    def process() -> None:
        PanopticEvaluator(name).process([{"image_id": 0}], [{"panoptic_seg": PERFECT}])

    write_png(tiny / "png" / "0.png", np.array([[70000, 70000, 6], [5, 5, 5]]))
    with pytest.raises(
        UserError, match=r"0\.png holds the segment id 6, which .*gt\.json does not"
    ):
        process()
    write_png(tiny / "png" / "0.png", np.array([[0, 0, 0], [5, 5, 5]]))
    with pytest.raises(UserError, match=r"0\.png has no pixel of the segment id 70000"):
        process()
    write_png(tiny / "png" / "0.png", np.array([[70000, 5]]))
    with pytest.raises(UserError, match=r"\(1, 2\), but the prediction has \(2, 3\)"):
        process()
    (tiny / "png" / "0.png").unlink()
    with pytest.raises(UserError, match=r"no file at .*0\.png"):
        process()
    (tiny / "gt.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*gt\.json"):
        process()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"category_id": 7',
            '"category_id": 8',
            r"annotations\[0\]\.segments_info\[0\]: 'category_id' is 8, but has to be the id of",
        ),
        ("segments_info", "segments", r"gt\.json: annotations\[0\] has no 'segments_info': add it"),
        ('"isthing"', '"thing"', r"gt\.json: categories\[0\] has no 'isthing': add it"),
        ('"id": 70000, ', "", r"segments_info\[0\] has no 'id': add it"),
        (
            '"id": 70000',
            '"id": [1]',
            r"segments_info\[0\]: 'id' is a list of 1, but has to be a",
        ),
        ('"id": 70000', '"id": 0', r"'id' is 0, but has to be a whole number from 1 to 16777215"),
        (
            '"id": 70000',
            '"id": 5',
            r"segments_info\[1\]: 'id' is 5, but has to be one that no",
        ),
        ('"id": 5', '"area": "x", "id": 5', r"'area' is 'x', but has to be a number from 0"),
        ('"iscrowd": 0', '"iscrowd": null', r"'iscrowd' is null, but has to be 0 or 1"),
        (
            '"0.png"',
            '"../png/0.png"',
            r"annotations\[0\]: 'file_name': \.\./png/0\.png leads out",
        ),
        ('"file_name": "0.png", ', "", r"annotations\[0\] has no 'file_name': add it"),
        (
            '"image_id": 1',
            '"image_id": "0"',
            r"annotations\[1\]: 'image_id' is '0', but has to",
        ),
        ('{"annotations"', '{"images": [{}], "annotations"', r"images\[0\] has no 'id': add it"),
        ("{", "[", "is not valid JSON"),
    ],
)
def test_faults_of_the_json_file(tiny: Path, old: str, new: str, message: str) -> None:
    content = (tiny / "gt.json").read_text()
    (tiny / "gt.json").write_text(content.replace(old, new))
    with pytest.raises(UserError, match=message):
        PanopticFile(tiny / "gt.json", tiny / "png")


def test_faults_of_the_model(tiny: Path, register) -> None:
    evaluator = PanopticEvaluator(register(tiny / "gt.json", tiny / "png"))
    ids, listed = PERFECT

    def process(listed: list[dict], image_id: int = 0) -> None:
        evaluator.process([{"image_id": image_id}], [{"panoptic_seg": (ids, listed)}])

    with pytest.raises(UserError, match=r"a thing of class 1, which is not in .*gt\.json"):
        process([listed[0], listed[1] | {"isthing": True}])
    with pytest.raises(
        UserError, match="image 0 holds the segment id 2, which its segments_info does"
    ):
        process(listed[:1])
    with pytest.raises(UserError, match="has no pixel of the segment id 3"):
        process([*listed, listed[0] | {"id": 3}])
    with pytest.raises(UserError, match="has no segments of the image 2"):
        process(listed, image_id=2)
    with pytest.raises(UserError, match="no image of dataset"):
        evaluator.evaluate()


def test_a_data_set_of_another_kind() -> None:
    with pytest.raises(UserError, match="is no panoptic one: its metadata has no panoptic_json"):
        PanopticEvaluator("ade20k_150_test_sem_seg")
