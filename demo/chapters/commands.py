"""The commands that chapters run, and what decides their results."""

from pathlib import Path

SEGCORE = ("segcore/**/*.py", "segcore/vocabularies/*.json", "train_net.py")
CATSEG = (
    *SEGCORE,
    "catseg_d2/**/*.py",
    "catseg_d2/clip_models/*.json",
    "configs/catseg_d2/scenes*",
)
MASK2FORMER = (
    *SEGCORE,
    "mask2former_rankseg/**/*.py",
    "configs/mask2former_rankseg/scenes*",
    "configs/mask2former_rankseg/parts/*",
)
SEGMENTING = ("demo/demo.py", "catrank/*.py", "catrank/exports/*.py")


def train(config: str, target: Path, *options: str) -> list[str]:
    """Trains a model."""
    return ["train_net.py", "--config-file", config, "OUTPUT_DIR", str(target), *options]


def evaluate(config: str, weights: Path, target: Path) -> list[str]:
    """Evaluates a model on the test set of its config."""
    options = ["OUTPUT_DIR", str(target), "MODEL.WEIGHTS", str(weights)]
    return ["train_net.py", "--config-file", config, "--eval-only", *options]


def segment(config: str, weights: Path, source: Path, target: Path, *words: str) -> list[str]:
    """Segments the images of a folder, with ``words`` where the model reads any."""
    vocabulary = ["--vocabulary", ", ".join(words)] if words else []
    where = ["--input", str(source), "--output", str(target), *vocabulary]
    options = ["--opts", "MODEL.WEIGHTS", str(weights)]
    return ["demo/demo.py", "--config-file", config, *where, *options]
