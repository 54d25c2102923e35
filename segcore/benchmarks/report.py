"""What an evaluation found, beside what was published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from segcore.benchmarks.published import Published, published_for
from segcore.benchmarks.runs import Result, Run
from segcore.benchmarks.suites import MESS
from segcore.datasets.status import Status
from segcore.evaluation.mess import MessScores, aggregate

HEADLINES = ("PQ", "mIoU", "AP")  # the score that stands for all, the first that there is


@dataclass(frozen=True)
class Row:
    """One model on one data set.

    Attributes:
        run, result: how, and what came out.
        published: of the same experiment, one a metric.
    """

    run: Run
    result: Result
    published: tuple[Published, ...]

    @property
    def dataset(self) -> str:
        return self.result.dataset

    @property
    def metric(self) -> str | None:
        """The score that stands for all; None where there is no public ground truth."""
        if self.dataset in MESS:
            return "mIoU_union"
        return next((name for name in HEADLINES if name in self.result.summary), None)

    @property
    def score(self) -> float | None:
        """That score, in percent."""
        return self.result.summary.get(self.metric)

    @property
    def expected(self) -> tuple[Published, float] | None:
        """What was published of that score."""
        for each in self.published:
            if each.metric == self.metric:
                return each, each.score_on(self.dataset)
        return None


@dataclass(frozen=True)
class Report:
    """Everything that a command evaluated.

    Attributes:
        title: of the page.
        rows: by data set, then by model.
        missing: what the suite has and the disk has not, with how to get it.
        incomplete: data sets of another number of images than the benchmark has.
    """

    title: str
    rows: Sequence[Row]
    missing: Sequence[tuple[Status, str]] = ()
    incomplete: Mapping[str, Status] = field(default_factory=dict)

    def by_dataset(self) -> Iterator[tuple[str, list[Row]]]:
        """The models on each data set."""
        for name, rows in groupby(self.rows, key=lambda row: row.dataset):
            yield name, list(rows)

    def mess(self) -> dict[str, MessScores]:
        """By model the scores of MESS, where it was evaluated on any of them."""
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
    """Results beside what was published; those of a data set stand together."""
    rows = [
        Row(run, result, published_for(run.config, run.cfg, result.dataset))
        for run, result in results
    ]
    order = list(dict.fromkeys(row.dataset for row in rows))
    rows.sort(key=lambda row: order.index(row.dataset))
    return Report(title, rows, missing, incomplete)


def _whole(scores: Mapping[str, float]) -> bool:
    """Whether there is a whole data set of MESS: PAXRay-4 has four parts."""
    parts = {name for name in scores if name.startswith("paxray")}
    return len(scores) > len(parts) or len(parts) == 4


def remarks(report: Report, rows: Sequence[Row]) -> list[str]:
    """What a reader of the scores of a data set must know."""
    found = []
    status = report.incomplete.get(rows[0].dataset)
    if status is not None:
        found.append(
            f"There are {status.found:,} {status.unit} here, the benchmark has "
            f"{status.published:,}: the scores cannot be held against published ones."
        )
    for row in rows:
        if row.expected is None:
            continue
        published, value = row.expected
        text = f"Published for {row.run.config}: {published.metric} {value} ({published.source})."
        differing = published.differing(row.run.cfg)
        if differing:
            text += f" That was with {', '.join(differing)}; here it is otherwise."
        if published.metric in ("mIoU", "mIoU_union"):
            text += " " + convention_remark(published.metric)
        found.append(text)
    return list(dict.fromkeys(found))


def convention_remark(metric: str) -> str:
    """Which of the two means a published mIoU is held against, and why."""
    if metric == "mIoU_union":
        return "MESS counts a class that is only predicted as 0: it is held against mIoU_union."
    return (
        "Which mean it is the paper does not tell; it is held against mIoU, mIoU_union is the "
        "other convention."
    )


def missing_line(status: Status, how: str) -> str:
    """What is not there of a data set, and how to get it."""
    lacking = status.lacking[0] if status.lacking else f"image of {status.name}"
    return f"{status.name}: there is no {lacking}. {how}"
