"""Locate, download and read checkpoints, load them strictly, write them atomically.

Reading a checkpoint executes nothing.

Names are loaded when they are asked for: downloads and the cache need no PyTorch, which takes
seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpointer import Checkpointer as Checkpointer

# The module that holds each public name.
_MODULES = {
    "CacheUsage": "cache",
    "Checkpointer": "checkpointer",
    "Source": "downloads",
    "cache_summary": "cache",
    "clean": "cache",
    "convert_for_detectron2": "checkpointer",
    "fetch": "downloads",
    "is_address": "downloads",
    "local_copy": "downloads",
    "locate": "locating",
    "open_torchscript_clip": "checkpointer",
    "read_checkpoint": "readers",
    "register_names": "locating",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
