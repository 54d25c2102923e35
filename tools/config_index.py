#!/usr/bin/env python3
"""The page of the published experiments, as configs/INDEX.md holds it.

    python tools/config_index.py > configs/INDEX.md

Task, data set, backbone and RankSeg's settings are read from the configs; results from
configs/published.json, where every published experiment has an entry; the names of the files of
weights from the table of the model zoo, catrank/models/table.json, or from that entry.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import load_config

# isort: split
from detectron2.config import CfgNode

from catrank.models import list_models
from segcore.errors import exit_on_user_error

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = CONFIGS / "published.json"

HEADER = """\
# Published experiments

Each line is a config for `python train_net.py --config-file`, which trains it, or with
`--eval-only` and `MODEL.WEIGHTS` evaluates the file of weights in the last column. Folders and
files are called as in the releases. Results are in percent, as published with those weights, and
not measured here; "ms+flip" is a mean over several sizes and horizontal flips. A dash: nothing
was published.

`-rankseg` adds RankSeg to the experiment of the same name. `-gt` is an oracle in evaluation: it
predicts with the classes of the ground truth alone. Mask2Former's models of Cityscapes and
MaskFormer's per-pixel baselines are not here.

Of the per-pixel family `-oracle` is an oracle in training and evaluation, and `-paper` adds the
layer that the paper's parameter counts include and the released head lacks. ESSNet's `-quarter`,
`-eighth` and `-clusters` search for nearest classes faster in training. `-independent` selects
classes by the scores of Query2Label, which is trained before; the results are by its backbone.
RankSeg's files of
weights for Segmenter are those of the column "download" of `mmseg/configs/segmenter/README.md` in
its repository; [docs/explanation/per_pixel.md](../docs/explanation/per_pixel.md) says more.

`python tools/config_index.py > configs/INDEX.md` writes this page.
"""
COLUMNS = ("config", "task", "trained on", "backbone", "RankSeg", "published", "where", "weights")
VIT_SIZES = {12: "B", 24: "L"}
TRESNETS = {"tresnet_l": "TResNet-L"}
SWIN_SIZES = {(96, 6): "T", (96, 18): "S", (128, 18): "B", (192, 18): "L"}


def published() -> dict[str, dict]:
    """``results`` and ``source`` of every published experiment, by its config."""
    return json.loads(PUBLISHED.read_text())


def index() -> str:
    """The whole page."""
    return "\n".join([HEADER, *_lines()]).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    experiments = published()
    weights = {model.config: model.file_name for model in list_models()}
    for folder, names in groupby(sorted(experiments, key=_place), key=_folder):
        yield f"## {folder}\n"
        yield table_row(COLUMNS)
        yield table_row("---" for _ in COLUMNS)
        yield from (table_row(cells(name, experiments[name], weights.get(name))) for name in names)
        yield ""


def load_published(name: str) -> CfgNode:
    """The config of a published experiment, with the keys of its family."""
    return load_config(name)


def cells(name: str, facts: dict, weights: str | None) -> list[str]:
    """The cells of one experiment, in the order of ``COLUMNS``.

    Args:
        name: of its config.
        facts: its entry of :func:`published`.
        weights: name of its file in the model zoo; None where it has none.
    """
    cfg = load_published(name)
    path = Path(name)
    return [
        f"[{path.stem}]({name})",
        task(cfg),
        " ".join(f"`{dataset}`" for dataset in cfg.DATASETS.TRAIN),
        backbone(cfg) + (" (IN-22k)" if "IN21k" in name else ""),
        rankseg(cfg),
        ", ".join(f"{metric} {value}" for metric, value in facts["results"].items()) or "-",
        facts["source"] or "-",
        f"`{weights or facts['weights']}`" if weights or "weights" in facts else "-",
    ]


def task(cfg: CfgNode) -> str:
    """Return the kind of the training labels, by the name of the mapper."""
    if cfg.MODEL.META_ARCHITECTURE in ("CATSeg", "GroupViT"):
        return "open vocabulary"
    if cfg.MODEL.META_ARCHITECTURE == "Query2Label":
        return "multi-label"
    words = ("video", "semantic", "panoptic", "instance")
    return " ".join(word for word in words if word in cfg.INPUT.DATASET_MAPPER_NAME)


def backbone(cfg: CfgNode) -> str:
    """Its usual short name."""
    if cfg.MODEL.META_ARCHITECTURE == "CATSeg":
        name = cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
        return name if "EVA" in name or "SigLIP" in name else f"CLIP {name}"
    if cfg.MODEL.META_ARCHITECTURE == "GroupViT":
        return "GroupViT-S" + (", MixReorg" if cfg.MODEL.MIXREORG.FLAG else "")
    match cfg.MODEL.BACKBONE.NAME:
        case "build_resnet_backbone" | "build_dilated_resnet_backbone":
            return f"R{cfg.MODEL.RESNETS.DEPTH}"
        case "build_resnet_deeplab_backbone":
            return f"R{cfg.MODEL.RESNETS.DEPTH}c"
        case "build_mobilenet_backbone":
            return "MobileNetV2"
        case "build_vit_backbone":
            return f"ViT-{VIT_SIZES[cfg.MODEL.VIT.DEPTH]}"
        case "build_tresnet_backbone":
            return TRESNETS[cfg.MODEL.TRESNET.VARIANT]
        case "build_beit_backbone":
            return f"BEiT-{VIT_SIZES[cfg.MODEL.BEIT.DEPTH]}"
        case "build_beit_adapter_backbone":
            return f"ViT-Adapter-{VIT_SIZES[cfg.MODEL.BEIT.DEPTH]} (BEiT)"
    size = SWIN_SIZES[cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS[2]]
    prefix = "SeMask-" if cfg.MODEL.BACKBONE.NAME == "D2SeMaskSwinTransformer" else ""
    return f"{prefix}Swin-{size}"


def rankseg(cfg: CfgNode) -> str:
    """Kappa and the weight of the multi-label loss, which oracle there is, or a compared method."""
    if cfg.MODEL.META_ARCHITECTURE in ("CATSeg", "GroupViT", "Query2Label"):
        return ""
    node = cfg.MODEL.RANKSEG
    for name, title in (("ENCNET", "EncNet"), ("ESSNET", "ESSNet")):
        if cfg.MODEL.get(name, {}).get("FLAG"):
            return title
    if node.FLAG and node.ORACLE:
        return "oracle, trained"
    if node.FLAG and node.get("INDEPENDENT", {}).get("FLAG"):
        return f"kappa {node.TOPK}, independent"
    if node.FLAG:
        return f"kappa {node.TOPK}, weight {node.LOSS_WEIGHT:g}"
    return "oracle" if node.USE_GT else ""


def _folder(name: str) -> str:
    return Path(name).parent.as_posix().removesuffix("/swin")


def _place(name: str) -> tuple:
    """Small backbones first; what is built on an experiment behind it."""
    stem = Path(name).stem
    if name.startswith(("groupvit_mixreorg/", "per_pixel/")):
        return _folder(name), stem
    sizes = ("vitb", "vitl", "eva02", "R50", "R101", "tiny", "small", "base_384", "base", "large")
    size = next(i for i, word in enumerate(sizes) if word in stem)
    suffix = _suffix(stem)
    return _folder(name), size, stem.removesuffix(suffix), ["", "-rankseg", "-gt"].index(suffix)


def _suffix(stem: str) -> str:
    return next((end for end in ("-rankseg", "-gt") if stem.endswith(end)), "")


def table_row(texts: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(index(), end="")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
