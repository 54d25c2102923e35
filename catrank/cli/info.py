"""``catrank info``: what is installed, what it runs on, what is cached, and what is missing."""

import argparse
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from importlib import import_module

from catrank.cli.word import Word

INFO = """\
Report versions, devices, caches and missing optional parts.

The versions of CatRank, Python, PyTorch and Detectron2 (or its stand-in d2lite), the devices that
PyTorch can use, the cached files and their size, and one command for each optional part that is not
installed."""

LIBRARIES = ("torch", "torchvision", "numpy", "open_clip_torch", "pillow")
EXTRAS_OF_DEVELOPERS = ("test", "dev", "demo")


def _run(_: argparse.Namespace) -> int:
    for title, lines in (
        ("versions", versions()),
        ("devices", devices()),
        ("cache", caches()),
        ("missing optional parts", missing_parts()),
    ):
        print(f"{title}:")
        for name, text in list(lines) or [("none", "")]:
            print(f"  {name:16} {text}".rstrip())
    return 0


def versions() -> Iterator[tuple[str, str]]:
    """Yield names and versions of the project, of Python and of what it stands on."""
    yield "catrank", _version("catrank") or "a source folder, not installed"
    yield "python", f"{platform.python_version()}, {platform.platform(terse=True)}"
    found = import_module("detectron2").__version__
    stand_in = " (d2lite, the stand-in)" if found.endswith("+lite") else ""
    yield "detectron2", f"{found}{stand_in}"
    for name in LIBRARIES:
        yield name, _version(name) or f'not installed: pip install "{name}"'


def devices() -> Iterator[tuple[str, str]]:
    """Yield the devices that PyTorch can use."""
    import torch

    yield "cpu", f"{torch.get_num_threads()} threads"
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB"


def caches() -> Iterator[tuple[str, str]]:
    """Yield the parts of the cache, with the number and the size of their files."""
    from segcore.checkpoint.cache import cache_root, cache_summary

    yield "folder", f"{cache_root()} ($CATRANK_CACHE moves it, `catrank models clean` empties it)"
    for part in cache_summary():
        yield part.kind, f"{part.files} files, {part.bytes / 1e6:.1f} MB"


def missing_parts() -> Iterator[tuple[str, str]]:
    """Yield the optional parts of which something is missing, each with the command for it."""
    try:
        requirements = importlib.metadata.requires("catrank") or []
    except importlib.metadata.PackageNotFoundError:
        return
    parts: dict[str, list[str]] = {}
    for requirement in requirements:
        name, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if extra and extra[1] not in EXTRAS_OF_DEVELOPERS:
            package = re.match(r"[\w.-]+", name.strip())
            if package and _version(package[0]) is None:
                parts.setdefault(extra[1], []).append(f'"{name.strip()}"')
    for part, packages in sorted(parts.items()):
        yield part, f"pip install {' '.join(packages)}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


WORD = Word(
    title="report versions, devices, caches and what is missing",
    run=_run,
    usage="",
    description=INFO,
    examples="catrank info",
)
