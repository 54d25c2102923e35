"""The SLURM script, on this machine: ``srun`` and ``scontrol`` are stand-ins."""

import os
import subprocess
import sys

import pytest

SRUN = """#!/usr/bin/env bash
[ "$1 $2" = "--ntasks-per-node=1 --kill-on-bad-exit=1" ] || exit 99
exec "${@:3}"
"""

# Prints slowly: who stops reading after the first line would end it with SIGPIPE.
SCONTROL = """#!/usr/bin/env bash
set -e
echo localhost
sleep 0.2
echo b
"""


@pytest.fixture
def submit(repository, tmp_path):
    def submit(*words):
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": str(repository),
            "DETECTRON2_DATASETS": str(tmp_path / "gone"),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_NNODES": "1",
            "SLURM_GPUS_ON_NODE": "2",
        }
        return subprocess.run(
            ["bash", "tools/train.slurm", *words],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
        )

    return submit


def test_the_arguments_reach_train_net_in_every_process(submit, tmp_path):
    words = ["--config-file", "catseg_d2/scenes_60.yaml", "OUTPUT_DIR", str(tmp_path / "out")]
    done = submit(*words, "MODEL.DEVICE", "cpu")
    assert done.returncode == 1, "torchrun's own"
    assert f"has no folder {tmp_path / 'gone'}" in done.stderr, done.stderr[-3000:]
    assert {"log.txt", "log.txt.rank1"} <= {path.name for path in (tmp_path / "out").iterdir()}
