"""The measured facts about Detectron2, for tests that pass on it and on d2lite."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import pytest

IS_LITE = detectron2.__version__.endswith("+lite")


def _facts_folder() -> Path:
    here = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("CATRANK_GOLDEN", here / ".." / "shared" / "golden")) / "detectron2"


def _read(name: str) -> Any:
    path = _facts_folder() / name
    return json.loads(path.read_text()) if path.is_file() else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over every name of the contract and every default."""
    if "contract_entry" in metafunc.fixturenames:
        names = (_read("contract.json") or {"names": {}})["names"]
        asked = {name: entry for name, entry in names.items() if entry["asked"]}
        metafunc.parametrize("contract_entry", asked.values(), ids=asked)
    if "default_leaf" in metafunc.fixturenames:
        facts = _read("defaults.json") or {"get_cfg": {}}
        metafunc.parametrize("default_leaf", facts["get_cfg"].items(), ids=facts["get_cfg"])


@pytest.fixture(scope="session")
def is_lite() -> bool:
    """Whether the tests run on d2lite."""
    return IS_LITE


@pytest.fixture
def lite_only(is_lite: bool) -> None:
    """Skip the test on Detectron2: d2lite differs from it on purpose."""
    if not is_lite:
        pytest.skip("d2lite differs from Detectron2 here on purpose")


@pytest.fixture(scope="session")
def behaviour(golden: Path) -> dict:
    """Return the measured facts by section."""
    return json.loads((golden / "detectron2" / "behaviour.json").read_text())


@pytest.fixture(scope="session")
def arrays(golden: Path) -> Any:
    """Return the arrays of the measured facts."""
    return np.load(golden / "detectron2" / "behaviour.npz")


@pytest.fixture(scope="session")
def defaults(golden: Path) -> dict:
    """Return the facts of the default config and of published config files."""
    return json.loads((golden / "detectron2" / "defaults.json").read_text())


@pytest.fixture
def raised():
    """Return a function that calls another and returns the exception's name, None without one."""

    def call(function, *args, **kwargs):
        try:
            function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            return type(error).__name__
        return None

    return call


@pytest.fixture
def log_lines():
    """Return a function that collects the messages of a logger, which may not propagate."""
    handlers = []

    def collect(name: str) -> list[str]:
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        handlers.append((logger, handler))
        return lines

    yield collect
    for logger, handler in handlers:
        logger.removeHandler(handler)
