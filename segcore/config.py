"""Configs: Detectron2's keys, ours, and those that every imported family adds.

    import catseg_d2  # adds the keys of the family
    cfg = load_config("catseg_d2/vitb_384.yaml", ["MODEL.WEIGHTS", "model.pth"])

A config is read without executing anything, and a wrong key or value is one sentence that names the
file and the nearest key there is.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

from segcore.checkpoint import convert_for_detectron2
from segcore.errors import UserError

# Beside the package in a source folder, inside the package in an installed wheel.
CONFIG_FOLDERS = (
    Path(__file__).resolve().parents[1] / "configs",
    Path(__file__).resolve().parent / "configs",
)
MAX_CONFIG_BYTES = 256 << 10
WHOLE_NUMBER = re.compile(r"[+-]?\d{1,300}")

_config_keys: list[Callable[[CfgNode], None]] = []


def register_config_keys(add_keys: Callable[[CfgNode], None]) -> Callable[[CfgNode], None]:
    """Decorate a function that adds a family's keys, with their defaults, to a config in place."""
    _config_keys.append(add_keys)
    return add_keys


@register_config_keys
def add_shared_keys(cfg: CfgNode) -> None:
    """Add the keys that all families share."""
    # The polynomial schedule, and keys of crops and of ResNet that released files borrow.
    add_deeplab_config(cfg)

    # False: a checkpoint must fit the model key by key.
    cfg.MODEL.ALLOW_PARTIAL_WEIGHTS = False

    cfg.SOLVER.OPTIMIZER = "ADAMW"  # or "SGD"
    # Factors on the learning rate of modules whose path contains "backbone", "clip" and
    # "ranking.head", which is RankSeg's multi-label head in every model that has one.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1
    cfg.SOLVER.CLIP_MULTIPLIER = 0.01
    cfg.SOLVER.MLHEAD_MULTIPLIER = 1.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0

    # What a semantic model answers: "scores" of every class (Detectron2's "sem_seg"), or "labels"
    # ("sem_seg_labels"), which need no tensor of (classes, height, width). And how many of the best
    # classes of every pixel are told besides ("top_k_scores", "top_k_labels").
    cfg.TEST.SEM_SEG_OUTPUT = "scores"
    cfg.TEST.TOP_K = 0

    # How long processes wait for the slowest one in an evaluation.
    cfg.TEST.TIMEOUT_MINUTES = 120.0
    # How often an evaluation notes how far it has come, to go on there after an interruption; 0 is
    # never.
    cfg.TEST.SAVE_SECONDS = 60.0
    # Write the files that the servers of video benchmarks want also where labels are public.
    cfg.TEST.SUBMISSION = False

    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    cfg.INPUT.COLOR_AUG_SSD = False
    # Training pictures are padded to this side; -1 leaves them as they are.
    cfg.INPUT.SIZE_DIVISIBILITY = -1

    # JSON files that describe data sets of one's own, and tables of captions:
    # segcore.datasets.own registers them.
    cfg.DATASETS.OWN = ()
    # Nothing reads it; published files set it.
    cfg.DATASETS.VAL_ALL = ("",)


def default_config() -> CfgNode:
    """Every known key with its default: Detectron2's, the shared ones, the imported families'."""
    cfg = get_cfg()
    for add_keys in _config_keys:
        add_keys(cfg)
    return cfg


def find_config(name: str | os.PathLike) -> Path:
    """The path of a config: a file as given, else one of the configs that come with CatRank.

    Raises:
        UserError: there is no such file; the sentence lists the configs of similar names.
    """
    if not os.fspath(name):
        raise UserError("no config was given: name one, such as catseg_d2/vitb_384.yaml")
    path = Path(name)
    if path.is_file():
        return path
    relative = Path(*path.parts[1:]) if path.parts[0] == "configs" else path
    known = []
    for folder in CONFIG_FOLDERS:
        if (folder / relative).is_file():
            return folder / relative
        known += [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.yaml"))]
    near = difflib.get_close_matches(relative.as_posix(), known, n=3, cutoff=0.4) or known[:3]
    hint = f"; there are {', '.join(near)}" if near else ""
    raise UserError(f"no config file {path}{hint}")


def load_config(config_file: str | os.PathLike, opts: Sequence[Any] = ()) -> CfgNode:
    """Read a config with its ``_BASE_`` chain and put ``opts`` on top.

    ``MODEL.DEVICE`` is a GPU where there is one, unless the file or ``opts`` say otherwise. Weights
    in a format that Detectron2 would unpickle, or not read, are converted once to a safe copy.

    Args:
        config_file: a path, or the name of a config that comes with CatRank.
        opts: keys and values in turn, ``["SOLVER.BASE_LR", 1e-4, "SEED", "7"]``; a value may be
            text, as typed on a command line.

    Returns:
        a config that is not frozen.

    Raises:
        UserError: a file, key or value is wrong.
    """
    cfg = default_config()
    settings = [
        (file, key, value)
        for file, tree in _read_chain(find_config(config_file))
        for key, value in _flatten(tree, cfg, file)
    ]
    settings += [("the command line", key, value) for key, value in _pairs(opts)]
    for source, key, value in settings:
        _set(cfg, key, value, source)
    _settle_device(cfg, chosen_by_user=any(key == "MODEL.DEVICE" for _, key, _ in settings))
    # A config that was written by others may say null for "none".
    cfg.MODEL.WEIGHTS = convert_for_detectron2(cfg.MODEL.WEIGHTS or "")
    return cfg


# ---- files -----------------------------------------------------------------------------------


class _SafeLoader(yaml.SafeLoader):
    """Plain values, and the one list of ranges that published files write as Python."""

    # One line of text, evaluated as Python by the published code; here it is only recognised.
    RANGES = re.compile(r"\[int\(x \* 0\.1 \* (\d{1,5})\) for x in range\((\d{1,3}), (\d{1,3})\)\]")

    # Detectron2 writes a few references (*name) into its config.yaml. Many of them, nested, could
    # stand for gigabytes.
    MAX_REFERENCES = 16

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.references = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        self.references += self.check_event(yaml.AliasEvent)
        if self.references > self.MAX_REFERENCES:
            raise yaml.YAMLError(f"it holds more than {self.MAX_REFERENCES} references (*name)")
        return super().compose_node(parent, index)

    def construct_ranges(self, node: yaml.Node) -> list[int]:
        text = self.construct_sequence(node)[0] if isinstance(node, yaml.SequenceNode) else ""
        match = self.RANGES.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return self.construct_undefined(node)
        size, start, stop = map(int, match.groups())
        return [int(x * 0.1 * size) for x in range(start, stop)]


_SafeLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:eval", _SafeLoader.construct_ranges
)


