"""RankSeg on Mask2Former: rank the categories of an image first, segment over the best ranked."""

import json
from pathlib import Path

from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from chapters.cards import examples, label_card, ranked_categories
from chapters.scores import read_baseline, read_semantic, write_table
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_rankseg.yaml"
WEIGHTS = MODELS / "scenes_60_rankseg.safetensors"
# The model that the one with RankSeg was trained from, here for semantic segmentation.
CONFIG_WITHOUT = "mask2former_rankseg/scenes_60_panoptic.yaml"
WEIGHTS_WITHOUT = MODELS / "scenes_60_panoptic.safetensors"
TASKS = {"SEMANTIC_ON": "True", "PANOPTIC_ON": "False", "INSTANCE_ON": "False"}
SEMANTIC = [text for key, on in TASKS.items() for text in (f"MODEL.MASK_FORMER.TEST.{key}", on)]
VOCABULARY = Vocabulary.registered("scenes_60")
IMAGES = DATASETS / "scenes-60" / "demo" / "images"
EVALUATION, EVALUATION_WITHOUT = OUTPUT / "evaluation_rankseg", OUTPUT / "evaluation_panoptic"
RESULTS, RESULTS_WITHOUT = OUTPUT / "segmented_rankseg", OUTPUT / "segmented_without"
SHOWN = 6  # images, and ranks of each
WITH, WITHOUT = "with ranking", "without ranking"

STEPS = [
    Step(
        name="evaluate-rankseg",
        title="RankSeg: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=EVALUATION,
        result=lambda folder: (
            f"mIoU, seen classes {read_semantic(folder, 'scenes_60_test')['mIoU-seen']:.1f}"
        ),
    ),
    Step(
        name="segment-rankseg",
        title="RankSeg: segment 12 images",
        command=commands.segment(CONFIG, WEIGHTS, IMAGES, RESULTS),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
    Step(
        name="segment-without",
        title="The same model without RankSeg: segment 12 images",
        command=commands.segment(
            CONFIG_WITHOUT, WEIGHTS_WITHOUT, IMAGES, RESULTS_WITHOUT, options=SEMANTIC
        ),
        sources=commands.SEGMENTING,
        output=RESULTS_WITHOUT,
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write the same images with and without ranking, their ranked categories, and the scores."""
    page.heading("Category ranking: the same image with and without RankSeg")
    page.text(
        "An image shows a handful of the classes in a large vocabulary. RankSeg ranks the "
        "categories of the image first, and Mask2Former then classifies its regions among the ten "
        "highest ranks instead of all 60 classes. The images are the first six, not selected."
    )
    images = examples(
        folder / IMAGES.relative_to(OUTPUT),
        {
            WITHOUT: folder / RESULTS_WITHOUT.relative_to(OUTPUT),
            WITH: folder / RESULTS.relative_to(OUTPUT),
        },
        with_ground_truth=True,
    )
    cards = []
    for number, each in enumerate(images[:SHOWN], 1):
        ranked = ranked_categories(each, WITH, VOCABULARY, SHOWN)
        cards.append(label_card(f"Image {number}", each, VOCABULARY, [("ranked:", ranked)]))
    page.cards(cards)
    return write_scores(page, folder)


def write_scores(page: Page, folder: Path) -> Outcome:
    """Write scores beside those without ranking, which ranking has to exceed."""
    ranked = read_semantic(folder / EVALUATION.name, "scenes_60_test")
    without = read_semantic(folder / EVALUATION_WITHOUT.name, "scenes_60_test_panoptic")
    baseline = read_baseline(folder / "logs" / "baseline.txt")
    page.text(
        "Percent on 300 test images, over the 46 classes that training showed: the other 14 are "
        "not in a closed vocabulary. The model with ranking was trained for 1,200 more iterations, "
        "so that the difference is not the ranking's alone."
    )
    rows = [
        (f"Mask2Former {WITHOUT}", [without["mIoU-seen"], without["pACC"]]),
        (f"Mask2Former {WITH}", [ranked["mIoU-seen"], ranked["pACC"]]),
    ]
    write_table(page, ["", "mIoU", "pixel accuracy"], rows)
    recall = read_recall(folder / EVALUATION.name / "inference" / "scenes_60_test")
    shown = ", ".join(f"{value:.0f} % in the top {k}" for k, value in recall.items())
    page.text(f"Recall of the categories in an image: {shown}.")
    error = "Mask2Former with RankSeg does not beat the nearest mean colour on seen classes"
    return Outcome(
        tuple((name, "mIoU, seen classes", f"{numbers[0]:.1f}") for name, numbers in rows),
        None if ranked["mIoU-seen"] > baseline.seen else error,
    )


def read_recall(folder: Path) -> dict[int, float]:
    """Read the recall in percent of the k highest ranks, by k."""
    scores = json.loads((folder / "multilabel_evaluation.json").read_text())["scores"]
    found = {
        int(name.partition("@")[2]): value
        for name, value in scores.items()
        if name.startswith("recall@")
    }
    return {k: found[k] for k in sorted(found)}
