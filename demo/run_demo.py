"""The main job in one command: `make demo`, or `python demo/run_demo.py`.

Draws a small Scenes data set, evaluates the very small CAT-Seg of demo/models on it beside the
nearest mean colour, segments twelve drawings and four photographs with words given on the command
line, and writes output/demo/index.html. Some seconds of training from nothing show that it can.
What is done and unchanged is not done again. Exit code 1: the model does not beat the nearest mean
colour on seen and on unseen classes.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

import skimage.data
from PIL import Image
from result_page import Example, Results, Scores, write_page
from steps import Step, Steps

from segcore.errors import exit_on_user_error
from segcore.vocabulary import Vocabulary

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = Path("output/demo")  # relative to the repository, where the commands run
CONFIG = "catseg_d2/scenes_60.yaml"
TOWERS_CONFIG = "catseg_d2/scenes_60_towers.yaml"
WEIGHTS = Path("demo/models/scenes_60.safetensors")
VOCABULARY = "scenes_60"
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
PHOTOGRAPH_WORDS = "astronaut, flag, cat, cup of coffee, spoon, rocket, sky, wood, water, grass"

DRAWING = ("segcore/scenes/*.py", "datasets/prepare_scenes.py")
MODEL = (
    "segcore/**/*.py",
    "segcore/vocabularies/*.json",
    "catseg_d2/**/*.py",
    "catseg_d2/clip_models/*.json",
    "configs/catseg_d2/scenes*.yaml",
    "train_net.py",
)
SEGMENTING = (str(WEIGHTS), "demo/demo.py", "demo/files.py", "demo/predictor.py")


def plan_steps() -> list[Step]:
    """The commands of the demo, in order."""
    trained = ["MODEL.WEIGHTS", str(WEIGHTS)]
    moments = ["SOLVER.MAX_ITER", "20", "SOLVER.WARMUP_ITERS", "5", "DATASETS.TEST", "()"]
    drawn_words = ", ".join(Vocabulary.registered(VOCABULARY).names)

    def train_net(config: str, target: Path, *more: str) -> list[str]:
        return ["train_net.py", "--config-file", config, *more, "OUTPUT_DIR", str(target)]

    def segment(source: Path, words: str, target: Path) -> list[str]:
        where = ["--input", str(source), "--output", str(target), "--vocabulary", words]
        return ["demo/demo.py", "--config-file", CONFIG, *where, "--opts", *trained]

    return [
        Step(
            name="draw",
            title="Draw pictures",
            command=["datasets/prepare_scenes.py", "--num-images", "1000", "300", "--size", "96"],
            sources=DRAWING,
            output=OUTPUT / "datasets",
        ),
        Step(
            name="baseline",
            title="Measure the nearest mean colour",
            command=["tools/nearest_colour.py"],
            sources=["tools/nearest_colour.py"],
        ),
        Step(
            name="train",
            title="Train one from nothing, for some seconds",
            command=train_net(TOWERS_CONFIG, OUTPUT / "training", *moments),
            sources=MODEL,
            output=OUTPUT / "training",
        ),
        Step(
            name="evaluate",
            title="Evaluate the trained one",
            command=train_net(CONFIG, OUTPUT / "evaluation", "--eval-only", *trained),
            sources=[*MODEL, str(WEIGHTS)],
            output=OUTPUT / "evaluation",
        ),
        Step(
            name="drawings",
            title="Segment twelve drawings",
            command=segment(_drawings(), drawn_words, OUTPUT / "drawings"),
            sources=SEGMENTING,
            output=OUTPUT / "drawings",
        ),
        Step(
            name="photographs",
            title="Segment four photographs",
            command=segment(_photographs(), PHOTOGRAPH_WORDS, OUTPUT / "segmented"),
            sources=SEGMENTING,
            output=OUTPUT / "segmented",
        ),
    ]


def run() -> Results:
    """Runs what is not done yet; returns what the page tells."""
    data_root = str((REPOSITORY / OUTPUT / "datasets").resolve())
    environment = {
        "DETECTRON2_DATASETS": data_root,
        # Threads that wait sleep: spinning, they slow down the others wherever cores are shared.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    runner = Steps(REPOSITORY / OUTPUT, REPOSITORY, environment)
    save_photographs()
    steps = plan_steps()
    for number, step in enumerate(steps, 1):
        runner.run(step, f"{number}/{len(steps)}")
    return Results(
        baseline=read_baseline(runner.log("baseline")),
        model=read_model(REPOSITORY / OUTPUT / "evaluation"),
        drawings=[
            Example(image, _labels("drawings", image), image.parents[1] / "labels" / image.name)
            for image in sorted((REPOSITORY / _drawings()).glob("*.png"))
        ],
        drawing_words=Vocabulary.registered(VOCABULARY),
        photographs=[
            Example(image, _labels("segmented", image))
            for image in sorted((REPOSITORY / _photographs()).glob("*.png"))
        ],
        photograph_words=Vocabulary.from_file(REPOSITORY / OUTPUT / "segmented/vocabulary.json"),
        seconds=[(step.title, runner.seconds[step.name]) for step in steps],
        commands=["export DETECTRON2_DATASETS=output/demo/datasets", *(s.line for s in steps)],
    )


def save_photographs() -> None:
    """Copies the photographs out of scikit-image, as files that a command line can name."""
    folder = REPOSITORY / _photographs()
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        path = folder / f"{name}.png"
        if not path.exists():
            Image.fromarray(getattr(skimage.data, name)()).save(path)


def read_baseline(log: Path) -> Scores:
    """The scores that tools/nearest_colour.py printed."""
    printed = dict(re.findall(r"^(mIoU-\w+) +([\d.]+)$", log.read_text(), re.MULTILINE))
    return Scores("nearest mean colour", *(float(printed[f"mIoU-{k}"]) for k in ("seen", "unseen")))


def read_model(evaluation: Path) -> Scores:
    """The scores that the evaluator wrote."""
    path = evaluation / "inference" / f"{VOCABULARY}_test" / "sem_seg_evaluation.json"
    scores = json.loads(path.read_text())["scores"]
    return Scores("CAT-Seg, very small", scores["mIoU-seen"], scores["mIoU-unseen"])


def _drawings() -> Path:
    return OUTPUT / "datasets" / "scenes-60" / "demo" / "images"


def _photographs() -> Path:
    return OUTPUT / "photographs"


def _labels(step: str, image: Path) -> Path:
    return REPOSITORY / OUTPUT / step / f"{image.stem}_labels.png"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    start = time.monotonic()
    with exit_on_user_error():
        results = run()
        page = write_page(results, REPOSITORY / OUTPUT)
    for scores in (results.baseline, results.model):
        print(
            f"{scores.name:20}  mIoU seen {scores.seen:5.1f}  unseen {scores.unseen:5.1f}"
            f"  harmonic {scores.harmonic:5.1f}"
        )
    print(f"{time.monotonic() - start:.0f} seconds; open {page}")
    if not results.model.beats(results.baseline):
        sys.exit(
            "error: the model does not beat the nearest mean colour on seen and unseen classes"
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command continues")
