"""The passport (run manifest) of a score: versions, settings and files, to compare two scores."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.benchmarks.environment import machine, versions
from segcore.checkpoint.copies import file_sha256
from segcore.config import default_config
from segcore.errors import UserError, printable
from segcore.evaluation import EvaluatorsByOutput, StatefulEvaluator, VideoSemanticEvaluator
from segcore.evaluation.consistency import LENGTHS
from segcore.evaluation.resuming import OTHER_KEYS, SECTIONS
from segcore.evaluation.semantic import CONVENTIONS
from segcore.runtime.files import user_path
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import read_json

FILES = ("file_name", "sem_seg_file_name", "pan_seg_file_name")
FILE_LISTS = ("file_names", "sem_seg_file_names")
SAME_SCORE = ("versions", "made")  # sections that a score should not depend on
ALWAYS_DIFFERENT = ("made",)  # sections that differ between any two runs
# Rules of the evaluators of other tasks than semantic segmentation.
RULES = {
    "PanopticEvaluator": {"PQ": "the rules of COCO's panopticapi; mean over categories that occur"},
    "InstanceEvaluator": {"AP": "COCO's mask AP, by pycocotools"},
    "VideoInstanceEvaluator": {"AP": "YouTube-VIS's AP of tracks"},
    "MultilabelEvaluator": {
        "mAP": "mean over classes, images ranked",
        "mAP-envelope": "mean over classes, images ranked, best precision at a later rank",
        "mAP-image": "mean over images, classes ranked",
    },
}


def make_passport(
    cfg: CfgNode,
    dataset: str,
    evaluator: StatefulEvaluator,
    *,
    config: str,
    weights: str,
    options: Sequence[str],
    prompts: dict[str, Any],
) -> dict[str, Any]:
    """Return the passport of the scores of a data set.

    Args:
        cfg: of the run.
        dataset: registered name.
        evaluator: of the data set.
        config: name of the config.
        weights: the checkpoint's file.
        options: keys and values on top of the config.
        prompts: templates and synonyms of an open-vocabulary model.

    Returns:
        sections of names and values of JSON's types.

    Raises:
        UserError: the checkpoint or the data set cannot be read.
    """
    return {
        "evaluator": describe_evaluators(evaluator),
        "dataset": {"name": dataset} | describe_files(DatasetCatalog.get(dataset)),
        "vocabulary": describe_vocabulary(dataset) | prompts,
        "model": {
            "config": config,
            "checkpoint": Path(weights).name,
            "checkpoint_sha256": file_hash(weights),
        },
        "pruning": describe_pruning(cfg),
        "input": describe_input(cfg),
        "precision": describe_precision(cfg),
        "settings": settings(cfg),
        "versions": versions(),
        "made": {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(cfg.MODEL.DEVICE),
            "weights": str(weights),
            "options": list(map(str, options)),
        },
    }


def describe_evaluators(evaluator: StatefulEvaluator) -> dict[str, Any]:
    """Return the names of the evaluators, and their conventions."""
    parts = [evaluator]
    if isinstance(evaluator, EvaluatorsByOutput):
        parts = list(evaluator.evaluators.values())
    names = [type(part).__name__ for part in parts]
    conventions = {}
    for name in names:
        conventions |= RULES.get(name, CONVENTIONS)
    if any(isinstance(part, VideoSemanticEvaluator) for part in parts):
        conventions |= {f"VC{n}": f"consistency over {n} frames, VSPW's" for n in LENGTHS}
    return {"name": ", ".join(names), "conventions": conventions}


def describe_files(records: Sequence[dict]) -> dict[str, Any]:
    """Return the number of images or videos of a data set, and a hash of the list of their files.

    Names are relative to the folder that all files have in common, so that the hash does not depend
    on the location of the data sets.
    """
    lists = [
        [record.get(key) for key in FILES]
        + [name for key in FILE_LISTS for name in record.get(key, ())]
        for record in records
    ]
    names = [name for each in lists for name in each if name]
    common = os.path.commonpath([Path(name).parent for name in names])
    digest = hashlib.sha256()
    for name in names:
        digest.update(Path(name).relative_to(common).as_posix().encode() + b"\n")
    return {"count": len(records), "files_sha256": digest.hexdigest()}


def describe_vocabulary(dataset: str) -> dict[str, Any]:
    """Return name, size and hash of a data set's vocabulary."""
    vocabulary = MetadataCatalog.get(dataset).get("vocabulary")
    if vocabulary is None:
        return {"name": None, "classes": None, "sha256": None}
    vocabulary = Vocabulary.load(vocabulary)
    return {"name": vocabulary.name, "classes": len(vocabulary), "sha256": vocabulary.hash}


