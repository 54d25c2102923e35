"""Collective operations of two processes on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
import numpy as np, torch
from detectron2.engine import create_ddp_model, launch
from detectron2.utils import comm


def name_of(function):
    try:
        return type(function()).__name__
    except Exception as error:
        return type(error).__name__


def main(folder):
    rank = comm.get_rank()
    np.random.seed(100 + rank)
    values = {"a": torch.tensor(10.0 * rank), "b": torch.tensor(1.0 + rank)}
    model = torch.nn.Linear(1, 1)
    result = {
        "rank": rank,
        "world": comm.get_world_size(),
        "local_rank": comm.get_local_rank(),
        "local_size": comm.get_local_size(),
        "main": comm.is_main_process(),
        "all_gather": comm.all_gather({"r": rank}),
        "gather_dst0": comm.gather(rank, dst=0),
        "gather_dst1": comm.gather(rank, dst=1),
        "shared_random_seed": comm.shared_random_seed(),
        "backend": torch.distributed.get_backend(),
        "reduce_dict_mean": {k: v.item() for k, v in comm.reduce_dict(values).items()},
        "reduce_dict_sum": {
            k: v.item()
            for k, v in comm.reduce_dict({"b": values["b"]}, average=False).items()
        },
        "ddp_on_cpu": name_of(lambda: create_ddp_model(model)),
        "ddp_with_device_ids_None": name_of(lambda: create_ddp_model(model, device_ids=None)),
    }
    comm.synchronize()
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    launch(main, 2, dist_url="auto", args=(sys.argv[1],))
"""

FAILING = """
from detectron2.engine import launch


def main():
    raise KeyError("x")


if __name__ == "__main__":
    try:
        launch(main, 2, dist_url="auto")
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run_program(text, *args):
        (tmp_path / "program.py").write_text(text)
        command = [sys.executable, str(tmp_path / "program.py"), *args]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_program


def test_two_processes(behaviour, run, tmp_path: Path):
    run(PROGRAM, str(tmp_path))
    for fact in behaviour["training"]["launch"]["two_processes_cpu"]["ranks"]:
        result = json.loads((tmp_path / f"{fact['rank']}.json").read_text())
        for name in ("reduce_dict_mean", "reduce_dict_sum"):  # valid on the first process only
            actual, expected = result.pop(name), fact.pop(name)
            if fact["main"]:
                assert actual == expected
        assert result == fact


def test_failure_in_a_process(behaviour, run):
    expected = behaviour["training"]["launch"]["two_processes_cpu"]["worker_error"]
    assert run(FAILING).splitlines()[-1] == expected  # some gloos greet before
