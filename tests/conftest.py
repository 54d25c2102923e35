"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference outputs; the test is skipped where there is none."""
    folder = Path(os.environ.get("CATRANK_GOLDEN", REPOSITORY / ".." / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no reference outputs at {folder}; set CATRANK_GOLDEN to their folder")
    return folder.resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where PyTorch finds no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