def describe_pruning(cfg: CfgNode) -> dict[str, Any]:
    """Return the number of classes that are kept for a crop (CAT-Seg) or an image (RankSeg,
    GroupViT)."""
    if cfg.MODEL.META_ARCHITECTURE == "CATSeg":
        number = cfg.MODEL.SEM_SEG_HEAD.MAX_CLASSES
        return {"classes of a crop": number or "all"}
    if cfg.MODEL.META_ARCHITECTURE == "GroupViT":
        return {"classes of an image": cfg.MODEL.ZERO_SHOT.KEEP_CLASSES or "all"}
    rankseg = cfg.MODEL.get("RANKSEG")
    ranked = rankseg is not None and rankseg.FLAG
    return {"classes of an image": rankseg.TOPK if ranked else "all"}


def describe_input(cfg: CfgNode) -> dict[str, Any]:
    """Describe resizing, sliding windows and test-time augmentation."""
    sizes = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    described = {
        "size": f"shorter side {sizes[0]}, longer side at most {sizes[1]}" if sizes[0] else "as is",
        "windows": "none",
        "augmentation": "none",
    }
    if cfg.MODEL.META_ARCHITECTURE == "CATSeg" and cfg.TEST.SLIDING_WINDOW:
        node = cfg.TEST.PATCH_INFERENCE
        squeezed = "aspect ratio kept" if node.KEEP_ASPECT_RATIO else "squeezed to a square"
        described["windows"] = (
            f"tiles of {node.TILE}, overlap {node.OVERLAP}, of an image of "
            f"{node.OUTPUT_SIZE or 'its own size'}, {squeezed}"
            + (", and the whole image" if node.GLOBAL_VIEW else "")
        )
    elif cfg.MODEL.META_ARCHITECTURE == "CATSeg":
        described["windows"] = "the whole image, squeezed to the encoders' input size"
    elif cfg.MODEL.META_ARCHITECTURE == "GroupViT":
        node = cfg.MODEL.ZERO_SHOT
        squares = f"squares of {node.WINDOW}, every {node.STRIDE} pixels"
        described["windows"] = (
            squares if node.STRIDE else f"the whole image, squeezed to a square of {node.WINDOW}"
        )
    if cfg.TEST.AUG.ENABLED:
        scales = ", ".join(map(str, cfg.TEST.AUG.MIN_SIZES))
        described["augmentation"] = f"shorter sides {scales}" + (
            " and flipped" if cfg.TEST.AUG.FLIP else ""
        )
    return described


def describe_precision(cfg: CfgNode) -> dict[str, Any]:
    """Describe the model's numeric precision."""
    if cfg.MODEL.PRECISION != "float32":
        rounded = cfg.MODEL.PRECISION
        return {"numbers": "float32", "matrix products": rounded, "convolutions": rounded}
    on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    rounded = on_gpu and torch.backends.cudnn.allow_tf32
    return {
        "numbers": str(torch.get_default_dtype()).removeprefix("torch."),
        "matrix products": torch.get_float32_matmul_precision() if on_gpu else "highest",
        "convolutions": "tf32" if rounded else "float32",
    }


def settings(cfg: CfgNode) -> dict[str, Any]:
    """Return the config keys that affect predictions and differ from their defaults."""
    usual = default_config()
    keys = {}
    for section in SECTIONS:
        left_out = (*OTHER_KEYS.get(section, ()), "DEVICE")
        defaults = dict(_leaves(usual[section]))
        for key, value in _leaves(cfg[section]):
            if key not in left_out and defaults.get(key, ...) != value:
                keys[f"{section}.{key}"] = value
    return keys


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(node.items()):
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _json_value(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def text_hash(lines: Sequence[str]) -> str:
    """Return the SHA-256 (hex) of texts in their order."""
    return hashlib.sha256(json.dumps(list(lines)).encode()).hexdigest()


def file_hash(path: str | Path) -> str | None:
    """Return the SHA-256 (hex) of a file; None for other things, such as an address.

    Raises:
        UserError: it cannot be read.
    """
    if not Path(path).is_file():
        return None
    try:
        return file_sha256(Path(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


# ---- comparing -------------------------------------------------------------------------------


def read_passport(path: str | Path) -> dict[str, Any]:
    """Read a passport from its file.

    Raises:
        UserError: the file cannot be read, or is no passport.
    """
    passport = read_json(user_path(path))
    if not isinstance(passport, dict) or not isinstance(passport.get("evaluator"), dict):
        raise UserError(
            f"{printable(path)} holds no passport: name a passport.json that an evaluation wrote"
        )
    return passport


def differences(
    one: dict[str, Any], other: dict[str, Any], without: Sequence[str] = ALWAYS_DIFFERENT
) -> list[str]:
    """Return a line for every field that differs, without the sections of ``without``.

    A config key that is in one of the two only has its default value in the other.
    """
    ours, theirs = dict(_fields(one, without)), dict(_fields(other, without))
    return [
        f"{name}: {_shown(ours, name)} | {_shown(theirs, name)}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name, ...) != theirs.get(name, ...)
    ]


def _fields(passport: dict[str, Any], without: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for section, entries in passport.items():
        if section in without:
            continue
        if not isinstance(entries, dict):
            yield section, entries
            continue
        for name, value in entries.items():
            yield f"{section}: {name}" if section != "settings" else name, value


def _shown(fields: dict[str, Any], name: str) -> str:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else "-"
