"""All files use the standard terms of the field, and none of the words that these replace."""

import re

import pytest

REPLACED = {"picture": "image", "mistake": "user error"}
# Names that stand in files of users or of benchmarks, or that users type.
ALLOWED = {
    "datasets/check.py",  # keys of report.json
    "segcore/scenes/files.py",  # a key of scenes.json
    "segcore/scenes/writing.py",
    "tools/controls.py",  # an option
    "tests/datasets/test_check.py",
    "tests/test_language.py",
}
FOLDERS = ("catrank", "catseg_d2", "mask2former_rankseg", "segcore", "d2lite", "bench", "demo")
FOLDERS += ("datasets", "tools", "tests", "docs", "configs")
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".sh"}


@pytest.mark.parametrize("word", REPLACED)
def test_words(repository, word):
    pattern = re.compile(rf"\b{word}s?\b", re.I)
    files = [path for path in repository.iterdir() if path.is_file()]
    files += [path for folder in FOLDERS for path in (repository / folder).rglob("*")]
    found = [
        f"{path.relative_to(repository)}: {line.strip()}"
        for path in files
        if path.suffix in SUFFIXES and path.relative_to(repository).as_posix() not in ALLOWED
        for line in path.read_text("utf-8").splitlines()
        if pattern.search(line)
    ]
    assert not found, f"write {REPLACED[word]!r} instead of {word!r}"
