"""RankSeg on Segmenter: pixels of an image among the hundred best ranked of 1,120 classes."""

from pathlib import Path

from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from chapters.cards import examples, label_card
from chapters.ranking import read_recall
from chapters.scores import read_semantic
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

CONFIG = "per_pixel/scenes_1k_segmenter_rankseg.yaml"
WEIGHTS = MODELS / "scenes_1k_segmenter_rankseg.safetensors"
VOCABULARY = Vocabulary.registered("scenes_1k")
SCENES = DATASETS / "scenes-1k"
IMAGES = 300  # of the test set
EVALUATION, RESULTS = OUTPUT / "evaluation_segmenter", OUTPUT / "segmented_segmenter"
SHOWN = 3  # images

STEPS = [
    Step(
        name="datasets-1k",
        title="Generate synthetic images of 1,120 classes",
        command=[
            "datasets/prepare_scenes.py",
            *("--catalogue", "scenes-1k", "--num-images", "0", str(IMAGES)),
        ],
        sources=("segcore/scenes/*.py", "datasets/prepare_scenes.py"),
        output=SCENES,
        result=lambda folder: f"{IMAGES:,} test images",
    ),
    Step(
        name="evaluate-segmenter",
        title="Segmenter with RankSeg: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.PER_PIXEL, str(WEIGHTS)],
        output=EVALUATION,
        result=lambda folder: (
            f"pixel accuracy {read_semantic(folder, 'scenes_1k_test')['pACC']:.1f}"
        ),
    ),
    Step(
        name="segment-segmenter",
        title="Segmenter with RankSeg: segment 12 images",
        command=commands.segment(CONFIG, WEIGHTS, SCENES / "demo" / "images", RESULTS),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write images with their labels, and the scores."""
    page.heading("A thousand classes: Segmenter with RankSeg")
    page.text(
        "Of 1,120 classes, 40 are grounds and the others objects of a colour, a pattern and a "
        "shape, each in one image of three hundred. RankSeg ranks them for each image, and pixels "
        "are classified among the best hundred. The model is very small: it finds the colour more "
        "often than the shape."
    )
    images = examples(
        folder / SCENES.relative_to(OUTPUT) / "demo" / "images",
        {"predicted": folder / RESULTS.name},
        with_ground_truth=True,
    )
    page.cards(
        [label_card(f"Image {i}", each, VOCABULARY) for i, each in enumerate(images[:SHOWN], 1)]
    )
    scores = read_semantic(folder / EVALUATION.name, "scenes_1k_test")
    recall = read_recall(folder / EVALUATION.name / "inference" / "scenes_1k_test")
    page.text(
        f"On {IMAGES} test images {scores['pACC']:.1f} % of the pixels are right, the mIoU over "
        f"the classes that training showed is {scores['mIoU-seen']:.1f} %, and the best hundred "
        f"hold {recall[100]:.0f} % of the classes in an image."
    )
    name = "Segmenter with RankSeg, 1,120 classes"
    return Outcome(
        (
            (name, "mIoU, seen classes", f"{scores['mIoU-seen']:.1f}"),
            (name, "recall of the best hundred", f"{recall[100]:.1f}"),
        )
    )
