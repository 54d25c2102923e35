"""Placeholders for the arrays and tensors in a pickle, and the names that make them.

Each is checked against the bytes of the file before numpy or PyTorch create the value.

Detectron2's stand-in (``d2lite``) has this file too, word for word: neither imports the other.
"""

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from mmap import mmap
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from .pickle_machine import Budget, Constructor, Placeholder, set_items

# numpy's codes of numbers
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
MAX_DIMENSIONS = 16
_NDARRAY = object()  # numpy.ndarray, which occurs as an argument alone


def are_sizes(value: Any) -> bool:
    """Whether this is a tuple of a few integers that are not negative."""
    return (
        type(value) is tuple
        and len(value) <= MAX_DIMENSIONS
        and all(type(item) is int and 0 <= item < 1 << 62 for item in value)
    )


def _are(kinds: tuple[type, ...], value: Any) -> bool:
    """Whether this is a tuple of values of these types only, so that comparing it is fast."""
    return type(value) is tuple and all(type(part) in kinds for part in value)


# ---- numpy -----------------------------------------------------------------------------------


class _DType(Placeholder):
    """``numpy.dtype`` of numbers."""

    def __init__(self, _: Budget, code: Any, *flags: Any) -> None:
        if type(code) is not str or code not in NUMBERS:
            raise UnpicklingError("it holds an array of something that is no number")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Take the byte order; the rest of numpy's state is the same for all numbers."""
        rest = (None, None, None, -1, -1, 0)
        plain = _are((int, str, type(None)), state) and len(state) == 8
        if not plain or (state[0], *state[2:]) != (3, *rest) or state[1] not in ("<", ">", "|"):
            raise UnpicklingError("it holds an array of something that is no number")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Placeholder):
    """``numpy.ndarray``."""

    def __init__(self, dtype: Any, shape: Any, fortran: Any, data: Any) -> None:
        if not isinstance(dtype, _DType) or not are_sizes(shape):
            raise UnpicklingError("it holds an array that numpy would not write")
        if type(data) not in (bytes, bytearray, str):
            raise UnpicklingError("it holds an array of something that is no number")
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise UnpicklingError(f"it holds an array of {shape} with {len(data)} bytes")
        self.shape, self.dtype, self.data = shape, dtype.dtype, data
        self.order = "F" if fortran else "C"
        self.made: np.ndarray | None = None

    def make(self, budget: Budget) -> np.ndarray:
        """Return the array, writable and in the byte order of this machine."""
        if self.made is None:
            budget.take(len(self.data))
            data = self.data.encode("latin1") if type(self.data) is str else self.data
            view = np.ndarray(self.shape, self.dtype, data, order=self.order)
            self.made, self.data = view.astype(self.dtype.newbyteorder("=")), b""
        return self.made


class _EmptyArray(Placeholder):
    """An array whose state follows in the stream."""

    def __init__(self, _: Budget, kind: Any, shape: Any, code: Any) -> None:
        if kind is not _NDARRAY:
            raise UnpicklingError("it holds an array that numpy would not write")
        self.array: _Array | None = None

    def build(self, state: Any) -> None:
        """Take (version, shape, dtype, whether the first axis is the fastest, bytes)."""
        _, shape, dtype, fortran, data = state
        self.array = _Array(dtype, shape, fortran, data)

    def make(self, budget: Budget) -> np.ndarray:
        """Return the array."""
        return super().make(budget) if self.array is None else self.array.make(budget)


class _Scalar(_Array):
    """A numpy scalar."""

    def __init__(self, _: Budget, dtype: Any, data: Any) -> None:
        super().__init__(dtype, (), False, data)

    def make(self, budget: Budget) -> np.generic:
        """Return the number."""
        return super().make(budget)[()]


