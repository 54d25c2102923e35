"""Scores of videos: the reference's numbers, pieces, processes, submissions and errors."""

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as rle

from segcore.config import default_config
from segcore.datasets.presence import shown_in_video
from segcore.datasets.tracks import register_track_dataset
from segcore.datasets.video_semantic import VIDEO, register_video_semantic_dataset
from segcore.engine.sharding import Shard, assign_videos
from segcore.errors import UserError
from segcore.evaluation import (
    MultilabelEvaluator,
    VideoInstanceEvaluator,
    VideoSemanticEvaluator,
    build_evaluator,
)
from segcore.evaluation.consistency import VideoConsistency, consistency_scores
from segcore.evaluation.submission import PredictionFile, join_predictions
from segcore.evaluation.tracks import SCORES, Track, track_iou
from segcore.vocabulary import Vocabulary

PROGRAM = Path(__file__).with_name("video_run.py")


def loaded(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


video_run = loaded(PROGRAM)


@pytest.fixture
def videos(tmp_path: Path, forget_datasets: None) -> list[dict]:
    """The data sets of the program; returns the dicts of ``tracked``."""
    video_run.write(tmp_path)
    return video_run.register(tmp_path)


# ---- VSPW ------------------------------------------------------------------------------------


@pytest.fixture
def vspw(golden: Path, tmp_path: Path, forget_datasets: None) -> tuple[list[dict], list, dict]:
    """The reference's videos as data set ``vspw``: dicts, predictions (T, H, W), and scores."""
    expected = json.loads((golden / "evaluation" / "vspw.json").read_text("utf-8"))
    items, predictions = [], []
    with np.load(golden / "evaluation" / "vspw.npz") as arrays:
        for i, length in enumerate(expected["lengths"]):
            (tmp_path / f"{i}").mkdir()
            files = [str(tmp_path / f"{i}" / f"{t:08}.png") for t in range(length)]
            for file, labels in zip(files, arrays[f"gt_{i}"], strict=True):
                Image.fromarray(labels).save(file)
            predictions.append(torch.from_numpy(arrays[f"pred_{i}"].astype(np.int64)))
            lists = {"file_names": files, "sem_seg_file_names": files}
            items.append({"video_id": f"v{i}", "first_frame": 0, "length": length, **lists})
    DatasetCatalog.register("vspw", lambda: items)
    classes = [str(i) for i in range(124)]
    MetadataCatalog.get("vspw").set(stuff_classes=classes, ignore_label=255)
    return items, predictions, expected


def pieces(item: dict, prediction: torch.Tensor, frames: int) -> Iterator[tuple[dict, dict]]:
    for first in range(0, len(prediction), frames):
        files = item["file_names"][first : first + frames]
        piece = item | {"first_frame": first, "file_names": files, "length": len(files)}
        yield piece, {"sem_seg_labels": prediction[first : first + frames]}


@pytest.mark.parametrize("frames", [1, 7, 20])
def test_golden_vspw(vspw, frames: int) -> None:
    items, predictions, expected = vspw
    evaluator = VideoSemanticEvaluator("vspw")
    for item, prediction in zip(items, predictions, strict=True):
        for piece, output in pieces(item, prediction, frames):
            evaluator.process([piece], [output])
    scores = evaluator.evaluate()["sem_seg"]
    for name, value in expected["mIoU"]["percent"].items():
        assert scores[name] == pytest.approx(value, abs=1e-9)
    for index, value in expected["mIoU"]["IoU_per_class_index"].items():
        assert scores[f"IoU-{index}"] == pytest.approx(value, abs=1e-9)
    for name, reference in expected["video_consistency"].items():
        assert scores[name] == pytest.approx(100 * reference["score"], abs=1e-9)
        windows = evaluator.state()["consistency"]["totals"][int(name[2:])][0]
        assert windows == reference["windows"]


def test_scores_of_classes_are_taken_too(vspw) -> None:
    items, predictions, _ = vspw
    by_labels, by_scores = VideoSemanticEvaluator("vspw"), VideoSemanticEvaluator("vspw")
    by_labels.process(items[:2], [{"sem_seg_labels": labels} for labels in predictions[:2]])
    scores = [torch.nn.functional.one_hot(each, 124).movedim(-1, 0) for each in predictions[:2]]
    by_scores.process(items[:2], [{"sem_seg": each} for each in scores])
    assert str(by_labels.evaluate()) == str(by_scores.evaluate())


def test_consistency_by_hand() -> None:
    ground_truth = torch.tensor([[[5, 5, 0]], [[5, 5, 0]], [[5, 6, 0]], [[5, 6, 0]]])
    prediction = torch.tensor([[[1, 1, 2]], [[1, 1, 3]], [[2, 1, 3]], [[0, 0, 0]]])
    found = VideoConsistency(lengths=(2,))
    for frames in zip(ground_truth, prediction, strict=True):
        found.add(*frames)
    # Of the windows 0-1, 1-2 and 2-3 the last does not count: 2 of 3 pixels, and 1 of 2.
    assert found.totals[2][0] == 2
    assert consistency_scores([found.state()])["VC2"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)


def test_no_window_no_consistency() -> None:
    found = VideoConsistency(lengths=(2, 9))
    for t in range(5):
        found.add(torch.full((2, 2), t), torch.zeros(2, 2))
    found.begin_video()
    found.add(torch.zeros(1, 2), torch.zeros(1, 2))  # of another size, and only one frame
    assert all(math.isnan(value) for value in consistency_scores([found.state()]).values())


def test_the_state_is_bounded(videos) -> None:
    evaluator = VideoSemanticEvaluator("labelled")
    sizes = []
    for item in DatasetCatalog.get("labelled"):
        labels = torch.from_numpy(video_run.predicted(item))
        evaluator.process([item], [{"sem_seg_labels": labels}])
        video = evaluator.state()["consistency"]["video"]
        sizes.append(sum(each.numel() for each in video if each is not None))
    assert max(sizes) <= 4 * math.prod(video_run.SIZE)


def test_label_maps_for_the_server(videos, tmp_path: Path, caplog) -> None:
    for item in DatasetCatalog.get("labelled"):
        del item["sem_seg_file_names"]
    evaluator = VideoSemanticEvaluator("labelled", output_dir=tmp_path / "out")
    items = DatasetCatalog.get("labelled")[:2]
    labels = [video_run.predicted(item) for item in items]
    evaluator.process(items, [{"sem_seg_labels": torch.from_numpy(each)} for each in labels])
    with caplog.at_level("INFO"):
        assert evaluator.evaluate() == {}
    assert "has no label maps, so there are no scores" in caplog.text
    folder = tmp_path / "out" / "submission" / "7"
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{t:04}.png" for t in range(10)]
    assert np.array_equal([np.array(Image.open(file)) for file in files], np.concatenate(labels))


def test_faults_of_semantic_videos(videos, tmp_path: Path) -> None:
    evaluator = VideoSemanticEvaluator("labelled")
    first, second = DatasetCatalog.get("labelled")[:2]

    def process(item: dict, size: tuple = (5, 12, 16), value: int = 0) -> None:
        evaluator.process([item], [{"sem_seg_labels": torch.full(size, value)}])

    with pytest.raises(UserError, match="frame 5 of video 7 does not follow"):
        process(second)
    with pytest.raises(UserError, match="has 5 frames, but the model returned 4"):
        process(first, (4, 12, 16))
    with pytest.raises(UserError, match=r"v1/0000\.png has \(height, width\) \(12, 16\)"):
        process(first, (5, 16, 12))
    with pytest.raises(UserError, match="predicts class 3"):
        process(first, value=3)
    Image.fromarray(np.full((12, 16), 4, dtype=np.uint8)).save(tmp_path / "v1" / "0000.png")
    with pytest.raises(UserError, match=r"v1/0000\.png holds the value 4"):
        process(first)
    with pytest.raises(UserError, match="x is no frame of dataset"):
        process(first | {"file_names": ["x"] * 5})
    with pytest.raises(UserError, match="no image of dataset"):
        VideoSemanticEvaluator("labelled").evaluate()


# ---- YouTube-VIS -----------------------------------------------------------------------------


@pytest.fixture
def ytvis(golden: Path, forget_datasets: None) -> dict:
    """The reference's videos as data set ``ytvis``; returns its scores."""
    DatasetCatalog.register("ytvis", list)
    MetadataCatalog.get("ytvis").set(
        json_file=str(golden / "evaluation" / "ytvis_ap" / "gt.json"),
        thing_classes=["one", "two", "three", "no_gt"],
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2, 4: 3},
    )
    return json.loads((golden / "evaluation" / "ytvis_ap.json").read_text("utf-8"))


