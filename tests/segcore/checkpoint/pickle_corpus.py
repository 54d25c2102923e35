"""Pickles and files of ``torch.save``: some that are checkpoints, and some that are traps."""

import io
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import torch


def tensors() -> dict[str, torch.Tensor]:
    """Entries of many kinds, some of them views of one storage."""
    flat = torch.arange(12.0)
    return {
        "weight": flat[:6].reshape(2, 3),
        "turned": flat[6:].reshape(2, 3).T,
        "half": torch.ones(3, dtype=torch.float16),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "ids": torch.arange(4),
        "number": torch.tensor(7),
        "nothing": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def arrays() -> dict[str, object]:
    """As the converters of Detectron2's model zoo leave them."""
    return {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "half": np.ones(3, np.float16),
        "none": np.zeros((0, 4), np.float32),
        "point": np.array(1.5),
        "number": np.float32(2.5),
    }


def zoo(model: dict) -> dict:
    """The contents of a .pkl of a model zoo."""
    return {"model": model, "__author__": "zoo é", "matching_heuristics": True}


def training() -> dict:
    """What training saves beside the weights."""
    model = torch.nn.BatchNorm2d(2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 2, 3, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"milestones": Counter([3, 5]), "base_lrs": [0.1], "last_epoch": 7},
        "shape": torch.Size([2, 3]),
        "dtype": torch.float32,
        "score": np.float64(0.5),
        "names": OrderedDict(a=1, b=(2.5, None, [True, -1, 1 << 40])),
    }


