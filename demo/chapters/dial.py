"""CAT-Seg: the same images with few, more and all classes of the vocabulary."""

from pathlib import Path

from steps import Step

from chapters import OUTPUT, Outcome, commands, open_vocabulary
from chapters.cards import examples, label_card
from segcore.drawing.page import Page

KEPT = (4, 16)  # classes of the 60; all of them are those of the chapter before
SHOWN = 3  # images
SETTING = "MODEL.SEM_SEG_HEAD.MAX_CLASSES"


def results(kept: int) -> Path:
    """Return the folder of the results with ``kept`` classes."""
    return OUTPUT / f"segmented_kept_{kept}"


STEPS = [
    Step(
        name=f"segment-kept-{kept}",
        title=f"CAT-Seg: segment 12 images, {kept} of the 60 classes kept",
        command=commands.segment(
            open_vocabulary.CONFIG,
            open_vocabulary.WEIGHTS,
            open_vocabulary.IMAGES,
            results(kept),
            open_vocabulary.VOCABULARY.names,
            options=(SETTING, str(kept)),
        ),
        sources=commands.SEGMENTING,
        output=results(kept),
    )
    for kept in KEPT
]


def write(page: Page, folder: Path) -> Outcome:
    """Write the same images with growing numbers of kept classes."""
    page.heading("The dial: rank the classes first, keep the best")
    page.text(
        "CAT-Seg compares an image with every class name, keeps the best classes and decodes these "
        "alone. With few the result is quick, and a class that is not among them is missed; with "
        "all nothing is missed, and similar names compete. --keep of catrank segment sets the "
        "number; with a ranking head also a probability. Here the cosine similarity selects."
    )
    names = {f"{kept} kept": folder / results(kept).name for kept in KEPT}
    names["all kept"] = folder / open_vocabulary.RESULTS.name
    images = examples(
        folder / open_vocabulary.IMAGES.relative_to(OUTPUT), names, with_ground_truth=True
    )
    page.cards(
        [
            label_card(f"Image {i}", each, open_vocabulary.VOCABULARY)
            for i, each in enumerate(images[:SHOWN], 1)
        ]
    )
    return Outcome(())
