"""Vocabularies: the classes of a benchmark, or class names that a user types."""

from .checks import clean, short
from .vocabulary import (
    Background,
    Color,
    Vocabulary,
    distinct_colors,
    registered_names,
    vocabulary_table,
)

__all__ = [
    "Background",
    "Color",
    "Vocabulary",
    "clean",
    "distinct_colors",
    "registered_names",
    "short",
    "vocabulary_table",
]
