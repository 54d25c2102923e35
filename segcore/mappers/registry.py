"""The registry of mappers, by the names that configs use."""

from detectron2.utils.registry import Registry

MAPPER_REGISTRY = Registry("MAPPER")
MAPPER_REGISTRY.__doc__ = """
Mappers by name. An entry is called as ``entry(cfg, is_train)`` and returns a callable that turns
one dataset dict into one input of the model.
"""
