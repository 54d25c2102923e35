"""What stands above the families: which one a config needs."""

from .families import FAMILIES, import_families

__all__ = ["FAMILIES", "import_families"]
