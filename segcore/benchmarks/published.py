"""Look up published scores: of an experiment by its config, and of other methods by data set."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from segcore.config import CONFIG_FOLDERS, load_config
from segcore.evaluation.mess import mess_datasets

TABLE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """The scores of one experiment in a paper or a model zoo.

    Attributes:
        method, source: the method, and the paper or model zoo.
        metric: the score of ours that it is comparable with.
        scores: percent, by registered name of the data set, or MESS's name.
        config: name of its config, if it is one of ours.
        settings: keys on top of the config.
        note: a remark for readers.
    """

    method: str
    source: str
    metric: str
    scores: Mapping[str, float]
    config: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def score_on(self, dataset: str) -> float | None:
        """Return the score in percent; None if there is none."""
        return self.scores.get(dataset, self.scores.get(_mess_title(dataset)))

    def differing(self, cfg: CfgNode) -> tuple[str, ...]:
        """Return the settings that differ from those of a config, as ``KEY value``."""
        return tuple(
            f"{key} {value}" for key, value in self.settings.items() if _value(cfg, key) != value
        )


@functools.cache
def published_table() -> tuple[Published, ...]:
    """Return all published scores, without the experiments of :func:`zoo_results`."""
    rows = json.loads(TABLE.read_text("utf-8"))["rows"]
    return tuple(Published(**row) for row in rows)


def published_for(config: str, cfg: CfgNode, dataset: str) -> tuple[Published, ...]:
    """Return the published scores of an experiment on a data set, one a metric.

    Args:
        config: its name, such as ``catseg_d2/vitb_384.yaml``.
        cfg: of the run; of several rows, the one with the most similar settings is returned.
        dataset: registered name.
    """
    rows = [
        row
        for row in (*published_table(), *zoo_results(config))
        if row.config == config and row.score_on(dataset) is not None
    ]
    rows.sort(key=lambda row: len(row.differing(cfg)), reverse=True)
    return tuple({row.metric: row for row in rows}.values())


def also_published(dataset: str) -> tuple[Published, ...]:
    """Return all published scores on a data set, the best first."""
    rows = [row for row in published_table() if row.score_on(dataset) is not None]
    return tuple(sorted(rows, key=lambda row: -row.score_on(dataset)))


def zoo_results(config: str) -> tuple[Published, ...]:
    """Return the entry of ``configs/published.json``: scores on the config's test data set.

    Scores with test-time augmentation ("mIoU (ms+flip)") are left out.
    """
    entry = _zoo().get(config, {"results": {}})
    known = {metric: entry["results"][metric] for metric in METRICS if metric in entry["results"]}
    if not known:
        return ()
    tested = load_config(config).DATASETS.TEST
    return tuple(
        Published(config, entry["source"], metric, dict.fromkeys(tested, value), config)
        for metric, value in known.items()
    )


METRICS = ("mIoU", "PQ", "AP")


@functools.cache
def _zoo() -> dict:
    for folder in CONFIG_FOLDERS:
        if (folder / "published.json").is_file():
            return json.loads((folder / "published.json").read_text("utf-8"))
    return {}


@functools.cache
def _mess_titles() -> dict[str, str]:
    """Return registered name -> MESS's name, of data sets with one part."""
    return {
        names[0]: title
        for members in mess_datasets().values()
        for title, names in members.items()
        if len(names) == 1
    }


def _mess_title(dataset: str) -> str:
    return _mess_titles().get(dataset, dataset)


def _value(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg
