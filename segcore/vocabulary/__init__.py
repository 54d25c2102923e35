"""Vocabularies: the class names, synonyms and prompt templates of an open-vocabulary model.

``vocabulary``  :class:`Vocabulary`, loaded from a registered name, a file or typed class names
``files``       reading files and typed lines
``checks``      what a vocabulary must fulfil
``lint``        warnings about a valid vocabulary
"""

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
