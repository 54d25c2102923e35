"""The objects of an image and their fields."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch


class Instances:
    """Fields of equal length, one entry an object: ``Instances(size, scores=...).scores``.

    Setting an attribute sets the field of that name; names that begin with ``_`` are plain
    attributes.

    Args:
        image_size: (height, width) of the image.
        **kwargs: the fields, tensors or other sequences that a tensor can index.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._image_size

    def __getattr__(self, name: str) -> Any:
        fields = vars(self).get("_fields", {})  # none yet while an object is copied
        if name in fields:
            return fields[name]
        raise AttributeError(f"these instances have no field {name!r}")

    def __setattr__(self, name: str, val: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, val)
        else:
            self.set(name, val)

    def set(self, name: str, value: Any) -> None:
        """Add a field or replace it.

        Raises:
            TypeError: it has no length.
            AssertionError: its length is not that of the others.
        """
        length = len(value)
        if self._fields and length != len(self):
            raise AssertionError(f"{name} has {length} entries, the others have {len(self)}")
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self._fields

    def get(self, name: str) -> Any:
        """A field."""
        return self._fields[name]

    def remove(self, name: str) -> None:
        """Remove a field."""
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """All fields by name; changing the dict changes the instances."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """A new object, its fields moved where they can be."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: int | slice | torch.Tensor) -> "Instances":
        """The objects of an index, a slice, or a tensor of indices or of bool."""
        if type(item) is int:  # not bool, which numpy and torch take as a mask
            if not -len(self) <= item < len(self):
                raise IndexError(f"there are {len(self)} instances, not one of index {item}")
            item = slice(item, item + 1 or None)
        chosen = Instances(self._image_size)
        for name, value in self._fields.items():
            chosen.set(name, value[item])
        return chosen

    def __len__(self) -> int:
        for value in self._fields.values():
            return value.__len__()  # len() would bake a constant into a trace
        raise NotImplementedError("instances without any field have no length")

    def __iter__(self) -> Iterator:
        raise NotImplementedError("instances are taken by index, they cannot be iterated over")

    @staticmethod
    def cat(instance_lists: list["Instances"]) -> "Instances":
        """All objects of one image's lists, which have the same fields.

        A single list is returned as it is.
        """
        if not instance_lists or not all(isinstance(i, Instances) for i in instance_lists):
            raise AssertionError("cat takes a list of at least one Instances")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        if any(other.image_size != first.image_size for other in instance_lists):
            raise AssertionError("the instances are of images of different sizes")
        joined = Instances(first.image_size)
        for name, value in first._fields.items():
            parts = [instances.get(name) for instances in instance_lists]
            if isinstance(value, torch.Tensor):
                joined.set(name, torch.cat(parts))
            elif isinstance(value, list):
                joined.set(name, list(chain(*parts)))
            elif hasattr(type(value), "cat"):
                joined.set(name, type(value).cat(parts))
            else:
                raise ValueError(f"{name} is a {type(value).__name__}, which cannot be joined")
        return joined

    def __str__(self) -> str:
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        number = len(self) if self._fields else 0
        height, width = self._image_size
        return (
            f"{type(self).__name__}(num_instances={number}, image_height={height}, "
            f"image_width={width}, fields=[{fields}])"
        )

    __repr__ = __str__
