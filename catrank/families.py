"""Import the family that a config needs, and load the config."""

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.config import CfgNode

import catrank.models  # noqa: F401  MODEL.WEIGHTS may be a name of the model zoo
import segcore.config
from segcore.config import CONFIG_FOLDERS, find_config
from segcore.config.files import read_chain

ARCHITECTURE = "MODEL.META_ARCHITECTURE"
# What marks the configs of a family: its meta-architectures, and keys below MODEL that it alone
# adds (most have keys of RANKSEG). A config that was written with all families imported holds
# those of each.
FAMILIES = {
    "catseg_d2": {"CATSeg", "ContrastiveCLIP", "CLIP_WEIGHTS", "RANKSEG.ALONE"},
    "groupvit_mixreorg": {"GroupViT", "GROUPVIT", "MIXREORG"},
    "mask2former_rankseg": {"MaskFormer", "VideoMaskFormer", "MASK_FORMER.TEST"},
    "per_pixel": {"PerPixelSegmenter", "Query2Label", "PER_PIXEL"},
}


def load_config(config_file: str | os.PathLike, opts: Sequence[Any] = ()) -> CfgNode:
    """Read any config of this project: import the families that it needs, then call
    :func:`segcore.config.load_config`, whose arguments and errors these are."""
    import_families(config_file, opts)
    return segcore.config.load_config(config_file, opts)


def import_families(config_file: str | os.PathLike, opts: Sequence[Any] = ()) -> list[str]:
    """Import the families that a config needs, before it is loaded; return their names.

    A family is needed where the config stands in its folder of the configs that come with CatRank,
    names one of its meta-architectures, or holds keys of it. Where no family is recognised all are
    imported, so that ``load_config`` can say what is wrong.

    Args:
        config_file: as of :func:`segcore.config.loading.load_config`.
        opts: keys and values in turn, likewise.

    Raises:
        UserError: the file or one of its bases is missing or no config.
    """
    path = find_config(config_file)
    marks = {
        str(value) for key, value in zip(opts[::2], opts[1::2], strict=False) if key == ARCHITECTURE
    }
    marks |= _marks(str(key).split(".") for key in opts[::2])
    for file, tree in read_chain(path):
        model = tree.get("MODEL")
        if isinstance(model, dict):
            marks.add(str(model.get("META_ARCHITECTURE")))
            marks |= _marks(("MODEL", str(key)) for key in model)
            marks |= _marks(
                ("MODEL", str(section), str(key))
                for section, keys in model.items()
                if isinstance(keys, dict)
                for key in keys
            )
        marks |= {
            file.resolve().relative_to(folder).parts[0]
            for folder in CONFIG_FOLDERS
            if folder in file.resolve().parents
        }
    needed = [name for name, own in FAMILIES.items() if marks & (own | {name})] or [*FAMILIES]
    for name in needed:
        importlib.import_module(name)
    return needed


def _marks(keys: Iterable[Sequence[str]]) -> set[str]:
    """Return the sections below MODEL that keys are in, and these with the name that follows."""
    below = [names[1:] for names in keys if names[0] == "MODEL"]
    return {".".join(names[:length]) for names in below for length in (1, 2)}
