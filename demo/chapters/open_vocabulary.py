"""CAT-Seg: drawings and photographs segmented with words."""

from collections.abc import Sequence
from pathlib import Path

import skimage.data
from PIL import Image
from steps import Step

from chapters import DRAWN, MODELS, OUTPUT, Outcome, commands
from chapters.cards import Example, examples, label_card, sheet
from chapters.scores import Scores, read_baseline, read_model, write_scores
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

CONFIG, TOWERS_CONFIG = "catseg_d2/scenes_60.yaml", "catseg_d2/scenes_60_towers.yaml"
WEIGHTS = MODELS / "scenes_60.safetensors"
WORDS = Vocabulary.registered("scenes_60")
DRAWINGS, PHOTOGRAPHS = DRAWN / "scenes-60" / "demo" / "images", OUTPUT / "photographs"
PHOTOGRAPH_NAMES = ("astronaut", "chelsea", "coffee", "rocket")
PHOTOGRAPH_WORDS = (
    *("astronaut", "flag", "cat", "cup of coffee", "spoon"),
    *("rocket", "sky", "wood", "water", "grass"),
)
MOMENTS = ("SOLVER.MAX_ITER", "20", "SOLVER.WARMUP_ITERS", "5", "DATASETS.TEST", "()")

HONEST_LINE = (
    "This model knows drawings, an hour's worth of them. Photographs and the words of the "
    "world are beyond it: for those load a published checkpoint (see README.md)."
)

STEPS = [
    Step(
        name="baseline",
        title="Measure the nearest mean colour",
        command=["tools/nearest_colour.py"],
        sources=["tools/nearest_colour.py"],
    ),
    Step(
        name="train",
        title="CAT-Seg: train one from scratch, for some seconds",
        command=commands.train(TOWERS_CONFIG, OUTPUT / "training", *MOMENTS),
        sources=commands.CATSEG,
        output=OUTPUT / "training",
    ),
    Step(
        name="evaluate",
        title="CAT-Seg: evaluate the trained one",
        command=commands.evaluate(CONFIG, WEIGHTS, OUTPUT / "evaluation"),
        sources=[*commands.CATSEG, str(WEIGHTS)],
        output=OUTPUT / "evaluation",
    ),
    Step(
        name="drawings",
        title="CAT-Seg: segment twelve drawings",
        command=commands.segment(CONFIG, WEIGHTS, DRAWINGS, OUTPUT / "drawings", *WORDS.names),
        sources=commands.SEGMENTING,
        output=OUTPUT / "drawings",
    ),
    Step(
        name="photographs",
        title="CAT-Seg: segment four photographs",
        command=commands.segment(
            CONFIG, WEIGHTS, PHOTOGRAPHS, OUTPUT / "segmented", *PHOTOGRAPH_WORDS
        ),
        sources=commands.SEGMENTING,
        output=OUTPUT / "segmented",
    ),
]


def save_photographs(folder: Path) -> None:
    """Copies the photographs out of scikit-image, as files that a command line can name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPH_NAMES:
        path = folder / f"{name}.png"
        if not path.exists():
            Image.fromarray(getattr(skimage.data, name)()).save(path)


def write(page: Page, folder: Path) -> Outcome:
    """Scores beside the baseline's, drawings, photographs; sheet.png with some of the drawings."""
    page.heading("CAT-Seg: words")
    page.text(
        "CAT-Seg compares every place of an image with every word of a vocabulary. This one was "
        "trained on drawn images (demo/models/README.md says how), and is asked here for classes "
        "that training showed it and for combinations that it never saw."
    )
    page.note(HONEST_LINE)
    baseline = read_baseline(folder / "logs" / "baseline.txt")
    model = read_model("CAT-Seg, very small", folder / "evaluation", "scenes_60_test")
    outcome = write_comparison(page, baseline, model)
    drawings = examples(
        folder / DRAWINGS.relative_to(OUTPUT), folder / "drawings", with_ground_truth=True
    )
    _write_drawings(page, drawings)
    photographs = examples(folder / "photographs", folder / "segmented", with_ground_truth=False)
    _write_photographs(page, photographs, folder / "segmented" / "vocabulary.json")
    return outcome


def write_comparison(page: Page, baseline: Scores, model: Scores) -> Outcome:
    """The model has to beat the nearest mean colour on seen and on unseen classes."""
    page.text(
        "mIoU in percent on the test images. The baseline gives each pixel the class whose mean "
        "colour is nearest; unseen classes are combinations that training left out."
    )
    better = model.seen > baseline.seen and model.unseen > baseline.unseen
    write_scores(page, [baseline, model], best=1 if better else None)
    page.text(
        "The model beats the baseline on seen and on unseen classes."
        if better
        else "The model does not beat the baseline on both: something is wrong."
    )
    error = "CAT-Seg does not beat the nearest mean colour on seen and unseen classes"
    return Outcome((baseline.line, model.line), None if better else error)


def _write_drawings(page: Page, drawings: Sequence[Example]) -> None:
    page.text("Drawings that were not used in training. The ground truth was drawn with them.")
    cards = [
        label_card(f"Drawing {number}", "CAT-Seg", drawing, WORDS)
        for number, drawing in enumerate(drawings, 1)
    ]
    page.cards(cards)
    image = Image.fromarray(sheet(cards[::3], ["image", "ground truth", "CAT-Seg"]))
    image.quantize(256).save(page.folder / "sheet.png", optimize=True)


def _write_photographs(page: Page, photographs: Sequence[Example], vocabulary: Path) -> None:
    words = Vocabulary.from_file(vocabulary)
    drawn = {word for name in WORDS.names for word in name.split()}
    known = ", ".join(name for name in words.names if name in drawn) or "none"
    page.text(
        f"Photographs, with the words {', '.join(words.names)}. Of these the model has met only "
        f"{known}, and those as drawings."
    )
    page.cards([label_card(each.image.stem, "CAT-Seg", each, words) for each in photographs])
