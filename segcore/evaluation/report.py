"""Write the result files of evaluators."""

import json
import math
from pathlib import Path

from segcore.errors import UserError
from segcore.runtime.files import write_text


def write_report(path: Path, report: dict) -> None:
    """Write a table as JSON; nan becomes null.

    Raises:
        UserError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_nan_to_none(report), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _nan_to_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _nan_to_none(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
