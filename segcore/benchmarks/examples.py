"""The images of a data set that a model does best and worst on, in constant memory.

An :class:`ExampleKeeper` stands between a model and its evaluator. It scores every image on its
own, and keeps small label maps of the few that matter.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from PIL import Image
from torch import Tensor

from segcore.annotations.panoptic_png import Segments, segments_of_record
from segcore.benchmarks.objects import BACKGROUND, predicted_objects, predicted_tracks, true_objects
from segcore.drawing import overlays
from segcore.evaluation import StatefulEvaluator
from segcore.evaluation.panoptic_quality import count_segments, mean_quality
from segcore.images import read_class_ids, read_labels
from segcore.videos import VOID

SIDE = 384  # pixels of the longer side of what is kept
NONE = 65535  # in a kept map: a pixel without a class or segment


@dataclass(frozen=True)
class Regions:
    """A label map, or the segments of an image.

    Attributes:
        numbers: (H, W) integers, ``NONE`` where there is nothing.
        classes: number -> class id; empty where the numbers are class ids themselves.
    """

    numbers: np.ndarray
    classes: tuple[int, ...] = ()

    def small(self) -> dict[str, Any]:
        """Something of bounded size that a checkpoint can hold."""
        file = io.BytesIO()
        small = overlays.fit(self.numbers, min(SIDE, max(self.numbers.shape)))
        Image.fromarray(small.astype(np.uint16)).save(file, "png")
        png = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
        return {"png": png, "classes": list(self.classes)}

    @classmethod
    def of_small(cls, kept: dict[str, Any]) -> "Regions":
        """What :meth:`small` kept."""
        with Image.open(io.BytesIO(kept["png"].numpy().tobytes()), formats=("PNG",)) as image:
            return cls(np.asarray(image).astype(np.int64), tuple(kept["classes"]))


@dataclass(frozen=True)
class Judged:
    """One image, or frame of a video, with its ground truth and what a model made of it.

    Attributes:
        score: percent.
        image: path of the image.
        ground truth, prediction: of equal size.
    """

    score: float
    image: str
    ground_truth: Regions
    prediction: Regions


class ExampleKeeper(StatefulEvaluator):
    """Hands everything to another evaluator, and keeps the best and the worst images.

    The score of an image is its panoptic quality where the model returns segments or objects,
    else the mean IoU over the classes that its ground truth shows; of a video each frame counts.
    Objects count that the model is sure of.

    Attributes:
        labels_suffice, tasks: those of the other evaluator.
    """

    def __init__(self, evaluator: StatefulEvaluator, dataset_name: str, number: int) -> None:
        """
        Args:
            evaluator: of the data set.
            dataset_name: registered name.
            number: how many of either kind are kept.
        """
        self.evaluator, self.dataset_name, self.number = evaluator, dataset_name, number
        self.labels_suffice = getattr(evaluator, "labels_suffice", False)
        self.tasks = evaluator.tasks
        self._metadata = MetadataCatalog.get(dataset_name)
        self._kept: list[dict[str, Any]] = []

    def reset(self) -> None:
        self.evaluator.reset()
        self._kept = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """As the other evaluator."""
        self.evaluator.process(inputs, outputs)
        if self.number:
            for item, output in zip(inputs, outputs, strict=True):
                for judged in self._judge(item, output):
                    self._consider(judged)

    def evaluate(self) -> dict | None:
        """The results of the other evaluator; afterwards :meth:`examples` knows the images."""
        results = self.evaluator.evaluate()
        kept = comm.gather(self._kept)
        self._kept = self._choice([example for each in kept for example in each])
        return results

    def state(self) -> dict:
        return {"evaluator": self.evaluator.state(), "examples": self._kept}

    def load_state(self, state: dict) -> None:
        self.evaluator.load_state(state["evaluator"])
        self._kept = list(state["examples"])

    def examples(self) -> tuple[list[Judged], list[Judged]]:
        """The worst images and the best ones, the most extreme first; none is in both."""
        found = [
            Judged(
                each["score"],
                each["image"],
                Regions.of_small(each["ground_truth"]),
                Regions.of_small(each["prediction"]),
            )
            for each in self._kept
        ]
        half = min(self.number, (len(found) + 1) // 2)
        return found[:half], found[half:][-self.number :][::-1]

    def _consider(self, judged: Judged) -> None:
        if math.isnan(judged.score):
            return
        place = {"score": judged.score, "image": judged.image}
        if not any(each is place for each in self._choice([*self._kept, place])):
            return
        maps = {
            "ground_truth": judged.ground_truth.small(),
            "prediction": judged.prediction.small(),
        }
        self._kept = self._choice([*self._kept, place | maps])

    def _choice(self, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The worst and the best of them, by rising score; equal ones by name, so that it does not
        matter who has seen them."""
        ordered = sorted(examples, key=lambda each: (each["score"], each["image"]))
        if len(ordered) <= 2 * self.number:
            return ordered
        return ordered[: self.number] + ordered[-self.number :]

    # ---- one image ---------------------------------------------------------------------------

    def _judge(self, item: dict, output: dict) -> Iterator[Judged]:
        if "video_id" in item:
            yield from self._judge_frames(item, output)
        elif "panoptic_seg" in output:
            yield self._judge_segments(item, *output["panoptic_seg"])
        elif labels_of(output) is not None:
            yield self._judge_labels(item, labels_of(output))
        elif "instances" in output:
            yield self._judge_objects(item, output["instances"])

    @cached_property
    def _records(self) -> dict[str, dict]:
        """By image: mappers drop what a model must not see."""
        return {record["file_name"]: record for record in DatasetCatalog.get(self.dataset_name)}

    @cached_property
    def _frame_labels(self) -> dict[str, str]:
        """Label maps by frame; none where the ground truth is not public."""
        return {
            frame: labels
            for video in DatasetCatalog.get(self.dataset_name)
            for frame, labels in zip(
                video["file_names"], video.get("sem_seg_file_names", ()), strict=False
            )
        }

    def _judge_labels(self, item: dict, labels: Tensor) -> Judged:
        ignore = self._metadata.ignore_label
        record = self._records[item["file_name"]]
        first = self._metadata.get("first_label", 0)
        ground_truth = read_class_ids(record["sem_seg_file_name"], None, ignore, first).astype(
            np.int64
        )
        background = self._metadata.get("background_from")
        if background is not None:
            labels = labels.clamp(max=background)
        return _judge_maps(
            item["file_name"],
            np.where(ground_truth == ignore, NONE, ground_truth),
            labels.cpu().numpy(),
        )

    def _judge_frames(self, item: dict, output: dict) -> Iterator[Judged]:
        if "pred_masks" in output:
            yield from self._judge_tracks(item, output)
        labels = labels_of(output)
        if labels is None or not self._frame_labels:
            return
        for frame, prediction in zip(item["file_names"], labels.cpu().numpy(), strict=True):
            stored = read_labels(self._frame_labels[frame]).astype(np.int64)
            yield _judge_maps(frame, np.where(np.isin(stored, VOID), NONE, stored - 1), prediction)

    def _judge_segments(self, item: dict, ids: Tensor, listed: Sequence[dict]) -> Judged:
        ground_truth = segments_of_record(self._records[item["file_name"]])
        categories = {each["id"]: int(each["category_id"]) for each in listed}
        prediction = Segments(ids.cpu().numpy().astype(np.int64), categories)
        return _judge_parts(item["file_name"], ground_truth, prediction)

    def _judge_objects(self, item: dict, instances: Any) -> Judged:
        name = item["file_name"]
        size = tuple(instances.pred_masks.shape[1:])
        ground_truth = true_objects(self._records[name]["annotations"], size, name)
        return _judge_parts(name, ground_truth, predicted_objects(instances))

    @cached_property
    def _videos(self) -> dict[int | str, dict]:
        return {record["video_id"]: record for record in DatasetCatalog.get(self.dataset_name)}

    def _judge_tracks(self, item: dict, output: dict) -> Iterator[Judged]:
        record = self._videos[item["video_id"]]
        size = (record["height"], record["width"])
        if "frame_annotations" not in record:  # nobody but a server knows the objects
            return
        names, ground_truths = record["file_names"], record["frame_annotations"]
        predictions = predicted_tracks(output, len(names), size)
        for name, annotations, prediction in zip(names, ground_truths, predictions, strict=True):
            yield _judge_parts(name, true_objects(annotations, size, name), prediction)


