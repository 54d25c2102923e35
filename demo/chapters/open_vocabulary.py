"""CAT-Seg: the same images with two vocabularies, and with classes that training did not show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from chapters.cards import draw_labels, examples, label_card
from chapters.scores import Scores, read_baseline, read_model, write_table
from segcore.drawing import overlays
from segcore.drawing.page import Card, Page
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

CONFIG, ENCODERS_CONFIG = "catseg_d2/scenes_60.yaml", "catseg_d2/scenes_60_towers.yaml"
WEIGHTS = MODELS / "scenes_60.safetensors"
VOCABULARY = Vocabulary.registered("scenes_60")
# Other class names for the same images: the colours of the objects, with colours to match.
COLORS = {
    "red": (214, 39, 40),
    "orange": (255, 127, 14),
    "yellow": (240, 220, 40),
    "green": (44, 160, 44),
    "blue": (31, 119, 200),
    "purple": (148, 60, 189),
}
GROUNDS = {
    name: VOCABULARY.colors[i] for i, name in enumerate(VOCABULARY.names) if len(name.split()) == 1
}
COLOR_VOCABULARY = replace(
    Vocabulary.from_class_names([*COLORS, *GROUNDS]), colors=(*COLORS.values(), *GROUNDS.values())
)
IMAGES = DATASETS / "scenes-60" / "demo" / "images"
EVALUATION = OUTPUT / "evaluation"
RESULTS, COLOR_RESULTS = OUTPUT / "segmented", OUTPUT / "segmented_colors"
SHOWN = 6  # images
SHORT_TRAINING = ("SOLVER.MAX_ITER", "20", "SOLVER.WARMUP_ITERS", "5", "DATASETS.TEST", "()")
MODEL, TEST_SET = "CAT-Seg", "scenes_60_test"

STEPS = [
    Step(
        name="baseline",
        title="Baseline: nearest mean colour",
        command=["tools/nearest_colour.py"],
        sources=["tools/nearest_colour.py"],
        result=lambda folder: _seen_and_unseen(read_baseline(folder / "logs" / "baseline.txt")),
    ),
    Step(
        name="train",
        title="CAT-Seg: train from scratch for 20 iterations",
        command=commands.train(ENCODERS_CONFIG, OUTPUT / "training", *SHORT_TRAINING),
        sources=commands.CATSEG,
        output=OUTPUT / "training",
    ),
    Step(
        name="evaluate",
        title="CAT-Seg: evaluate the trained model",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.CATSEG, str(WEIGHTS)],
        output=EVALUATION,
        result=lambda folder: _seen_and_unseen(read_model(MODEL, folder, TEST_SET)),
    ),
    Step(
        name="segment",
        title="CAT-Seg: segment 12 images, 60 class names",
        command=commands.segment(CONFIG, WEIGHTS, IMAGES, RESULTS, VOCABULARY.names),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
    Step(
        name="segment-colors",
        title="CAT-Seg: segment 12 images, other class names",
        command=commands.segment(CONFIG, WEIGHTS, IMAGES, COLOR_RESULTS, COLOR_VOCABULARY.names),
        sources=commands.SEGMENTING,
        output=COLOR_RESULTS,
    ),
]


def _seen_and_unseen(scores: Scores) -> str:
    return f"mIoU, seen classes {scores.seen:.1f}, unseen {scores.unseen:.1f}"


def write(page: Page, folder: Path) -> Outcome:
    """Write images with two vocabularies and the scores beside the baseline's; sheet.png."""
    page.heading("Class names of your choice: one model, two vocabularies")
    page.text(
        "CAT-Seg compares every position of an image with the text embedding of every class name, "
        "so the class names are an argument of the prediction. The same weights segment the same "
        f"images into 60 classes such as {VOCABULARY.names[4]!r}, 14 of which training did not "
        f"show (unseen), and into {', '.join(COLORS)} and the kinds of background."
    )
    images = examples(
        folder / IMAGES.relative_to(OUTPUT),
        {f"{len(VOCABULARY)} class names": folder / RESULTS.name},
        with_ground_truth=True,
    )
    cards = []
    for number, each in enumerate(images[:SHOWN], 1):
        card = label_card(f"Image {number}", each, VOCABULARY)
        labels = read_labels(folder / COLOR_RESULTS.name / f"{each.image.stem}_labels.png")
        drawn, entries = draw_labels(card.images[0][1], labels, COLOR_VOCABULARY)
        name = "names of colours"
        cards.append(
            replace(
                card,
                images=[*card.images, (name, drawn)],
                legends=[*card.legends, (f"{name}:", entries)],
            )
        )
    page.cards(cards)
    _save_sheet(cards, folder / "sheet.png")
    baseline = read_baseline(folder / "logs" / "baseline.txt")
    return write_comparison(page, baseline, read_model(MODEL, folder / "evaluation", TEST_SET))


def write_comparison(page: Page, baseline: Scores, model: Scores) -> Outcome:
    """Write the scores of the model, which has to beat the nearest mean colour on all classes."""
    page.text(
        "mIoU in percent on 300 test images. The baseline assigns to each pixel the class with the "
        "nearest mean colour."
    )
    rows = [(each.name, [each.seen, each.unseen, each.harmonic]) for each in (baseline, model)]
    write_table(page, ["mIoU", "seen classes", "unseen classes", "harmonic mean"], rows)
    error = "CAT-Seg does not beat the nearest mean colour on seen and unseen classes"
    better = model.seen > baseline.seen and model.unseen > baseline.unseen
    if not better:
        page.note(f"{error}: something is wrong.")
    return Outcome((*baseline.rows, *model.rows), None if better else error)


def _save_sheet(cards: Sequence[Card], path: Path) -> None:
    """Save some of the images beside their label maps, for the README."""
    rows = [[image for _, image in card.images] for card in cards[::2]]
    titles = ["image", "ground truth", "60 class names", "names of colours"]
    sheet = Image.fromarray(overlays.contact_sheet(rows, titles, cell=176))
    sheet.quantize(256).save(path, optimize=True)
