"""Read pickles with a fixed vocabulary: nothing in a stream is imported, called or changed.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the
program names. This one knows the opcodes of plain values and containers; a name must be in the
vocabulary of the caller, which maps it to a constant or a constructor of a placeholder. A
:class:`Budget` bounds what a stream claims, and what it builds must be a tree.

Detectron2's stand-in (``d2lite``) has this file too, word for word: neither imports the other.
"""

import codecs
import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 32  # of containers in containers; optimizers have the deepest, 8


class Budget:
    """Limits of memory and time for reading a file of ``size`` bytes.

    A step is an opcode or a value of the result, at most some 100 bytes of memory.
    """

    def __init__(self, size: int) -> None:
        self.steps = (1 << 18) + size // 8
        self.bytes = (1 << 20) + 6 * size

    def step(self, count: int = 1) -> None:
        """Charge a number of opcodes or values."""
        self.steps -= count
        if self.steps < 0:
            raise pickle.UnpicklingError("it claims more values than a file of its size can hold")

    def take(self, count: int) -> None:
        """Charge bytes that are copied, or that a tensor refers to."""
        self.bytes -= count
        if self.bytes < 0:
            raise pickle.UnpicklingError("it claims more bytes than a file of its size can hold")


class Placeholder:
    """Stands for an array or a tensor while a stream is read."""

    def build(self, state: Any) -> None:
        """Set the state from a stream; most placeholders have none."""
        raise pickle.UnpicklingError("it gives a state to something that has none")

    def make(self, budget: Budget) -> Any:
        """Return the value, once the whole stream is read."""
        raise pickle.UnpicklingError("it holds a part of an array or of a tensor by itself")


@dataclass(frozen=True)
class Constructor:
    """A name that a stream may call: ``make(budget, *arguments)`` returns a value."""

    make: Callable[..., Any]


@contextmanager
def damage_as_unpickling_error() -> Iterator[None]:
    """Convert every error that damaged bytes can cause into an UnpicklingError."""
    try:
        yield
    except (pickle.UnpicklingError, MemoryError):
        raise
    except Exception as error:
        raise pickle.UnpicklingError("it is no checkpoint, or it is damaged") from error


def read_tree(
    stream: io.BufferedIOBase,
    vocabulary: Mapping[str, Any],
    budget: Budget,
    persistent: Callable[[Any], Placeholder] | None = None,
) -> Any:
    """Return what one pickle of a stream describes, with placeholders in it.

    Args:
        stream: has ``read`` and ``readline``; its position afterwards is the end of the pickle.
        vocabulary: dotted name to a :class:`Constructor` or to a constant.
        budget: is charged.
        persistent: maps a persistent id to a placeholder; None: there must be no persistent id.

    Raises:
        pickle.UnpicklingError: the stream uses an opcode or a name that is not in the vocabulary,
            or claims too much.
        Exception: it is damaged; see :func:`damage_as_unpickling_error`.
    """
    return _Machine(stream, vocabulary, budget, persistent).run()


def finish(value: Any, budget: Budget, depth: int = 0) -> Any:
    """Return a tree with the values of its placeholders.

    Raises:
        pickle.UnpicklingError: it is nested too deeply, contains itself, or claims too much.
    """
    budget.step()
    if depth > MAX_DEPTH:
        raise pickle.UnpicklingError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Placeholder):
        return value.make(budget)
    if type(value) is dict:
        return {key: finish(item, budget, depth + 1) for key, item in value.items()}
    if type(value) is OrderedDict:
        made = OrderedDict((key, finish(item, budget, depth + 1)) for key, item in value.items())
        if hasattr(value, "_metadata"):
            made._metadata = _module_entries(finish(value._metadata, budget, depth + 1))
        return made
    if type(value) in (list, tuple):
        return type(value)(finish(item, budget, depth + 1) for item in value)
    if isinstance(value, Constructor):
        raise pickle.UnpicklingError("it holds a function")
    return value


