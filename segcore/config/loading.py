"""Load configs with Detectron2's keys, ours, and those of every imported family.

    import catseg_d2  # adds the keys of the family
    cfg = load_config("catseg_d2/vitb_384.yaml", ["MODEL.WEIGHTS", "model.pth"])

A config is read without executing anything. A wrong key or value is one error message that names
the file and the nearest key.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

from segcore.checkpoint import convert_for_detectron2, locate
from segcore.config.captions import add_caption_keys
from segcore.config.files import (
    CONFIG_FOLDERS,
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    is_file,
    read_chain,
)
from segcore.config.solver import add_solver_keys
from segcore.config.tracker import add_tracker_keys
from segcore.errors import UserError, printable
from segcore.runtime.files import expand_home, user_path

TASK_SWITCHES = "MODEL.MASK_FORMER.TEST"  # has SEMANTIC_ON, PANOPTIC_ON and INSTANCE_ON
WHOLE_NUMBER = re.compile(r"[+-]?\d{1,300}")

_config_keys: list[Callable[[CfgNode], None]] = []


def register_config_keys(add_keys: Callable[[CfgNode], None]) -> Callable[[CfgNode], None]:
    """Decorate a function that adds a family's keys, with their defaults, to a config in place."""
    _config_keys.append(add_keys)
    return add_keys


@register_config_keys
def add_shared_keys(cfg: CfgNode) -> None:
    """Add the keys that all families share."""
    # The polynomial schedule, and keys of crops and of ResNet that published configs use.
    add_deeplab_config(cfg)

    # The classes of a closed-vocabulary model, in the order of their ids: a registered vocabulary
    # or a JSON file, whose "isthing" divides them into things and stuff. "": those that the
    # checkpoint carries, else those of the data set.
    cfg.MODEL.SEM_SEG_HEAD.CLASSES = ""

    # Of predictions: "float32", or "bfloat16" for the networks' products (autocast). Training has
    # SOLVER.AMP.
    cfg.MODEL.PRECISION = "float32"
    # Compile the networks for predictions, by a mode of torch.compile: "default",
    # "reduce-overhead" (CUDA graphs), "max-autotune", "max-autotune-no-cudagraphs"; "": do not.
    cfg.MODEL.COMPILE = ""

    # False: a checkpoint must fit the model key by key.
    cfg.MODEL.ALLOW_PARTIAL_WEIGHTS = False

    add_solver_keys(cfg.SOLVER)
    add_tracker_keys(cfg)

    # The output of a semantic model: "scores" of every class (Detectron2's "sem_seg"), or "labels"
    # ("sem_seg_labels"), which need no tensor of (classes, height, width). TOP_K adds so many of
    # the top classes of every pixel ("top_k_scores", "top_k_labels").
    cfg.TEST.SEM_SEG_OUTPUT = "scores"
    cfg.TEST.TOP_K = 0

    # How long processes wait for the slowest one in an evaluation.
    cfg.TEST.TIMEOUT_MINUTES = 120.0
    # How often an evaluation saves its state, to resume after an interruption; 0 is never.
    cfg.TEST.SAVE_SECONDS = 60.0
    # Write the submission files of video benchmarks' servers even if labels are public.
    cfg.TEST.SUBMISSION = False
    # A classifier of images writes its scores to OUTPUT_DIR/inference/<data set>, as RankSeg's
    # independent scheme needs them.
    cfg.TEST.WRITE_SCORES = False

    # The mapper of training: what an image of a data set becomes for the model.
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    # The mapper of evaluation; "": that of training. Models that learn from captions read others.
    cfg.INPUT.TEST_DATASET_MAPPER_NAME = ""
    # SSD's changes of brightness, contrast, saturation and hue in training.
    cfg.INPUT.COLOR_AUG_SSD = False
    # Brightness, contrast and saturation times factors from 1 - x to 1 + x.
    cfg.INPUT.COLOR_JITTER = 0.0
    # Training multiplies MIN_SIZE_TRAIN and MAX_SIZE_TRAIN by a ratio between these two.
    cfg.INPUT.SCALE_RATIO = [1.0, 1.0]
    # Training images are padded to this side; -1 leaves them as they are.
    cfg.INPUT.SIZE_DIVISIBILITY = -1

    add_caption_keys(cfg.INPUT)
    # Pairs in tar shards that are shuffled among each other; 0: all pairs.
    cfg.DATALOADER.SHUFFLE_BUFFER = 10000

    # JSON files that describe custom datasets, tables of captions and tar shards of pairs;
    # segcore.datasets.custom registers them.
    cfg.DATASETS.CUSTOM = ()
    cfg.DATASETS.OWN = ()  # the same, under its earlier name
    # Nothing reads it; published configs set it.
    cfg.DATASETS.VAL_ALL = ("",)


