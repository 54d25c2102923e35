"""Read the weights of a TensorFlow.js model: a JSON file that names tensors, and shards of bytes.

Format: the "weights manifest" of TensorFlow.js. ``model.json`` lists groups; the files of a group,
one after the other, hold the values of its tensors without gaps, little-endian.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from segcore.errors import UserError, printable
from segcore.runtime.files import join_inside
from segcore.vocabulary.files import read_json

DTYPES = {"float32": "<f4", "int32": "<i4"}
MAX_BYTES = 1 << 30  # of one group
MAX_DIMENSIONS = 8


def read_tensorflow_js(model: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a model by name, in the manifest's order.

    Args:
        model: its ``model.json``, not trusted; the shards lie beside it.

    Raises:
        UserError: a file is missing, the manifest is not one, its tensors are quantised or of
            another type, or the shards hold more or fewer bytes than it lists.
    """
    where = printable(model)
    if not model.is_file():
        raise UserError(f"there is no {where}: name the folder of the unpacked model")
    table = read_json(model)
    groups = table.get("weightsManifest") if isinstance(table, dict) else None
    if not isinstance(groups, list):
        raise UserError(f"{where} is no TensorFlow.js model: it has no weightsManifest")
    tensors: dict[str, np.ndarray] = {}
    for group in groups:
        if not isinstance(group, dict) or not _is_list(group, "paths", str):
            raise UserError(f"{where}: a group of the weightsManifest lists no paths")
        if not _is_list(group, "weights", dict):
            raise UserError(f"{where}: a group of the weightsManifest lists no weights")
        rows = [_checked(row, where) for row in group["weights"]]
        content = memoryview(_read_shards(model.parent, group["paths"], rows, where))
        for name, dtype, shape in rows:
            if name in tensors:
                raise UserError(f"{where} lists the tensor {printable(name)} twice")
            size = _bytes((name, dtype, shape))
            tensors[name] = np.frombuffer(content[:size], dtype).reshape(shape)
            content = content[size:]
    return tensors


def _is_list(group: dict[str, Any], key: str, kind: type) -> bool:
    value = group.get(key)
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _checked(row: dict[str, Any], where: str) -> tuple[str, np.dtype, tuple[int, ...]]:
    """Return name, type and shape of a tensor that the manifest lists."""
    name, shape, dtype = (row.get(key) for key in ("name", "shape", "dtype"))
    if not isinstance(name, str):
        raise UserError(f"{where}: a tensor of the weightsManifest has no name")
    if "quantization" in row or not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(
            f"{where}: the tensor {printable(name)} is quantised or {printable(dtype)}; take the "
            f"model in {' or '.join(DTYPES)}"
        )
    sizes = shape if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [-1]
    if not all(type(size) is int and 0 <= size <= MAX_BYTES for size in sizes):
        raise UserError(f"{where}: {printable(shape)} is no shape, of {printable(name)}")
    return name, np.dtype(DTYPES[dtype]), tuple(sizes)


def _bytes(row: tuple[str, np.dtype, tuple[int, ...]]) -> int:
    return row[1].itemsize * math.prod(row[2])


def _read_shards(
    folder: Path, names: list[str], rows: list[tuple[str, np.dtype, tuple[int, ...]]], where: str
) -> bytes:
    """Return the bytes of a group, after a check of their number."""
    paths = [join_inside(folder, name, where) for name in names]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"there is no {printable(missing)}, which {where} names")
    expected, found = sum(map(_bytes, rows)), sum(path.stat().st_size for path in paths)
    if expected != found or expected > MAX_BYTES:
        raise UserError(
            f"{where} lists {expected} bytes of weights (at most {MAX_BYTES >> 20} MiB are read) "
            f"and its files hold {found}: unpack the model again"
        )
    content = b"".join(path.read_bytes() for path in paths)
    if len(content) != expected:
        raise UserError(f"the files that {where} names change while they are read")
    return content