def _read_chain(path: Path, children: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict]]:
    """The file and its bases with their contents, the outermost base first."""
    if path.resolve() in children:
        raise UserError(f"{path} is its own _BASE_: the chain of bases must end")
    tree = _read_yaml(path)
    bases = tree.pop("_BASE_", [])
    for base in [bases] if isinstance(bases, str) else bases:
        base_path = path.parent / Path(base).expanduser()
        if not base_path.is_file():
            raise UserError(f"{path}: its _BASE_ {base} is not a file")
        yield from _read_chain(base_path, (*children, path.resolve()))
    yield path, tree


def _read_yaml(path: Path) -> dict:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UserError(f"{path} has more than {MAX_CONFIG_BYTES} bytes: it is no config")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        tree = yaml.load(content.decode("utf-8"), Loader=_SafeLoader)
    except yaml.constructor.ConstructorError as error:
        raise UserError(f"{path}: {error.problem}{error.problem_mark}; it was not read") from error
    # ValueError: text that is not UTF-8, a date that does not exist, a number of too many digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict | None):
        raise UserError(f"{path} holds no keys: a config is lines of KEY: value")
    return tree or {}


def _flatten(tree: dict, known: CfgNode, source: Path, prefix: str = "") -> Iterator:
    """(full key, value) of every leaf; a section with nothing in it sets nothing."""
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
            raise UserError(f"{item} stands after a key: flags come before the first KEY VALUE")
    if len(opts) % 2:
        raise UserError(
            f"keys and values come in pairs, but {opts[-1]!r} is left over; "
            "a value with a space in it needs quotes"
        )
    return zip(opts[::2], opts[1::2], strict=True)


def _set(cfg: CfgNode, key: str, value: Any, source: Path | str) -> None:
    keys = dict(_leaves(cfg))
    if key not in keys and _is_new_allowed(cfg, key):
        _add(cfg, key, value, source)
        return
    if key not in keys:
        near = difflib.get_close_matches(str(key), keys, n=1, cutoff=0.0)[0]
        hint = _family_hint(source)
        raise UserError(f"{source}: there is no key {key}; the nearest is {near}{hint}")
    # Whole numbers for keys with a point are all over released files.
    if isinstance(keys[key], float) and WHOLE_NUMBER.fullmatch(str(value)):
        value = float(value)
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, RecursionError, MemoryError) as error:
        shown = f"{value!r:.60}"
        raise UserError(f"{source}: {key} is {shown}, but takes {_kind(keys[key])}") from error


def _add(cfg: CfgNode, key: str, value: Any, source: Path | str) -> None:
    """Set a key that is not there yet, which merging a tree does and merging a list refuses."""
    tree = value
    for name in reversed(key.split(".")):
        tree = {name: tree}
    try:
        cfg.merge_from_other_cfg(CfgNode(tree))
    except AssertionError as error:
        raise UserError(f"{source}: {key} is {value!r:.60}, which no config can hold") from error


def _is_new_allowed(cfg: CfgNode, key: Any) -> bool:
    """Whether the section that lacks the key takes keys that nobody declared."""
    for name in str(key).split("."):
        if not isinstance(cfg, CfgNode):
            return False
        if name not in cfg:
            return cfg.is_new_allowed()
        cfg = cfg[name]
    return False


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
    """Configs of a family that was not imported fail on the family's keys: say so."""
    for folder in CONFIG_FOLDERS:
        if isinstance(source, Path) and folder in source.resolve().parents:
            family = source.resolve().relative_to(folder).parts[0]
            if not any(add_keys.__module__.startswith(f"{family}.") for add_keys in _config_keys):
                return f" (import {family} first: it adds the keys of its configs)"
    return ""


def _settle_device(cfg: CfgNode, chosen_by_user: bool) -> None:
    available = torch.cuda.is_available()
    if not chosen_by_user:
        cfg.MODEL.DEVICE = "cuda" if available else "cpu"
        return
    try:
        torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but takes cpu, cuda or one GPU such as cuda:1"
        ) from error
    if cfg.MODEL.DEVICE.startswith("cuda") and not available:
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but there is no GPU that PyTorch can use; "
            "leave the key out or set it to cpu"
        )
