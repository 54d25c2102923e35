#!/usr/bin/env python3
"""Write a small tokenizer of SigLIP's kind for encoders that are trained from scratch.

    python tools/word_tokenizer.py scenes_60 scenes_1k catseg_d2/encoders/tokenizers/scenes.json

Its tokens are the words of vocabularies and of all prompt templates, as SigLIP cleans them, and
single characters, so that any other word is several tokens.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing
from segcore.text import TEMPLATES
from segcore.text.siglip import END_TEXT, canonicalize
from segcore.vocabulary import Vocabulary

SPECIAL = ("<pad>", END_TEXT, "<unk>")  # ids 0, 1, 2
SPACE = "\u2581"  # the mark of a word's beginning, in SentencePiece's files
WORD_SCORE, CHARACTER_SCORE = -1.0, -10.0  # logarithms of probabilities: words win


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the words of texts after cleaning, sorted, each once."""
    return sorted({word for text in texts for word in canonicalize(text).split()})


def write_tokenizer(vocabularies: Sequence[str], target: Path) -> int:
    """Write the tokenizer of the named vocabularies; return its number of tokens.

    Raises:
        UserError: the library tokenizers is not installed, or there is no such vocabulary.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers
    except ImportError:
        raise UserError("tokenizers writes the file: pip install tokenizers") from None
    names = [name for each in vocabularies for name in Vocabulary.load(each).prompts]
    prompts = [template("") for each in TEMPLATES.values() for template in each]
    words = [SPACE + word for word in words_of([*names, *prompts])]
    characters = [SPACE, *string.ascii_lowercase, *string.digits]
    pieces = [
        *((token, 0.0) for token in SPECIAL),
        *((word, WORD_SCORE) for word in words),
        *((character, CHARACTER_SCORE) for character in characters),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE)
    with writing(target) as file:
        file.write(tokenizer.to_str(pretty=False).encode())
    return len(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabularies", nargs="+", help="names, or JSON files")
    parser.add_argument("target", type=path_argument)
    arguments = parser.parse_args()
    with exit_on_user_error():
        number = write_tokenizer(arguments.vocabularies, arguments.target)
        print(f"{arguments.target}: {number} tokens")


if __name__ == "__main__":
    main()
