"""Find the words of a caption that name what an image shows, and put them into prompts.

Source: GroupViT (CVPR 2022), section 3.3 (multi-label contrastive loss); its nouns and verbs are
those that NLTK's tagger finds.
"""

import functools
import re
from collections.abc import Callable, Sequence

import numpy as np

from segcore.errors import UserError, printable
from segcore.text.templates import prompt_templates
from segcore.text.tokens import MAX_CHARACTERS
from segcore.vocabulary import Vocabulary

FINDERS = ("auto", "nltk", "vocabulary", "none")
TAGS = frozenset(("NN", "NNS", "NNP", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ"))
INSTALL = "pip install nltk, and python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng"
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")

WordFinder = Callable[[str], list[str]]


class VocabularyWords:
    """Finds the names of a vocabulary in captions.

    The rule: names and synonyms are found as whole words, whatever their case, also in the plural
    (-s or -es at the end). Where several match at one word, the longest wins, and the search goes
    on behind it. A word that is found twice is returned twice.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        for prompt, synonyms in zip(vocabulary.prompts, vocabulary.synonyms, strict=True):
            for name in (prompt, *synonyms):
                words = tuple(WORD.findall(name.lower()))
                if words:
                    self._names.setdefault(words, name)
        self._longest = max(map(len, self._names), default=0)

    def __call__(self, caption: str) -> list[str]:
        """Return the names that occur in ``caption``, in its order, as the vocabulary has them."""
        words = WORD.findall(caption[:MAX_CHARACTERS].lower())
        found, start = [], 0
        while start < len(words):
            for end in range(min(start + self._longest, len(words)), start, -1):
                name = self._find(words[start:end])
                if name is not None:
                    found.append(name)
                    start = end
                    break
            else:
                start += 1
        return found

    def _find(self, words: list[str]) -> str | None:
        *first, last = words
        for ending in ("", "s", "es"):
            if last.endswith(ending):
                name = self._names.get((*first, last.removesuffix(ending)))
                if name is not None:
                    return name
        return None


def nltk_words(caption: str) -> list[str]:
    """Return the nouns and verbs of ``caption``, in its order, as NLTK's tagger finds them."""
    import nltk

    tokens = nltk.word_tokenize(caption[:MAX_CHARACTERS])
    return [word for word, tag in nltk.pos_tag(tokens) if tag in TAGS]


@functools.cache
def has_nltk() -> bool:
    """Return whether NLTK, its tokenizer and its tagger are installed."""
    try:
        nltk_words("a cat")
    except (ImportError, LookupError):
        return False
    return True


def no_words(caption: str) -> list[str]:
    """Return no words of any caption."""
    return []


def build_word_finder(name: str, vocabulary: Vocabulary | None) -> WordFinder:
    """Return a function from a caption to its words.

    Args:
        name: "nltk"; "vocabulary", see :class:`VocabularyWords`; "none"; or "auto", which is "nltk"
            where it and its data are installed, else "vocabulary" if there is one, else "none".
        vocabulary: whose names "vocabulary" finds.

    Raises:
        UserError: there is no such finder, or it lacks its data or vocabulary.
    """
    if name not in FINDERS:
        raise UserError(
            f"INPUT.CAPTION.WORDS is {printable(name)!r}: use one of {', '.join(FINDERS)}"
        )
    if name == "nltk" and not has_nltk():
        raise UserError(
            f"INPUT.CAPTION.WORDS is nltk, but NLTK or its data are not installed: {INSTALL}; or "
            "set it to vocabulary"
        )
    if name == "vocabulary" and vocabulary is None:
        raise UserError(
            "INPUT.CAPTION.WORDS is vocabulary: name one in INPUT.CAPTION.VOCABULARY, such as "
            "coco_stuff_171"
        )
    if name == "nltk" or (name == "auto" and has_nltk()):
        return nltk_words
    return VocabularyWords(vocabulary) if vocabulary and name != "none" else no_words


def draw_prompts(words: Sequence[str], caption: str, number: int) -> list[str]:
    """Return ``number`` texts for the multi-label loss: words in prompts, then the caption.

    Words are drawn without replacement, each is put into a random one of CLIP's 80 prompt
    templates, and the caption fills up what is missing. The global random numbers of NumPy are
    used, which training seeds.

    Args:
        words: of the caption; a word that occurs twice may be drawn twice.
        caption: of the image.
        number: of texts, at least 0.
    """
    templates = prompt_templates("imagenet")
    drawn = np.random.permutation(len(words))[:number]
    prompts = [templates[np.random.randint(len(templates))](words[index]) for index in drawn]
    return prompts + [caption] * (number - len(prompts))
