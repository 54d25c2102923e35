"""Keep the images of a data set with the best and the worst scores, in constant memory.

An :class:`ExampleKeeper` wraps an evaluator. It scores every image alone, and keeps small label
maps of the best and the worst ones.
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
from segcore.images import read_labels, record_class_ids
from segcore.videos import VOID

SIDE = 384  # pixels of the longer side of a kept map
NONE = 65535  # value in a kept map of a pixel without a class or segment


@dataclass(frozen=True)
class Regions:
    """A label map, or the segments of an image.

    Attributes:
        numbers: (H, W) integers, ``NONE`` for pixels without a class or segment.
        classes: number -> class id; empty if the numbers are class ids.
    """

    numbers: np.ndarray
    classes: tuple[int, ...] = ()

    def small(self) -> dict[str, Any]:
        """Return a downscaled PNG of the map, and its classes, for a checkpoint."""
        file = io.BytesIO()
        small = overlays.fit(self.numbers, min(SIDE, max(self.numbers.shape)))
        Image.fromarray(small.astype(np.uint16)).save(file, "png")
        png = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
        return {"png": png, "classes": list(self.classes)}

    @classmethod
    def of_small(cls, kept: dict[str, Any]) -> "Regions":
        """Build from the result of :meth:`small`."""
        with Image.open(io.BytesIO(kept["png"].numpy().tobytes()), formats=("PNG",)) as image:
            return cls(np.asarray(image).astype(np.int64), tuple(kept["classes"]))


@dataclass(frozen=True)
class Example:
    """One image, or frame of a video, with its ground truth, prediction and score.

    Attributes:
        score: percent.
        image: path of the image.
        ground_truth, prediction: of equal size.
    """

    score: float
    image: str
    ground_truth: Regions
    prediction: Regions


class ExampleKeeper(StatefulEvaluator):
    """Wrap another evaluator, and keep the best and the worst images.

    The score of an image is its panoptic quality if the model returns segments or objects, else
    the mean IoU over the classes of its ground truth; every frame of a video is scored. Objects
    with low scores are left out.

    Attributes:
        labels_suffice, tasks: those of the other evaluator.
    """

    def __init__(self, evaluator: StatefulEvaluator, dataset_name: str, number: int) -> None:
        """
        Args:
            evaluator: of the data set.
            dataset_name: registered name.
            number: of the kept best images, and of the worst ones.
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
        """Pass a batch to the other evaluator, and score its images."""
        self.evaluator.process(inputs, outputs)
        if self.number:
            for item, output in zip(inputs, outputs, strict=True):
                for example in self._score(item, output):
                    self._consider(example)

    def evaluate(self) -> dict | None:
        """Return the results of the other evaluator; then :meth:`examples` has the images."""
        results = self.evaluator.evaluate()
        kept = comm.gather(self._kept)
        self._kept = self._choose([example for each in kept for example in each])
        return results

    def state(self) -> dict:
        return {"evaluator": self.evaluator.state(), "examples": self._kept}

    def load_state(self, state: dict) -> None:
        self.evaluator.load_state(state["evaluator"])
        self._kept = list(state["examples"])

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Return the worst images and the best ones, the most extreme first; none is in both."""
        found = [
            Example(
                each["score"],
                each["image"],
                Regions.of_small(each["ground_truth"]),
                Regions.of_small(each["prediction"]),
            )
            for each in self._kept
        ]
        half = min(self.number, (len(found) + 1) // 2)
        return found[:half], found[half:][-self.number :][::-1]

    def _consider(self, example: Example) -> None:
        if math.isnan(example.score):
            return
        candidate = {"score": example.score, "image": example.image}
        if not any(each is candidate for each in self._choose([*self._kept, candidate])):
            return
        maps = {
            "ground_truth": example.ground_truth.small(),
            "prediction": example.prediction.small(),
        }
        self._kept = self._choose([*self._kept, candidate | maps])

    def _choose(self, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the worst and the best ones, by rising score; equal scores are ordered by name,
        so that the choice does not depend on the number of processes."""
        ordered = sorted(examples, key=lambda each: (each["score"], each["image"]))
        if len(ordered) <= 2 * self.number:
            return ordered
        return ordered[: self.number] + ordered[-self.number :]

    # ---- one image ---------------------------------------------------------------------------

    def _score(self, item: dict, output: dict) -> Iterator[Example]:
        if "video_id" in item:
            yield from self._score_frames(item, output)
        elif "panoptic_seg" in output:
            yield self._score_segments(item, *output["panoptic_seg"])
        elif labels_of(output) is not None:
            yield self._score_labels(item, labels_of(output))
        elif "instances" in output:
            yield self._score_objects(item, output["instances"])

    @cached_property
    def _records(self) -> dict[str, dict]:
        """The dataset dicts by image: mappers drop the ground truth from inputs."""
        return {record["file_name"]: record for record in DatasetCatalog.get(self.dataset_name)}

    @cached_property
    def _frame_labels(self) -> dict[str, str]:
        """The label maps by frame; empty if the ground truth is not public."""
        return {
            frame: labels
            for video in DatasetCatalog.get(self.dataset_name)
            for frame, labels in zip(
                video["file_names"], video.get("sem_seg_file_names", ()), strict=False
            )
        }

    def _score_labels(self, item: dict, labels: Tensor) -> Example:
        ignore = self._metadata.ignore_label
        record = self._records[item["file_name"]]
        ground_truth = record_class_ids(record, None, ignore).astype(np.int64)
        background = self._metadata.get("background_from")
        if background is not None:
            labels = labels.clamp(max=background)
        return _score_maps(
            item["file_name"],
            np.where(ground_truth == ignore, NONE, ground_truth),
            labels.cpu().numpy(),
        )

    def _score_frames(self, item: dict, output: dict) -> Iterator[Example]:
        if "pred_masks" in output:
            yield from self._score_tracks(item, output)
        labels = labels_of(output)
        if labels is None or not self._frame_labels:
            return
        for frame, prediction in zip(item["file_names"], labels.cpu().numpy(), strict=True):
            stored = read_labels(self._frame_labels[frame]).astype(np.int64)
            yield _score_maps(frame, np.where(np.isin(stored, VOID), NONE, stored - 1), prediction)

    def _score_segments(self, item: dict, ids: Tensor, listed: Sequence[dict]) -> Example:
        ground_truth = segments_of_record(self._records[item["file_name"]])
        categories = {each["id"]: int(each["category_id"]) for each in listed}
        prediction = Segments(ids.cpu().numpy().astype(np.int64), categories)
        return _score_parts(item["file_name"], ground_truth, prediction)

    def _score_objects(self, item: dict, instances: Any) -> Example:
        name = item["file_name"]
        size = tuple(instances.pred_masks.shape[1:])
        ground_truth = true_objects(self._records[name]["annotations"], size, name)
        return _score_parts(name, ground_truth, predicted_objects(instances))

    @cached_property
    def _videos(self) -> dict[int | str, dict]:
        return {record["video_id"]: record for record in DatasetCatalog.get(self.dataset_name)}

    def _score_tracks(self, item: dict, output: dict) -> Iterator[Example]:
        record = self._videos[item["video_id"]]
        size = (record["height"], record["width"])
        if "frame_annotations" not in record:  # the ground truth is not public
            return
        names, ground_truths = record["file_names"], record["frame_annotations"]
        predictions = predicted_tracks(output, len(names), size)
        for name, annotations, prediction in zip(names, ground_truths, predictions, strict=True):
            yield _score_parts(name, true_objects(annotations, size, name), prediction)


