"""The page of the published weights: current, complete, and true of the tests."""

import importlib

import pytest

from catrank.models import list_models

FAMILY = "mask2former_rankseg"


@pytest.fixture
def tool(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("model_zoo")


def published_models():
    return [model for model in list_models() if model.kind == "published"]


def models_of_others():
    return [model for model in list_models() if model.release.repository]


def test_the_page_is_current_and_lists_every_published_file_once(tool, repository) -> None:
    page, models = (repository / "MODEL_ZOO.md").read_text(), models_of_others()
    assert page == tool.zoo(), "python tools/model_zoo.py > MODEL_ZOO.md"
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    listed = [(row[0].strip("| `"), row[1].strip("`"), row[3]) for row in rows]
    assert len(models) > 40
    # The page has the task of the config.
    assert sorted(listed) == sorted((m.name, m.file_name, m.task) for m in models)
    assert page.count("## ") == len({model.release for model in models})


def test_every_model_is_a_published_experiment(tool) -> None:
    assert {model.config for model in published_models()} <= tool.published().keys()


def test_keys_are_those_that_the_tests_compare(repository, monkeypatch) -> None:
    """A model may be called verified only where its test says so."""
    monkeypatch.syspath_prepend(str(repository / "tests"))
    monkeypatch.syspath_prepend(str(repository / "tests" / FAMILY))
    compared = {*importlib.import_module("test_configs").KEYS}
    compared |= {*importlib.import_module("maskformer_cases").KEYS.values()}
    models = [model for model in published_models() if model.family == FAMILY]
    named = {model.config for model in models if "keys" in model.verified}
    assert named == {f"{FAMILY}/{name}" for name in compared} & {m.config for m in models}
