"""The model zoo: names, files and where they come from.

``find("catseg-vitb")`` is one line of its table, ``list_models()`` are all; ``resolve`` returns the
file that a name, a path or an address stands for, downloaded where it is not there yet. Downloads
are in the cache, of which ``cache_summary()`` and ``clean()`` are in charge.
"""

from segcore.checkpoint.cache import CacheUsage, cache_summary, clean

from .table import ModelEntry, Release, find, list_models, releases
from .weights import Weights, is_local, resolve

__all__ = [
    "CacheUsage",
    "ModelEntry",
    "Release",
    "Weights",
    "cache_summary",
    "clean",
    "find",
    "is_local",
    "list_models",
    "releases",
    "resolve",
]
