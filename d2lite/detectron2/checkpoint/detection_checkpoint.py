"""The checkpointer: fvcore's, with more formats, and without executing code from a file."""

import pickle
from typing import Any
from urllib.parse import parse_qs, urlsplit

import safetensors.torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detectron2._absent import absent_message
from detectron2.checkpoint.matching import match_by_suffix
from detectron2.checkpoint.restricted_pickle import load_pickle, load_torch
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

_MATCHING = "matching_heuristics"
# Buffers of the top module that are not trained: files may lack them.
_OPTIONAL_BUFFERS = ("pixel_mean", "pixel_std")
_IGNORED_ENTRY = "anchor_generator.cell_anchors"


class DetectionCheckpointer(Checkpointer):
    """Saves a model and other objects with a ``state_dict``; loads .pth, .safetensors and .pkl.

    Nothing in a file is executed: a restricted reader of pickles knows arrays, tensors and plain
    containers only. ``path?matching_heuristics=True`` matches names by their suffixes.

    Args:
        model: the model.
        save_dir: where to save.
        save_to_disk: whether to save at all; by default only the first process does.
        **checkpointables: objects with ``state_dict`` and ``load_state_dict``.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager
        self._match_names = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file; returns its entries that were not used. An empty path loads nothing.

        Raises:
            AssertionError: there is no such file.
            ValueError: the path has a query other than ``matching_heuristics``, or the file holds
                something else than tensors.
        """
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        self._match_names = query.pop(_MATCHING, ["False"]) == ["True"]
        if query:
            raise ValueError(f"{path} has the query {', '.join(query)}; only {_MATCHING} is known")
        return super().load(parts._replace(query="").geturl(), *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            content = safetensors.torch.load_file(PathManager.get_local_path(filename))
        else:
            with PathManager.open(filename, "rb") as file:
                content = (load_pickle if filename.endswith(".pkl") else load_torch)(file)
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"{filename} holds no weights")
        if filename.endswith(".pkl"):
            if not {"model", "__author__"} <= set(content):
                raise pickle.UnpicklingError(absent_message(f"The Caffe2 format of {filename}"))
        elif "model" not in content:
            content = {"model": content}
        if self._match_names:
            content[_MATCHING] = True
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get(_MATCHING, False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = match_by_suffix(self.model.state_dict(), checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        own_buffers = dict(self.model.named_buffers(recurse=False))
        for name in _OPTIONAL_BUFFERS:
            if name in own_buffers and name in incompatible.missing_keys:
                incompatible.missing_keys.remove(name)
        incompatible.unexpected_keys[:] = [
            name for name in incompatible.unexpected_keys if _IGNORED_ENTRY not in name
        ]
        return incompatible
