"""Processes, scalars, logging, files and registries."""

from detectron2._absent import absent

__getattr__ = absent(__name__)