def reference_prediction(golden: Path, video: int) -> tuple[dict, dict]:
    stored = json.loads((golden / "evaluation" / "ytvis_ap" / "pred.json").read_text("utf-8"))
    mine = [each for each in stored if each["video_id"] == video]
    return {"video_id": video}, {
        "pred_scores": [each["score"] for each in mine],
        "pred_labels": [each["category_id"] - 1 for each in mine],
        "pred_masks": [each["segmentations"] for each in mine],
    }


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_golden_ytvis(golden: Path, ytvis: dict, order: tuple[int, ...], tmp_path: Path) -> None:
    evaluator = VideoInstanceEvaluator("ytvis", output_dir=tmp_path)
    for video in order:
        item, output = reference_prediction(golden, video)
        evaluator.process([item], [output])
    scores = evaluator.evaluate()["segm"]
    per_class = {f"AP-{name}": ap for name, ap in ytvis["AP_per_class_percent"].items()}
    assert set(scores) == {*SCORES, *per_class}
    for name, value in (ytvis["percent"] | per_class).items():
        value = math.nan if value is None else value
        assert scores[name] == pytest.approx(value, abs=1e-9, nan_ok=True)
    report = json.loads((tmp_path / "video_instances_evaluation.json").read_text("utf-8"))
    assert report["num_videos"] == 3 and report["scores"]["APl"] is None
    assert not (tmp_path / "results.json").exists()