def labels_of(output: dict) -> Tensor | None:
    """Class ids (H, W), of videos (T, H, W), that a model predicted with; None if it did not."""
    if "sem_seg_labels" in output:
        return output["sem_seg_labels"]
    return output["sem_seg"].argmax(dim=0) if "sem_seg" in output else None


def image_iou(ground_truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean IoU, in percent, over the classes that a ground truth (H, W) shows; nan if none.

    What is predicted where the ground truth is ``NONE`` does not count.
    """
    known = ground_truth != NONE
    ground_truth, prediction = ground_truth[known], prediction[known]
    classes, areas = np.unique(ground_truth, return_counts=True)
    if not len(classes):
        return math.nan
    hits = [np.count_nonzero(prediction[ground_truth == each] == each) for each in classes]
    predicted = [np.count_nonzero(prediction == each) for each in classes]
    unions = areas + np.array(predicted) - np.array(hits)
    return 100 * float((np.array(hits) / unions).mean())


def _judge_maps(image: str, ground_truth: np.ndarray, prediction: np.ndarray) -> Judged:
    return Judged(
        image_iou(ground_truth, prediction), str(image), Regions(ground_truth), Regions(prediction)
    )


def _judge_parts(image: str, ground_truth: Segments, prediction: Segments) -> Judged:
    counts = count_segments(prediction, ground_truth)
    counts.pop(BACKGROUND, None)
    quality = 100 * mean_quality(counts.values())["PQ"]
    return Judged(quality, str(image), _segment_regions(ground_truth), _segment_regions(prediction))


def _segment_regions(segments: Segments) -> Regions:
    numbers = segments.index() - 1
    classes = tuple(each for each in segments.categories.values() if each != BACKGROUND)
    return Regions(np.where((numbers < 0) | (numbers >= len(classes)), NONE, numbers), classes)
