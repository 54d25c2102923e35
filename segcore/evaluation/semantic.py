"""Evaluate semantic segmentation in constant memory."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from torch import Tensor

from segcore.datasets import semantic_metadata
from segcore.errors import UserError
from segcore.evaluation.confusion import (
    boundary_differences,
    boundary_scores,
    chance_miou,
    closed_miou,
    count_pairs,
    empty_matrix,
    only_prediction,
    seen_unseen_scores,
    semantic_scores,
)
from segcore.evaluation.mess import classes_of_interest, interest_scores
from segcore.evaluation.report import write_report
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.images import read_class_ids
from segcore.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CONVENTIONS = {
    "mIoU": "mean over the classes in the ground truth (Detectron2's present convention)",
    "mIoU_union": "mean over the classes in the ground truth or a prediction (older convention)",
}
SEEN = ("mIoU-seen", "mIoU-unseen", "hIoU", "mIoU-closed")
SUMMARY = (*CONVENTIONS, "fwIoU", "mACC", "pACC", *SEEN, "CoI-mIoU")


class SemanticEvaluator(StatefulEvaluator):
    """Count all images in a confusion matrix on the device of the prediction.

    No prediction is kept, and processes exchange integers only, so that scores do not depend on the
    number of processes, to the last digit.

    Attributes:
        labels_suffice: whether a model may return ``sem_seg_labels`` alone.
    """

    labels_suffice = True

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | Path | None = None,
        boundary: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a registered semantic data set. If its metadata has ``background_from``,
                predictions from that class on count as that class.
            distributed: add up the counts of all processes; only the main one returns scores.
            output_dir: folder for ``sem_seg_evaluation.json``; None writes nothing.
            boundary: add Detectron2's boundary scores (below 255 classes).

        Raises:
            UserError: the data set is unknown or not a semantic one.
        """
        metadata = semantic_metadata(dataset_name)
        self.dataset_name = dataset_name
        self.class_names = list(metadata.stuff_classes)
        self.num_classes = len(self.class_names)
        self.ignore_label = metadata.ignore_label
        self.first_label = metadata.get("first_label", 0)
        self.label_colors = metadata.get("label_colors")
        self.background_from = metadata.get("background_from")
        vocabulary = metadata.get("vocabulary")
        self.vocabulary = None if vocabulary is None else Vocabulary.load(vocabulary)
        self.classes_of_interest = classes_of_interest(self.vocabulary)
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        if boundary and self.num_classes >= 255:
            raise UserError(
                f"boundary scores need less than 255 classes; {dataset_name!r} has more"
            )
        self.boundary = boundary
        self.reset()

    def reset(self) -> None:
        self._num_images = 0
        self._counts: dict[str, Tensor] = {}

    @cached_property
    def _label_files(self) -> dict[str, str]:
        """Image -> label map; Detectron2's mapper drops label maps when testing."""
        return {
            d["file_name"]: d["sem_seg_file_name"] for d in DatasetCatalog.get(self.dataset_name)
        }

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Count a batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``sem_seg`` (C, H, W), scores, or ``sem_seg_labels`` (H, W),
                class ids; H and W are those of the label map.

        Raises:
            UserError: a label map cannot be read or has another size, or the classes do not fit.
        """
        for item, output in zip(inputs, outputs, strict=True):
            prediction = self._prediction(output)
            ground_truth = self._ground_truth(item["file_name"], prediction)
            self._add("regions", prediction, ground_truth)
            if self.boundary:
                self._add("boundaries", *map(boundary_differences, (prediction, ground_truth)))
            self._num_images += 1

    def _add(self, name: str, prediction: Tensor, ground_truth: Tensor) -> None:
        """Count two label maps (H, W) on their device."""
        device = prediction.device
        if name not in self._counts:
            self._counts[name] = empty_matrix(self.num_classes, device)
        self._counts[name] = self._counts[name].to(device)
        count_pairs(self._counts[name], prediction, ground_truth)

    def state(self) -> dict:
        counts = {name: matrix.clone().cpu() for name, matrix in self._counts.items()}
        return {"num_images": self._num_images, "counts": counts}

    def load_state(self, state: dict) -> None:
        self._num_images = state["num_images"]
        self._counts = {name: matrix.clone() for name, matrix in state["counts"].items()}

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"sem_seg": {score: percent}}``; None in all but the main process."""
        states = self.gather_states()
        if not states:
            return None
        num_images = sum(state["num_images"] for state in states)
        if num_images == 0:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        scores = self._scores(states)
        summary = ", ".join(f"{name} {scores[name]:.2f}" for name in SUMMARY if name in scores)
        logger.info("%s, %d images: %s", self.dataset_name, num_images, summary)
        if self.output_dir is not None:
            self._write(scores, num_images)
        return OrderedDict(sem_seg=scores)

    def _scores(self, states: Sequence[dict]) -> dict[str, float]:
        """Return the scores in percent from the counts of all processes."""
        counts: dict[str, Tensor] = {}
        for state in states:
            add_counts(counts, state["counts"])
        scores = semantic_scores(counts["regions"], self.class_names)
        self._remark(counts["regions"], scores["mIoU"])
        if self.boundary:
            scores |= boundary_scores(counts["boundaries"], scores, self.class_names)
        if self.vocabulary is not None and self.vocabulary.seen is not None:
            scores |= seen_unseen_scores(scores, self.class_names, self.vocabulary.seen)
            scores["mIoU-closed"] = closed_miou(counts["regions"], self.vocabulary.seen)
        if self.classes_of_interest is not None:
            scores |= interest_scores(counts["regions"], self.classes_of_interest)
        return scores

    def _remark(self, matrix: Tensor, miou: float) -> None:
        """Warn about results no better than chance, one line each."""
        only, chance = only_prediction(matrix), chance_miou(matrix)
        if only is not None:
            logger.warning(
                "%s: every pixel is predicted to be %s", self.dataset_name, self.class_names[only]
            )
        if self.num_classes > 1 and miou < chance:
            logger.warning(
                "%s: the mIoU %.2f is below that of random labels, %.2f: check that weights, "
                "vocabulary and labels match",
                self.dataset_name,
                miou,
                chance,
            )

    def _prediction(self, output: dict) -> Tensor:
        """Return the class ids of one output, (H, W), none above K - 1."""
        if "sem_seg_labels" in output:
            labels = output["sem_seg_labels"]
        else:
            num_scores = len(output["sem_seg"])
            if self.background_from is None and num_scores != self.num_classes:
                raise UserError(
                    f"the model scores {num_scores} classes, but dataset {self.dataset_name!r} has "
                    f"{self.num_classes}: give the model the vocabulary of the data set"
                )
            labels = output["sem_seg"].argmax(dim=0)
        if self.background_from is not None:
            labels = labels.clamp(max=self.background_from)
        low, high = (bound.item() for bound in labels.aminmax())
        if low < 0 or high >= self.num_classes:
            raise UserError(
                f"the model predicts class {low if low < 0 else high}, but dataset "
                f"{self.dataset_name!r} has {self.num_classes} classes: give the model the "
                "vocabulary of the data set"
            )
        return labels

    def _ground_truth(self, file_name: str, prediction: Tensor) -> Tensor:
        """Return the labels of an image, (H, W) on the prediction's device, K if ignored."""
        path = self._label_files.get(file_name)
        if path is None:
            raise UserError(f"{file_name} is no image of dataset {self.dataset_name!r}")
        labels = read_class_ids(
            path, self.num_classes, self.ignore_label, self.first_label, self.label_colors
        )
        if labels.shape != tuple(prediction.shape):
            raise UserError(
                f"the label map {path} has (height, width) {labels.shape}, but the prediction for "
                f"{file_name} has {tuple(prediction.shape)}: the label map must fit the image"
            )
        ground_truth = torch.from_numpy(labels).to(prediction.device).long()
        return ground_truth.masked_fill_(ground_truth == self.ignore_label, self.num_classes)

    def _write(self, scores: dict[str, float], num_images: int) -> None:
        report = {
            "dataset": self.dataset_name,
            "num_images": num_images,
            "num_classes": self.num_classes,
            "vocabulary": self.vocabulary and self.vocabulary.name,
            "vocabulary_hash": self.vocabulary and self.vocabulary.hash,
            "conventions": CONVENTIONS,
            "scores": scores,
        }
        write_report(self.output_dir / "sem_seg_evaluation.json", report)


def add_counts(counts: dict[str, Tensor], further: dict[str, Tensor]) -> None:
    """Add matrices to the ones of the same name, in place."""
    for name, matrix in further.items():
        counts[name] = counts[name].to(matrix.device) + matrix if name in counts else matrix
