"""Write the multi-label scores of a data set's images to a file instead of evaluating them."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from segcore.datasets import check_registered
from segcore.datasets.category_scores import NAME, image_names, write_scores
from segcore.errors import UserError
from segcore.evaluation.rows import Rows
from segcore.evaluation.stateful import StatefulEvaluator

logger = logging.getLogger(__name__)


class CategoryScoresWriter(StatefulEvaluator):
    """Write ``category_scores.safetensors``: see :mod:`segcore.datasets.category_scores`.

    Its contents do not depend on the number of processes.
    """

    needed = True

    def __init__(
        self, dataset_name: str, *, output_dir: str | Path, distributed: bool = True
    ) -> None:
        """
        Args:
            dataset_name: a registered data set of images.
            output_dir: folder of the file.
            distributed: gather the scores of all processes; only the main one writes.

        Raises:
            UserError: the data set is unknown.
        """
        check_registered([dataset_name])
        self.dataset_name = dataset_name
        self.path = Path(output_dir) / NAME
        self.distributed = distributed
        self.reset()

    def reset(self) -> None:
        self._files: list[str] = []
        self._logits = Rows()

    @cached_property
    def _names(self) -> dict[str, str]:
        return image_names(self.dataset_name)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep a batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``category_logits`` (C,).

        Raises:
            UserError: an image is none of the data set.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if item["file_name"] not in self._names:
                raise UserError(f"{item['file_name']} is no image of dataset {self.dataset_name!r}")
            self._files.append(item["file_name"])
            self._logits.append(output["category_logits"].float())

    def evaluate(self) -> OrderedDict | None:
        """Write the file in the main process; there are no results.

        Raises:
            UserError: an image has no scores, or the file cannot be written.
        """
        states = self.gather_states()
        if not states:
            return None
        logits: dict[str, Tensor] = {}
        for state in states:
            logits |= dict(zip(state["files"], state["logits"], strict=True))
        missing = [file for file in self._names if file not in logits]
        if missing:
            raise UserError(f"{missing[0]} of dataset {self.dataset_name!r} was not classified")
        rows = torch.stack([logits[file] for file in self._names])
        names = list(self._names.values())
        write_scores(self.path, self.dataset_name, names, rows, self.weights)
        logger.info("Wrote the scores of %d images to %s", len(rows), self.path)
        return OrderedDict()

    def state(self) -> dict:
        return {"files": self._files, "logits": self._logits.table()}

    def load_state(self, state: dict) -> None:
        self.reset()
        if state["files"]:
            self._files, self._logits = list(state["files"]), Rows(state["logits"])
