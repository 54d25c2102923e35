"""Format the results of an evaluation as tables of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from segcore.benchmarks.published import published_table
from segcore.benchmarks.report import Report, Row
from segcore.evaluation.mess import MessScores, aggregate, mess_datasets

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # a header, and rows of as many cells


def summary_table(report: Report) -> Table:
    """Return one row a model and data set: the measured score, and the published one if any is."""
    header = ["data set", "model", "number", "score", "measured"]
    rows = [
        [
            row.dataset,
            row.run.title,
            f"{row.result.passport['dataset']['count']:,}",
            row.metric or "no public ground truth",
            number(row.score),
        ]
        for row in report.rows
    ]
    published = [row.expected and row.expected[1] for row in report.rows]
    if any(value is not None for value in published):
        header += ["published", "difference"]
        for cells, row, value in zip(rows, report.rows, published, strict=True):
            cells += [number(value), _difference(row.score, value)]
    return header, rows


def mess_tables(report: Report) -> tuple[Table, Table] | None:
    """Return MESS by domain and by data set, with published rows below; None if it was not run."""
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
    """Aggregate scores by MESS's names: all parts of a data set get its score."""
    spread = {
        name: scores[title]
        for members in mess_datasets().values()
        for title, names in members.items()
        for name in names
    }
    return aggregate(spread)


def score_table(rows: Sequence[Row]) -> Table:
    """Return all scores of a data set, one column a model, and the difference of two models."""
    header = ["score", *(row.run.title for row in rows)]
    names = dict.fromkeys(name for row in rows for name in row.result.summary)
    body = []
    for name in names:
        values = [row.result.summary.get(name) for row in rows]
        body.append([name, *map(number, values), *_difference_of_two(values)])
    return header + ["difference"] * (len(rows) == 2), body


def class_table(rows: Sequence[Row]) -> Table:
    """Return one row a class with the scores of each model, and the difference of two models."""
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
    """Return the passports without their settings, one column a model."""
    header = ["", *(row.run.title for row in rows)]
    fields: dict[str, list[str]] = {}
    for column, row in enumerate(rows):
        for section, entries in row.result.passport.items():
            if section == "settings":
                continue
            for name, value in entries.items():
                cells = fields.setdefault(f"{section}: {name}", [""] * len(rows))
                cells[column] = _text(value)
    return header, [[name, *cells] for name, cells in fields.items()]


def number(value: float | None) -> str:
    """Format a number with two digits, None as a dash."""
    return "-" if value is None else f"{value:.2f}"


def _difference(value: float | None, than: float | None) -> str:
    return "-" if value is None or than is None else f"{value - than:+.2f}"


def _difference_of_two(values: Sequence[float | None]) -> list[str]:
    return [_difference(values[1], values[0])] if len(values) == 2 else []


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {entry}" for name, entry in value.items())
    return "-" if value is None else str(value)
