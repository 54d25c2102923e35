"""Evaluate panoptic quality over a data set."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

from segcore.annotations.panoptic_png import PanopticFile, Segments
from segcore.datasets import check_registered
from segcore.errors import UserError
from segcore.evaluation.panoptic_quality import (
    Counts,
    add_counts,
    count_segments,
    mean_quality,
)
from segcore.evaluation.report import write_report
from segcore.evaluation.stateful import StatefulEvaluator

logger = logging.getLogger(__name__)

LISTED_AREAS = "ade20k_panoptic_seg"  # evaluator type of data sets with listed areas of stuff


class PanopticEvaluator(StatefulEvaluator):
    """Compute PQ, SQ and RQ of all categories, things and stuff, equal to COCO's panopticapi.

    Areas are those of the PNG files, which the JSON file repeats. For ADE20K they are the listed
    areas of stuff, from before objects were painted over it, as in its published scores.

    No prediction is kept, and processes exchange integers only, so that scores do not depend on the
    number of processes, to the last digit.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | Path | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered panoptic data set, whose metadata has ``panoptic_json``,
                ``panoptic_root`` and the maps from the category ids of that file to the model's
                (``thing_dataset_id_to_contiguous_id``, ``stuff_dataset_id_to_contiguous_id``).
            distributed: add up the counts of all processes; only the main one returns scores.
            output_dir: folder for ``panoptic_evaluation.json``; None writes nothing.

        Raises:
            UserError: the data set is unknown or not a panoptic one.
        """
        check_registered([dataset_name])
        metadata = MetadataCatalog.get(dataset_name)
        maps = [f"{kind}_dataset_id_to_contiguous_id" for kind in ("thing", "stuff")]
        missing = [
            key for key in ("panoptic_json", "panoptic_root", *maps) if not hasattr(metadata, key)
        ]
        if missing:
            raise UserError(
                f"dataset {dataset_name!r} is no panoptic one: its metadata has no {missing[0]}"
            )
        self.dataset_name = dataset_name
        self._files = (metadata.panoptic_json, metadata.panoptic_root)
        self._listed_areas = metadata.get("evaluator_type") == LISTED_AREAS
        stuff, thing = (
            {ours: theirs for theirs, ours in metadata.get(key).items()} for key in reversed(maps)
        )
        self._category = {False: stuff, True: thing}  # by isthing: the model's id -> the file's
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        self._num_images = 0
        self._counts: dict[int, Counts] = {}

    @cached_property
    def _ground_truth(self) -> PanopticFile:
        return PanopticFile(*self._files, listed_areas=self._listed_areas)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Count a batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``panoptic_seg``: a map of segment ids (H, W), 0 for void, and for
                every segment a dict with ``id``, ``category_id`` (the model's) and ``isthing``.

        Raises:
            UserError: prediction or ground truth are invalid, or do not fit each other.
        """
        for item, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            ground_truth = self._ground_truth.segments(item["image_id"])
            if tuple(ids.shape) != ground_truth.ids.shape:
                raise UserError(
                    f"{ground_truth.source} has (height, width) {ground_truth.ids.shape}, but the "
                    f"prediction has {tuple(ids.shape)}: the ground truth must fit the image"
                )
            categories = {each["id"]: self._category_of(each) for each in segments}
            source = f"the prediction for image {item['image_id']}"
            ids = ids.cpu().numpy().astype(np.int64)
            counts = count_segments(Segments(ids, categories, source=source), ground_truth)
            self._counts = add_counts([self._counts, counts])
            self._num_images += 1

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"panoptic_seg": {score: percent}}``; None in all but the main process.

        The scores are ``PQ``, ``SQ``, ``RQ``, and the same with ``_th`` and ``_st``; nan if no
        category occurs.
        """
        states = self.gather_states()
        if not states:
            return None
        num_images = sum(state["num_images"] for state in states)
        if num_images == 0:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        counts = add_counts(_restored(state["counts"]) for state in states)
        scores = self._scores(counts)
        summary = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        logger.info("%s, %d images: %s", self.dataset_name, num_images, summary)
        if self.output_dir is not None:
            self._write(scores, counts, num_images)
        return OrderedDict(panoptic_seg=scores)

    def state(self) -> dict:
        counts = {category: astuple(each) for category, each in self._counts.items()}
        return {"num_images": self._num_images, "counts": counts}

    def load_state(self, state: dict) -> None:
        self._num_images, self._counts = state["num_images"], _restored(state["counts"])

    def _scores(self, counts: dict[int, Counts]) -> dict[str, float]:
        things = {id for id, category in self._ground_truth.categories.items() if category.isthing}
        groups = {"": set(counts), "_th": counts.keys() & things, "_st": counts.keys() - things}
        return {
            f"{name}{suffix}": 100 * value
            for suffix, chosen in groups.items()
            for name, value in mean_quality(counts[id] for id in sorted(chosen)).items()
        }

    def _category_of(self, segment: dict) -> int:
        """Return the file's category id of a predicted segment."""
        known = self._category[bool(segment["isthing"])]
        category = known.get(int(segment["category_id"]))
        if category not in self._ground_truth.categories:
            kind = "thing" if segment["isthing"] else "stuff"
            raise UserError(
                f"the model predicts a {kind} of class {segment['category_id']}, which is not in "
                f"{self._files[0]}: give the model the classes of the data set "
                f"{self.dataset_name!r}"
            )
        return category

    def _write(self, scores: dict[str, float], counts: dict[int, Counts], num_images: int) -> None:
        categories = {
            category.name: {
                **{name: 100 * value for name, value in counts[id].quality.items()},
                **{"tp": counts[id].tp, "fp": counts[id].fp, "fn": counts[id].fn},
            }
            for id, category in self._ground_truth.categories.items()
            if id in counts
        }
        report = {"dataset": self.dataset_name, "num_images": num_images, "scores": scores}
        write_report(
            self.output_dir / "panoptic_evaluation.json", report | {"categories": categories}
        )


def _restored(counts: Mapping[int, tuple[int, ...]]) -> dict[int, Counts]:
    return {category: Counts(*numbers) for category, numbers in counts.items()}
