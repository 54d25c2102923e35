"""Segment images and videos over large and open vocabularies.

    import catrank
    model = catrank.load("catseg-vitb")
    result = model.segment("photo.jpg", classes=["sky", "tree", "my dog"])
    result.overlay().save("out.png")

Names are loaded when they are asked for, so that entry points can import
:mod:`catrank.interrupts` before anything that takes time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catrank.families import FAMILIES, import_families, load_config
    from catrank.model import Model, load
    from catrank.models import list_models
    from catrank.results import Result

import segcore  # noqa: F401  lets an app `import detectron2` behind this line; loads nothing else

# The module that holds each public name.
_MODULES = {
    "FAMILIES": "catrank.families",
    "Model": "catrank.model",
    "Result": "catrank.results",
    "import_families": "catrank.families",
    "list_models": "catrank.models",
    "load": "catrank.model",
    "load_config": "catrank.families",
}
__all__ = [
    "FAMILIES",
    "Model",
    "Result",
    "import_families",
    "list_models",
    "load",
    "load_config",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'catrank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
