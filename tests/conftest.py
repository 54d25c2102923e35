"""Fixtures that every test may use."""

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

# Most tests are of models with random weights, in processes of their own too.
os.environ["CATRANK_UNTRAINED"] = "1"
# A shell script that runs the tests in the background ignores Ctrl-C for all that they start, and
# some tests are of Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture
def forget_datasets() -> Iterator[None]:
    """Names of data sets that the test registers are free again after it."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture
def dataset_name(request: pytest.FixtureRequest, forget_datasets: None) -> Iterator[str]:
    """A free data set name, forgotten after the test."""
    name = f"test_{request.node.name}"
    yield name
    MetadataCatalog.pop(name, None)


@pytest.fixture
def run_processes() -> Callable[[str, Path, int], list]:
    """Run a program in several processes at once.

    It gets a folder, its rank and the number of processes; what each prints last is JSON, and is
    returned. Some gloos greet before.
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
