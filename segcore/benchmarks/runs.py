"""Evaluating a model on many data sets, each kept with its passport as soon as it is finished."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm
from PIL import Image
from torch import nn

from segcore.benchmarks.examples import ExampleKeeper, Judged, Regions
from segcore.benchmarks.passport import SAME_SCORE, differences, make_passport, read_passport
from segcore.config import CONFIG_FOLDERS, find_config, load_config
from segcore.engine import Trainer
from segcore.errors import UserError
from segcore.evaluation.builder import inference_folder
from segcore.images import read_labels
from segcore.runtime.files import join_inside, replace, write_text
from segcore.vocabulary.files import read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One model, asked in one way.

    Attributes:
        title: what it is called on the page.
        config: name of its config.
        weights: its checkpoint.
        cfg: frozen, with ``MODEL.WEIGHTS`` and ``OUTPUT_DIR``.
        datasets: registered names.
        wording: what its passports say of the words, besides the vocabulary.
        options: keys and values on top of the config.
    """

    title: str
    config: str
    weights: str
    cfg: CfgNode
    datasets: tuple[str, ...]
    wording: Mapping[str, Any]
    options: tuple[str, ...]

    def folder(self, dataset: str) -> Path:
        """Where the result of a data set is."""
        return join_inside(self.cfg.OUTPUT_DIR, dataset, "the name of a data set")

    def passport(self, dataset: str) -> dict[str, Any]:
        """What a score made now would have."""
        return make_passport(
            self.cfg,
            dataset,
            Trainer.build_evaluator(self.cfg, dataset),
            config=self.config,
            weights=self.weights,
            options=self.options,
            wording=dict(self.wording),
        )


def make_run(
    title: str,
    config: str,
    weights: str,
    options: Sequence[str],
    folder: Path,
    datasets: Sequence[str],
    wording: Mapping[str, Any],
) -> Run:
    """A run, whose model returns the words of each data set where it reads any.

    Args:
        title, datasets, wording: of the run.
        config, weights: files.
        options: keys and values on top of the config.
        folder: where its results go.

    Raises:
        UserError: the config, or what is put on top of it, is wrong.
    """
    cfg = load_config(config, [*options, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(folder)])
    if "TEST_CLASS_JSON" in cfg.MODEL.SEM_SEG_HEAD:
        cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""
    cfg.freeze()
    return Run(title, config_name(config), weights, cfg, tuple(datasets), wording, tuple(options))


def config_name(config: str) -> str:
    """What a config is called: below the folder of configs, or its path."""
    path = find_config(config).resolve()
    for folder in CONFIG_FOLDERS:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(config)


