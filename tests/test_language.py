"""All files use the standard terms of the field, and none of the words that these replace."""

import re
from pathlib import Path

import pytest

REPLACED = {"picture": "image", "mistake": "user error", "answer": "prediction"}
# Names that stand in files of users or of benchmarks, or that users type.
ALLOWED = {
    "segcore/datasets/checking/report.py",  # keys of report.json
    "segcore/scenes/files.py",  # a key of scenes.json
    "segcore/scenes/writing.py",
    "tools/controls.py",  # an option
    "tests/datasets/test_check.py",
    "tests/test_language.py",
}
FOLDERS = ("catrank", "catseg_d2", "groupvit_mixreorg", "mask2former_rankseg", "per_pixel")
FOLDERS += ("segcore", "d2lite", "bench", "demo", "datasets", "tools", "tests", "docs", "configs")
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".sh"}

# Everyday words for which these packages and their tests use the standard term.
REPLACED_IN_PACKAGES = {
    "(?<!in )(?<!last )place": "index, position or path",
    "deal|dealt": "assign",
    "gain": "scale",
    "likeliest": "most probable",
    "mend": "fix",
    "nobody|whoever": "the subject's name",
    "(?<!like a )sentence": "message, caption or prompt",
    r"(?<!\.)tell|told": "report, return or identify",
    "tower": "encoder",
    "(?<!ground.)truth": "ground truth",
}
PACKAGES = ("annotations", "backbones", "benchmarks", "datasets", "evaluation", "mappers")
PACKAGES += ("checkpoint", "config", "drawing", "engine", "images", "inference", "rankseg")
PACKAGES += ("runtime", "scenes", "video_files", "vocabulary")
FAMILIES = ("catseg_d2", "groupvit_mixreorg", "mask2former_rankseg", "per_pixel", "d2lite")
FAMILIES += ("catrank", "demo", "tools")


def uses(repository: Path, word: str, files: list[Path]) -> list[str]:
    """Return the lines of files that have a word or its plural."""
    pattern = re.compile(rf"\b({word})s?\b", re.I)
    return [
        f"{path.relative_to(repository)}: {line.strip()}"
        for path in files
        if path.suffix in SUFFIXES and path.relative_to(repository).as_posix() not in ALLOWED
        for line in path.read_text("utf-8").splitlines()
        if pattern.search(line)
    ]


@pytest.mark.parametrize("word", REPLACED)
def test_words(repository: Path, word: str) -> None:
    files = [path for path in repository.iterdir() if path.is_file()]
    files += [path for folder in FOLDERS for path in (repository / folder).rglob("*")]
    found = uses(repository, word, files)
    assert not found, f"write {REPLACED[word]!r} instead of {word!r}"


@pytest.mark.parametrize("word", REPLACED_IN_PACKAGES)
def test_words_of_packages(repository: Path, word: str) -> None:
    folders = [
        repository / parent / name for parent in ("segcore", "tests/segcore") for name in PACKAGES
    ]
    folders += [repository / parent / name for parent in ("", "tests") for name in FAMILIES]
    folders.append(repository / "configs")
    files = [path for folder in folders for path in folder.rglob("*")]
    assert len(files) > 300
    found = uses(repository, word, files)
    assert not found, f"write {REPLACED_IN_PACKAGES[word]!r} instead of {word!r}"
