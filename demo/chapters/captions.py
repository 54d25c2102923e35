"""GroupViT with MixReorg: segments that were learned from captions, without a mask."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from chapters.cards import ALPHA, SIDE, examples, label_card
from chapters.scores import read_baseline, read_chance, read_model
from segcore.drawing import overlays
from segcore.drawing.page import Page
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "groupvit_mixreorg/scenes_60_mixreorg_cells.yaml"
WEIGHTS = MODELS / "scenes_60_mixreorg_cells.safetensors"
VOCABULARY = Vocabulary.registered("scenes_60")
IMAGES = DATASETS / "scenes-60" / "demo" / "images"
EVALUATION = OUTPUT / "evaluation_captions"
RESULTS, SEGMENTS = OUTPUT / "segmented_captions", OUTPUT / "segmented_groups"
SEGMENT_COLORS = Vocabulary.from_class_names([f"segment {i}" for i in range(1, 9)]).colors
SHOWN = 4  # images
MODEL, TEST_SET = "MixReorg, from captions", "scenes_60_test"

STEPS = [
    Step(
        name="evaluate-captions",
        title="MixReorg: evaluate the model that saw captions alone",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.GROUPVIT, str(WEIGHTS)],
        output=EVALUATION,
        result=lambda folder: f"mIoU, seen classes {read_model(MODEL, folder, TEST_SET).seen:.1f}",
    ),
    Step(
        name="segment-captions",
        title="MixReorg: segment 12 images by 60 class names",
        command=commands.segment(CONFIG, WEIGHTS, IMAGES, RESULTS, VOCABULARY.names),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
    Step(
        name="segment-groups",
        title="MixReorg: the segments of 12 images",
        command=commands.segment(
            CONFIG, WEIGHTS, IMAGES, SEGMENTS, options=("MODEL.ZERO_SHOT.SEGMENTS", "True")
        ),
        sources=commands.SEGMENTING,
        output=SEGMENTS,
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write images with their segments and labels, and the scores beside the baseline's."""
    page.heading("From captions alone: GroupViT with MixReorg")
    page.text(
        "Training showed images with captions such as 'a red plain circle and a blue dotted "
        "square on sand', and never a mask. The image encoder groups the patches of an image to "
        "at most eight segments, and each takes the class name that is most similar to it."
    )
    images = examples(
        folder / IMAGES.relative_to(OUTPUT),
        {"class names": folder / RESULTS.name},
        with_ground_truth=True,
    )
    cards = []
    for number, each in enumerate(images[:SHOWN], 1):
        card = label_card(f"Image {number}", each, VOCABULARY)
        labels = read_labels(folder / SEGMENTS.name / f"{each.image.stem}_labels.png")
        segments = overlays.overlay(
            card.images[0][1], overlays.fit(labels, SIDE), SEGMENT_COLORS, alpha=ALPHA
        )
        count = len(np.unique(labels))
        cards.append(
            replace(
                card,
                images=[*card.images[:2], (f"{count} segments", segments), *card.images[2:]],
            )
        )
    page.cards(cards)
    return write_scores(page, folder)


def write_scores(page: Page, folder: Path) -> Outcome:
    """Write the scores beside the baseline's and chance, which the model has to exceed."""
    log = folder / "logs" / "baseline.txt"
    baseline, model = read_baseline(log), read_model(MODEL, folder / EVALUATION.name, TEST_SET)
    chance = read_chance(log)
    page.text(
        f"On 300 test images the mIoU over classes that captions name is {model.seen:.1f} %, and "
        f"{model.unseen:.1f} % over new combinations of known words. Chance has {chance:.1f} %, "
        f"and the nearest mean colour, which needs label maps, {baseline.seen:.1f} and "
        f"{baseline.unseen:.1f} %. Segments fit the image better than their names: of 60 classes "
        "many differ in the shape alone."
    )
    error = None if model.seen > 3 * chance else f"{MODEL}: hardly better than chance"
    if error:
        page.note(f"{error}: something is wrong.")
    return Outcome(model.rows, error)