def test_golden_iou_of_tracks(golden: Path, ytvis: dict) -> None:
    evaluator = VideoInstanceEvaluator("ytvis")
    for key, table in ytvis["track_iou"]["values"].items():
        video, category = (int(part) for part in key.split("/"))
        objects = evaluator._ground_truth.objects(evaluator._ground_truth.video(video))[
            category - 1
        ]
        _, output = reference_prediction(golden, video)
        rows = zip(*output.values(), strict=True)
        rows = [(score, masks) for score, label, masks in rows if label == category - 1]
        rows.sort(key=lambda row: -row[0])
        found = [[track_iou(Track.of(masks), each) for each in objects] for _, masks in rows]
        if objects:
            assert found == [pytest.approx(row, abs=1e-12) for row in table]


def test_a_perfect_prediction_and_reset(videos, tmp_path: Path) -> None:
    ground_truth = json.loads((tmp_path / "gt.json").read_text())["annotations"]
    nothing = rle.encode(np.zeros(video_run.SIZE, dtype=np.uint8, order="F"))
    evaluator = VideoInstanceEvaluator("tracked")
    for _ in range(2):
        evaluator.reset()
        for item in videos:
            mine = [track for track in ground_truth if track["video_id"] == item["video_id"]]
            prediction = {
                "pred_scores": [0.5] * len(mine),
                "pred_labels": [track["category_id"] - 1 for track in mine],
                "pred_masks": [[m or nothing for m in track["segmentations"]] for track in mine],
            }
            evaluator.process([item], [prediction])
        scores = evaluator.evaluate()["segm"]
        assert all(scores[name] == pytest.approx(100) for name in ("AP", "AP50", "APs", "AR1"))
    evaluator.reset()
    evaluator.process([videos[0]], [{"pred_scores": [], "pred_labels": [], "pred_masks": []}])
    assert evaluator.evaluate()["segm"]["AP"] == 0


