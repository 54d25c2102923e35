"""What is odd about the words and colours of a vocabulary."""

import json
from pathlib import Path

import pytest

from segcore.vocabulary import Vocabulary, registered_names
from segcore.vocabulary.lint import lint_vocabulary

# Of published lists, which stay as they are: words that stand for several classes, and colours
# that two classes share or some lack.
KNOWN = {
    "ade20k_150": 7,
    "ade20k_847": 41,
    "ade20k_panoptic_150": 6,
    "coco_stuff_171": 1,
}


def lint(folder: Path, *classes: object, **keys: object) -> list[str]:
    path = folder / "mine.json"
    path.write_text(json.dumps({"classes": classes, **keys}))
    return list(lint_vocabulary(Vocabulary.load(path)))


@pytest.mark.parametrize("name", registered_names())
def test_shipped_vocabularies(name: str) -> None:
    found = list(lint_vocabulary(Vocabulary.load(name)))
    assert len(found) == KNOWN.get(name, 0), found


def test_no_warnings(tmp_path: Path) -> None:
    classes = ["sky", "sofa, couch", {"name": "cat", "synonyms": ["kitten"]}]
    assert lint(tmp_path, *classes, background={"words": ["wall"]}, templates=["a {}."]) == []


@pytest.mark.parametrize(
    ("classes", "finding"),
    [
        (["sofa, couch", "seat, Couch"], "'couch' belongs to several classes: 'sofa, couch', "),
        ([{"name": "a", "prompt": "x"}, {"name": "b", "prompt": "X "}], "'x' belongs to several"),
        (["couch", {"name": "sofa", "synonyms": ["couch"]}], "'couch' belongs to several"),
        ([{"name": "cat", "synonyms": ["CAT"]}, "dog"], "class 'cat' has a synonym twice"),
        ([{"name": "my  dog"}], "class 'my  dog' has spaces at an end or side by side"),
        ([{"name": "a", "color": [1, 2, 3]}, "b", "c"], "2 of 3 classes have no colour: 'b', 'c'"),
        (
            [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [1, 2, 3]}],
            "the colour [1, 2, 3] is that of several classes: 'a', 'b'",
        ),
    ],
)
def test_findings(tmp_path: Path, classes: list, finding: str) -> None:
    found = lint(tmp_path, *classes)
    assert any(line.startswith(finding) for line in found), found
    assert not any("\n" in line for line in found)
