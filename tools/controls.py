#!/usr/bin/env python3
"""Compare a trained CAT-Seg with controls that could explain its scores more cheaply.

    python tools/controls.py --config-file configs/catseg_d2/scenes_60.yaml \
        MODEL.WEIGHTS model.safetensors DATASETS.TEST "('scenes_60_test',)"

Every row is the mIoU of the seen and of the unseen classes, and their harmonic mean:

- decoded: the model as it is, all classes competing; ``--kept 32`` decodes the 32 best-ranked
  classes of each crop alone, and ``--kept 0 32`` does both, in two rows;
- raw cost volume: the encoders without the aggregation, each position the class of the nearest
  text embedding;
- shuffled words: decoded, but every class is asked for by the words of another. A model that reads
  the words fails here; one that learned the classes by their numbers does not.

The nearest mean colour, the least that a model has to beat, is tools/nearest_colour.py. With
``--recall`` a second table says how many of the classes that an image shows are among its
best-ranked K.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2  # adds its model and its config keys

# isort: split
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import Tensor, nn
from tqdm import tqdm

from catrank import load_config
from catseg_d2.config import check_open_vocabulary
from segcore.datasets import semantic_metadata
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.evaluation import SemanticEvaluator
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

COLUMNS = ("mIoU-seen", "mIoU-unseen", "hIoU")


class CostAlone(nn.Module):
    """Replaces the aggregator and returns the cost volume itself."""

    def forward(self, features: Tensor, guidance: object, cost: Tensor, text: Tensor) -> Tensor:
        """The mean cosine over the prompts of a class: cost (B, T, P, H, W) -> (B, T, H, W)."""
        return cost.mean(dim=2)


class Ranking(CostAlone):
    """Notes how high every class comes in the crops that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: list[Tensor] = []

    def forward(self, features: Tensor, guidance: object, cost: Tensor, text: Tensor) -> Tensor:
        self.peaks.append(cost.flatten(2).amax(dim=(0, 2)))
        return super().forward(features, guidance, cost, text)


def shuffled(vocabulary: Vocabulary, seed: int = 0) -> Vocabulary:
    """The same classes, each with the words of another; none keeps its own where there are two."""
    order = torch.randperm(len(vocabulary), generator=torch.Generator().manual_seed(seed)).tolist()
    successor = dict(zip(order, order[1:] + order[:1], strict=True))
    words = [successor[number] for number in range(len(vocabulary))]
    return replace(
        vocabulary,
        name=f"{vocabulary.name}, shuffled",
        prompts=tuple(vocabulary.prompts[number] for number in words),
        synonyms=tuple(vocabulary.synonyms[number] for number in words),
    )


