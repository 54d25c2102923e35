"""How networks compute predictions: the keys ``MODEL.PRECISION`` and ``MODEL.COMPILE``."""

import importlib.util
import logging
import os
import shutil
import sys

import torch
from detectron2.config import CfgNode

from segcore.errors import UserError, printable
from segcore.inference.precision import DTYPES, Precision, has_bfloat16

logger = logging.getLogger(__name__)

PRECISION, COMPILE = "MODEL.PRECISION", "MODEL.COMPILE"
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def precision_from_config(cfg: CfgNode) -> Precision:
    """Return the precision of ``MODEL.PRECISION``; log a warning where it makes a CPU slower.

    Raises:
        UserError: there is no such precision, or the GPU does not have it.
    """
    name = cfg.MODEL.PRECISION
    if name not in DTYPES:
        raise UserError(f"{PRECISION} is {printable(name)}: use {' or '.join(DTYPES)}.")
    if name != "float32" and not has_bfloat16(torch.device(cfg.MODEL.DEVICE)):
        if cfg.MODEL.DEVICE != "cpu":
            raise UserError(f"{PRECISION} is bfloat16, which this GPU does not have: use float32.")
        logger.warning(
            "%s is bfloat16, but this CPU has no instructions for it: predictions take longer than "
            "in float32",
            PRECISION,
        )
    return Precision(name)


def compile_mode(cfg: CfgNode) -> str:
    """Return ``MODEL.COMPILE``.

    Raises:
        UserError: there is no such mode, or no compiler on this machine.
    """
    mode = cfg.MODEL.COMPILE
    if mode and mode not in MODES:
        raise UserError(
            f'{COMPILE} is {printable(mode)}: use {", ".join(MODES)}, or "" to compile nothing.'
        )
    if mode:
        _require_compiler(cfg.MODEL.DEVICE)
    return mode


def refuse_compile(cfg: CfgNode) -> None:
    """Raise :class:`UserError` where ``MODEL.COMPILE`` is set for a model that is not compiled."""
    if cfg.MODEL.COMPILE:
        raise UserError(
            f"{COMPILE} is {printable(cfg.MODEL.COMPILE)}, but {cfg.MODEL.META_ARCHITECTURE} is "
            'not compiled, only CATSeg is: set it to "".'
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
            f"{COMPILE} is set, but this machine lacks what torch.compile needs: install {needed}, "
            'or set the key to ""'
        )