def _from_buffer(_: Budget, data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Read an array of protocol 5."""
    return _Array(dtype, shape, type(order) is str and order == "F", data)


def _encode(budget: Budget, text: Any, encoding: Any) -> bytes:
    """Read bytes of protocols before 3."""
    if type(text) is not str or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise UnpicklingError("it wants to run another codec than latin1")
    budget.take(len(text))
    return text.encode("latin1")


def _no_bytes(_: Budget) -> bytes:
    """Return the data of an empty array, before protocol 3."""
    return b""


# ---- PyTorch ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class StorageKind:
    """The name of a class of storages."""

    dtype: torch.dtype


class Storage(Placeholder):
    """The memory of tensors; empty until :meth:`fill`."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.nbytes = count * dtype.itemsize
        self.content: torch.Tensor | None = None  # (nbytes,) uint8

    @classmethod
    def described(cls, pid: Any) -> tuple[str, "Storage"]:
        """Return the key and the storage of ("storage", kind, key, device, count[, None])."""
        if not _are((str, int, type(None), StorageKind), pid) or not 5 <= len(pid) <= 6:
            raise UnpicklingError("it refers to something outside of the file")
        tag, kind, key, _, count, *view = pid
        plain = tag == "storage" and type(kind) is StorageKind and view in ([], [None])
        if not plain or type(key) is not str or not are_sizes((count,)):
            raise UnpicklingError("it refers to a storage that PyTorch would not write")
        return key, cls(kind.dtype, count)

    def same(self, other: "Storage") -> "Storage":
        """Return this storage; refuse another description of it in the same file."""
        if (self.dtype, self.count) != (other.dtype, other.count):
            raise UnpicklingError("it is damaged: a storage has two sizes")
        return self

    def fill(self, buffer: bytearray | mmap, start: int) -> None:
        """Refer to the bytes of a buffer from ``start`` on."""
        if start + self.nbytes > len(buffer):
            raise UnpicklingError("it is cut short: numbers of a tensor are lacking")
        if start % 8 and self.nbytes:  # PyTorch needs aligned numbers
            buffer, start = bytearray(buffer[start : start + self.nbytes]), 0
        self.content = torch.empty(0, dtype=torch.uint8)
        if self.nbytes:
            self.content = torch.frombuffer(
                buffer, dtype=torch.uint8, count=self.nbytes, offset=start
            )


class _Tensor(Placeholder):
    """``torch.Tensor``: an offset, a size and strides in a storage."""

    def __init__(
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype
    ) -> None:
        if not all(map(are_sizes, (size, stride, (offset,)))) or len(size) != len(stride):
            raise UnpicklingError("it holds a tensor that PyTorch would not write")
        numbers, there = math.prod(size), storage.nbytes // dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numbers and (numbers > there or last >= there):
            raise UnpicklingError(f"it holds a tensor of {size} in a storage of {there} numbers")
        self.storage, self.dtype, self.nbytes = storage, dtype, numbers * dtype.itemsize
        self.layout = size, stride, offset
        self.made: torch.Tensor | None = None

    def make(self, budget: Budget) -> torch.Tensor:
        """Return the tensor; tensors of one storage share its memory."""
        if self.storage.content is None:
            raise UnpicklingError("it is cut short: numbers of a tensor are lacking")
        if self.made is None:
            budget.take(self.nbytes)
            whole = self.storage.content[
                : self.storage.nbytes // self.dtype.itemsize * self.dtype.itemsize
            ]
            self.made = whole.view(self.dtype).as_strided(*self.layout)
        return self.made


def _tensor(_: Budget, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> _Tensor:
    """Read a tensor; ``rest``: requires_grad, hooks (none) and, in version 3, its dtype."""
    dtype = rest[2] if len(rest) > 2 and isinstance(rest[2], torch.dtype) else None
    if not isinstance(storage, Storage):
        raise UnpicklingError("it holds a tensor that PyTorch would not write")
    return _Tensor(storage, offset, size, stride, dtype or storage.dtype)


def _parameter(_: Budget, tensor: Any, *rest: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise UnpicklingError("it holds a parameter that is no tensor")
    return tensor


# ---- what else training saves ----------------------------------------------------------------


def _ordered_dict(budget: Budget, items: Any = ()) -> OrderedDict:
    """Make an ordered dict; Python 2 passes the entries as a list of pairs."""
    budget.step(len(items))
    made: OrderedDict = OrderedDict()
    set_items(made, ((key, value) for key, value in items))
    return made


def _counter(budget: Budget, items: Any) -> Counter:
    budget.step(len(items))
    if not all(type(value) is int for value in items.values()):
        raise UnpicklingError("it counts something in other numbers than integers")
    return Counter(items)


def _size(_: Budget, sizes: Any) -> torch.Size:
    if not are_sizes(sizes):
        raise UnpicklingError("it holds a size that PyTorch would not write")
    return torch.Size(sizes)


_STORAGES = {
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float": torch.float32,
    "Double": torch.float64,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
STORAGE_KINDS = {
    "torch.storage.UntypedStorage": StorageKind(torch.uint8),
    **{f"torch.{name}Storage": StorageKind(dtype) for name, dtype in _STORAGES.items()},
}
TENSORS = {
    **STORAGE_KINDS,
    **{str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
    **{
        f"numpy.{core}.{name}": Constructor(make)
        for core in ("core", "_core")  # of numpy 1 and of numpy 2
        for name, make in (
            ("multiarray._reconstruct", _EmptyArray),
            ("multiarray.scalar", _Scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": Constructor(_DType),
    "_codecs.encode": Constructor(_encode),
    "__builtin__.bytes": Constructor(_no_bytes),
    "collections.OrderedDict": Constructor(_ordered_dict),
    "collections.Counter": Constructor(_counter),
    "torch.Size": Constructor(_size),
    "torch._utils._rebuild_tensor": Constructor(_tensor),
    "torch._utils._rebuild_tensor_v2": Constructor(_tensor),
    "torch._utils._rebuild_tensor_v3": Constructor(_tensor),
    "torch._utils._rebuild_parameter": Constructor(_parameter),
}
