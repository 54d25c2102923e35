"""train_net.py as users run it: a very small CAT-Seg on a few Scenes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine import default_argument_parser

import catseg_d2  # noqa: F401  (its config is what the tests train)
from catrank import training
from segcore.engine import launch
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes

SMALL = {
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 2,
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON": "",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the root of a Scenes data set; two processes get unequal shards of seven images."""
    root = tmp_path_factory.mktemp("datasets")
    write_scenes(root, SCENES_60, Settings(num_train=8, num_test=7), workers=1)
    return root


@pytest.fixture(scope="module")
def run(data, repository, tmp_path_factory):
    """Return a function that runs train_net.py and returns its output folder and error stream."""
    folder = tmp_path_factory.mktemp("output")

    def run(out, *arguments, launcher=(), code=0):
        environment = os.environ | {
            "PYTHONPATH": str(repository),
            "OMP_NUM_THREADS": "1",
            "DETECTRON2_DATASETS": str(data),
        }
        flags = [argument for argument in arguments if argument.startswith("--")]
        opts = [argument for argument in arguments if not argument.startswith("--")]
        small = [str(part) for pair in SMALL.items() for part in pair]
        command = [sys.executable, *launcher, str(repository / "train_net.py")]
        command += ["--config-file", "catseg_d2/scenes_60.yaml"]
        command += [part for flag in flags for part in flag.split("=")]
        done = subprocess.run(
            [*command, *small, "OUTPUT_DIR", str(folder / out), *opts],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return folder / out, done.stderr

    return run


@pytest.fixture(scope="module")
def trained(run):
    folder, _ = run("trained")
    return folder


def scores(folder) -> dict:
    (path,) = (folder / "inference").glob("*/sem_seg_evaluation.json")
    return json.loads(path.read_text())


def test_training_writes_a_checkpoint_and_scores(trained):
    assert {"model_final.pth", "metrics.json", "config.yaml", "log.txt"} <= {
        path.name for path in trained.iterdir()
    }
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert any("sem_seg/mIoU" in line for line in lines)
    assert scores(trained)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "launcher"),
    [
        (["--num-gpus=2"], []),
        ([], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]),
    ],
    ids=["num_gpus", "torchrun"],
)
def test_two_processes_evaluate_as_one(run, trained, flags, launcher):
    """Bit for bit; one process ran the evaluation after training."""
    weights = ("MODEL.WEIGHTS", str(trained / "model_final.pth"))
    folder, _ = run("two", "--eval-only", *flags, *weights, launcher=launcher)
    assert scores(folder) == scores(trained)


@pytest.mark.slow
def test_two_processes_compute_the_gradients_of_one(repository, tmp_path):
    """With the published loss, in which every pixel counts: all shards have equal weight."""
    found = []
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.pth"
        command = [sys.executable, str(repository / "tests" / "gradients_run.py")]
        command += ["--config-file", "catseg_d2/scenes_60.yaml", "--num-gpus", processes]
        command += ["OUTPUT_DIR", str(path), "MODEL.SEM_SEG_HEAD.COST_LOSS_WEIGHT", "0.0"]
        command += ["MODEL.SEM_SEG_HEAD.TRAIN_CANDIDATES", "0"]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.append(torch.load(path, weights_only=True))
    one, two = found
    assert two["losses"]["loss_sem_seg"].item() == pytest.approx(
        one["losses"]["loss_sem_seg"].item(), rel=1e-6
    )
    assert one["gradients"].keys() == two["gradients"].keys() and len(one["gradients"]) > 50
    for name, gradient in one["gradients"].items():
        difference = (two["gradients"][name] - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + 1e-8, name


@pytest.mark.slow
def test_resume_ends_at_max_iter(run, trained):
    folder, _ = run("trained", "--resume", "SOLVER.MAX_ITER", "4")
    state = torch.load(folder / "model_final.pth", weights_only=True)
    assert state["iteration"] == 3
    assert state["trainer"]["_trainer"]["optimizer"]["state"][0]["step"] == 4


def test_a_user_error_is_one_message_and_exit_code_2(run):
    _, printed = run("wrong", "SOLVER.BASE_LRR", "1.0", code=2)
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "the nearest is SOLVER.BASE_LR" in line and "Traceback" not in printed
    _, printed = run("wrong", "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON", "voc20", code=2)
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "TRAIN_CLASS_JSON 'voc20' has 20 classes, but data set" in line and " has 60" in line
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eval-only"], "--eval-only needs weights"),
        (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["SOLVER.REFERENCE_WORLD_SIZE", "8"], "SOLVER.IMS_PER_BATCH is 4, no multiple of"),
        (["DATASETS.TRAIN", "('scenes_60_trian',)"], "'scenes_60_train'"),
        (["--eval-only", "MODEL.WEIGHTS", "truncated.pth"], "cannot be read: it is cut short"),
        (["--eval-only", "MODEL.WEIGHTS", "other.pth"], "does not fit the model of this config"),
    ],
)
def test_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    torch.save({"model": {"w": torch.zeros(1000)}}, "other.pth")
    Path("truncated.pth").write_bytes(Path("other.pth").read_bytes()[:-500])
    flags = [argument for argument in arguments if argument.startswith("--")]
    opts = [str(part) for pair in SMALL.items() for part in pair] + arguments[len(flags) :]
    args = ["--config-file", "catseg_d2/scenes_60.yaml", *flags, "OUTPUT_DIR", "out", *opts]
    with pytest.raises(UserError) as caught:
        launch(training.main, default_argument_parser().parse_args(args))
    assert message in str(caught.value) and "\n" not in str(caught.value)
