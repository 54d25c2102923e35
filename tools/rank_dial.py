#!/usr/bin/env python3
"""Print how recall and scores of CAT-Seg depend on the number of classes that are kept.

    python tools/rank_dial.py --config-file catseg_d2/scenes_1k.yaml \
        --adapters head_0.safetensors head_1.safetensors -- \
        MODEL.WEIGHTS model.safetensors TEST.PATCH_INFERENCE.OUTPUT_SIZE 128 \
        TEST.PATCH_INFERENCE.TILE 96

Selectors of the classes that enter the aggregation: the highest cosine similarity at any position
of the whole image; of any tile or the global view (patch inference); and the ranking head of each
adapter, on the whole image.

- recall: share of the classes in an image that are among its top K, of all (seen / unseen) classes;
- scores: mIoU of seen and of unseen classes and their harmonic mean, for each K ("all" as a word).

Finished rows are kept in --output and not computed again. bench/rank_dial.py measures time and
memory.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2  # adds its model and its config keys

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import Tensor
from tqdm import tqdm

from catrank import load_config
from catseg_d2.aggregator import cost_volume
from catseg_d2.config import check_open_vocabulary, patches_from_config
from catseg_d2.patches import WholeImage
from segcore.datasets import semantic_metadata, shown_classes
from segcore.drawing.curves import curves_svg
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.evaluation import SemanticEvaluator
from segcore.evaluation.resuming import config_hash, weights_hash
from segcore.rankseg.dial import ClassesKept
from segcore.runtime.files import path_argument, write_text, writing
from segcore.vocabulary import Vocabulary

COLUMNS = ("mIoU-seen", "mIoU-unseen", "hIoU")
WHOLE, PATCHES = "cosine", "cosine, best patch with global view"


class Dial:
    """A model with one of the selectors, on one data set.

    Args:
        cfg: of the model; ``MODEL.RANKSEG.WEIGHTS`` is its adapter, if any.
        patches: use patch inference.
        images: how many of the data set, from the first on; 0 = all.

    Raises:
        UserError: the data set does not say which classes are seen, or the weights do not fit.
    """

    def __init__(self, cfg: CfgNode, *, patches: bool, images: int) -> None:
        self.cfg, self.dataset, self.images = cfg, cfg.DATASETS.TEST[0], images
        self.vocabulary = Vocabulary.load(semantic_metadata(self.dataset).vocabulary)
        if self.vocabulary.seen is None:
            raise UserError(
                f"{self.dataset}: its vocabulary {self.vocabulary.name!r} does not say which "
                'classes are seen: give every class "seen": true or false'
            )
        self.model: catseg_d2.CATSeg = Trainer.build_model(cfg)
        build_checkpointer(cfg, self.model).load_for_use(cfg.MODEL.WEIGHTS)
        self.model.patches = patches_from_config(cfg) if patches else None
        self.model.set_vocabulary(self.vocabulary)

    @property
    def key(self) -> str:
        """A hash of all that the rows depend on."""
        parts = (config_hash(self.cfg), weights_hash(self.model), self.images)
        text = json.dumps([*map(str, parts), self.model.patches is not None])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def recall(self, numbers: Sequence[int], row: str) -> dict[str, list[float]]:
        """Return for each number the recall in percent: [all, seen, unseen] classes.

        A class ranks by its highest score in any crop.
        """
        records = {each["file_name"]: each for each in DatasetCatalog.get(self.dataset)}
        seen = torch.tensor(self.vocabulary.seen)
        ignore = semantic_metadata(self.dataset).ignore_label
        found = {number: torch.zeros(2) for number in numbers}
        shown = torch.zeros(2)
        for item in self._items(f"recall: {row}"):
            order = self._scores(item["image"]).argsort(descending=True).cpu()
            rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
            record = records[item["file_name"]]
            present = torch.from_numpy(shown_classes(record, len(order), ignore))
            groups = torch.stack([seen[present], ~seen[present]]).float()
            shown += groups.sum(dim=1)
            for number in numbers:
                found[number] += groups @ (rank[present] < number).float()
        return {
            str(number): [float(100 * hits.sum() / shown.sum()), *(100 * hits / shown).tolist()]
            for number, hits in found.items()
        }

    def scores(self, kept: ClassesKept, row: str) -> list[float]:
        """Return the scores of ``COLUMNS`` in percent with ``kept`` classes."""
        evaluator = SemanticEvaluator(self.dataset, distributed=False)
        for item in self._items(row):
            with torch.inference_mode():
                outputs = self.model([item | {"classes_kept": kept}])
            evaluator.process([item], outputs)
        scores = evaluator.evaluate()["sem_seg"]
        return [scores[name] for name in COLUMNS]

    @torch.inference_mode()
    def _scores(self, image: Tensor) -> Tensor:
        """Return the score (T,) by which each class of an image ranks, without the aggregation."""
        model = self.model
        text = model.text_cache.get(model.clip, model.vocabulary, model.templates)
        size = tuple(image.shape[-2:])
        plan = WholeImage(size) if model.patches is None else model.patches.plan(*size)
        best = None
        for crop in plan.cut(image.to(model.device)):
            features, _ = model.clip.encode_image(model.to_clip(crop[None]))
            if model.ranking is None:
                scores = cost_volume(features, text)[0].flatten(1).amax(dim=1)
            else:
                scores = model.ranking.head(features, text)[0]
            best = scores if best is None else torch.maximum(best, scores)
        return best

    def _items(self, row: str) -> Iterator[dict]:
        batches = Trainer.build_test_loader(self.cfg, self.dataset)
        number = min(self.images or len(batches), len(batches))
        for batch in tqdm(itertools.islice(batches, number), desc=row, total=number):
            yield from batch


class Rows:
    """Finished rows in a JSON file: name -> numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._rows = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # absent or damaged: no row is done
            self._rows = {}

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> object:
        return self._rows[name]

    def add(self, name: str, numbers: object) -> None:
        """Keep a row."""
        self._rows[name] = numbers
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(self._rows, indent=1) + "\n")


