"""What the very small models cannot do: photographs, which they have never seen."""

from pathlib import Path

import skimage.data
from PIL import Image
from steps import Step

from chapters import MODELS, OUTPUT, Outcome, commands
from chapters.cards import examples, label_card
from segcore.drawing.page import Page
from segcore.vocabulary import Vocabulary

CONFIG = "catseg_d2/scenes_60.yaml"
WEIGHTS = MODELS / "scenes_60.safetensors"
PHOTOGRAPHS, RESULTS = OUTPUT / "photographs", OUTPUT / "segmented_photographs"
PHOTOGRAPH_NAMES = ("astronaut", "chelsea", "coffee", "rocket")
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


def save_photographs(folder: Path) -> None:
    """Copy the photographs out of scikit-image, as files that a command line can name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPH_NAMES:
        path = folder / f"{name}.png"
        if not path.exists():
            Image.fromarray(getattr(skimage.data, name)()).save(path)


def write(page: Page, folder: Path) -> Outcome:
    """Write the photographs, folded."""
    page.heading("Limits")
    page.text(
        "The models of this page have some 1 to 3 million parameters and were trained on synthetic "
        "images alone. For photographs and other class names load a published checkpoint, such as "
        "those that MODEL_ZOO.md lists."
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
