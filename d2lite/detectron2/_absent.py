"""What happens when somebody asks for a part of Detectron2 that is not here."""

import importlib
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Any

WHERE = "https://detectron2.readthedocs.io/tutorials/install.html"


def sentence(name: str) -> str:
    """Say that ``name`` needs Detectron2 itself."""
    return (
        f"{name} is not part of d2lite, the small stand-in for Detectron2 that is installed here: "
        f"install Detectron2 itself to use it ({WHERE})."
    )


def absent(module: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of ``module``.

    A submodule that exists is imported on first use. Everything else raises ImportError and not
    AttributeError, because ``from module import name`` would swallow the latter with its sentence.
    Private names raise AttributeError as usual, so that tools may probe for them.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        full_name = f"{module}.{name}"
        try:
            return importlib.import_module(full_name)
        except ModuleNotFoundError as error:
            if error.name != full_name:
                raise
            raise ImportError(sentence(full_name), name=module) from None

    return __getattr__


class AbsentModuleFinder(MetaPathFinder):
    """The last finder to be asked: a ``detectron2`` module that nobody found is one left out."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.startswith("detectron2."):
            raise ModuleNotFoundError(sentence(fullname), name=fullname)
