"""Read checkpoints in every published format without executing anything in them."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from segcore.checkpoint.formats import MAX_CHECKPOINT_BYTES
from segcore.checkpoint.restricted_pickle import TorchScriptError, load_pickle, load_torch
from segcore.checkpoint.vocabulary import KEY, vocabulary_text, with_vocabulary
from segcore.checkpoint.weights import without_wrappers
from segcore.errors import UserError, printable

# Detectron2's, open-mmlab's and ESSNet's files.
WRAPPERS = ("model", "state_dict", "model_state")


class DamagedCheckpointError(UserError):
    """A checkpoint file that is truncated or damaged."""


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read weights safely, on the CPU.

    Args:
        path: a ``.safetensors`` file, a ``.pkl`` of a model zoo, or anything that ``torch.save``
            has written: a state dict, or a dict with one under a name of ``WRAPPERS``.

    Returns:
        ``{"model": {name: tensor}, ...}`` with everything else that the file holds; the state dict
        carries the vocabulary of the file (:mod:`segcore.checkpoint.vocabulary`).

    Raises:
        UserError: the file is missing, truncated, no checkpoint, would execute something, or
            claims more data than it holds.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the checkpoint file in it")
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    if not 0 < path.stat().st_size <= MAX_CHECKPOINT_BYTES:
        raise DamagedCheckpointError(f"{path} has {path.stat().st_size} bytes: it is no checkpoint")
    readers = {".safetensors": _read_safetensors, ".pkl": _read_pickle}
    try:
        content = readers.get(path.suffix.lower(), _read_torch)(path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes can surface as anything in the readers
        raise DamagedCheckpointError(f"{path} cannot be read: {_reason(error)}") from error
    return _as_checkpoint(content, path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata() or {}
    return with_vocabulary(safetensors.torch.load_file(path), header.get(KEY))


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return load_pickle(file)


def _read_torch(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return load_torch(file)
    except TorchScriptError as error:
        raise UserError(
            f"{path} is a TorchScript archive, a program: if it is a CLIP model from OpenAI, take "
            f"its weights out by `python tools/convert_clip.py {path} OUT.safetensors`"
        ) from error


def _as_checkpoint(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path} is no checkpoint: it holds a {type(content).__name__}, no weights")
    if "blobs" in content:
        raise UserError(f"{path} is a Caffe2 model: take one with PyTorch's names")
    key = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    checkpoint = {"model": content} if key is None else {"model": content.pop(key), **content}
    if not all(isinstance(name, str) for name in checkpoint["model"]):
        raise UserError(f"{path} is no checkpoint of a model: its entries have numbers, no names")
    text = vocabulary_text(checkpoint["model"])
    model = without_wrappers(checkpoint["model"])
    model = {name: _as_tensor(value) for name, value in model.items()}
    odd = next((name for name, value in model.items() if not torch.is_tensor(value)), None)
    if odd is not None or not model:
        what = "no tensors" if odd is None else f"no tensor under {printable(odd)}"
        raise UserError(f"{path} is no checkpoint of a model: it holds {what}")
    return checkpoint | {"model": with_vocabulary(model, text)}


def _as_tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.asarray(value))
    return value


def _reason(error: Exception) -> str:
    """Return why a file could not be read, for an error message."""
    if isinstance(error, safetensors.SafetensorError):
        return "it is cut short or damaged; fetch it again"
    if not isinstance(error, pickle.UnpicklingError):
        return "it is no checkpoint, or it is damaged"
    distrust = ", which weights never need; do not trust this file"
    return printable(error) + distrust * ("wants to run" in str(error))
