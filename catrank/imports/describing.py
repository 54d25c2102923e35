"""The description of imported data, for ``DATASETS.CUSTOM``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catrank.imports.export import ExportClass
from segcore.runtime.files import write_text
from segcore.vocabulary import Vocabulary

Datasets = Mapping[str, Mapping[str, str]]


def ignore_label_of(classes: Sequence[ExportClass]) -> int:
    """Return the value of pixels without a class: the largest of 8 bits, or of 16."""
    return 255 if len(classes) <= 255 else 65535


def category_id(number: int, each: ExportClass) -> int:
    """Return the category id in JSON files of the class with this id: its own, else the id."""
    return each.value if isinstance(each.value, int) and each.is_thing else number


def write_description(
    path: Path, name: str, classes: Sequence[ExportClass], datasets: Datasets
) -> None:
    """Write the file, with a class and a data set a line.

    Raises:
        UserError: a class name cannot stand in a vocabulary, or there are two of one name.
    """
    with_objects = any(key.endswith("_json") for entry in datasets.values() for key in entry)
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(classes):
        row: dict[str, Any] = {"name": each.name}
        if each.color is not None:
            row["color"] = [*each.color]
        if with_objects:
            row |= {"isthing": each.is_thing, "dataset_id": category_id(number, each)}
        rows.append(row)
    Vocabulary.from_table({"classes": rows}, path)
    write_text(
        path,
        f"""{{
  "name": {_json(name)},
  "ignore_label": {ignore_label_of(classes)},
  "classes": [
    {_lines(map(_json, rows))}
  ],
  "datasets": {{
    {_lines(f"{_json(key)}: {_json(entry)}" for key, entry in datasets.items())}
  }}
}}
""",
    )


def _lines(rows: Any) -> str:
    return ",\n    ".join(rows)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
