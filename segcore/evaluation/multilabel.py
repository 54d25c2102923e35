"""Evaluate multi-label classification: which classes are present in an image."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import Tensor

from segcore.datasets import check_registered, shown_classes
from segcore.datasets.presence import shown_in_video
from segcore.errors import UserError
from segcore.evaluation.report import write_report
from segcore.evaluation.rows import Rows
from segcore.evaluation.stateful import StatefulEvaluator

logger = logging.getLogger(__name__)

TOP = (1, 5, 10, 20, 50, 100)
VIDEO_GROUND_TRUTH = {"frame_annotations", "sem_seg_file_names"}
CHUNK = 64  # rows sorted at a time


class MultilabelEvaluator(StatefulEvaluator):
    """Compute mean average precision, and recall and precision of the top k classes.

    The present classes are read from the ground truth as stored, so that small objects count. A
    score per class and image is kept. Results do not depend on the number of processes, to the last
    digit.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        top: Sequence[int] = TOP,
        distributed: bool = True,
        output_dir: str | Path | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set whose dicts have ``segments_info``,
                ``sem_seg_file_name`` or ``annotations``.
            top: the numbers k of top classes for recall and precision; those beyond the number of
                classes are left out.
            distributed: gather the scores of all processes; only the main one returns results.
            output_dir: folder for ``multilabel_evaluation.json``; None writes nothing.

        Raises:
            UserError: the data set is unknown.
        """
        check_registered([dataset_name])
        self.dataset_name = dataset_name
        self.ignore_label = MetadataCatalog.get(dataset_name).get("ignore_label")
        self.top = sorted(set(top))
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        self._names: list[str] = []
        self._scores, self._present = Rows(), Rows()

    @cached_property
    def _items(self) -> dict[str, dict]:
        return {_name(item): item for item in DatasetCatalog.get(self.dataset_name)}

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep a batch.

        Args:
            inputs: dicts with ``file_name``, or of videos with ``file_names``. Videos without
                ground truth are skipped.
            outputs: dicts with ``category_scores`` (C,), higher for more probable classes.

        Raises:
            UserError: the ground truth cannot be read, or has classes that the model lacks.
        """
        for item, output in zip(inputs, outputs, strict=True):
            name, scores = _name(item), output["category_scores"].float().cpu()
            record = self._items.get(name)
            if record is None:
                raise UserError(f"{name} is no image of dataset {self.dataset_name!r}")
            if self._is_private(record):
                continue
            present = self._presence(record, len(scores))
            self._names.append(name)
            self._scores.append(scores)
            self._present.append(present)

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"multilabel": {score: percent}}``; None in all but the main process.

        The scores are those of :func:`multilabel_scores`.
        """
        states = self.gather_states()
        if not states:
            return None
        states = [state for state in states if state["names"]]
        names = [name for state in states for name in state["names"]]
        if not names and any(map(self._is_private, self._items.values())):
            return OrderedDict()
        if not names:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        # Sums are rounded, so their order must not depend on the processes.
        order = sorted(range(len(names)), key=names.__getitem__)
        scores, present = (
            torch.cat([state[kind] for state in states])[order] for kind in ("scores", "present")
        )
        scores = multilabel_scores(scores, present, self.top)
        summary = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        logger.info("%s, %d images: %s", self.dataset_name, len(names), summary)
        if self.output_dir is not None:
            report = {"dataset": self.dataset_name, "num_images": len(names), "scores": scores}
            write_report(self.output_dir / "multilabel_evaluation.json", report)
        return OrderedDict(multilabel=scores)

    def state(self) -> dict:
        if not self._names:
            return {"names": []}
        tables = {"scores": self._scores.table(), "present": self._present.table()}
        return {"names": self._names} | tables

    def load_state(self, state: dict) -> None:
        self.reset()
        if state["names"]:
            self._names = list(state["names"])
            self._scores, self._present = Rows(state["scores"]), Rows(state["present"])

    @staticmethod
    def _is_private(record: dict) -> bool:
        """Return whether it is a video whose ground truth is not public."""
        return "file_names" in record and not record.keys() & VIDEO_GROUND_TRUTH

    def _presence(self, record: dict, num_classes: int) -> Tensor:
        """Return the mask of classes in the ground truth of an image or video, (num_classes,)."""
        shown = shown_in_video if "file_names" in record else shown_classes
        ids = shown(record, num_classes, self.ignore_label)
        present = torch.zeros(num_classes, dtype=torch.bool)
        present[torch.from_numpy(ids)] = True
        return present


def _name(item: dict) -> str:
    """Return the file of an image, or of the first frame of a video or a piece of one."""
    return item["file_name"] if "file_name" in item else item["file_names"][0]


def multilabel_scores(scores: Tensor, present: Tensor, top: Sequence[int]) -> dict[str, float]:
    """Return scores in percent; nan if no class is present.

    Args:
        scores: (N, C) of N images, higher for more probable classes.
        present: (N, C) bool.
        top: numbers k of top classes; those above C are left out.
    Returns:
        ``mAP``: the mean over classes of the average precision of their ranking of images, the
        usual one; ``mAP-envelope``: the same where the precision at a rank is the best one at this
        rank or a later one, as PASCAL VOC and Query2Label's code compute it; ``mAP-image``: the
        mean over images of the average precision of their ranking of classes, as RankSeg's code
        computes it; ``recall@k`` over images with any class, and ``precision@k`` over all.
    """
    results = {
        "mAP": average_precision(scores.T, present.T),
        "mAP-envelope": average_precision(scores.T, present.T, envelope=True),
        "mAP-image": average_precision(scores, present),
    }
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = present.gather(1, order).double().cumsum(dim=1)
    number = present.sum(dim=1)
    for k in top:
        if k <= scores.shape[1]:
            found = hits[:, k - 1]
            results[f"recall@{k}"] = found / number
            results[f"precision@{k}"] = found / k
    return {name: 100 * values.nanmean().item() for name, values in results.items()}


def average_precision(scores: Tensor, positive: Tensor, *, envelope: bool = False) -> Tensor:
    """Return the average precision of each row: the mean of the precision at its positives.

    Entries of equal score share one rank, so that their order does not matter.

    Args:
        scores: (R, N).
        positive: (R, N) bool.
        envelope: the precision at a rank is the best one at this rank or a later one.
    Returns:
        (R,) float64, nan of rows without a positive.
    """
    rows = []
    for part, mask in zip(scores.split(CHUNK), positive.split(CHUNK), strict=True):
        falling = -part.contiguous()
        ranked = falling.sort(dim=1).values
        hits = falling.masked_fill(~mask, torch.inf).sort(dim=1).values
        precision = _count_up_to(hits, falling) / _count_up_to(ranked, falling)
        if envelope:
            order = falling.argsort(dim=1)
            best = precision.gather(1, order).flip(1).cummax(dim=1).values.flip(1)
            # Of equal scores the first entry has the best precision of all that follow.
            first = torch.searchsorted(ranked, falling)
            precision = best.gather(1, first)
        rows.append((precision * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(rows)


def _count_up_to(ranked: Tensor, values: Tensor) -> Tensor:
    """Count in each row the sorted entries that are at most each value: (R, N) float64."""
    return torch.searchsorted(ranked, values, right=True).double()