def saved(content: object, archive: bool = True) -> bytes:
    """A file of ``torch.save``: a zip, or what it wrote before."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=archive)
    return file.getvalue()


def good_pickles() -> dict[str, tuple[bytes, object]]:
    """Name to file and contents."""
    contents = {"arrays": zoo(arrays()), "tensors": zoo(tensors())}
    return {
        f"{name} of protocol {protocol}": (pickle.dumps(content, protocol), content)
        for name, content in contents.items()
        for protocol in range(6)
    }


def good_torch_files() -> dict[str, tuple[bytes, object]]:
    """Name to file and contents."""
    contents = {"state dict": tensors(), "training": training()}
    return {
        f"{name}, {'zip' if archive else 'legacy'}": (saved(content, archive), content)
        for name, content in contents.items()
        for archive in (True, False)
    }


# ---- traps -----------------------------------------------------------------------------------


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def entry(value: bytes) -> bytes:
    """A pickle whose one weight is what these opcodes leave."""
    return b"\x80\x04}" + text("model") + b"}" + text("w") + value + b"ss."


def data(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


FLOATS = name("numpy", "dtype") + row(text("f4"), b"\x89", b"\x88") + b"R"
EMPTY = row(name("numpy", "ndarray"), row(integer(0)), text("b"))
ARRAY = name("numpy._core.multiarray", "_reconstruct") + EMPTY + b"R"
STORAGE = (
    name("torch.storage", "_load_from_bytes")
    + row(data(saved(torch.zeros(2).untyped_storage(), archive=False)))
    + b"R"
)
NO_HOOKS = name("collections", "OrderedDict") + b")R"


def array(shape: bytes, content: bytes, dtype: bytes = FLOATS) -> bytes:
    return ARRAY + row(integer(1), shape, dtype, b"\x89", content) + b"b"


def dtype_state(*state: bytes) -> bytes:
    return name("numpy", "dtype") + row(text("f4"), b"\x89", b"\x88") + b"R" + row(*state) + b"b"


def tensor(offset: int, size: tuple, stride: tuple, storage: bytes = STORAGE) -> bytes:
    sizes, strides = (row(*map(integer, numbers)) for numbers in (size, stride))
    arguments = row(storage, integer(offset), sizes, strides, b"\x89", NO_HOOKS)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


PLAIN_STATE = (integer(3), text("<"), b"N", b"N", b"N", integer(-1), integer(-1), integer(0))
CALL = name("os", "system") + row(text("touch executed")) + b"R"
MEGABYTE = data(bytes(1 << 20))


def bad_pickles() -> dict[str, bytes]:
    """Name to a file that must be refused, at once and without a trace."""
    pairs = b"K\x01q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(40))
    values = {
        "calls a program": CALL,
        "calls a program by protocol 4": text("os")
        + text("system")
        + b"\x93"
        + row(text("x"))
        + b"R",
        "calls in another opcode": b"(" + text("x") + b"ios\nsystem\n",
        "makes an object": name("os", "system") + row(text("x")) + b"\x81",
        "calls an attribute of what is known": name("numpy", "dtype.newbyteorder") + b")R",
        "calls a tensor": tensor(0, (2,), (1,)) + b")R",
        "calls without a tuple": name("collections", "OrderedDict") + b"]R",
        "holds a function": name("torch._utils", "_rebuild_tensor_v2"),
        "changes a function": name("torch._utils", "_rebuild_tensor_v2")
        + b"(N}"
        + text("__defaults__")
        + b"(NtstbN",
        "changes a class": name("collections", "OrderedDict") + b"}" + text("x") + b"Nsb",
        "changes a storage kind": name("torch", "FloatStorage") + b"}" + text("dtype") + b"Nsb",
        "changes a dict": NO_HOOKS + b"}" + text("keys") + b"Nsb",
        "changes a tensor": tensor(0, (2,), (1,)) + b"}" + text("data") + b"Nsb",
        "objects by code": array(row(integer(1)), data(bytes(8)), FLOATS.replace(b"f4", b"O8")),
        "objects by state": array(
            row(integer(1)), data(bytes(8)), dtype_state(integer(3), text("O"), *PLAIN_STATE[2:])
        ),
        "fields by state": dtype_state(*PLAIN_STATE[:3], row(text("x")), *PLAIN_STATE[4:]),
        "an object's address": name("numpy._core.multiarray", "scalar")
        + row(FLOATS.replace(b"f4", b"O8"), data(bytes(8)))
        + b"R",
        "an array of a gigabyte by size": name("numpy", "ndarray")
        + row(row(integer(1 << 30)), text("u1"))
        + b"R",
        "an array larger than its bytes": array(row(integer(1 << 40)), data(bytes(8))),
        "an array smaller than its bytes": array(row(integer(1)), data(bytes(8))),
        "an array of negative size": array(row(integer(-1), integer(-2)), data(bytes(8))),
        "an array with too many axes": array(row(*[integer(1)] * 65), data(bytes(4))),
        "an empty array of endless size": array(row(integer(0), integer(1 << 61)), data(b"")),
        "an array of a list": array(row(integer(1)), b"]K\x01a"),
        "one megabyte as thousands of arrays": b"]"
        + MEGABYTE
        + b"q\x01a"
        + (array(row(integer(1 << 18)), b"h\x01") + b"a") * 3000,
        "one text encoded a thousand times": b"]"
        + text("x" * (1 << 20))
        + b"q\x01a"
        + (name("_codecs", "encode") + row(b"h\x01", text("latin1")) + b"Ra") * 1000,
        "another codec": name("_codecs", "encode") + row(text("x"), text("zip")) + b"R",
        "a tensor larger than its storage": tensor(0, (1 << 28,), (1,)),
        "a tensor that repeats its storage": tensor(0, (1 << 40,), (0,)),
        "a tensor behind its storage": tensor(8, (1,), (1,)),
        "a tensor before its storage": tensor(-1, (1,), (1,)),
        "a tensor with wide strides": tensor(0, (2,), (1 << 61,)),
        "a tensor with negative strides": tensor(1, (2,), (-1,)),
        "a tensor without a storage": tensor(0, (1,), (1,), b"N"),
        "a tensor whose numbers call": tensor(
            0,
            (1,),
            (1,),
            name("torch.storage", "_load_from_bytes")
            + row(data(saved(Call(), archive=False)))
            + b"R",
        ),
        "a storage alone": STORAGE,
        "a storage by reference": row(
            text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(2)
        )
        + b"Q",
        "a persistent text": b"P0\n",
        "a registered extension": b"\x82\x01",
        "a buffer from elsewhere": b"\x97",
        "a set": b"\x8f",
        "a doubled value": b"]2",
        "a number of two gigabytes": b"\x8b" + struct.pack("<i", (1 << 31) - 1),
        "a number of a hundred thousand digits": b"I" + b"9" * 100_000 + b"\n",
        "bytes of a terabyte": b"\x8e" + struct.pack("<Q", 1 << 40),
        "text of a terabyte": b"\x8d" + struct.pack("<Q", 1 << 40),
        "a bytearray of a terabyte": b"\x96" + struct.pack("<Q", 1 << 40),
        "a key of pairs of pairs": b"](" + pairs + b"}h\x28Nse",
        "a deep key": b"}" + b")" + b"\x85" * 20_000 + b"Ns",
        "a key of bytes": b"}C\x01xNs",
        "a key of nothing": b"}NNs",
        "a key that is a list": b"}]Ns",
        "an odd number of entries": b"}(" + text("x") + b"u",
        "entries of a list": b"](" + text("x") + b"Nu",
        "appends to a dict": b"}Na",
        "deep tuples": b")" + b"\x85" * 100_000,
        "deep lists": b"](" + b"](" * 50_000 + b"e" * 50_001,
        "a list in itself": b"]q\x01h\x01a",
        "a dict in itself": b"}q\x01" + text("x") + b"h\x01s",
        "lists of lists of lists": b"](]q\x01K\x01a"
        + b"".join(b"]q%c(h%ch%ch%ch%ce" % (n + 1, n, n, n, n) for n in range(1, 30))
        + b"e",
        "millions of lists": b"(" + b"]" * 1_000_000 + b"l",
        "a mark that is not there": b"t",
        "a memory that is not there": b"h\x07",
    }
    crafted = {what: entry(value) for what, value in values.items()}
    whole = pickle.dumps(zoo(arrays()), 4)
    return crafted | {
        "nothing": b"",
        "a stop alone": b".",
        "a text": b"hello, this is no pickle\n" * 4,
        "cut short": whole[: len(whole) // 2],
        "without its end": whole[:-1],
    }


class Call:
    """Leaves a file where Python's own reader reads it."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def archive(
    pickled: bytes, entries: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A file of ``torch.save`` with another pickle or other storages in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        target.writestr("archive/data.pkl", pickled)
        for key, content in (entries or {}).items():
            target.writestr(f"archive/{key}", content)
    return file.getvalue()