def labels_of(output: dict) -> Tensor | None:
    """Return a model's class ids (H, W), of videos (T, H, W); None for outputs without them."""
    if "sem_seg_labels" in output:
        return output["sem_seg_labels"]
    return output["sem_seg"].argmax(dim=0) if "sem_seg" in output else None


def image_iou(ground_truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the mean IoU, in percent, over the classes of a ground truth (H, W); nan if none.

    Predictions where the ground truth is ``NONE`` do not count.
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


def _score_maps(image: str, ground_truth: np.ndarray, prediction: np.ndarray) -> Example:
    return Example(
        image_iou(ground_truth, prediction), str(image), Regions(ground_truth), Regions(prediction)
    )


def _score_parts(image: str, ground_truth: Segments, prediction: Segments) -> Example:
    counts = count_segments(prediction, ground_truth)
    counts.pop(BACKGROUND, None)
    quality = 100 * mean_quality(counts.values())["PQ"]
    return Example(
        quality, str(image), _segment_regions(ground_truth), _segment_regions(prediction)
    )


def _segment_regions(segments: Segments) -> Regions:
    numbers = segments.index() - 1
    classes = tuple(each for each in segments.categories.values() if each != BACKGROUND)
    return Regions(np.where((numbers < 0) | (numbers >= len(classes)), NONE, numbers), classes)
