"""Import errors for the parts of Detectron2 that d2lite does not contain."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

WHERE = "https://detectron2.readthedocs.io/tutorials/install.html"


def absent_message(name: str) -> str:
    """Return the error message that ``name`` needs Detectron2 itself."""
    return (
        f"{name} is not part of d2lite, the small stand-in for Detectron2 that is installed here: "
        f"install Detectron2 itself to use it ({WHERE})."
    )


def absent(module: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of ``module``, called for names that it lacks.

    It raises ImportError, not AttributeError, because ``from module import name`` would replace the
    message of the latter. Private names, and those of libraries that are loaded, raise
    AttributeError as usual, because tools probe all modules for them: pickle does, and so PyTorch's
    compiler, for ``torch``.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("_") or name in sys.modules:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        try:  # `from package import submodule` calls this first
            return import_module(f"{module}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{module}.{name}":
                raise
            raise ImportError(absent_message(f"{module}.{name}"), name=module) from None

    return __getattr__


class _Loader(SourceFileLoader):
    """Adds ``__getattr__`` to every module of the package."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__getattr__ = absent(module.__name__)


class Finder(PathFinder):
    """Finds the modules below ``detectron2``; a module that does not exist is one left out."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("detectron2."):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(absent_message(fullname), name=fullname)
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