def in_archive(count: int, size: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    """The pickle of a tensor of ``size`` numbers in a storage that claims ``count``."""
    pid = row(text("storage"), name("torch", kind), text(key), text("cpu"), integer(count)) + b"Q"
    return entry(tensor(0, (size,), (1,), pid))


def bad_torch_files() -> dict[str, bytes]:
    """Name to a file that must be refused, at once and without a trace."""
    zipped, legacy = saved(tensors()), saved(tensors(), archive=False)
    numbers = {"data/0": bytes(8)}
    flipped = bytearray(saved({"w": torch.zeros(1000)}))
    flipped[flipped.index(bytes(3000)) + 1000] ^= 1
    two = saved({"w": torch.zeros(2)}, archive=False)
    with_sizes = {
        "a storage larger than its entry": archive(in_archive(1 << 40, 2), numbers),
        "a storage smaller than its entry": archive(in_archive(1, 1), numbers),
        "a storage without an entry": archive(in_archive(2, 2), {}),
        "a storage of another kind than before": archive(
            in_archive(2, 2)[:-2] + in_archive(1, 1, kind="LongStorage")[14:], numbers
        ),
        "an entry that leads out": archive(in_archive(2, 2, "../data.pkl"), numbers),
        "a compressed archive": archive(in_archive(2, 2), numbers, zipfile.ZIP_DEFLATED),
        "a bomb": archive(in_archive(1 << 24, 2), {"data/0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED),
        "another byte order": archive(in_archive(2, 2), numbers | {"byteorder": b"big"}),
        "two pickles": archive(in_archive(2, 2), numbers | {"more/data.pkl": b"N."}),
        "a program": archive(in_archive(2, 2), numbers | {"constants.pkl": b"N."}),
        "an empty archive": b"PK\5\6" + bytes(18),
        "a flipped bit": bytes(flipped),
        "a cut archive": zipped[: len(zipped) // 2],
        "a cut legacy file": legacy[:-3],
        "a legacy storage of other size": two.replace(struct.pack("<q", 2), struct.pack("<q", 9)),
        "a call in a legacy file": saved(Call(), archive=False),
        "a call in a zip": saved({"w": Call()}),
    }
    pickles = {
        f"{what}, in a zip": archive(pickled)
        for what, pickled in bad_pickles().items()
        if len(pickled) < 10_000
    }
    return with_sizes | pickles
