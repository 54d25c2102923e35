"""What stands above the families: which one a config needs.

Names are loaded when they are asked for, so that entry points can import
:mod:`catrank.interrupts` before anything that takes time.
"""

from importlib import import_module

__all__ = ["FAMILIES", "import_families"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("catrank.families"), name)
    raise AttributeError(f"module 'catrank' has no attribute {name!r}")