def _module_entries(metadata: Any) -> Any:
    """Check what PyTorch attaches to a state dict: the version of each module, and more."""
    if not isinstance(metadata, dict) or not all(
        isinstance(entry, dict) and type(entry.get("version", 0)) in (int, type(None))
        for entry in metadata.values()
    ):
        raise pickle.UnpicklingError("it is damaged: the versions of modules are something else")
    return metadata


def set_items(target: dict, items: Iterable[tuple[Any, Any]]) -> None:
    """Fill a dict whose keys are strings or integers: hashing others can take forever."""
    if type(target) not in (dict, OrderedDict):
        raise pickle.UnpicklingError("it sets entries of something that is no dict")
    for key, value in items:
        if type(key) not in (str, int):
            raise pickle.UnpicklingError(f"a key of a dict is a {type(key).__name__}, no text")
        target[key] = value


def _read_old_string(stream: io.BufferedIOBase) -> str:
    """Read a quoted line of protocol 0, which holds bytes of Python 2."""
    line = stream.readline().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise pickle.UnpicklingError("it is damaged: a text without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")


class _Machine:
    def __init__(self, stream: Any, vocabulary: Any, budget: Budget, persistent: Any) -> None:
        self.stream, self.vocabulary, self.budget = stream, vocabulary, budget
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks below the open marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.stream.read(1)
            if code == b".":  # STOP
                return self.stack.pop()
            if code not in _OPCODES:
                what = f"it is no checkpoint: opcode {code!r}" if code else "it is cut short"
                raise pickle.UnpicklingError(what)
            self.budget.step()
            read, perform = _OPCODES[code]
            perform(self, read(self.stream) if read else None)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def down_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def ignore(self, argument: int) -> None:
        """Skip PROTO and FRAME, which need no action."""

    def mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: None) -> None:
        self._extend(self.down_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("it appends to something that is no list")
        self.stack[-1].extend(items)

    def setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        set_items(self.stack[-1], [(key, value)])

    def setitems(self, _: None) -> None:
        items = self.down_to_mark()
        set_items(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def list(self, _: None) -> None:
        items = self.down_to_mark()
        self.stack.append(items)

    def dict(self, _: None) -> None:
        items, made = self.down_to_mark(), {}
        set_items(made, zip(items[::2], items[1::2], strict=True))
        self.stack.append(made)

    def tuple(self, _: None) -> None:
        items = self.down_to_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: None) -> None:
        self.put(len(self.memo))

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def name(self, text: str) -> None:
        self._push_name(*text.split(" ", 1))

    def stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise pickle.UnpicklingError("it is damaged: a name is no text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        name = f"{module}.{name}"
        if name not in self.vocabulary:
            shown = name.encode("unicode_escape").decode()[:100]
            raise pickle.UnpicklingError(f"it wants to run {shown}")
        self.stack.append(self.vocabulary[name])

    def reduce(self, _: None) -> None:
        arguments, constructor = self.stack.pop(), self.stack.pop()
        if not isinstance(constructor, Constructor) or type(arguments) is not tuple:
            raise pickle.UnpicklingError("it calls something that is no function")
        self.stack.append(constructor.make(self.budget, *arguments))

    def build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Placeholder):
            target.build(state)
        elif type(target) is OrderedDict and type(state) is dict and set(state) <= {"_metadata"}:
            vars(target).update(state)
        else:
            raise pickle.UnpicklingError("it gives a state to something that has none")

    def binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise pickle.UnpicklingError("it refers to something outside of the file")
        self.stack.append(self.persistent(self.stack.pop()))


_PERFORM: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _Machine.ignore),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), _Machine.push),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "LIST": _Machine.list,
    "DICT": _Machine.dict,
    "TUPLE": _Machine.tuple,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.binpersid,
}
# Byte to reader of the argument, the standard library's, and what to do with it.
_OPCODES = {
    opcode.code.encode("latin1"): (opcode.arg and opcode.arg.reader, _PERFORM[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _PERFORM
}
_OPCODES[b"S"] = (_read_old_string, _Machine.push)
