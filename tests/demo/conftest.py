"""The demo's scripts import each other by name, as they do when they are run."""

import pytest


@pytest.fixture(autouse=True)
def demo_scripts(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "demo"))
