"""Compare the results of an evaluation with published scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from segcore.benchmarks.published import Published, published_for
from segcore.benchmarks.runs import Result, Run
from segcore.benchmarks.suites import MESS
from segcore.datasets.status import Status
from segcore.evaluation.mess import MessScores, aggregate

HEADLINES = ("PQ", "mIoU", "AP")  # the main score of a data set is the first of these that it has


@dataclass(frozen=True)
class Row:
    """One model on one data set.

    Attributes:
        run, result: the evaluation and its scores.
        published: scores of the same experiment, one a metric.
    """

    run: Run
    result: Result
    published: tuple[Published, ...]

    @property
    def dataset(self) -> str:
        return self.result.dataset

    @property
    def metric(self) -> str | None:
        """The name of the main score; None if the ground truth is not public."""
        if self.dataset in MESS:
            return "mIoU_union"
        return next((name for name in HEADLINES if name in self.result.summary), None)

    @property
    def score(self) -> float | None:
        """The main score, in percent."""
        return self.result.summary.get(self.metric)

    @property
    def expected(self) -> tuple[Published, float] | None:
        """The published row and value of the main score."""
        for each in self.published:
            if each.metric == self.metric:
                return each, each.score_on(self.dataset)
        return None


@dataclass(frozen=True)
class Report:
    """The results of one command.

    Attributes:
        title: of the page.
        rows: by data set, then by model.
        missing: data sets of the suite that are not on the disk, and instructions to get them.
        incomplete: data sets with another number of images than the benchmark.
    """

    title: str
    rows: Sequence[Row]
    missing: Sequence[tuple[Status, str]] = ()
    incomplete: Mapping[str, Status] = field(default_factory=dict)

    def by_dataset(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield each data set with the rows of all models."""
        for name, rows in groupby(self.rows, key=lambda row: row.dataset):
            yield name, list(rows)

    def mess(self) -> dict[str, MessScores]:
        """Return the scores of MESS by model, of models evaluated on any of its data sets."""
        scores: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if row.dataset in MESS and row.score is not None:
                scores.setdefault(row.run.title, {})[row.dataset] = row.score
        return {title: aggregate(each) for title, each in scores.items() if _whole(each)}


def make_report(
    title: str,
    results: Sequence[tuple[Run, Result]],
    missing: Sequence[tuple[Status, str]],
    incomplete: Mapping[str, Status],
) -> Report:
    """Build a report, in which the rows of a data set follow each other."""
    rows = [
        Row(run, result, published_for(run.config, run.cfg, result.dataset))
        for run, result in results
    ]
    order = list(dict.fromkeys(row.dataset for row in rows))
    rows.sort(key=lambda row: order.index(row.dataset))
    return Report(title, rows, missing, incomplete)


def _whole(scores: Mapping[str, float]) -> bool:
    """Return whether a data set of MESS is complete: PAXRay-4 has four parts."""
    parts = {name for name in scores if name.startswith("paxray")}
    return len(scores) > len(parts) or len(parts) == 4


def remarks(report: Report, rows: Sequence[Row]) -> list[str]:
    """Return remarks for readers about the scores of a data set."""
    found = []
    status = report.incomplete.get(rows[0].dataset)
    if status is not None:
        found.append(
            f"There are {status.found:,} {status.unit} here, the benchmark has "
            f"{status.published:,}: the scores are not comparable with published ones."
        )
    for row in rows:
        if row.expected is None:
            continue
        published, value = row.expected
        text = f"Published for {row.run.config}: {published.metric} {value} ({published.source})."
        differing = published.differing(row.run.cfg)
        if differing:
            text += f" That run had {', '.join(differing)}; this one has other values."
        if published.metric in ("mIoU", "mIoU_union"):
            text += " " + convention_remark(published.metric)
        found.append(text)
    return list(dict.fromkeys(found))


def convention_remark(metric: str) -> str:
    """Return a remark on which of the two means a published mIoU is compared with, and why."""
    if metric == "mIoU_union":
        return "MESS counts a class that is only predicted as 0: it is compared with mIoU_union."
    return (
        "The paper does not define its mean; it is compared with mIoU, mIoU_union is the other "
        "convention."
    )


def missing_line(status: Status, how: str) -> str:
    """Return a line about the missing files of a data set, and how to get them."""
    lacking = status.lacking[0] if status.lacking else f"image of {status.name}"
    return f"{status.name}: there is no {lacking}. {how}"
