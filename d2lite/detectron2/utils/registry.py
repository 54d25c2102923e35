"""Names for classes and functions, so that a config can choose them."""

from pydoc import locate as _locate
from typing import Any

from fvcore.common.registry import Registry

from detectron2._absent import absent

__all__ = ["Registry", "locate"]
__getattr__ = absent(__name__)


def locate(name: str) -> Any:
    """Return the object with the dotted path ``name``, importing what it needs."""
    found = _locate(name)
    if found is None:
        raise ImportError(f"cannot find the object {name}: check the dotted path")
    return found
