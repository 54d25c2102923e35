"""Checkpoints: read without executing anything, loaded strictly, written atomically."""

import os
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from segcore.checkpoint_cache import cached_copy
from segcore.checkpoint_readers import read_checkpoint
from segcore.errors import UserError
from segcore.files import remove_unfinished, writing

__all__ = [
    "Checkpointer",
    "convert_for_detectron2",
    "open_torchscript_tower",
    "read_checkpoint",
]


def open_torchscript_tower(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The weights of a CLIP model that OpenAI published as a TorchScript archive.

    This is the one place that opens a program: PyTorch compiles the code in the archive, so only
    call it on a file from OpenAI.

    Returns:
        name to float32 tensor, on the CPU.

    Raises:
        UserError: the file is missing or no such archive.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        tensors = torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError as error:
        raise UserError(f"{path} is not a TorchScript archive, or it is damaged") from error
    return {name: value.float() for name, value in tensors.items()}


def convert_for_detectron2(weights: str) -> str:
    """A file with the same weights that Detectron2's own checkpointer reads, and reads safely.

    Args:
        weights: the value of ``MODEL.WEIGHTS``. Local ``.pkl`` and ``.safetensors`` files are
            copied once to a ``.pth`` in the cache; all else is returned as it is.

    Raises:
        UserError: such a file cannot be read, or the cache not be used.
    """
    path = Path(weights)
    if path.suffix.lower() not in (".pkl", ".safetensors") or not path.is_file():
        return weights
    return str(cached_copy(path, read_checkpoint))


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
        """Write ``<name>.pth``: a checkpoint is there whole or not at all.

        Raises:
            UserError: the disk is full, or a weight is no longer finite.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        self._require_finite()
        data = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Writing %s", path)
        with writing(path) as file:
            torch.save(data | kwargs, file)
        self.tag_last_checkpoint(path.name)

    def remove_unfinished(self) -> None:
        """Remove what a run that was killed while it was writing has left in the folder."""
        remove_unfinished(Path(self.save_dir))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note which checkpoint ``--resume`` continues from."""
        with writing(Path(self.save_dir) / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def _require_finite(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise UserError(
                    f"the model's {name} is no longer finite, so it is not saved: go on from the "
                    "last checkpoint with a lower SOLVER.BASE_LR or with SOLVER.CLIP_GRADIENTS"
                )

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


def _require_file(path: str) -> None:
    if not path or not Path(path).is_file():
        what = "is no file: set MODEL.WEIGHTS to where yours is, or to '' to start from nothing"
        if Path(path).is_dir():
            what = "is a folder: name the checkpoint file in it"
        raise UserError(f"the checkpoint {path} {what}")


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more} ({len(names)} in all)"