def test_polygons_and_uncompressed_rle_are_masks_too(tmp_path: Path, forget_datasets) -> None:
    square = np.zeros((8, 8), dtype=np.uint8, order="F")
    square[2:6, 2:6] = 1
    plain = {"size": [8, 8], "counts": [18, 4, 4, 4, 4, 4, 4, 4, 18]}
    content = {
        "videos": [{"id": 1, "height": 8, "width": 8, "length": 3, "file_names": ["a", "b", "c"]}],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 1,
                "category_id": 1,
                "segmentations": [[[2, 2, 6, 2, 6, 6, 2, 6]], plain, None],
            }
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    DatasetCatalog.register("test_forms", list)
    MetadataCatalog.get("test_forms").set(
        json_file=str(tmp_path / "gt.json"),
        thing_classes=["square"],
        thing_dataset_id_to_contiguous_id={1: 0},
    )
    evaluator = VideoInstanceEvaluator("test_forms")
    masks = [rle.encode(each) for each in (square, square, 0 * square)]
    prediction = {"pred_scores": [1.0], "pred_labels": [0], "pred_masks": [masks]}
    evaluator.process([{"video_id": 1}], [prediction])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_tracks_for_the_server(videos, tmp_path: Path, caplog) -> None:
    content = json.loads((tmp_path / "gt.json").read_text())
    (tmp_path / "gt.json").write_text(json.dumps(content | {"annotations": None}))
    evaluator = VideoInstanceEvaluator("tracked", output_dir=tmp_path / "out")
    predictions = [video_run.prediction(item) for item in videos]
    evaluator.process(videos, predictions)
    with caplog.at_level("INFO"):
        assert evaluator.evaluate() == {}
    assert "has no annotations, so there are no scores" in caplog.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["video_id"] for each in results] == [7] * 6 + [6] * 6 + [5] * 6 + [4] * 6
    assert results[7] == {
        "video_id": 6,
        "category_id": predictions[1]["pred_labels"][1] + 1,
        "score": predictions[1]["pred_scores"][1],
        "segmentations": predictions[1]["pred_masks"][1],
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]


def test_tracks_for_the_server_as_ground_truth(videos, tmp_path: Path) -> None:
    """Written predictions score 100 against themselves as the ground truth."""
    ground_truth = json.loads((tmp_path / "gt.json").read_text())
    evaluator = VideoInstanceEvaluator("tracked", output_dir=tmp_path / "out", submission=True)
    for item in videos:
        masks = [video_run.encoded(video_run.predicted(item) == label) for label in range(3)]
        labels = [label for label in range(3) if any(masks[label])]
        nothing = rle.encode(np.zeros(video_run.SIZE, dtype=np.uint8, order="F"))
        output = {
            "pred_scores": [0.5] * len(labels),
            "pred_labels": labels,
            "pred_masks": [[mask or nothing for mask in masks[label]] for label in labels],
        }
        evaluator.process([item], [output])
    evaluator.evaluate()
    tracks = json.loads((tmp_path / "out" / "results.json").read_text())
    annotations = [track | {"id": number} for number, track in enumerate(tracks)]
    (tmp_path / "gt.json").write_text(json.dumps(ground_truth | {"annotations": annotations}))
    again = VideoInstanceEvaluator("tracked")
    for item in videos:
        mine = [track for track in tracks if track["video_id"] == item["video_id"]]
        output = {
            "pred_scores": [track["score"] for track in mine],
            "pred_labels": [track["category_id"] - 1 for track in mine],
            "pred_masks": [track["segmentations"] for track in mine],
        }
        again.process([item], [output])
    assert len(tracks) > len(videos)
    assert again.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_predictions_are_resumed(tmp_path: Path) -> None:
    parts = [PredictionFile(tmp_path, rank, 2) for rank in range(2)]
    parts[0].add(0, [{"score": 1}])
    saved = parts[0].size
    parts[0].add(3, [{"score": "lost"}])
    parts[1].add(1, [])
    parts[1].add(4, [{"score": 4}, {"score": 5}])
    again = PredictionFile(tmp_path, 0, 2)
    again.resume_at(saved)
    again.add(2, [{"score": 2}])
    path = join_predictions(tmp_path, [again.size, parts[1].size])
    assert [each["score"] for each in json.loads(path.read_text())] == [1, 2, 4, 5]
    with pytest.raises(UserError, match=r"results-0-of-2\.jsonl is missing or shorter than it was"):
        again.resume_at(saved)
    assert json.loads(join_predictions(tmp_path, [0, 0]).read_text()) == []


