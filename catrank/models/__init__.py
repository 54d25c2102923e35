"""The model zoo: names, files and where they come from.

``find("catseg-vitb")`` is one line of its table, ``list_models()`` are all; ``resolve`` returns the
file that a name, a path or an address stands for, downloaded where it is not there yet.
"""

from .table import ModelEntry, Release, find, list_models, releases
from .weights import Weights, resolve

__all__ = ["ModelEntry", "Release", "Weights", "find", "list_models", "releases", "resolve"]
