"""Catalogs of the registered data sets and of their metadata."""

import types
from collections import UserDict
from collections.abc import Callable
from typing import Any

from detectron2._absent import absent_message

# Names of the datasets that Detectron2 registers begin so.
_BUILTIN = ("coco_", "lvis_", "cityscapes_", "voc_20", "ade20k_sem_seg_", "keypoints_coco_")


def _hint(name: str) -> str:
    """Return the hint that Detectron2 registers a dataset and d2lite does not."""
    return f". {absent_message(f'The dataset {name}')}" if name.startswith(_BUILTIN) else ""


class _DatasetCatalog(UserDict):
    """Functions that load a data set's records, by the data set's name."""

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Add a data set; ``func`` takes nothing and returns the same records at every call."""
        if not callable(func):
            raise AssertionError(f"data set {name} must be registered with a function")
        if name in self:
            raise AssertionError(f"data set {name} is registered already")
        self[name] = func

    def get(self, name: str) -> list[dict]:
        """Load the records of a data set."""
        return self[name]()

    def __missing__(self, name: str) -> None:
        known = ", ".join(sorted(self)) or "none"
        raise KeyError(f"data set {name} is not registered; registered are: {known}{_hint(name)}")

    def list(self) -> list[str]:
        """Names of all registered data sets."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Remove a data set."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog(registered datasets: {', '.join(self)})"

    __repr__ = __str__


class Metadata(types.SimpleNamespace):
    """Metadata of one data set, as attributes; an attribute once set cannot change silently."""

    name: str = "N/A"

    _OLD_NAMES = types.MappingProxyType(
        {
            "class_names": "thing_classes",
            "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
            "stuff_class_names": "stuff_classes",
        }
    )

    def __getattr__(self, key: str) -> Any:
        if key in self._OLD_NAMES:
            return getattr(self, self._OLD_NAMES[key])
        known = ", ".join(sorted(self.__dict__)) or "none"
        raise AttributeError(
            f"data set {self.name} has no metadata {key}; it has: {known}{_hint(self.name)}"
        )

    def __setattr__(self, key: str, val: Any) -> None:
        key = self._OLD_NAMES.get(key, key)
        if key in self.__dict__ and self.__dict__[key] != val:
            raise AssertionError(
                f"metadata {key} of data set {self.name} is {self.__dict__[key]!r} "
                f"and cannot become {val!r}"
            )
        super().__setattr__(key, val)

    def as_dict(self) -> dict[str, Any]:
        """Return a shallow copy of all attributes."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes; returns itself."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute, or ``default`` where it is not set."""
        return getattr(self, key, default)


class _MetadataCatalog(UserDict):
    """The :class:`Metadata` of every data set, created empty at the first access."""

    def get(self, name: str) -> Metadata:
        """Return the metadata of a data set, always the same object."""
        if not name:
            raise AssertionError("metadata needs the name of a data set")
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> list[str]:
        """Names of all data sets with metadata."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Remove the metadata of a data set."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self)})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
