"""Evaluate a model on many data sets, and write each result with its passport when finished."""

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

from segcore.benchmarks.examples import Example, ExampleKeeper, Regions
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
    """One model with one configuration.

    Attributes:
        title: its name on the page.
        config: name of its config.
        weights: its checkpoint.
        cfg: frozen, with ``MODEL.WEIGHTS`` and ``OUTPUT_DIR``.
        datasets: registered names.
        prompts: templates and synonyms of an open-vocabulary model, for its passports.
        options: keys and values on top of the config.
    """

    title: str
    config: str
    weights: str
    cfg: CfgNode
    datasets: tuple[str, ...]
    prompts: Mapping[str, Any]
    options: tuple[str, ...]

    def folder(self, dataset: str) -> Path:
        """Return the folder of the result on a data set."""
        return join_inside(self.cfg.OUTPUT_DIR, dataset, "the name of a data set")

    def passport(self, dataset: str) -> dict[str, Any]:
        """Return the passport that a score would have now."""
        return make_passport(
            self.cfg,
            dataset,
            Trainer.build_evaluator(self.cfg, dataset),
            config=self.config,
            weights=self.weights,
            options=self.options,
            prompts=dict(self.prompts),
        )


def make_run(
    title: str,
    config: str,
    weights: str,
    options: Sequence[str],
    folder: Path,
    datasets: Sequence[str],
    prompts: Mapping[str, Any],
) -> Run:
    """Build a run; an open-vocabulary model gets the vocabulary of each data set.

    Args:
        title, datasets, prompts: of the run.
        config, weights: files.
        options: keys and values on top of the config.
        folder: of its results.

    Raises:
        UserError: the config or the options are wrong.
    """
    cfg = load_config(config, [*options, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(folder)])
    if "TEST_CLASS_JSON" in cfg.MODEL.SEM_SEG_HEAD:
        cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""
    cfg.freeze()
    return Run(title, config_name(config), weights, cfg, tuple(datasets), prompts, tuple(options))


def config_name(config: str) -> str:
    """Return the name of a config: its path below the folder of configs, or its whole path."""
    path = find_config(config).resolve()
    for folder in CONFIG_FOLDERS:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(config)


@dataclass(frozen=True)
class Result:
    """The scores on a data set.

    Attributes:
        passport: the run manifest.
        scores: task -> score -> percent, None if there was nothing to score.
        classes: class -> score -> percent, of tasks with scores by class.
        folder: of its files.
        worst, best: dicts with ``score``, ``image``, ``ground_truth`` and ``prediction``; the
            latter two have ``file`` and ``classes``.
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
        """Write ``passport.json``, then ``result.json``: a result is complete or absent."""
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
        """Read the result in a folder.

        Raises:
            UserError: it is missing or damaged.
        """
        content = read_json(folder / "result.json")
        try:
            return cls(read_passport(folder / "passport.json"), folder=folder, **content)
        except TypeError as error:
            raise UserError(f"{folder / 'result.json'} is no result of an evaluation") from error


def finished(run: Run, dataset: str, passport: dict[str, Any]) -> bool:
    """Return whether a result with the same passport exists; versions may differ."""
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

    An interrupted evaluation is resumed.

    Args:
        run: of the evaluation.
        model: with its weights.
        dataset: registered name.
        passport: of its scores.
        examples: number of the kept best images, and of the worst ones.
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
    """Return the config with one data set to test on."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (dataset,)
    cfg.freeze()
    return cfg


def split_classes(
    scores: Mapping[str, Mapping[str, float]],
) -> tuple[dict[str, dict[str, float | None]], dict[str, dict[str, float | None]]]:
    """Split results of evaluators into scores by task and by class ("IoU-cat"); nan is None."""
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
    """Return the scores by class in the panoptic evaluator's file."""
    path = inference_folder(run.cfg, dataset) / "panoptic_evaluation.json"
    return read_json(path)["categories"] if path.is_file() else {}


def _write_examples(examples: Sequence[Example], folder: Path, kind: str) -> list[dict]:
    """Write the label maps of examples; return their entries in the result."""
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
    """Read one of the maps of a result.

    Raises:
        UserError: it cannot be read.
    """
    file = join_inside(folder, entry["file"], str(folder / "result.json"))
    return Regions(read_labels(file).astype(np.int64), tuple(entry["classes"]))
