"""Registries of classes and functions that a config selects by name."""

from typing import Any

from fvcore.common.registry import Registry as Registry

from detectron2._absent import WHERE


class ModelRegistry(Registry):
    """A registry of models or their parts; Detectron2 itself has more entries."""

    def get(self, name: str) -> Any:
        """Return the entry of a name; KeyError where there is none."""
        try:
            return super().get(name)
        except KeyError:
            known = ", ".join(sorted(key for key, _ in self)) or "none"
            raise KeyError(
                f"{name} is not registered in {self._name}; registered are: {known}. If it is part "
                f"of Detectron2, install Detectron2 itself to use it ({WHERE})."
            ) from None
