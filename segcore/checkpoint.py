"""Checkpoints: every published format read without executing anything, written atomically.

``.safetensors`` files, PyTorch's own files (arrays and plain containers only) and the ``.pkl`` of
model zoos (by an unpickler that knows numpy arrays and plain containers, and nothing else).
"""

import collections
import hashlib
import io
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from detectron2.checkpoint import DetectionCheckpointer

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


def open_torchscript_tower(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The weights of a CLIP model that OpenAI published as a TorchScript archive.

    This is the one place that opens a program: PyTorch compiles the code in the archive, so only
    call it on a file from OpenAI. The weights are kept in the cache, and read from there next time.

    Returns:
        name to float32 tensor, on the CPU.

    Raises:
        UserError: the file is missing or no such archive.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    cached = _cache_file(path)
    if not cached.exists():
        try:
            tensors = torch.jit.load(path, map_location="cpu").state_dict()
        except RuntimeError as error:
            raise UserError(f"{path} is not a TorchScript archive, or it is damaged") from error
        with writing(cached) as file:
            torch.save({name: value.float() for name, value in tensors.items()}, file)
    return read_checkpoint(cached)["model"]


def convert_for_detectron2(weights: str) -> str:
    """A file with the same weights that Detectron2's own checkpointer reads, and reads safely.

    Args:
        weights: the value of ``MODEL.WEIGHTS``. Local ``.pkl`` and ``.safetensors`` files are
            copied once to a ``.pth`` in the cache; all else is returned as it is.
    """
    path = Path(weights)
    if path.suffix.lower() not in (".pkl", ".safetensors") or not path.is_file():
        return weights
    cached = _cache_file(path)
    if not cached.exists():
        with writing(cached) as file:
            torch.save(read_checkpoint(path), file)
    return str(cached)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, but safe, strict and atomic.

    Args:
        model, save_dir, save_to_disk, checkpointables: as in Detectron2.
        allow_partial: keep what a checkpoint lacks at its initial value, and leave out what does
            not fit, with a warning; otherwise either is an error.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        allow_partial: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.allow_partial = allow_partial
        self._loading = ""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; see :func:`read_checkpoint` for what it may be.

        Raises:
            UserError: it cannot be read, or it does not fit the model.
        """
        self._loading = path
        file, _, query = path.partition("?")
        if query not in ("", "matching_heuristics=True", "matching_heuristics=False"):
            raise UserError(f"{path}: after ? only matching_heuristics=True is understood")
        # A path that is no file is reported here, before it is taken for the name of a download.
        if file and "://" not in file:
            _require_file(file)
        try:
            return super().load(path, *args, **kwargs)
        except OSError as error:
            raise UserError(f"{path} cannot be fetched or read: {error}") from error

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth``: a checkpoint is there whole or not at all."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Writing %s", path)
        with writing(path) as file:
            torch.save(data | kwargs, file)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which checkpoint ``--resume`` continues from."""
        with writing(Path(self.save_dir) / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename)
        if query := self._loading.partition("?")[2]:
            checkpoint["matching_heuristics"] = query.endswith("True")
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        try:
            incompatible = super()._load_model(checkpoint)
        except RuntimeError as error:  # load_state_dict, on keys that it renamed itself
            raise UserError(f"{self._loading}: {' '.join(str(error).split())[:300]}") from error
        if not self.allow_partial:
            self._require_fit(incompatible)
        return incompatible

    def _require_fit(self, incompatible: Any) -> None:
        wrong = {key for key, _, _ in incompatible.incorrect_shapes}
        shapes = [
            f"{key} {tuple(theirs)} (the model's is {tuple(ours)})"
            for key, theirs, ours in incompatible.incorrect_shapes
        ]
        faults = [
            _some("has another shape for", shapes),
            _some("lacks", [key for key in incompatible.missing_keys if key not in wrong]),
            _some("has unknown", list(incompatible.unexpected_keys)),
        ]
        if any(faults):
            raise UserError(
                f"{self._loading} does not fit the model of this config: it "
                f"{'; it '.join(filter(None, faults))}; take the config that it was trained with, "
                "or set MODEL.ALLOW_PARTIAL_WEIGHTS True"
            )


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """Open a file beside ``path`` for writing bytes and, once all is written, rename it.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


# ---- readers ---------------------------------------------------------------------------------


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
            f"{path} is a TorchScript archive, a program: if it is a CLIP model from OpenAI, "
            "segcore.checkpoint.open_torchscript_tower reads its weights"
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


# ---- words -----------------------------------------------------------------------------------


def _require_file(path: str) -> None:
    if not path or not Path(path).is_file():
        what = (
            "is a folder: name the checkpoint file in it" if Path(path).is_dir() else "is no file"
        )
        raise UserError(f"the checkpoint {path} {what}")


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


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more} ({len(names)} in all)"


def _cache_file(path: Path) -> Path:
    """Where the converted copy of a file lies; another name as soon as the file changes."""
    folder = os.environ.get("CATRANK_CACHE") or Path.home() / ".cache" / "catrank"
    about = path.stat()
    identity = f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Path(folder) / f"{path.stem}-{digest}.pth"
