"""Names for classes and functions, so that a config can choose them."""

from fvcore.common.registry import Registry as Registry
