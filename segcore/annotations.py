"""JSON files in COCO's formats."""

import json
from pathlib import Path

from segcore.errors import UserError

MAX_BYTES = 4 * 2**30  # the largest published ones have half a GiB


def read_annotations(path: str | Path) -> dict:
    """The table that a JSON file of annotations holds.

    Raises:
        UserError: the file cannot be read, is too large, or holds something else.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise UserError(f"{path} is no file of annotations of at most {MAX_BYTES >> 30} GiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} instead of a table")
    return content


def read_instance_annotations(json_file: str | Path) -> dict:
    """A file of COCO's instance format: ``images``, ``annotations`` and ``categories``.

    Raises:
        UserError: the file cannot be read, is no such file, or an object has a picture or category
            outside of its tables.
    """
    content = read_annotations(json_file)
    try:
        images = {entry["id"] for entry in content["images"] if entry["height"] and entry["width"]}
        categories = {entry["id"] for entry in content["categories"] if entry["name"]}
        for entry in content["annotations"]:
            for key, known in (("image_id", images), ("category_id", categories)):
                if entry[key] not in known:
                    raise UserError(
                        f"{json_file}: object {entry['id']} has the {key} {entry[key]!r}, which is "
                        "not in the file's tables"
                    )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{json_file} is no instance file of COCO's format: {error!r}") from error
    return content
