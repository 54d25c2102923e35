"""CAT-Seg with a ranking head: the same images with few, more and all of 1,120 classes."""

from pathlib import Path

from steps import Step

from chapters import MODELS, OUTPUT, Outcome, commands, many_classes
from chapters.cards import examples, label_card, ranked_categories
from segcore.drawing.page import Page

CONFIG = "catseg_d2/scenes_1k.yaml"
WEIGHTS = MODELS / "scenes_1k.safetensors"
HEAD = Path("demo/adapters/scenes_1k_rank_head.safetensors")
VOCABULARY, IMAGES = many_classes.VOCABULARY, many_classes.SCENES / "demo" / "images"
KEPT = {"4 kept": 4, "16 kept": 16, "all kept": len(VOCABULARY)}  # classes
SHOWN, RANKS = 3, 8  # images, and ranks of each


def results(kept: int) -> Path:
    """Return the folder of the results with ``kept`` classes."""
    return OUTPUT / f"segmented_kept_{kept}"


STEPS = [
    Step(
        name=f"segment-kept-{kept}",
        title=f"CAT-Seg with a ranking head: segment 12 images, {name}",
        command=commands.segment(
            CONFIG,
            WEIGHTS,
            IMAGES,
            results(kept),
            options=("MODEL.RANKSEG.WEIGHTS", str(HEAD), "MODEL.RANKSEG.TOPK", str(kept)),
        ),
        sources=[*commands.SEGMENTING, *commands.CATSEG, str(WEIGHTS), str(HEAD)],
        output=results(kept),
    )
    for name, kept in KEPT.items()
]


def write(page: Page, folder: Path) -> Outcome:
    """Write the same images with growing numbers of kept classes, and their ranked classes."""
    page.heading("The dial: rank the classes first, keep the best")
    page.text(
        f"CAT-Seg with a head that ranks the {len(VOCABULARY):,} class names for each image by the "
        "probability that the image shows them; the best of them are decoded. With few the result "
        "is quick, and a class that is not among them is missed; with all nothing is missed, and "
        "similar names compete. --keep of catrank segment sets a number, a probability, or both. "
        "The model is very small: it finds colours and patterns more often than shapes."
    )
    images = examples(
        folder / IMAGES.relative_to(OUTPUT),
        {name: folder / results(kept).name for name, kept in KEPT.items()},
        with_ground_truth=True,
    )
    cards = []
    for number, each in enumerate(images[:SHOWN], 1):
        ranked = ranked_categories(each, "16 kept", VOCABULARY, RANKS)
        cards.append(label_card(f"Image {number}", each, VOCABULARY, [("ranked:", ranked)]))
    page.cards(cards)
    return Outcome(())
