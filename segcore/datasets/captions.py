"""Image-text data sets: a table of images and their captions."""

import csv
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.errors import UserError

COLUMNS = (("file", "caption"), ("filepath", "title"))  # those of Scenes, and open_clip's defaults
MAX_LINE = 1 << 17  # bytes


def register_caption_dataset(
    name: str,
    table: str | Path,
    image_dir: str | Path,
    *,
    evaluator_type: str = "retrieval",
    **metadata: object,
) -> None:
    """Register a table of captions under a name; it is read on first use.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        table: as :func:`read_captions` takes it.
        image_dir: the folder that the table's images are relative to.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: another data set has the name.
    """
    paths = {"caption_table": str(table), "image_root": str(image_dir)}
    known = MetadataCatalog.get(name)
    if name not in DatasetCatalog.list():
        read = functools.partial(read_captions, name, Path(table), Path(image_dir))
        DatasetCatalog.register(name, read)
        known.set(**paths, evaluator_type=evaluator_type, **metadata)
    elif any(known.get(key) != value for key, value in paths.items()):
        raise UserError(f"there is another data set named {name!r}: choose another name")


def read_captions(name: str, table: Path, image_dir: Path) -> list[dict]:
    """Return Detectron2 dataset dicts with ``file_name`` and ``caption``, in the table's order.

    Args:
        name: of the data set, for messages.
        table: UTF-8 text with tabs between the columns, and quotes as Python's ``csv`` writes them.
            Its first line names the columns, among them those of a pair of ``COLUMNS``.
        image_dir: the folder that the images are relative to. Their existence is not checked:
            there may be millions.

    Raises:
        UserError: table or folder are missing, or a line is wrong; the message names it.
    """
    for path, exists in ((table, table.is_file()), (image_dir, image_dir.is_dir())):
        if not exists:
            raise UserError(
                f"dataset {name!r}: there is no {path}: prepare it as datasets/README.md says, or "
                "set DETECTRON2_DATASETS to the folder that holds the data sets"
            )
    try:
        with table.open("rb") as file:
            rows = _rows(file, table)
            header = next(rows, (1, []))[1]
            columns = _find_columns(header, table)
            records = [
                _record(row, len(header), columns, image_dir, f"{table}, line {line}")
                for line, row in rows
            ]
    except OSError as error:
        raise UserError(f"{table} cannot be read: {error.strerror}") from error
    if not records:
        raise UserError(f"{table} has a header line and no caption below it")
    return records


def _find_columns(header: list[str], table: Path) -> tuple[int, int]:
    """Return the columns of images and of captions."""
    for image, caption in COLUMNS:
        if image in header and caption in header:
            return header.index(image), header.index(caption)
    wanted = " or ".join(f"{image!r} and {caption!r}" for image, caption in COLUMNS)
    raise UserError(
        f"the first line of {table} names {len(header)} columns, but not {wanted}: "
        "name them there, with a tab between two names"
    )


def _record(
    row: list[str], width: int, columns: tuple[int, int], image_dir: Path, where: str
) -> dict:
    if len(row) != width:
        raise UserError(
            f"{where} has {len(row)} columns instead of {width}: a text with a tab in it needs "
            "quotes around it"
        )
    image, caption = (row[column] for column in columns)
    if not image.strip() or not caption.strip():
        raise UserError(f"{where} has no {'caption' if image.strip() else 'image'}: remove it")
    return {"file_name": os.path.join(image_dir, image), "caption": caption}  # noqa: PTH118


def _rows(file: BinaryIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every non-empty row, with the number of its first line."""
    # Without strict, a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(_lines(file, path), delimiter="\t", strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: {error}; a text that begins with a quote needs quotes around "
            "it, and quotes inside it doubled"
        ) from error


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield decoded lines. They are read as bytes, so that a long one is refused before it fills
    the memory, and an error can name the line that cannot be decoded."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
        if len(line) > MAX_LINE:
            raise UserError(
                f"{path}, line {number} has over {MAX_LINE} bytes: this is no table of captions"
            )
        if b"\0" in line:
            raise UserError(f"{path}, line {number} holds a NUL: this is no table of captions")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, line {number} cannot be decoded: store the table as UTF-8"
            ) from error
