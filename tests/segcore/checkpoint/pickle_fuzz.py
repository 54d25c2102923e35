"""Read mutations of checkpoints and of traps, in a process with little memory.

python pickle_fuzz.py NUMBER

Each is read by every reader that is installed. It is read or refused: any other exception, a trace
of code that ran, or too little memory or time ends the process with a traceback.
"""

import codecs
import faulthandler
import importlib
import importlib.util
import io
import pickle
import random
import resource
import sys
import warnings
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
import pickle_corpus as corpus  # noqa: E402
import torch  # noqa: E402

MORE_MEMORY = 1 << 29  # bytes beside what the libraries have taken
SECONDS_A_FILE = 60  # far above what a file takes on a machine with much else to do
LARGEST = 20_000  # bytes of the traps that are mutated: the others take longer to copy than to read
NUMBERS = [b"\0", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\x7f", b"\xff" * 4, b"\xff" * 8]
# What a reader never does; Python reports it to those who ask.
FORBIDDEN = ("exec", "compile", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pickle.")

watching = False


def watch(event: str, arguments: tuple) -> None:
    """An audit hook: ends the process where a file makes it do something else than read."""
    if watching and event.startswith(FORBIDDEN):
        raise SystemExit(f"a file made the reader do {event} {arguments}")


def seeds() -> list[tuple[str, bytes]]:
    """Files, and which function reads them."""
    good = [("load_pickle", file) for file, _ in corpus.good_pickles().values()]
    good += [("load_torch", file) for file, _ in corpus.good_torch_files().values()]
    bad = [("load_pickle", file) for file in corpus.bad_pickles().values()]
    bad += [("load_torch", file) for file in corpus.bad_torch_files().values()]
    return good * 8 + [(reader, file) for reader, file in bad if len(file) <= LARGEST]


def mutate(draw: random.Random, content: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """One to three changes: of bits, numbers and opcodes, or parts lost, doubled or of others."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice((1, 1, 2, 4, 8, 30)))
        part = content[start:end]
        new = draw.choice(
            [
                bytes(byte ^ 1 << draw.randrange(8) for byte in part),
                bytes(draw.choices(pickle_opcodes, k=len(part))),
                draw.choice(NUMBERS),
                b"",
                part * 2,
                part * draw.choice((3, 50)),
                another_part(draw, draw.choice(others)[1]),
            ]
        )
        content = content[:start] + new + content[end:]
    return content


def another_part(draw: random.Random, content: bytes) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[start : start + draw.choice((1, 5, 20, 100))]


pickle_opcodes = b"".join(
    value
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
)


def main(number: int) -> None:
    """Read that many mutations; prints how many were read and refused."""
    global watching
    names = ["segcore.checkpoint.restricted_pickle"]
    if importlib.util.find_spec("detectron2.checkpoint.restricted_pickle"):
        names.append("detectron2.checkpoint.restricted_pickle")
    readers = [importlib.import_module(name) for name in names]
    draw, files, counts = random.Random(7), seeds(), Counter()
    canary = {path: vars(module).copy() for path, module in watched_modules().items()}
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    check_good(readers)
    for codec in ("unicode_escape", "raw_unicode_escape", "latin1", "cp437"):
        codecs.lookup(codec)  # else imported while a file is read
    limit_memory()
    sys.addaudithook(watch)
    for index in range(number):
        function, content = draw.choice(files)
        mutated = mutate(draw, content, files)
        if function == "load_torch" and draw.random() < 0.5:
            # Of a zip only the pickle in it; its checksum is right then.
            function, (_, content) = "load_torch", draw.choice(files)
            mutated = corpus.archive(mutate(draw, content, files), {"data/0": bytes(8)})
        faulthandler.dump_traceback_later(SECONDS_A_FILE, exit=True)
        outcomes = set()
        for reader in readers:
            watching = True
            try:
                getattr(reader, function)(io.BytesIO(mutated))
                outcomes.add("read")
            except pickle.UnpicklingError:
                outcomes.add("refused")
            except BaseException:
                print(f"mutation {index}, {function}: {mutated!r}", file=sys.stderr)
                raise
            finally:
                watching = False
        (outcome,) = outcomes  # the readers agree
        counts[outcome] += 1
    faulthandler.cancel_dump_traceback_later()
    assert torch._utils._rebuild_tensor_v2.__defaults__ is defaults
    for path, module in watched_modules().items():
        changed = [name for name, value in canary[path].items() if vars(module)[name] is not value]
        assert not changed, f"{path} has another {changed}"
    check_good(readers)
    print(f"mutations={number} read={counts['read']} refused={counts['refused']}")


def watched_modules() -> dict:
    """What every later checkpoint is read with."""
    names = ("pickle", "torch", "torch._utils", "torch.storage", "numpy", "collections", "_codecs")
    return {
        name: sys.modules[name]
        for name in (*names, "builtins", "segcore.checkpoint.restricted_pickle")
    }


def check_good(readers: list) -> None:
    """The checkpoints that are no mutations are read as ever."""
    for reader in readers:
        for file, content in corpus.good_torch_files().values():
            assert list(reader.load_torch(io.BytesIO(file))) == list(content)


def limit_memory() -> None:
    """Of address space: a reader that believes a claim fails at once."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(int(sys.argv[1]))
