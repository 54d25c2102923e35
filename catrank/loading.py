"""From what names a model to its config: a name of the model zoo, a config, or a checkpoint."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import safetensors
from detectron2.config import CfgNode

from catrank.families import load_config
from catrank.models import ModelEntry, list_models, resolve
from segcore.config import TASK_SWITCHES, find_config, task_switches
from segcore.errors import UserError, printable
from segcore.runtime.files import join_inside

CONFIG_SUFFIXES = (".yaml", ".yml")
CONFIG_KEY = "config"  # in the metadata of a .safetensors file
# The tasks of a model that has several, the most detailed first: the first one is predicted.
TASKS = {"panoptic": "PANOPTIC_ON", "instance": "INSTANCE_ON", "semantic": "SEMANTIC_ON"}

ModelName: TypeAlias = str | os.PathLike[str] | CfgNode


@dataclass(frozen=True)
class FoundModel:
    """A model on this machine.

    Attributes:
        cfg: its config, with its checkpoint in ``MODEL.WEIGHTS``.
        class_names: registered vocabulary of its fixed classes; None where the config names them.
    """

    cfg: CfgNode
    class_names: str | None = None


def find_model(
    model: ModelName,
    config: str | os.PathLike[str] | CfgNode | None = None,
    *,
    device: str = "auto",
    opts: Sequence[Any] = (),
) -> FoundModel:
    """Find a model; one of the model zoo is downloaded where it is not here yet.

    Args:
        model: a name of the model zoo, a config (a file, or the name of one that comes with
            CatRank) or a checkpoint (a path or an address).
        config: of a checkpoint that does not say its own.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1".
        opts: keys and values in turn, on top of the config.

    Raises:
        UserError: there is no such model, or nothing says its config.
    """
    opts = [*opts] if device == "auto" else [*opts, "MODEL.DEVICE", device]
    if isinstance(model, CfgNode) or str(model).lower().endswith(CONFIG_SUFFIXES):
        if config is not None:
            raise UserError("two configs are given: name a checkpoint and its config, or a config")
        return FoundModel(_read(model, opts))
    weights = resolve(model)
    entry = weights.entry
    if config is None and entry is None:
        config = written_config(weights.path)
    if config is None:
        entry = entry or known_file(weights.path)
        config = entry.config
    cfg = _read(config, opts)
    cfg.MODEL.WEIGHTS = str(weights.path)
    fixed = entry is not None and entry.task != "open vocabulary"
    return FoundModel(cfg, entry.vocabulary if entry is not None and fixed else None)


def _read(config: str | os.PathLike[str] | CfgNode, opts: Sequence[Any]) -> CfgNode:
    opts = [os.fspath(item) if isinstance(item, os.PathLike) else item for item in opts]
    if not isinstance(config, CfgNode):
        return load_config(config, opts)
    cfg = config.clone()
    cfg.defrost()
    try:
        cfg.merge_from_list(opts)
    except (AssertionError, KeyError, ValueError) as error:  # yacs' own
        raise UserError(f"opts: {printable(error)}") from error
    return cfg


def written_config(checkpoint: Path) -> Path | None:
    """Return the config that stands with a checkpoint: the name of one that comes with CatRank in
    the metadata of a ``.safetensors`` file, or ``config.yaml`` beside it, which training writes.

    Raises:
        UserError: the file is damaged, or names no config that comes with CatRank.
    """
    if checkpoint.suffix.lower() == ".safetensors":
        where = printable(checkpoint)
        try:
            with safetensors.safe_open(checkpoint, framework="pt") as file:
                name = (file.metadata() or {}).get(CONFIG_KEY)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{where} cannot be read: it is cut short or damaged; fetch it again"
            ) from error
        if name is not None:
            # An untrusted text: no file but the configs of the package.
            join_inside("the folder of configs", name, f"{where}: its config")
            return find_config(Path("configs") / name)
    beside = checkpoint.parent / "config.yaml"
    return beside if beside.is_file() else None


def known_file(checkpoint: Path) -> ModelEntry:
    """Return the model of the model zoo whose file has this name, and this size where it is known.

    Raises:
        UserError: there is none, or several.
    """
    size = checkpoint.stat().st_size
    known = [
        entry
        for entry in list_models()
        if entry.file_name == checkpoint.name and entry.size in (None, size)
    ]
    if len(known) != 1:
        raise UserError(
            f"{printable(checkpoint)} does not say its config: give it, such as "
            "config='catseg_d2/vitb_384.yaml', or put config.yaml beside the file"
        )
    return known[0]


def for_labels(cfg: CfgNode) -> CfgNode:
    """Return a copy for a model of one task that predicts labels and the score of each pixel, or of
    its ``TEST.TOP_K`` best classes.

    Raises:
        UserError: the config switches every task off.
    """
    cfg = cfg.clone()
    options: list[Any] = ["TEST.SEM_SEG_OUTPUT", "labels", "TEST.TOP_K", max(1, cfg.TEST.TOP_K)]
    if switches := task_switches(cfg):
        task = next((task for task, key in TASKS.items() if switches[key]), None)
        if task is None:
            raise UserError(
                f"{TASK_SWITCHES} switches every task off: set SEMANTIC_ON, INSTANCE_ON or "
                "PANOPTIC_ON to True"
            )
        for other, key in TASKS.items():
            options += [f"{TASK_SWITCHES}.{key}", other == task]
    cfg.merge_from_list(options)
    return cfg
