"""What an evaluation found, beside what was published: as JSON and as Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from segcore.benchmarks.published import Published, published_for, published_table
from segcore.benchmarks.runs import Result, Run
from segcore.benchmarks.suites import MESS
from segcore.datasets.status import Status
from segcore.evaluation.mess import MessScores, aggregate, mess_datasets
from segcore.files import write_text

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # a header, and rows of as many cells
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
        incomplete: data sets of another number of pictures than the benchmark has.
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


# ---- tables ----------------------------------------------------------------------------------


def summary_table(report: Report) -> Table:
    """A row a model and data set: measured beside published."""
    header = ["data set", "model", "pictures", "score", "measured", "published", "difference"]
    rows = []
    for row in report.rows:
        expected = row.expected
        rows.append(
            [
                row.dataset,
                row.run.title,
                f"{row.result.passport['dataset']['count']:,}",
                row.metric or "no public ground truth",
                number(row.score),
                number(expected and expected[1]),
                _difference(row.score, expected and expected[1]),
            ]
        )
    return header, rows


def mess_tables(report: Report) -> tuple[Table, Table] | None:
    """MESS by domain and by data set, with published rows below; None where it was not run."""
    found = report.mess()
    if not found:
        return None
    measured = {f"{title}, measured": each for title, each in found.items()}
    some = next(iter(measured.values()))
    rows = measured | _published_mess()
    domains = ["", *some.domains, "mean"]
    by_domain = [
        [title, *(number(each.domains.get(name)) for name in some.domains), number(each.mean)]
        for title, each in rows.items()
    ]
    sets = ["", *rows]
    names = list(dict.fromkeys(name for each in measured.values() for name in each.datasets))
    by_set = [
        [name, *(number(each.datasets.get(name)) for each in rows.values())] for name in names
    ]
    return (domains, by_domain), (sets, by_set)


def _published_mess() -> dict[str, MessScores]:
    found = {}
    for row in published_table():
        if row.metric == "mIoU_union":
            found[row.method] = mess_of_titles(row.scores)
    return found


def mess_of_titles(scores: Mapping[str, float]) -> MessScores:
    """As :func:`aggregate`, of scores by MESS's names: a data set's parts all get its score."""
    spread = {
        name: scores[title]
        for members in mess_datasets().values()
        for title, names in members.items()
        for name in names
    }
    return aggregate(spread)


def score_table(rows: Sequence[Row]) -> Table:
    """All scores of a data set: a row a score, a column a model, and of two their difference."""
    header = ["score", *(row.run.title for row in rows)]
    names = dict.fromkeys(name for row in rows for name in row.result.summary)
    body = []
    for name in names:
        values = [row.result.summary.get(name) for row in rows]
        body.append([name, *map(number, values), *_difference_of_two(values)])
    return header + ["difference"] * (len(rows) == 2), body


def class_table(rows: Sequence[Row]) -> Table:
    """A row a class; the scores of each model beside each other, and of two their difference."""
    metrics = list(dict.fromkeys(m for row in rows for c in row.result.classes.values() for m in c))
    several = len(rows) > 1
    shown = metrics[:1] if several else metrics
    header = ["class"] + [
        f"{metric}, {row.run.title}" if several else metric for row in rows for metric in shown
    ]
    names = dict.fromkeys(name for row in rows for name in row.result.classes)
    body = []
    for name in names:
        values = [row.result.classes.get(name, {}).get(m) for row in rows for m in shown]
        more = _difference_of_two(values) if several else []
        body.append([name, *map(number, values), *more])
    return header + ["difference"] * (len(rows) == 2), body


def passport_table(rows: Sequence[Row]) -> Table:
    """The passports but for their settings, a column a model."""
    header = ["", *(row.run.title for row in rows)]
    fields: dict[str, list[str]] = {}
    for place, row in enumerate(rows):
        for section, entries in row.result.passport.items():
            if section == "settings":
                continue
            for name, value in entries.items():
                cells = fields.setdefault(f"{section}: {name}", [""] * len(rows))
                cells[place] = _text(value)
    return header, [[name, *cells] for name, cells in fields.items()]


def number(value: float | None) -> str:
    """Two digits, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def _difference(value: float | None, than: float | None) -> str:
    return "-" if value is None or than is None else f"{value - than:+.2f}"


def _difference_of_two(values: Sequence[float | None]) -> list[str]:
    return [_difference(values[1], values[0])] if len(values) == 2 else []


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {entry}" for name, entry in value.items())
    return "-" if value is None else str(value)


# ---- remarks ---------------------------------------------------------------------------------


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


# ---- files -----------------------------------------------------------------------------------


def write_json_report(report: Report, path: Path) -> None:
    """Everything, for programs."""
    mess = {
        title: {
            "domains": each.domains,
            "datasets": each.datasets,
            "mean": each.mean,
            "missing": list(each.missing),
        }
        for title, each in report.mess().items()
    }
    content = {
        "title": report.title,
        "results": [_json_row(row) for row in report.rows],
        "mess": mess,
        "missing": [
            {"dataset": status.name, "lacking": list(status.lacking), "how": how}
            for status, how in report.missing
        ],
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _json_row(row: Row) -> dict[str, Any]:
    published = [
        {
            "metric": each.metric,
            "score": each.score_on(row.dataset),
            "source": each.source,
            "otherwise": list(each.differing(row.run.cfg)),
        }
        for each in row.published
    ]
    return {
        "model": row.run.title,
        "dataset": row.dataset,
        "metric": row.metric,
        "measured": row.score,
        "published": published,
        "scores": row.result.scores,
        "classes": row.result.classes,
        "passport": row.result.passport,
    }


def write_markdown(report: Report, path: Path) -> None:
    """Everything but the pictures, for people and repositories."""
    parts = [f"# {report.title}", _markdown(summary_table(report))]
    tables = mess_tables(report)
    if tables:
        parts += ["## MESS", "mIoU_union in percent.", *map(_markdown, tables)]
    for name, rows in report.by_dataset():
        parts += [f"## {name}", *remarks(report, rows), _markdown(score_table(rows))]
        if rows[0].result.classes:
            parts += ["### Classes", _markdown(class_table(rows))]
        parts += ["### Passport", _markdown(passport_table(rows))]
    if report.missing:
        parts.append("## Not evaluated")
        parts += [f"- {missing_line(status, how)}" for status, how in report.missing]
    write_text(path, "\n\n".join(parts) + "\n")


def missing_line(status: Status, how: str) -> str:
    """What is not there of a data set, and how to get it."""
    lacking = status.lacking[0] if status.lacking else f"picture of {status.name}"
    return f"{status.name}: there is no {lacking}. {how}"


def _markdown(table: Table) -> str:
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
