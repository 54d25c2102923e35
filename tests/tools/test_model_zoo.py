"""The page of the published weights: current, complete, and true of the tests."""

import importlib

import pytest

FAMILY = "mask2former_rankseg"


@pytest.fixture
def tool(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("model_zoo")


def test_the_page_is_current(tool, repository) -> None:
    written = (repository / "MODEL_ZOO.md").read_text()
    assert written == tool.zoo(), "python tools/model_zoo.py > MODEL_ZOO.md"


def test_every_published_file_is_listed_once(tool) -> None:
    page = tool.zoo()
    files = [entry["weights"] for entry in tool.published().values() if entry["weights"]]
    assert len(files) == len(set(files)) > 40
    assert all(page.count(f"| `{name}` |") == 1 for name in files)
    assert page.count("## ") == len(tool.releases()["releases"])


def test_what_is_verified_has_been_published(tool) -> None:
    for names in tool.releases()["verified"].values():
        assert set(names) <= tool.published().keys() and len(names) == len(set(names))


def test_keys_are_those_that_the_tests_compare(tool, repository, monkeypatch) -> None:
    """A config may be called verified only where its test says so."""
    monkeypatch.syspath_prepend(str(repository / "tests"))
    monkeypatch.syspath_prepend(str(repository / "tests" / FAMILY))
    compared = importlib.import_module("test_configs")
    named = {name for name in tool.releases()["verified"]["keys"] if name.startswith(FAMILY)}
    released = {name for name, entry in tool.published().items() if entry["weights"]}
    assert named == {f"{FAMILY}/{name}" for name in compared.KEYS} & released


def test_weights_of_unknown_origin_are_refused(tool) -> None:
    with pytest.raises(ValueError, match="names no release"):
        tool.release_of({"source": "somebody"}, tool.releases())
