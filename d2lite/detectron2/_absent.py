"""What happens when somebody asks for a part of Detectron2 that is not here."""

from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

WHERE = "https://detectron2.readthedocs.io/tutorials/install.html"


def sentence(name: str) -> str:
    """Say that ``name`` needs Detectron2 itself."""
    return (
        f"{name} is not part of d2lite, the small stand-in for Detectron2 that is installed here: "
        f"install Detectron2 itself to use it ({WHERE})."
    )


def absent(module: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of ``module``, called for names that it lacks.

    It raises ImportError and not AttributeError, because ``from module import name`` would swallow
    the latter with its sentence. Private names raise AttributeError as usual, so that tools may
    probe for them.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        try:  # `from package import submodule` asks here first
            return import_module(f"{module}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{module}.{name}":
                raise
            raise ImportError(sentence(f"{module}.{name}"), name=module) from None

    return __getattr__


class _Loader(SourceFileLoader):
    """Gives every module of the package its ``__getattr__``."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__getattr__ = absent(module.__name__)


class Finder(PathFinder):
    """Finds the modules below ``detectron2``; those that do not exist are the ones left out."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("detectron2."):
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(sentence(fullname), name=fullname)
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