class Controls:
    """Evaluates a model and its controls on one data set.

    Args:
        cfg: how its images are read.
        model: any CAT-Seg; after each call it is as it was.
        dataset: a registered semantic data set.
        images: how many of it, from the first on; 0 = all.

    Raises:
        UserError: the data set is unknown, or does not say which classes are seen.
    """

    def __init__(
        self, cfg: CfgNode, model: catseg_d2.CATSeg, dataset: str, images: int = 0
    ) -> None:
        self.cfg, self.model, self.dataset = cfg, model.eval(), dataset
        self.images = images
        self.vocabulary = Vocabulary.load(semantic_metadata(dataset).vocabulary)
        if self.vocabulary.seen is None:
            raise UserError(
                f"{dataset}: its vocabulary {self.vocabulary.name!r} does not say which classes "
                'are seen: give every class "seen": true or false'
            )

    def table(self, kept: Sequence[int] = (0,)) -> Iterator[tuple[str, dict[str, float]]]:
        """Each row, and the evaluator's scores in percent; ``kept`` classes decode, 0 = all."""
        words, aggregator = self.vocabulary, self.model.aggregator
        rows = {
            f"decoded, best {number} kept" if number else "decoded": (words, number, aggregator)
            for number in kept
        }
        rows["raw cost volume"] = (words, 0, CostAlone())
        rows["shuffled words"] = (shuffled(words), kept[-1], aggregator)
        for row, how in rows.items():
            yield row, self._scores(row, *how)

    def recall(self, numbers: Sequence[int]) -> dict[int, float]:
        """Share, in percent, of the classes that images show which are among their best-ranked.

        A class ranks by its highest cosine in any crop. ``numbers``: how many are kept.
        """
        label_files = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in DatasetCatalog.get(self.dataset)
        }
        ranking = Ranking()
        found, shown = dict.fromkeys(numbers, 0), 0
        for batch, _ in self._predictions("ranking", self.vocabulary, 0, ranking):
            best = torch.stack(ranking.peaks).amax(dim=0).argsort(descending=True)
            ranking.peaks.clear()
            labels = read_labels(label_files[batch[0]["file_name"]])
            present = torch.from_numpy(np.unique(labels[labels < len(best)]).astype(np.int64))
            shown += len(present)
            for number in numbers:
                found[number] += int(torch.isin(present, best[:number].cpu()).sum())
        return {number: 100 * hits / shown for number, hits in found.items()}

    def _scores(
        self, row: str, words: Vocabulary, max_classes: int, aggregator: nn.Module
    ) -> dict[str, float]:
        evaluator = SemanticEvaluator(self.dataset, distributed=False)
        for batch, predictions in self._predictions(row, words, max_classes, aggregator):
            evaluator.process(batch, predictions)
        return evaluator.evaluate()["sem_seg"]

    @torch.inference_mode()
    def _predictions(
        self, row: str, words: Vocabulary, max_classes: int, aggregator: nn.Module
    ) -> Iterator[tuple[list[dict], list[dict]]]:
        """Every batch with the predictions of the model, changed for as long."""
        model = self.model
        before = model.vocabulary, model.max_classes, model.aggregator
        model.set_vocabulary(words)
        model.max_classes, model.aggregator = max_classes, aggregator
        try:
            batches = Trainer.build_test_loader(self.cfg, self.dataset)
            number = min(self.images or len(batches), len(batches))
            for batch in tqdm(itertools.islice(batches, number), desc=row, total=number):
                yield batch, model(batch)
        finally:
            model.max_classes, model.aggregator = before[1:]
            if before[0] is not None:
                model.set_vocabulary(before[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="config of the model")
    parser.add_argument("--kept", type=int, nargs="+", default=[0], metavar="K")
    parser.add_argument("--recall", type=int, nargs="+", default=[], metavar="K")
    parser.add_argument(
        "--images",
        "--pictures",
        type=int,
        default=0,
        metavar="N",
        help="the first N images; 0: all",
    )
    parser.add_argument(
        "opts", nargs="*", help="KEY VALUE pairs, after -- where they follow a list"
    )
    arguments = parser.parse_args()
    if arguments.images < 0:
        raise UserError(f"--images is {arguments.images}: use a number of images, 0 for all")
    # Of some thousand classes the scores at every pixel take longer than the model.
    labels = ["TEST.SEM_SEG_OUTPUT", "labels"]
    cfg = load_config(arguments.config_file, labels + arguments.opts)
    check_open_vocabulary(cfg, arguments.config_file)
    if len(cfg.DATASETS.TEST) != 1 or not cfg.MODEL.WEIGHTS:
        raise UserError("set MODEL.WEIGHTS, and DATASETS.TEST to one data set")
    logging.getLogger("fvcore").setLevel(logging.WARNING)
    model = Trainer.build_model(cfg)
    build_checkpointer(cfg, model).load_for_use(cfg.MODEL.WEIGHTS)
    controls = Controls(cfg, model, cfg.DATASETS.TEST[0], arguments.images)
    for row, scores in controls.table(arguments.kept):
        columns = "".join(f"  {name} {scores[name]:5.2f}" for name in COLUMNS)
        print(f"{row:24}{columns}", flush=True)
    if arguments.recall:
        for number, recall in controls.recall(arguments.recall).items():
            print(f"among the best {number:4}: {recall:5.1f} % of the classes shown")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
