"""Evaluate retrieval between images and captions: recall among the nearest."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from segcore.datasets import check_registered
from segcore.errors import UserError
from segcore.evaluation.report import write_report
from segcore.evaluation.rows import Rows
from segcore.evaluation.stateful import StatefulEvaluator

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10)
CHUNK = 1 << 24  # entries of the similarity matrix in memory at a time


class RetrievalEvaluator(StatefulEvaluator):
    """Compute recall in both directions; keeps two (N, C) embeddings, not similarities (N, N).

    Scores do not depend on the number of processes, to the last digit.
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
            dataset_name: a registered data set of captions.
            distributed: gather the embeddings of all processes; only the main one returns scores.
            output_dir: folder for ``retrieval_evaluation.json``; None writes nothing.

        Raises:
            UserError: the data set is unknown.
        """
        check_registered([dataset_name])
        self.dataset_name = dataset_name
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        self._images, self._texts = Rows(), Rows()
        self._captions: list[str] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep a batch.

        Args:
            inputs: dicts with ``caption``.
            outputs: dicts with ``image_embedding`` and ``text_embedding`` (C,), of unit norm.

        Raises:
            UserError: the model returns no embeddings.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if not {"image_embedding", "text_embedding"} <= output.keys():
                raise UserError(
                    f"dataset {self.dataset_name!r} measures retrieval, which needs a model that "
                    "embeds images and captions: set MODEL.META_ARCHITECTURE ContrastiveCLIP, or "
                    "name another data set in DATASETS.TEST"
                )
            self._images.append(output["image_embedding"].float().cpu())
            self._texts.append(output["text_embedding"].float().cpu())
            self._captions.append(item["caption"])

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"retrieval": {score: percent}}``; None in all but the main process."""
        states = self.gather_states()
        if not states:
            return None
        captions = [caption for state in states for caption in state["captions"]]
        if not captions:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        images, texts = (
            torch.cat([state[kind] for state in states if state["captions"]])
            for kind in ("images", "texts")
        )
        scores = retrieval_scores(images, texts, captions)
        summary = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        logger.info("%s, %d pairs: %s", self.dataset_name, len(captions), summary)
        if self.output_dir is not None:
            report = {"dataset": self.dataset_name, "num_pairs": len(captions), "scores": scores}
            write_report(self.output_dir / "retrieval_evaluation.json", report)
        return OrderedDict(retrieval=scores)

    def state(self) -> dict:
        tables = {"images": self._images.table(), "texts": self._texts.table()}
        return {"captions": self._captions} | tables

    def load_state(self, state: dict) -> None:
        self.reset()
        if state["captions"]:
            self._captions = list(state["captions"])
            self._images, self._texts = Rows(state["images"]), Rows(state["texts"])


def retrieval_scores(images: Tensor, texts: Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Return recall at 1, 5 and 10 in both directions, in percent.

    Images with equal captions are correct for each other's captions.

    Args:
        images, texts: (N, C), row i of both is one pair.
        captions: the N captions.
    """
    known: dict[str, int] = {}
    groups = torch.tensor([known.setdefault(caption, len(known)) for caption in captions])
    scores = {}
    for direction, queries, candidates in (
        ("image_to_text", images, texts),
        ("text_to_image", texts, images),
    ):
        rank = ranks(queries, candidates, groups)
        for k in RECALL_AT:
            scores[f"{direction}_R@{k}"] = 100 * (rank < k).double().mean().item()
    return scores


def ranks(queries: Tensor, candidates: Tensor, groups: Tensor) -> Tensor:
    """Return the rank of each query's nearest correct candidate, from 0: (N,) int64.

    It is the number of wrong candidates that are at least as near.

    Args:
        queries, candidates: (N, C).
        groups: (N,) int64; candidates of the query's group are correct.
    """
    found = []
    rows = max(CHUNK // len(candidates), 1)
    for query, group in zip(queries.split(rows), groups.split(rows), strict=True):
        similarity = query @ candidates.T
        right = group[:, None] == groups
        best = similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        # Not ">= best", so that a model that embeds everything alike, or as NaN, has no recall.
        found.append((~right & ~(similarity < best)).sum(dim=1))
    return torch.cat(found)
