"""Fixtures of all tests."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.checkpoint import weights


def allow_untrained(*_: object) -> None:
    """Replace the check of weights; a module's function, so that models can be pickled."""


# Most tests are of models with random weights, which predict here as if they were trained.
REFUSE_UNTRAINED, weights._check_trained = weights._check_trained, allow_untrained
# A shell script that runs the tests in the background ignores Ctrl-C for all that they start, and
# some tests are of Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root folder of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of reference outputs; skip the test where there is none."""
    folder = Path(os.environ.get("CATRANK_GOLDEN", REPOSITORY / ".." / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no reference outputs at {folder}; set CATRANK_GOLDEN to their folder")
    return folder.resolve()


@pytest.fixture
def untrained_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that the test builds predict with weights alone, as outside of the tests."""
    monkeypatch.setattr(weights, "_check_trained", REFUSE_UNTRAINED)


@pytest.fixture
def forget_datasets() -> Iterator[None]:
    """Remove the data sets that the test registers."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture
def dataset_name(request: pytest.FixtureRequest, forget_datasets: None) -> Iterator[str]:
    """Return an unused data set name; remove its metadata after the test."""
    name = f"test_{request.node.name}"
    yield name
    MetadataCatalog.pop(name, None)


@pytest.fixture
def run_processes() -> Callable[[str, Path, int], list]:
    """Return a function that runs a program in several processes at once.

    The program gets a folder, its rank and the number of processes, and prints JSON in its last
    line, which is returned. Some versions of gloo print a line before.
    """

    def run(program: str, folder: Path, size: int) -> list:
        command = [sys.executable, "-c", program, str(folder)]
        processes = [
            subprocess.Popen([*command, str(rank), str(size)], stdout=subprocess.PIPE, text=True)
            for rank in range(size)
        ]
        printed = [process.communicate()[0] for process in processes]
        return [json.loads(lines.splitlines()[-1]) for lines in printed]

    return run


def pytest_report_header() -> str:
    """Report the hardware and the versions that results depend on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return (
        f"{_processor()}, {torch.backends.cpu.get_cpu_capability()} kernels, "
        f"{torch.get_num_threads()} threads; {device}; "
        f"torch {torch.__version__}, detectron2 {detectron2.__version__}"
    )


def _processor() -> str:
    """Return the name of the processor where the system has it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where PyTorch finds no CUDA device.

    CATRANK_GPU_TESTS_ON=cpu runs them all the same, on the CPU.
    """
    if torch.cuda.is_available() or "CATRANK_GPU_TESTS_ON" in os.environ:
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