def selectors(cfg: CfgNode, adapters: Sequence[str]) -> Iterator[tuple[str, CfgNode, bool]]:
    """Yield name, config and whether patches are used, of every selector."""
    yield WHOLE, cfg, False
    yield PATCHES, cfg, True
    for adapter in adapters:
        ranked = cfg.clone()
        ranked.defrost()
        ranked.MODEL.RANKSEG.WEIGHTS = adapter
        yield f"head, {Path(adapter).stem}", ranked, False


def as_cells(recall: Sequence[float]) -> str:
    """Return the recall of all (seen / unseen) classes."""
    return "{:.1f} ({:.1f} / {:.1f})".format(*recall)


def table_row(cells: Sequence[object]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def compare(arguments: argparse.Namespace, cfg: CfgNode) -> None:
    """Compute the rows that are not done yet, and print the tables."""
    rows = Rows(arguments.output)
    names, kept = [], [ClassesKept.parse(each, "--keep") for each in arguments.keep]
    for name, changed, patches in selectors(cfg, arguments.adapters):
        dial = Dial(changed, patches=patches, images=arguments.images)
        names.append((name, dial.key))
        if arguments.recall and (key := f"{dial.key} recall") not in rows:
            rows.add(key, dial.recall(arguments.recall, name))
        for each, text in zip(kept, arguments.keep, strict=True):
            if each.threshold and dial.model.ranking is None:
                continue  # cosine similarities are no probabilities
            if (key := f"{dial.key} {text}") not in rows:
                rows.add(key, dial.scores(each, f"{name}, {text} kept"))
    if arguments.recall:
        print(table_row(["recall, percent", *(f"top {n}" for n in arguments.recall)]))
        print(table_row(["---"] * (1 + len(arguments.recall))))
        for name, key in names:
            found = rows[f"{key} recall"]
            print(table_row([name, *(as_cells(found[str(n)]) for n in arguments.recall)]))
        print()
    if kept:
        print(table_row(["mIoU, percent", "classes kept", "seen", "unseen", "harmonic mean"]))
        print(table_row(["---"] * 5))
        for (name, key), text in itertools.product(names, arguments.keep):
            if f"{key} {text}" in rows:
                cells = [f"{number:.1f}" for number in rows[f"{key} {text}"]]
                print(table_row([name, text, *cells]))
    if arguments.plot is not None:
        with writing(arguments.plot) as file:
            file.write(as_svg(rows, names, arguments.keep, len(dial.vocabulary)).encode())


def as_svg(rows: Rows, names: Sequence[tuple[str, str]], keep: Sequence[str], most: int) -> str:
    """Return the harmonic mean against the number of kept classes; "all" is ``most``."""
    numbers = {text: most if text == "all" else int(text) for text in keep if _is_number(text)}
    curves = {
        name: sorted((number, rows[f"{key} {text}"][-1]) for text, number in numbers.items())
        for name, key in names
    }
    return curves_svg(curves, "classes kept (harmonic mean of mIoU, percent)", logarithmic=True)


def _is_number(text: str) -> bool:
    return text == "all" or text.isdecimal()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, help="config of the model")
    add("--adapters", nargs="*", default=[], metavar="FILE", help="rank adapters of the model")
    add("--recall", type=int, nargs="*", default=[8, 16, 32, 64, 128], metavar="K")
    add("--keep", nargs="*", default=["8", "16", "32", "64", "128", "all"], metavar="K",
        help="as of catrank segment: a number, a probability, both (32,0.05) or all")  # fmt: skip
    add("--images", type=int, default=0, metavar="N", help="the first N images; 0: all")
    add("--output", type=Path, default=Path("output/rank_dial.json"), metavar="FILE",
        help="finished rows (output/rank_dial.json)")  # fmt: skip
    add("--plot", type=path_argument, metavar="FILE", help="write the curves of the scores, .svg")
    add("opts", nargs="*", help="KEY VALUE pairs, after -- where they follow a list")
    arguments = parser.parse_args()
    if arguments.images < 0 or any(number < 1 for number in arguments.recall):
        raise UserError("--images takes a number of images, 0 for all, and --recall numbers from 1")
    if arguments.plot and not (
        arguments.plot.suffix == ".svg" and any(map(_is_number, arguments.keep))
    ):
        raise UserError("--plot needs a name that ends in .svg, and numbers of --keep")
    cfg = load_config(arguments.config_file, ["TEST.SEM_SEG_OUTPUT", "labels", *arguments.opts])
    check_open_vocabulary(cfg, arguments.config_file)
    if len(cfg.DATASETS.TEST) != 1 or not cfg.MODEL.WEIGHTS:
        raise UserError("set MODEL.WEIGHTS, and DATASETS.TEST to one data set")
    logging.getLogger("fvcore").setLevel(logging.WARNING)
    compare(arguments, cfg)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
