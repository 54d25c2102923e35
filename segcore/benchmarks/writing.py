"""Write the results of an evaluation as JSON for programs and as Markdown for people."""

import html
import json
import re
from pathlib import Path
from typing import Any

from segcore.benchmarks.report import Report, Row, missing_line, remarks
from segcore.benchmarks.tables import (
    Table,
    class_table,
    mess_tables,
    passport_table,
    score_table,
    summary_table,
)
from segcore.errors import printable
from segcore.runtime.files import write_text

MAX_CELL = 2000  # characters of a cell, a heading or a line


def write_json_report(report: Report, path: Path) -> None:
    """Write the whole report as JSON."""
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
    """Write the report without images as Markdown."""
    parts = [f"# {escaped(report.title)}", _markdown(summary_table(report))]
    tables = mess_tables(report)
    if tables:
        parts += ["## MESS", "mIoU_union in percent.", *map(_markdown, tables)]
    for name, rows in report.by_dataset():
        parts += [f"## {escaped(name)}", *map(escaped, remarks(report, rows))]
        parts.append(_markdown(score_table(rows)))
        if rows[0].result.classes:
            parts += ["### Classes", _markdown(class_table(rows))]
        parts += ["### Passport", _markdown(passport_table(rows))]
    if report.missing:
        parts.append("## Not evaluated")
        parts += [f"- {missing_line(status, how)}" for status, how in report.missing]
    write_text(path, "\n\n".join(parts) + "\n")


def _markdown(table: Table) -> str:
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(escaped, line))} |" for line in lines)


# Characters with a meaning in Markdown; an underscore has none within a word.
SPECIAL = re.compile(r"[\\`*\[\]|~@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one line: names come from files of others."""
    text = printable(text.replace("\n", " "), MAX_CELL)
    return SPECIAL.sub(r"\\\g<0>", html.escape(text, quote=False))