@dataclass(frozen=True)
class Result:
    """What came out on a data set.

    Attributes:
        passport: how.
        scores: task -> score -> percent, None where there was nothing to score.
        classes: class -> score -> percent, where a task tells classes apart.
        folder: where its files are.
        worst, best: dicts with ``score``, ``image`` and the names of the files ``ground truth`` and
            ``prediction``, and of these the ``classes``.
    """

    passport: dict[str, Any]
    scores: dict[str, dict[str, float | None]]
    classes: dict[str, dict[str, float | None]]
    folder: Path
    worst: Sequence[dict] = ()
    best: Sequence[dict] = ()

    @property
    def dataset(self) -> str:
        return self.passport["dataset"]["name"]

    @property
    def summary(self) -> dict[str, float | None]:
        """The scores of the whole data set."""
        return {name: value for task in self.scores.values() for name, value in task.items()}

    def write(self) -> None:
        """``passport.json``, then ``result.json``: there is either a whole result or none."""
        content = {
            "scores": self.scores,
            "classes": self.classes,
            "worst": list(self.worst),
            "best": list(self.best),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "passport.json", json.dumps(self.passport, indent=1) + "\n")
        write_text(self.folder / "result.json", json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Result":
        """
        Raises:
            UserError: it is not there, or damaged.
        """
        content = read_json(folder / "result.json")
        try:
            return cls(read_passport(folder / "passport.json"), folder=folder, **content)
        except TypeError as error:
            raise UserError(f"{folder / 'result.json'} is no result of an evaluation") from error


def finished(run: Run, dataset: str, passport: dict[str, Any]) -> bool:
    """Whether a result is there that was made as it would be now; versions may have changed."""
    folder = run.folder(dataset)
    if not (folder / "result.json").is_file():
        return False
    try:
        changed = differences(Result.read(folder).passport, passport, without=SAME_SCORE)
    except UserError as error:
        logger.warning("%s is evaluated again: %s", dataset, error)
        return False
    if changed:
        logger.warning("%s is evaluated again; what differs: %s", dataset, "; ".join(changed))
    return not changed


def evaluate(
    run: Run, model: nn.Module, dataset: str, passport: dict[str, Any], examples: int
) -> None:
    """Evaluate on one data set; the main process writes the result.

    What an interrupted evaluation has done is not done again.

    Args:
        run: which it is a part of.
        model: with its weights.
        dataset: registered name.
        passport: that of its scores.
        examples: how many of the best and of the worst images are kept.
    """
    keeper = ExampleKeeper(Trainer.build_evaluator(run.cfg, dataset), dataset, examples)
    scores = Trainer.test(only_on(run.cfg, dataset), model, [keeper])
    if not comm.is_main_process():
        return
    summary, classes = split_classes(scores)
    for name, values in _panoptic_classes(run, dataset).items():
        classes[name] = values | classes.get(name, {})
    folder = run.folder(dataset)
    worst, best = keeper.examples()
    Result(
        passport,
        summary,
        classes,
        folder,
        _write_examples(worst, folder, "worst"),
        _write_examples(best, folder, "best"),
    ).write()


def only_on(cfg: CfgNode, dataset: str) -> CfgNode:
    """The config with one data set to test on."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (dataset,)
    cfg.freeze()
    return cfg


def split_classes(
    scores: Mapping[str, Mapping[str, float]],
) -> tuple[dict[str, dict[str, float | None]], dict[str, dict[str, float | None]]]:
    """What evaluators return, as scores by task and as scores by class ("IoU-cat"); nan is None."""
    summary: dict[str, dict[str, float | None]] = {}
    classes: dict[str, dict[str, float | None]] = {}
    for task, values in scores.items():
        summary[task] = {}
        for name, value in values.items():
            value = None if math.isnan(value) else value
            metric, _, subject = name.partition("-")
            if subject and metric in ("IoU", "ACC", "AP"):
                classes.setdefault(subject, {})[metric] = value
            else:
                summary[task][name] = value
    return summary, classes


def _panoptic_classes(run: Run, dataset: str) -> dict[str, dict[str, float]]:
    """What the panoptic evaluator writes down of single classes."""
    path = inference_folder(run.cfg, dataset) / "panoptic_evaluation.json"
    return read_json(path)["categories"] if path.is_file() else {}


def _write_examples(examples: Sequence[Judged], folder: Path, kind: str) -> list[dict]:
    """Label maps as files; returns what the result says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, each in enumerate(examples, 1):
        entry = {"score": each.score, "image": each.image}
        for name, regions in (("ground_truth", each.ground_truth), ("prediction", each.prediction)):
            file = f"{kind}-{number}-{name}.png"
            image = Image.fromarray(regions.numbers.astype(np.uint16))
            replace(folder / file, partial(image.save, format="png"))
            entry[name] = {"file": file, "classes": list(regions.classes)}
        entries.append(entry)
    return entries


def read_regions(folder: Path, entry: Mapping[str, Any]) -> Regions:
    """One of the maps that a result names.

    Raises:
        UserError: it cannot be read.
    """
    file = join_inside(folder, entry["file"], str(folder / "result.json"))
    return Regions(read_labels(file).astype(np.int64), tuple(entry["classes"]))
