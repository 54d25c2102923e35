"""How well a model knows which classes are in a picture."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from segcore.datasets import check_registered, shown_classes
from segcore.errors import UserError
from segcore.evaluation.report import write_report

logger = logging.getLogger(__name__)

TOP = (1, 5, 10, 20, 50, 100)
CHUNK = 64  # rows ranked at a time


class MultilabelEvaluator(DatasetEvaluator):
    """Mean average precision, recall and precision of the likeliest classes.

    What is present is read from the ground truth in its own size, so that small things count.
    Keeps a score per class and picture; any number of processes gives the scores of one to the
    last digit.
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
            top: how many of the likeliest classes recall and precision look at; numbers beyond
                that of the classes are left out.
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
        self._kept: list[tuple[str, Tensor, Tensor]] = []

    @cached_property
    def _items(self) -> dict[str, dict]:
        return {item["file_name"]: item for item in DatasetCatalog.get(self.dataset_name)}

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep a batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``category_scores`` (C,), the higher the likelier.

        Raises:
            UserError: the ground truth cannot be read, or has classes that the model has not.
        """
        for item, output in zip(inputs, outputs, strict=True):
            name, scores = item["file_name"], output["category_scores"].float().cpu()
            self._kept.append((name, scores, self._presence(name, len(scores))))

    def evaluate(self) -> OrderedDict | None:
        """``{"multilabel": {score: percent}}``; None in all but the main process.

        The scores are those of :func:`multilabel_scores`.
        """
        kept = self._kept
        if self.distributed:
            everyone = comm.gather(kept)
            if not comm.is_main_process():
                return None
            kept = [each for theirs in everyone for each in theirs]
        if not kept:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        # Sums are rounded, so their order must not depend on the processes.
        _, scores, present = zip(*sorted(kept, key=lambda each: each[0]), strict=True)
        scores = multilabel_scores(torch.stack(scores), torch.stack(present), self.top)
        summary = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        logger.info("%s, %d images: %s", self.dataset_name, len(kept), summary)
        if self.output_dir is not None:
            report = {"dataset": self.dataset_name, "num_images": len(kept), "scores": scores}
            write_report(self.output_dir / "multilabel_evaluation.json", report)
        return OrderedDict(multilabel=scores)

    def _presence(self, file_name: str, num_classes: int) -> Tensor:
        """(num_classes,) bool: which classes the ground truth of a picture shows."""
        item = self._items.get(file_name)
        if item is None:
            raise UserError(f"{file_name} is no picture of dataset {self.dataset_name!r}")
        ids = shown_classes(item, num_classes, self.ignore_label)
        present = torch.zeros(num_classes, dtype=torch.bool)
        present[torch.from_numpy(ids)] = True
        return present


def multilabel_scores(scores: Tensor, present: Tensor, top: Sequence[int]) -> dict[str, float]:
    """Scores in percent; nan where nothing is present.

    Args:
        scores: (N, C) of N pictures, the higher the likelier.
        present: (N, C) bool.
        top: numbers k of the likeliest classes; those above C are left out.
    Returns:
        ``mAP``: the mean over classes of the average precision with which they rank the pictures,
        the usual one; ``mAP-image``: the mean over pictures of that with which they rank the
        classes, as RankSeg's code computes it; ``recall@k`` over pictures that show something, and
        ``precision@k`` over all.
    """
    results = {
        "mAP": average_precision(scores.T, present.T),
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


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Of each row: the mean, over its positives, of the precision down to them.

    Entries of equal score stand at one place, so that their order does not matter.

    Args:
        scores: (R, N).
        positive: (R, N) bool.
    Returns:
        (R,) float64, nan of rows without a positive.
    """
    rows = []
    for part, mask in zip(scores.split(CHUNK), positive.split(CHUNK), strict=True):
        falling = -part.contiguous()
        ranked = falling.sort(dim=1).values
        hits = falling.masked_fill(~mask, torch.inf).sort(dim=1).values
        precision = _down_to(hits, falling) / _down_to(ranked, falling)
        rows.append((precision * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(rows)


def _down_to(ranked: Tensor, values: Tensor) -> Tensor:
    """How many of each row's ranked entries are at most as large as each value: (R, N) float64."""
    return torch.searchsorted(ranked, values, right=True).double()