def test_faults_of_tracks(videos, tmp_path: Path) -> None:
    evaluator, prediction = VideoInstanceEvaluator("tracked"), video_run.prediction(videos[1])
    with pytest.raises(UserError, match=r"has no video with the id 9"):
        evaluator.process([{"video_id": 9}], [prediction])
    with pytest.raises(UserError, match=r"10 frames of \(height, width\) \(12, 16\) .* 21 masks"):
        evaluator.process([videos[1]], [video_run.prediction(videos[0])])
    with pytest.raises(UserError, match=r"a track of class 3, which is not in .*gt\.json"):
        evaluator.process([videos[1]], [prediction | {"pred_labels": [3] * 6}])
    with pytest.raises(UserError, match="no video of dataset"):
        evaluator.evaluate()
    content = json.loads((tmp_path / "gt.json").read_text())
    content["annotations"][0]["segmentations"][0] = {"size": [12, 16], "counts": "~~"}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'segmentations'\[0\]: the RLE is damaged"):
        VideoInstanceEvaluator("tracked").process([videos[0]], [video_run.prediction(videos[0])])
    with pytest.raises(UserError, match="has no tracks: its metadata has no json_file"):
        VideoInstanceEvaluator("ade20k_150_test_sem_seg")


# ---- both ------------------------------------------------------------------------------------


def test_two_processes_give_the_scores_and_files_of_one(tmp_path: Path) -> None:
    video_run.write(tmp_path)

    def run(size: int) -> list:
        command = [sys.executable, str(PROGRAM), str(tmp_path)]
        processes = [
            subprocess.Popen([*command, str(rank), str(size)], stdout=subprocess.PIPE, text=True)
            for rank in range(size)
        ]
        printed = [process.communicate()[0] for process in processes]
        return [printed_line.splitlines()[-1] for printed_line in printed]

    one, two = run(1), run(2)
    assert two == [*one, "[null, null]"]
    semantic, instances = json.loads(one[0])
    assert 0 < semantic["sem_seg"]["VC8"] < 100 and 0 < instances["segm"]["AP"] < 100
    files = {
        path.relative_to(tmp_path / "out1"): path.read_bytes()
        for path in (tmp_path / "out1").rglob("*.*")
    }
    assert len(files) == sum(video_run.LENGTHS.values()) + 3
    for path, content in files.items():
        assert (tmp_path / "out2" / path).read_bytes() == content


