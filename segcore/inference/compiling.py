"""Compiled networks for predictions, ``MODEL.COMPILE``: a mode of ``torch.compile``, or "".

The first call with inputs of a new kind compiles, which takes up to minutes.
"""

import importlib.util
import os
import shutil
import sys
from typing import TypeVar

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.utils._pytree import tree_map_only

from segcore.errors import UserError, printable

KEY = "MODEL.COMPILE"
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

Result = TypeVar("Result")


def compile_mode(cfg: CfgNode) -> str:
    """Return ``MODEL.COMPILE``.

    Raises:
        UserError: there is no such mode, or no compiler on this machine.
    """
    mode = cfg.MODEL.COMPILE
    if mode and mode not in MODES:
        raise UserError(
            f'{KEY} is {printable(mode)}: use {", ".join(MODES)}, or "" to compile nothing.'
        )
    if mode:
        _require_compiler(cfg.MODEL.DEVICE)
    return mode


def refuse_compile(cfg: CfgNode) -> None:
    """Raise :class:`UserError` where ``MODEL.COMPILE`` is set for a model that is not compiled."""
    if cfg.MODEL.COMPILE:
        raise UserError(
            f"{KEY} is {printable(cfg.MODEL.COMPILE)}, but {cfg.MODEL.META_ARCHITECTURE} is not "
            f'compiled, only CATSeg is: set it to "".'
        )


def _require_compiler(device: str) -> None:
    """Raise :class:`UserError` without the compiler that ``torch.compile`` calls for a device."""
    if device.startswith("cuda"):
        names = [os.environ.get("CC", ""), "gcc", "clang", "cc"]
        needed = "the Python package triton and a C compiler, such as gcc"
        found = importlib.util.find_spec("triton") is not None
    else:
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        names = [os.environ.get("CXX", usual)]
        needed = f"a C++ compiler: {names[0]}"
        found = True
    if not (found and any(shutil.which(name) for name in names if name)):
        raise UserError(
            f"{KEY} is set, but this machine lacks what torch.compile needs: install {needed}, or "
            'set the key to ""'
        )


def kept(result: Result) -> Result:
    """Return copies of what a compiled network has returned: CUDA graphs overwrite it."""
    return tree_map_only(Tensor, Tensor.clone, result)
