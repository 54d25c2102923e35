"""Fixtures that every test may use."""

import os
import platform
from pathlib import Path

import detectron2
import pytest
import torch

# Most tests are of models with random weights, in processes of their own too.
os.environ["CATRANK_UNTRAINED"] = "1"

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


def pytest_report_header() -> str:
    """What the numbers of this run depend on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return (
        f"{_processor()}, {torch.backends.cpu.get_cpu_capability()} kernels, "
        f"{torch.get_num_threads()} threads; {device}; "
        f"torch {torch.__version__}, detectron2 {detectron2.__version__}"
    )


def _processor() -> str:
    """The model's name where the system says it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where PyTorch finds no CUDA device.

    CATRANK_GPU_TESTS_ON=cpu runs them there: what they ask is right on any device.
    """
    if torch.cuda.is_available() or "CATRANK_GPU_TESTS_ON" in os.environ:
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
