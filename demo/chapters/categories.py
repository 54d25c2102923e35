"""Mask2Former with RankSeg: which classes are in the image, and where."""

import json
from pathlib import Path

from steps import Step

from chapters import DRAWN, MODELS, OUTPUT, Outcome, commands
from chapters.cards import Example, examples, label_card
from chapters.scores import read_baseline, read_model, write_scores
from segcore.drawing import overlays
from segcore.drawing.page import LegendEntry, Page
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_rankseg.yaml"
WEIGHTS = MODELS / "scenes_60_rankseg.safetensors"
WORDS = Vocabulary.registered("scenes_60")
DRAWINGS = DRAWN / "scenes-60" / "demo" / "images"
SHOWN = 6  # images, and classes of each

STEPS = [
    Step(
        name="evaluate-rankseg",
        title="RankSeg: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, OUTPUT / "evaluation_rankseg"),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=OUTPUT / "evaluation_rankseg",
    ),
    Step(
        name="drawings-rankseg",
        title="RankSeg: segment twelve drawings",
        command=commands.segment(CONFIG, WEIGHTS, DRAWINGS, OUTPUT / "drawings_rankseg"),
        sources=commands.SEGMENTING,
        output=OUTPUT / "drawings_rankseg",
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Scores, recall of the classes, drawings with the classes that the model expects in them."""
    page.heading("Mask2Former with RankSeg: classes, of which an image shows a handful")
    page.text(
        "RankSeg first says which classes are in the image, and then tells regions apart among "
        "the ten likeliest. Classes that training never showed are beyond a model without words."
    )
    baseline = read_baseline(folder / "logs" / "baseline.txt")
    evaluation = folder / "evaluation_rankseg"
    model = read_model("Mask2Former + RankSeg, small", evaluation, "scenes_60_test")
    better = model.seen > baseline.seen
    write_scores(page, [baseline, model], best=1 if better else None)
    recall = read_recall(evaluation / "inference" / "scenes_60_test")
    numbers = ", ".join(f"{share:.0f} % among the {k} likeliest" for k, share in recall.items())
    page.text(f"Of the classes that are there: {numbers}.")
    images = folder / DRAWINGS.relative_to(OUTPUT)
    drawings = examples(images, folder / "drawings_rankseg", with_ground_truth=True)
    page.cards(
        [
            label_card(
                f"Drawing {number}",
                "RankSeg",
                drawing,
                WORDS,
                [("RankSeg expects:", expected_classes(drawing))],
            )
            for number, drawing in enumerate(drawings[:SHOWN], 1)
        ]
    )
    error = "Mask2Former with RankSeg does not beat the nearest mean colour on seen classes"
    return Outcome((baseline.line, model.line), None if better else error)


def read_recall(folder: Path) -> dict[int, float]:
    """Recall in percent at the numbers of classes that the evaluator looked at."""
    scores = json.loads((folder / "multilabel_evaluation.json").read_text())["scores"]
    found = {
        int(name.partition("@")[2]): value
        for name, value in scores.items()
        if name.startswith("recall@")
    }
    return {k: found[k] for k in sorted(found)}


def expected_classes(drawing: Example) -> list[LegendEntry]:
    """The likeliest classes with their probabilities; those that are there are marked."""
    path = drawing.labels.with_name(drawing.labels.name.replace("_labels.png", "_categories.json"))
    there = {i for i, _ in overlays.present_classes(read_labels(drawing.ground_truth))}
    return [
        LegendEntry(
            f"{each['name']}{' (there)' if each['id'] in there else ''}",
            WORDS.colors[each["id"]],
            each["score"],
        )
        for each in json.loads(path.read_text())[:SHOWN]
    ]
