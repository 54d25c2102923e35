"""Words of captions, and prompts from them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from segcore.errors import UserError
from segcore.text import build_word_finder, draw_prompts, prompt_templates
from segcore.text.nouns import VocabularyWords, has_nltk
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load(
    ["hot dog", "dog, puppy", "glass", "T-shirt", "potted plant", "bus", "red plain circle"]
)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A DOG eats a hot dog.", ["dog", "hot dog"]),
        ("two dogs, three buses; some glasses", ["dog", "bus", "glass"]),
        ("the puppies and a puppy", ["puppy"]),
        ("a dogma in a T-shirt", ["T-shirt"]),
        ("dog dog", ["dog", "dog"]),
        ("two potted plants near a red plain circle", ["potted plant", "red plain circle"]),
        ("a hot, dog", ["hot dog"]),
        ("", []),
    ],
)
def test_names_of_a_vocabulary_are_found(caption: str, words: list[str]) -> None:
    assert VocabularyWords(VOCABULARY)(caption) == words


def test_a_long_caption_takes_no_time() -> None:
    assert len(VocabularyWords(VOCABULARY)("dog " * (10 << 18))) == 512


@pytest.fixture
def tagger(monkeypatch) -> None:
    """A stand-in for NLTK, whose tagger knows four words."""
    tags = {"dogs": "NNS", "run": "VBP", "fast": "RB", "Rome": "NNP"}
    nltk = SimpleNamespace(
        word_tokenize=str.split, pos_tag=lambda words: [(w, tags.get(w, "DT")) for w in words]
    )
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    has_nltk.cache_clear()
    yield
    has_nltk.cache_clear()


@pytest.mark.parametrize("name", ["nltk", "auto"])
def test_nouns_and_verbs_of_nltk(tagger, name: str) -> None:
    finder = build_word_finder(name, VOCABULARY)
    assert finder("the dogs run fast in Rome") == ["dogs", "run", "Rome"]


@pytest.fixture
def no_tagger(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    has_nltk.cache_clear()
    yield
    has_nltk.cache_clear()


def test_without_nltk_the_vocabulary_is_searched(no_tagger) -> None:
    assert build_word_finder("auto", VOCABULARY)("dogs run") == ["dog"]
    assert build_word_finder("auto", None)("dogs run") == []
    assert build_word_finder("none", VOCABULARY)("dogs run") == []


def test_errors(no_tagger) -> None:
    with pytest.raises(UserError, match=r"WORDS is 'verbs': use one of auto, nltk, vocabulary"):
        build_word_finder("verbs", VOCABULARY)
    with pytest.raises(UserError, match="not installed: pip install nltk"):
        build_word_finder("nltk", VOCABULARY)
    with pytest.raises(UserError, match=r"name one in INPUT\.CAPTION\.VOCABULARY"):
        build_word_finder("vocabulary", None)


def test_prompts_are_drawn_without_replacement() -> None:
    np.random.seed(0)
    expected = {template(word) for template in prompt_templates("imagenet") for word in ("a", "b")}
    draws = [draw_prompts(["a", "b"], "a b", 2) for _ in range(30)]
    assert all(set(prompts) <= expected and len(set(prompts)) == 2 for prompts in draws)
    assert len({tuple(prompts) for prompts in draws}) > 20


def test_the_caption_fills_up_missing_words() -> None:
    prompts = draw_prompts(["dog"], "a dog", 3)
    assert "dog" in prompts[0] and prompts[1:] == ["a dog", "a dog"]
    assert draw_prompts([], "a dog", 2) == ["a dog", "a dog"]
    assert draw_prompts(["dog"], "a dog", 0) == []
