"""The commands that chapters run, and the files that determine their results."""

from collections.abc import Sequence
from pathlib import Path

SEGCORE = ("segcore/**/*.py", "segcore/vocabularies/*.json", "train_net.py")
CATSEG = (
    *SEGCORE,
    "catseg_d2/**/*.py",
    "catseg_d2/encoders/*/*.json",
    "configs/catseg_d2/scenes*",
)
MASK2FORMER = (
    *SEGCORE,
    "mask2former_rankseg/**/*.py",
    "configs/mask2former_rankseg/scenes*",
    "configs/mask2former_rankseg/parts/*",
)
PER_PIXEL = (
    *SEGCORE,
    "per_pixel/**/*.py",
    "configs/per_pixel/scenes*",
    "configs/per_pixel/parts/*",
    "configs/per_pixel/voc/*",
)
GROUPVIT = (*SEGCORE, "groupvit_mixreorg/**/*.py", "configs/groupvit_mixreorg/*")
SEGMENTING = ("demo/demo.py", "catrank/*.py", "catrank/exports/*.py", "catrank/runs/*.py")
WORKERS = ("DATALOADER.NUM_WORKERS", "2")


def train(config: str, target: Path, *options: str) -> list[str]:
    """Return the command that trains a model."""
    settings = ["OUTPUT_DIR", str(target), *WORKERS, *options]
    return ["train_net.py", "--config-file", config, *settings]


def evaluate(config: str, weights: Path, target: Path) -> list[str]:
    """Return the command that evaluates a model on the test set of its config."""
    options = ["OUTPUT_DIR", str(target), "MODEL.WEIGHTS", str(weights), *WORKERS]
    return ["train_net.py", "--config-file", config, "--eval-only", *options]


def segment(
    config: str,
    weights: Path,
    source: Path,
    target: Path,
    class_names: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command that segments the images of a folder.

    Args:
        config, weights: of the model.
        source: folder of images.
        target: folder for the results.
        class_names: for an open-vocabulary model.
        options: further keys and values of the config.
    """
    vocabulary = ["--vocabulary", ", ".join(class_names)] if class_names else []
    where = ["--input", str(source), "--output", str(target), *vocabulary]
    settings = ["--opts", "MODEL.WEIGHTS", str(weights), *options]
    return ["demo/demo.py", "--config-file", config, *where, *settings]