def default_config() -> CfgNode:
    """Return all keys with their defaults: Detectron2's, the shared and the imported families'."""
    cfg = get_cfg()
    for add_keys in _config_keys:
        add_keys(cfg)
    return cfg


def task_switches(cfg: CfgNode) -> CfgNode | None:
    """Return the section ``TASK_SWITCHES`` of a multi-task model; None for other models."""
    return cfg.MODEL.get("MASK_FORMER", {}).get("TEST")


def find_config(name: str | os.PathLike) -> Path:
    """Return the path of a config: a file as given, else one of CatRank's configs.

    Raises:
        UserError: there is no such file; the message lists configs with similar names.
    """
    if not os.fspath(name):
        raise UserError("no config was given: name one, such as catseg_d2/vitb_384.yaml")
    path = user_path(name)
    if is_file(path):
        return path
    relative = Path(*path.parts[1:]) if path.parts[0] == "configs" else path
    known = []
    for folder in CONFIG_FOLDERS:
        if is_file(folder / relative):
            return folder / relative
        known += [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.yaml"))]
    near = difflib.get_close_matches(relative.as_posix()[:100], known, n=3, cutoff=0.4) or known[:3]
    hint = f"; there are {', '.join(near)}" if near else ""
    raise UserError(f"no config file {printable(path)}{hint}")


def load_config(config_file: str | os.PathLike, opts: Sequence[Any] = ()) -> CfgNode:
    """Read a config with its ``_BASE_`` chain and put ``opts`` on top.

    ``MODEL.DEVICE`` is a GPU if there is one, unless the file or ``opts`` say otherwise. A string
    that begins with ``~`` is a path and is expanded, whatever its key. Weights at an address are
    downloaded. Weights in a format that Detectron2 would unpickle, or cannot read, are converted
    once to a safe copy.

    Args:
        config_file: a path, or the name of one of CatRank's configs.
        opts: alternating keys and values, ``["SOLVER.BASE_LR", 1e-4, "SEED", "7"]``; a value may be
            a string, as typed on a command line.

    Returns:
        a config that is not frozen.

    Raises:
        UserError: a file, key or value is wrong.
    """
    cfg = default_config()
    settings = [
        (file, key, value)
        for file, tree in read_chain(find_config(config_file))
        for key, value in _flatten(tree, cfg, file)
    ]
    settings += [("the command line", key, value) for key, value in _pairs(opts)]
    for source, key, value in settings:
        _set(cfg, key, value, source)
    _expand_paths(cfg)
    _settle_device(cfg, chosen_by_user=any(key == "MODEL.DEVICE" for _, key, _ in settings))
    cfg.MODEL.WEIGHTS = convert_for_detectron2(locate(cfg.MODEL.WEIGHTS))
    return cfg


def _flatten(tree: dict, known: CfgNode, source: Path, prefix: str = "") -> Iterator:
    """Yield (full key, value) of every leaf; an empty section sets nothing."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        section = known.get(name) if isinstance(known, CfgNode) else None
        if isinstance(value, dict):
            yield from _flatten(value, section, source, f"{key}.")
        elif value is not None or not isinstance(section, CfgNode):
            yield key, value


# ---- keys and values -------------------------------------------------------------------------


def _pairs(opts: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    for item in opts:
        if isinstance(item, str) and item.startswith("--"):
            raise UserError(
                f"{printable(item)} stands after a key: flags come before the first KEY VALUE"
            )
    if len(opts) % 2:
        raise UserError(
            f"keys and values come in pairs, but {printable(repr(opts[-1]))} is left over; "
            "a value with a space in it needs quotes"
        )
    return zip(opts[::2], opts[1::2], strict=True)


def _set(cfg: CfgNode, key: str, value: Any, source: Path | str) -> None:
    name, key = printable(source), str(key)
    where = f"{name}: {printable(key)}"
    _check_value(value, where)
    node, last = _section(cfg, key)
    if node is None or last not in node or isinstance(node[last], CfgNode):
        if node is None or last in node or not node.is_new_allowed():
            keys = [known for known, _ in _leaves(cfg)]
            near = difflib.get_close_matches(key[:100], keys, n=1, cutoff=0.0)[0]
            raise UserError(
                f"{name}: there is no key {printable(key)}; the nearest is {near}"
                f"{_family_hint(source)}"
            )
        _add(cfg, key, value, where)
        return
    default = node[last]
    # Published configs often write integers for keys of type float.
    if isinstance(default, float) and WHOLE_NUMBER.fullmatch(str(value)):
        value = float(value)
    try:
        cfg.merge_from_list([key, value])
    # Text that is no Python literal, such as "{[1]}", raises more than a ValueError.
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} is {_shown(value)}, but takes {_kind(default)}") from error
    if node[last] is None and isinstance(default, str):
        node[last] = ""  # configs of other projects may write null for "none"
    elif node[last] is None and default is not None:
        raise UserError(f"{where} is empty, but takes {_kind(default)}")
    _check_value(node[last], where)  # a string may have been parsed to another type


def _add(cfg: CfgNode, key: str, value: Any, where: str) -> None:
    """Set a new key; merging a tree allows that and merging a list does not."""
    tree = value
    for name in reversed(key.split(".")):
        tree = {name: tree}
    try:
        cfg.merge_from_other_cfg(CfgNode(tree))
    except (AssertionError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} is {_shown(value)}, which no config can hold") from error
    node, last = _section(cfg, key)
    _check_value(node[last], where)


def _check_value(value: Any, where: str, depth: int = 0) -> None:
    """Refuse a value that cannot be written to a config file and read again."""
    if depth > MAX_DEPTH:
        raise UserError(f"{where} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise UserError(f"{where} is a whole number of more than 64 bits")
    if isinstance(value, str) and len(value) > MAX_CONFIG_BYTES:
        raise UserError(f"{where} is a text of more than {MAX_CONFIG_BYTES} characters")
    for item in value if isinstance(value, list | tuple) else ():
        _check_value(item, where, depth + 1)


def _shown(value: Any) -> str:
    return printable(repr(value), 60)


def _section(cfg: CfgNode, key: str) -> tuple[CfgNode | None, str]:
    """Return the section that holds a full key, and the key's name in it.

    If the section does not exist, return the deepest existing one if it allows new keys, else None.
    """
    names = key.split(".")
    for number, name in enumerate(names):
        last = number == len(names) - 1
        if last or name not in cfg:
            return (cfg, name) if last or cfg.is_new_allowed() else (None, name)
        cfg = cfg[name]
        if not isinstance(cfg, CfgNode):
            return None, name
    raise AssertionError("str.split returns at least one part")


def _leaves(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _kind(default: Any) -> str:
    kinds = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple: "a list",
        list: "a list",
    }
    example = "" if isinstance(default, bool) else f", such as {default!r}"
    return kinds.get(type(default), type(default).__name__) + example


def _family_hint(source: Path | str) -> str:
    """Return a hint to import the family, whose keys a config needs, if it is not imported."""
    for folder in CONFIG_FOLDERS:
        if isinstance(source, Path) and folder in source.resolve().parents:
            family = source.resolve().relative_to(folder).parts[0]
            if not any(add_keys.__module__.startswith(f"{family}.") for add_keys in _config_keys):
                return f" (import {family} first: it adds the keys of its configs)"
    return ""


def _expand_paths(cfg: CfgNode) -> None:
    """Expand ``~``, the home folder, in every string that begins with it, also within lists."""

    def expanded(value: Any, key: str) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(expanded(item, key) for item in value)
        try:
            return expand_home(value) if isinstance(value, str) else value
        except UserError as error:
            raise UserError(f"{key}: {error}") from error

    for key, value in list(_leaves(cfg)):
        if (path := expanded(value, key)) != value:
            node, name = _section(cfg, key)
            node[name] = path


def _settle_device(cfg: CfgNode, chosen_by_user: bool) -> None:
    available = torch.cuda.is_available()
    if not chosen_by_user:
        cfg.MODEL.DEVICE = "cuda" if available else "cpu"
        return
    try:
        torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"MODEL.DEVICE is {printable(cfg.MODEL.DEVICE)}, but takes cpu, cuda or one GPU such "
            "as cuda:1"
        ) from error
    if cfg.MODEL.DEVICE.startswith("cuda") and not available:
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but there is no GPU that PyTorch can use; "
            "leave the key out or set it to cpu"
        )
