"""The SLURM script of labelling, on this machine: ``srun`` and ``scontrol`` are stand-ins."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="labelling on several workers: pip install -e .[scale]")

SRUN = """#!/usr/bin/env bash
[ "$1 $2 $3" = "--overlap --nodes=1 --ntasks-per-node=1" ] || exit 99
[ "$4" = "--nodelist=127.0.0.1" ] || exit 98
[ "$5" = "--cpus-per-task=2" ] || exit 97
exec "${@:6}"
"""
SCONTROL = "#!/usr/bin/env bash\necho 127.0.0.1\n"


@pytest.mark.slow
def test_the_arguments_reach_catrank_label_on_the_cluster(repository, tmp_path) -> None:
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    done = subprocess.run(
        ["bash", "tools/label.slurm", *words, "--model", "scenes-60-panoptic"],
        cwd=repository,
        env=os.environ
        | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": str(repository),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "127.0.0.1",
            "SLURM_NNODES": "1",
            "SLURM_CPUS_ON_NODE": "2",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 of 1 images labelled" in done.stdout
    assert (tmp_path / "out" / "manifest.json").is_file()
