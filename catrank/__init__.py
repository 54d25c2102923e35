"""The public package: it stands above the families and imports the one that a config needs.

Names are loaded when they are asked for, so that entry points can import
:mod:`catrank.interrupts` before anything that takes time.
"""

from importlib import import_module

import segcore  # noqa: F401  lets an app `import detectron2` behind this line; loads nothing else

# The module that holds each public name.
_MODULES = {
    "FAMILIES": "catrank.families",
    "import_families": "catrank.families",
    "list_models": "catrank.models",
    "load_config": "catrank.families",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'catrank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
