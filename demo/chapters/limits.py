"""What the very small models cannot do: photographs, which they have never seen."""

from pathlib import Path

from steps import Step

from chapters import MODELS, OUTPUT, Outcome, commands
from chapters.cards import examples, label_card
from chapters.photographs import PHOTOGRAPHS
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

CONFIG = "catseg_d2/scenes_60.yaml"
WEIGHTS = MODELS / "scenes_60.safetensors"
RESULTS = OUTPUT / "segmented_photographs"
CLASS_NAMES = (
    *("astronaut", "flag", "cat", "cup of coffee", "spoon"),
    *("rocket", "sky", "wood", "water", "grass"),
)

STEPS = [
    Step(
        name="photographs",
        title="Limits: segment four photographs",
        command=commands.segment(CONFIG, WEIGHTS, PHOTOGRAPHS, RESULTS, CLASS_NAMES),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write the photographs, folded."""
    page.heading("Limits")
    page.text(
        "The models of this page have some 1 to 3 million parameters; all but DeepLabv3 were "
        "trained on synthetic images alone. For photographs with class names of your choice load a "
        "published checkpoint, such as those that MODEL_ZOO.md lists."
    )
    vocabulary = Vocabulary.from_file(folder / RESULTS.name / "vocabulary.json")
    images = examples(
        folder / PHOTOGRAPHS.name,
        {"CAT-Seg": folder / RESULTS.name},
        with_ground_truth=False,
    )
    with page.folded("Photographs, segmented by a model that has seen synthetic images only"):
        page.cards([label_card(each.image.stem, each, vocabulary) for each in images])
    return Outcome(())