def test_registered_videos(tmp_path: Path, forget_datasets) -> None:
    """From the files to the scores: perfect predictions score 100 in every task."""
    video_run.write(tmp_path)
    (tmp_path / "list.txt").write_text("\n".join(video_run.LENGTHS))
    folders = [tmp_path / VIDEO] * 2
    vocabulary = replace(
        Vocabulary.from_class_names(video_run.CLASSES), dataset_ids=(1, 2, 3), isthing=(True,) * 3
    )
    register_video_semantic_dataset(
        "test_labels", tmp_path / "list.txt", *folders, vocabulary, piece_frames=6
    )
    register_track_dataset("test_tracks", tmp_path, tmp_path / "gt.json", vocabulary)
    cfg = default_config()
    cfg.MODEL.MASK_FORMER = CfgNode({"TEST": {"SEMANTIC_ON": True, "INSTANCE_ON": True}})
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.MODEL.RANKSEG = CfgNode({"FLAG": True, "TOPK": 2})
    nothing = rle.encode(np.zeros(video_run.SIZE, dtype=np.uint8, order="F"))
    results = {}
    for name in ("test_labels", "test_tracks"):
        evaluator = build_evaluator(cfg, name)
        for item in DatasetCatalog.get(name):
            present = torch.zeros(3)
            present[shown_in_video(item, 3, 255)] = 1
            if name == "test_labels":
                labels = np.stack([np.array(Image.open(f)) for f in item["sem_seg_file_names"]])
                output = {"sem_seg_labels": torch.from_numpy(np.clip(labels - 1.0, 0, 2)).long()}
            else:
                masks: dict = {}
                for t, frame in enumerate(item["frame_annotations"]):
                    for seen in frame:
                        track = masks.setdefault(seen["category_id"], [nothing] * item["length"])
                        track[t] = seen["segmentation"]
                scores, labels = [1.0] * len(masks), list(masks)
                output = {"pred_scores": scores, "pred_labels": labels}
                output["pred_masks"] = list(masks.values())
            evaluator.process([item], [output | {"category_scores": present}])
        results |= {f"{name} {task}": scores for task, scores in evaluator.evaluate().items()}
    assert results["test_labels sem_seg"]["mIoU"] == 100
    assert results["test_labels sem_seg"]["VC8"] == 100
    assert results["test_tracks segm"]["AP"] == pytest.approx(100)
    for name in ("test_labels", "test_tracks"):
        assert results[f"{name} multilabel"]["mAP"] == pytest.approx(100)


def test_classes_of_videos_without_ground_truth_are_not_scored(videos) -> None:
    """Only the submission is written, without an error."""
    evaluator = MultilabelEvaluator("tracked")
    evaluator.process(videos, [{"category_scores": torch.zeros(3)} for _ in videos])
    assert evaluator.evaluate() == {}


def test_videos_are_assigned_whole_and_evenly() -> None:
    lengths = {"a": [20, 20, 5], "b": [20, 10], "c": [8], "d": [20], "e": [9]}
    items = [
        {"video_id": video, "length": length, "first_frame": 20 * i}
        for video, pieces in lengths.items()
        for i, length in enumerate(pieces)
    ]
    shards = assign_videos(items, 2)
    assert sorted(shards[0] + shards[1]) == list(range(len(items)))
    owners = [{items[index]["video_id"] for index in shard} for shard in shards]
    assert not owners[0] & owners[1] and shards == [sorted(shard) for shard in shards]
    frames = [sum(items[index]["length"] for index in shard) for shard in shards]
    assert abs(frames[0] - frames[1]) <= 8
    assert assign_videos(items, 9)[5:] == [[]] * 4


def test_a_shard_resumes_after_done_items() -> None:
    shard = Shard([{"file_name": f"{i}.jpg"} for i in range(5)])
    assert list(shard) == [0, 1, 2, 3, 4]
    shard.done = 3
    assert list(shard) == [3, 4] and len(shard) == 2
    assert shard.digest != Shard([{"file_name": f"{i}.png"} for i in range(5)]).digest


def test_build_evaluator(videos, tmp_path: Path) -> None:
    cfg = default_config()
    cfg.MODEL.MASK_FORMER = CfgNode({"TEST": {"SEMANTIC_ON": True, "INSTANCE_ON": True}})
    cfg.OUTPUT_DIR = str(tmp_path)
    for name, kind, evaluator in (
        ("labelled", "video_semantic", VideoSemanticEvaluator),
        ("tracked", "ytvis", VideoInstanceEvaluator),
    ):
        MetadataCatalog.get(name).evaluator_type = kind
        built = build_evaluator(cfg, name)
        assert isinstance(built, evaluator) and not built.submission
        assert built.output_dir == tmp_path / "inference" / name
    cfg.TEST.SUBMISSION = True
    assert build_evaluator(cfg, "tracked").submission
