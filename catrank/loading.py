"""From what names a model to its config: a name of the model zoo, a config, or a checkpoint."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
from detectron2.config import CfgNode

from catrank.families import load_config
from segcore.config import TASK_SWITCHES, find_config, task_switches
from segcore.errors import UserError, printable
from segcore.runtime.files import join_inside, user_path

CONFIG_SUFFIXES = (".yaml", ".yml")
CONFIG_KEY = "config"  # in the metadata of a .safetensors file
# The tasks of a model that has several, the most detailed first: the first one is predicted.
TASKS = {"panoptic": "PANOPTIC_ON", "instance": "INSTANCE_ON", "semantic": "SEMANTIC_ON"}

ModelName = str | os.PathLike[str] | CfgNode


def find_model(
    model: ModelName,
    config: str | os.PathLike[str] | CfgNode | None = None,
    *,
    device: str = "auto",
    opts: Sequence[Any] = (),
) -> CfgNode:
    """Return the config of a model, with its checkpoint in ``MODEL.WEIGHTS``.

    Args:
        model: a config (a file, or the name of one that comes with CatRank) or a checkpoint.
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
        return _read(model, opts)
    checkpoint = user_path(model)
    if not checkpoint.is_file():
        raise UserError(
            f"there is no model {printable(model)}: give a config such as "
            "catseg_d2/vitb_384.yaml, or the path of a checkpoint"
        )
    cfg = _read(config if config is not None else config_of(checkpoint), opts)
    cfg.MODEL.WEIGHTS = str(checkpoint)
    return cfg


def _read(config: str | os.PathLike[str] | CfgNode, opts: Sequence[Any]) -> CfgNode:
    if isinstance(config, CfgNode):
        cfg = config.clone()
        cfg.defrost()
        cfg.merge_from_list([*opts])
        return cfg
    return load_config(config, opts)


def config_of(checkpoint: Path) -> Path:
    """Return the config that a checkpoint says: the name of one that comes with CatRank in the
    metadata of a ``.safetensors`` file, or ``config.yaml`` beside it, which training writes.

    Raises:
        UserError: it says none.
    """
    where = printable(checkpoint)
    if checkpoint.suffix.lower() == ".safetensors":
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
    written = checkpoint.parent / "config.yaml"
    if not written.is_file():
        raise UserError(
            f"{where} does not say its config: give it, such as "
            "config='catseg_d2/vitb_384.yaml', or put config.yaml beside the file"
        )
    return written


def for_labels(cfg: CfgNode) -> CfgNode:
    """Return a copy for a model of one task that predicts labels and the score of each pixel.

    Raises:
        UserError: the config switches every task off.
    """
    cfg = cfg.clone()
    options: list[Any] = ["TEST.SEM_SEG_OUTPUT", "labels", "TEST.TOP_K", 1]
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
