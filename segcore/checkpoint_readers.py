"""Readers of checkpoints: every published format, and nothing in a file is executed.

``.safetensors`` files, PyTorch's own files (arrays and plain containers only) and the ``.pkl`` of
model zoos (by an unpickler that knows numpy arrays and plain containers, and nothing else).
"""

import collections
import io
import os
import pickle
import re
import zipfile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from segcore.errors import UserError

# Weights of the largest published model are below 10 GB.
MAX_CHECKPOINT_BYTES = 64 << 30


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read weights safely, on the CPU.

    Args:
        path: a ``.safetensors`` file, a ``.pkl`` of a model zoo, or anything that ``torch.save``
            has written: a state dict, or a dict with one under ``model`` or ``state_dict``.

    Returns:
        ``{"model": {name: tensor}, ...}`` with whatever else the file holds.

    Raises:
        UserError: the file is missing, cut short, no checkpoint, or wants to execute something.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the checkpoint file in it")
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    if not 0 < path.stat().st_size <= MAX_CHECKPOINT_BYTES:
        raise UserError(f"{path} has {path.stat().st_size} bytes: it is no checkpoint")
    readers = {".safetensors": _read_safetensors, ".pkl": _read_pickle}
    try:
        content = readers.get(path.suffix.lower(), _read_torch)(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes can surface as anything in the readers
        raise UserError(f"{path} cannot be read: {_reason(path, error)}") from error
    return _as_checkpoint(content, path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def _read_torch(path: Path) -> Any:
    archive = zipfile.is_zipfile(path)
    if archive:
        _inspect_archive(path)
    with torch.serialization.safe_globals(_numpy_names()):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)


def _inspect_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise UserError(
            f"{path} is a TorchScript archive, a program: if it is a CLIP model from OpenAI, take "
            f"its weights out by `python tools/convert_clip.py {path} OUT.safetensors`"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UserError(f"{path} is a compressed archive: PyTorch's checkpoints are not")


def _numpy_names() -> list[Any]:
    """What a checkpoint with numpy numbers in it names; none of it executes anything."""
    reconstruct = np.ones(1).__reduce__()[0]
    scalar = np.float64(1).__reduce__()[0]
    names = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # numpy 1 and 2
        names += [
            (reconstruct, f"{module}._reconstruct"),
            (scalar, f"{module}.scalar"),
        ]
    return names


class _ArrayUnpickler(pickle._Unpickler):
    """Arrays and plain containers.

    The unpickler written in Python, because the one in C allocates whatever size a file claims.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known = {"_reconstruct": _empty_array, "scalar": np.float64(0).__reduce__()[0]}
        else:
            known = {
                "numpy.ndarray": np.ndarray,
                "numpy.dtype": np.dtype,
                "_codecs.encode": _latin1_bytes,
                "collections.OrderedDict": collections.OrderedDict,
                "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
                "torch.storage._load_from_bytes": _storage,
            }
            name = f"{module}.{name}"
        if name not in known:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name.rpartition('.')[2]}")
        return known[name]


def _read_pickle(path: Path) -> Any:
    # A memory map ends where the file ends, whatever length an entry claims to have.
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return _ArrayUnpickler(content, encoding="latin1").load()


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """An array to be filled by what follows in the file; numpy writes the shape (0,) here."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("it holds an array that numpy would not write")
    return np.empty(0, np.int8)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Bytes, as the oldest pickle protocols write them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it wants to run the codec {encoding}")
    return text.encode("latin1")


def _storage(content: bytes) -> Any:
    """The numbers of a tensor that was pickled, not saved with ``torch.save``."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _as_checkpoint(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path} is no checkpoint: it holds a {type(content).__name__}, no weights")
    if "blobs" in content:
        raise UserError(f"{path} is a Caffe2 model: take one with PyTorch's names")
    key = next((key for key in ("model", "state_dict") if isinstance(content.get(key), dict)), None)
    checkpoint = {"model": content} if key is None else {"model": content.pop(key), **content}
    model = {name: _as_tensor(value) for name, value in checkpoint["model"].items()}
    odd = next((name for name, value in model.items() if not torch.is_tensor(value)), None)
    if odd is not None or not model:
        what = "no tensors" if odd is None else f"no tensor under {odd}"
        raise UserError(f"{path} is no checkpoint of a model: it holds {what}")
    return checkpoint | {"model": model}


def _as_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    return value


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be read, for a person."""
    text = str(error)
    if named := re.search(r"unsupported (?:global: global|global|class) (\S+)", text, re.I):
        return f"it wants to run {named[1]}, which weights never need; do not trust this file"
    if isinstance(error, pickle.UnpicklingError) and "wants to run" in text:
        return f"{text}, which weights never need; do not trust this file"
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK" or isinstance(error, EOFError | safetensors.SafetensorError):
        return "it is cut short or damaged; fetch it again"
    return "it is no checkpoint, or it is damaged"
