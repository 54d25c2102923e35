"""SIGKILL of workers, of the raylet and of the driver at random moments, 20 times: nothing is lost,
nothing is there twice, and the result equals that of an unbroken run."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catrank.labelling import label, read_labels

pytest.importorskip("ray", reason="labelling on several workers: pip install -e .[scale]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc"),
]

IMAGES, SHARD = 240, 6
PATIENCE = 600  # seconds that a run may take on a busy machine


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for seed in range(IMAGES):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def expected(album, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("expected")
    loading = {"model": "scenes-60-panoptic", "device": "cpu"}
    label([str(album)], output, loading=loading, workers=1, batch_size=2, shard_size=SHARD)
    return output


class Job:
    """A run of the command in a process group of its own."""

    def __init__(self, album: Path, output: Path, engine: str) -> None:
        self.output, self.started = output, finished(output)
        words = ["label", str(album), "--output", str(output), "--engine", engine]
        words += ["--model", "scenes-60-panoptic", "--device", "cpu", "--workers", "2"]
        words += ["--batch-size", "2", "--shard-size", str(SHARD)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "catrank", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, more: int) -> bool:
        """Wait until ``more`` shards are finished; return False where the run has ended before."""
        while finished(self.output) < self.started + more:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return self.process.poll() is None

    def below(self, name: str) -> list[int]:
        """Processes below this one with a name."""
        parents, names = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text()
                names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
                parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
            except (OSError, UnicodeDecodeError):  # it has ended
                continue
        found = []
        for pid, text in names.items():
            above = pid
            while above in parents and above != self.process.pid:
                above = parents[above]
            if above == self.process.pid and name in text:
                found.append(pid)
        return found

    def end(self) -> tuple[int, str]:
        """Wait for the end; return exit code and what was printed on the error stream."""
        printed = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, printed


def finished(output: Path) -> int:
    return len([*(output / "labels").glob("part-*.parquet")])


@pytest.fixture
def start(album, tmp_path) -> Iterator[Callable[[str], Job]]:
    jobs: list[Job] = []

    def start(engine: str) -> Job:
        jobs.append(Job(album, tmp_path / "out", engine))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
            job.end()


def check(output: Path, expected: Path, files: Callable[[Path], dict[str, bytes]]) -> None:
    found = files(output)
    found.pop("run.lock", None)  # of a run that was killed
    assert found == files(expected)
    keys = [labels.key for labels in read_labels(output)]
    assert keys == [f"{number}.png" for number in range(IMAGES)]


def test_workers(start, expected, files, tmp_path) -> None:
    """Eight kills in one run, which goes on."""
    moments, kills = random.Random(0), 0
    job = start("ray")
    for more in range(2, 34, 4):
        if not job.wait_for(more):
            break
        time.sleep(moments.uniform(0, 0.1))
        if workers := job.below("ray::MapWorker"):
            os.kill(moments.choice(workers), signal.SIGKILL)
            kills += 1
    code, printed = job.end()
    assert code == 0, printed
    assert kills >= 6
    check(tmp_path / "out", expected, files)


@pytest.mark.parametrize(
    ("name", "engine", "kills"), [("raylet", "ray", 4), ("", "ray", 4), ("", "local", 4)]
)
def test_raylet_and_driver(start, expected, files, tmp_path, name, engine, kills) -> None:
    """Each kill ends the run; the same command resumes it. The driver is the job's process."""
    moments = random.Random(f"{name} {engine}")
    for _ in range(kills):
        job = start(engine)
        assert job.wait_for(moments.randint(1, 6))
        time.sleep(moments.uniform(0, 0.1))
        victims = job.below("/raylet/raylet") if name else [job.process.pid]
        os.kill(victims[0], signal.SIGKILL)
        code, printed = job.end()
        assert code != 0
        if name:
            assert "Traceback" not in printed and "the same command resumes" in printed
    code, printed = start(engine).end()
    assert code == 0, printed
    check(tmp_path / "out", expected, files)
