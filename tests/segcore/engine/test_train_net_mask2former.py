"""The entry point as a user runs it: Mask2Former with RankSeg on a handful of Scenes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segcore.scenes import SCENES_1K, SCENES_60, Settings, write_scenes

SMALL = {
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 2,
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    # So that there is something to evaluate though nothing has been learned.
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
}
PANOPTIC, INSTANCE, SEMANTIC = (
    "scenes_60_panoptic_rankseg",
    "scenes_60_instance",
    "scenes_1k_rankseg",
)
TASKS = {
    PANOPTIC: {"panoptic_seg", "segm", "sem_seg", "multilabel"},
    INSTANCE: {"segm"},
    SEMANTIC: {"sem_seg", "multilabel"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The root of small Scenes; two processes get unequal parts of five images."""
    root = tmp_path_factory.mktemp("datasets")
    for spec in (SCENES_60, SCENES_1K):
        settings = Settings(num_train=6, num_test=5)
        write_scenes(root, spec, settings, panoptic=spec is SCENES_60, workers=1)
    return root


@pytest.fixture(scope="module")
def run(data, repository, tmp_path_factory):
    """Run train_net.py; returns its output folder and its error stream."""
    folder = tmp_path_factory.mktemp("output")

    def run(config: str, out: str, *words: str, code: int = 0) -> tuple[Path, str]:
        environment = os.environ | {
            "PYTHONPATH": str(repository),
            "OMP_NUM_THREADS": "1",
            "DETECTRON2_DATASETS": str(data),
        }
        flags = [word for word in words if word.startswith("--")]
        opts = [word for word in words if not word.startswith("--")]
        small = [str(part) for pair in SMALL.items() for part in pair]
        command = [sys.executable, str(repository / "train_net.py")]
        command += ["--config-file", f"mask2former_rankseg/{config}.yaml"]
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
    """The output folder of a config, trained for two iterations."""
    folders = {}

    def trained(config: str) -> Path:
        if config not in folders:
            folders[config], _ = run(config, config)
        return folders[config]

    return trained


def scores(folder: Path) -> dict[str, dict]:
    """What the evaluators have written, by the name of the file."""
    reports = (folder / "inference").glob("*/*_evaluation.json")
    return {path.name: json.loads(path.read_text()) for path in reports}


@pytest.mark.parametrize(
    "config",
    [
        PANOPTIC,
        pytest.param(INSTANCE, marks=pytest.mark.slow),
        pytest.param(SEMANTIC, marks=pytest.mark.slow),
    ],
)
def test_each_task_is_trained_and_evaluated(trained, config: str) -> None:
    folder = trained(config)
    assert (folder / "model_final.pth").is_file()
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    noted = {name.partition("/")[0] for line in lines for name in line if "/" in name}
    assert noted - {"train_multilabel"} == TASKS[config]
    assert ("train_multilabel" in noted) == ("multilabel" in TASKS[config])


@pytest.mark.slow
def test_two_processes_evaluate_as_one(run, trained) -> None:
    """Panoptic, semantic, instances and classes, to the last digit."""
    weights = ("MODEL.WEIGHTS", str(trained(PANOPTIC) / "model_final.pth"))
    folder, _ = run(PANOPTIC, "two", "--eval-only", "--num-gpus=2", *weights)
    assert scores(folder) == scores(trained(PANOPTIC)) and len(scores(folder)) == 4


@pytest.mark.slow
def test_what_two_processes_evaluate_is_what_they_save(run) -> None:
    """Each has seen other images, so that its batch norms know other statistics."""
    folder, _ = run(PANOPTIC, "by_two", "--num-gpus=2")
    weights = ("MODEL.WEIGHTS", str(folder / "model_final.pth"))
    again, _ = run(PANOPTIC, "again", "--eval-only", *weights)
    assert scores(folder) == scores(again)


@pytest.mark.slow
@pytest.mark.parametrize("config", TASKS)
def test_resume_ends_at_the_given_iteration(run, trained, config: str) -> None:
    trained(config)
    folder, _ = run(config, config, "--resume", "SOLVER.MAX_ITER", "3")
    state = torch.load(folder / "model_final.pth", weights_only=True)
    assert state["iteration"] == 2
    assert state["trainer"]["_trainer"]["optimizer"]["state"][0]["step"] == 3
