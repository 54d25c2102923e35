"""Detectron2's checkpointer, made safe, strict and atomic; conversions for Detectron2's own."""

import os
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from segcore.checkpoint.copies import cached_copy
from segcore.checkpoint.locating import locate
from segcore.checkpoint.readers import DamagedCheckpointError, read_checkpoint
from segcore.checkpoint.weights import (
    REMEDY,
    key_mismatch,
    loading,
    non_finite_entry,
    resample_other_shapes,
)
from segcore.errors import UserError, printable
from segcore.runtime.files import remove_partial_files, writing

__all__ = [
    "Checkpointer",
    "convert_for_detectron2",
    "open_torchscript_clip",
    "read_checkpoint",
]


def open_torchscript_clip(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Return the weights of a CLIP model that OpenAI published as a TorchScript archive.

    This is the only function that loads a program: PyTorch compiles the code in the archive, so
    call it on a file from OpenAI only.

    Returns:
        {name: float32 tensor}, on the CPU.

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


_ORIGINALS: dict[str, str] = {}  # by path of a copy: the file of the user, which errors name


def convert_for_detectron2(weights: str) -> str:
    """Return a file with the same weights that Detectron2's own checkpointer can read safely.

    Args:
        weights: the value of ``MODEL.WEIGHTS``. Local ``.pkl`` and ``.safetensors`` files are
            copied once to a ``.pth`` in the cache; other values are returned unchanged.

    Raises:
        UserError: such a file cannot be read, or the cache cannot be used.
    """
    path = Path(weights)
    if path.suffix.lower() not in (".pkl", ".safetensors") or not path.is_file():
        return weights
    copy = str(cached_copy(path, read_checkpoint))
    _ORIGINALS[copy] = weights
    return copy


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, but safe, strict and atomic.

    Args:
        model, save_dir, save_to_disk, checkpointables: as in Detectron2.
        allow_partial: warn about entries that are missing or do not fit, and keep those parameters
            at their initial values; otherwise raise an error.
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
        self._loading, self._for_use = "", False
        self._whole: dict[str, dict[str, Any]] = {}  # by path: checkpoints already read

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; see :func:`read_checkpoint` for the formats.

        Args:
            path: of a file, an address of one, or a name of the model zoo.
            args, kwargs: as in Detectron2.

        Raises:
            UserError: it cannot be read, or it does not fit the model.
        """
        path = locate(path)
        self._loading = _ORIGINALS.get(path, path)
        file, _, query = path.partition("?")
        if query not in ("", "matching_heuristics=True", "matching_heuristics=False"):
            raise UserError(f"{path}: after ? only matching_heuristics=True is understood")
        if file:
            self._require_file(file)
        return super().load(path, *args, **kwargs)

    def load_for_use(self, path: str, *, resume: bool = False) -> None:
        """Load a model for inference: all of its weights, and nothing else.

        Args:
            path: see :meth:`load`.
            resume: load the last checkpoint of the folder instead, if there is one.

        Raises:
            UserError: no weights are named, or they cannot be read, do not all fit the model (even
                with ``allow_partial``), or are not finite.
        """
        path = self.get_checkpoint_file() if resume and self.has_checkpoint() else path
        if not path:
            raise UserError(
                "MODEL.WEIGHTS is empty: name a checkpoint, such as MODEL.WEIGHTS model.pth; a "
                "model without weights predicts by chance"
            )
        self.model.eval()
        self.allow_partial, self._for_use = False, True
        self.load(path, checkpointables=[])

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the last undamaged checkpoint of the folder, or load ``path``.

        Raises:
            UserError: as :meth:`load`; or all checkpoints of the folder are damaged.
        """
        if not resume or not self.has_checkpoint():
            return self.load(path, checkpointables=[])
        last = Path(self.get_checkpoint_file())
        for candidate in (last, *self._before(last)):
            self._require_file(str(candidate))
            try:
                # Read it first: Detectron2's checkpointer cannot load again after a failed load.
                self._whole = {str(candidate): read_checkpoint(candidate)}
            except DamagedCheckpointError as error:
                self.logger.warning("%s", error)
                continue
            if candidate != last:
                self.logger.warning("so the run resumes from %s, which is whole", candidate.name)
            return self.load(str(candidate))
        raise UserError(
            f"{last} is damaged, and {self.save_dir} holds no earlier checkpoint that is whole: "
            "start anew without --resume, or in another OUTPUT_DIR"
        )

    def _before(self, last: Path) -> list[Path]:
        """Return the checkpoints of the training before ``last``, the newest first."""
        numbered = {
            int(path.stem.removeprefix("model_")): path
            for path in last.parent.glob("model_*.pth")
            if path.stem.removeprefix("model_").isdecimal() and path != last
        }
        number = last.stem.removeprefix("model_")
        limit = int(number) if number.isdecimal() else max(numbered, default=0) + 1
        return [numbered[key] for key in sorted(numbered, reverse=True) if key < limit]

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` atomically.

        Raises:
            UserError: the disk is full, or a weight is no longer finite.
        """
        state = {key: item.state_dict() for key, item in self.checkpointables.items()}
        if self._write(name, state | kwargs):
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str) -> None:
        """Write the model alone to ``<name>.pth`` atomically; no run resumes from it.

        Raises:
            UserError: as :meth:`save`.
        """
        self._write(name, {})

    def _write(self, name: str, state: dict[str, Any]) -> bool:
        """Write the model and more to ``<name>.pth``, unless this process writes nothing."""
        if not self.save_dir or not self.save_to_disk:
            return False
        self._require_finite()
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Writing %s", path)
        with writing(path) as file:
            torch.save({"model": self.model.state_dict()} | state, file)
        return True

    def remove_partial_files(self) -> None:
        """Remove the partial files of a run that was killed while it was writing."""
        remove_partial_files(Path(self.save_dir))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the checkpoint from which ``--resume`` continues."""
        with writing(Path(self.save_dir) / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def _require_finite(self) -> None:
        if name := non_finite_entry(self.model.state_dict()):
            raise UserError(
                f"the model's {name} is no longer finite, so it is not saved: resume from the "
                "last checkpoint with a lower SOLVER.BASE_LR or with SOLVER.CLIP_GRADIENTS"
            )

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = self._whole.pop(filename, None) or read_checkpoint(filename)
        if query := self._loading.partition("?")[2]:
            checkpoint["matching_heuristics"] = query.endswith("True")
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        try:
            # First, because fvcore drops entries of another shape.
            resample_other_shapes(self.model, checkpoint["model"])
            with loading(self._for_use):
                incompatible = super()._load_model(checkpoint)
        except UserError as error:  # of a hook of the model, which does not know the file
            raise UserError(f"{self._loading}: {error}") from error
        except RuntimeError as error:  # load_state_dict, on keys that Detectron2 renamed
            raise UserError(f"{self._loading}: {printable(error, 300)}") from error
        problem = key_mismatch(*incompatible)
        if problem and not self.allow_partial:
            partial = ", or set MODEL.ALLOW_PARTIAL_WEIGHTS True" * (not self._for_use)
            raise UserError(
                f"{self._loading} does not fit the model of this config: it {problem}; "
                f"{REMEDY}{partial}"
            )
        if name := non_finite_entry(self.model.state_dict()):
            raise UserError(
                f"{self._loading} holds values of {name} that are not finite numbers: take another "
                "checkpoint"
            )
        return incompatible

    def _require_file(self, path: str) -> None:
        """Download a file from an address; raise a clear error for a path that is no file."""
        if "://" not in path:
            what = "is no file: set MODEL.WEIGHTS to where yours is, or to '' to start from scratch"
            what = "is a folder: name the checkpoint file in it" if Path(path).is_dir() else what
            if not Path(path).is_file():
                raise UserError(f"the checkpoint {path} {what}")
            return
        try:
            here = Path(self.path_manager.get_local_path(path)).is_file()
        except OSError as error:
            raise UserError(f"{path} cannot be fetched or read: {error}") from error
        if not here:
            raise UserError(
                f"{path} cannot be fetched: nothing here reads from such an address; fetch the "
                "file yourself, and name it by its path"
            )
