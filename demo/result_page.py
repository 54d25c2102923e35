"""The page of the demo: what was measured, what was segmented, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from segcore import visualize
from segcore.images import read_image, read_labels
from segcore.page import Card, LegendEntry, Page
from segcore.vocabulary import Vocabulary

HONEST_LINE = (
    "This model knows drawings, an hour's worth of them. Photographs and the words of the "
    "world are beyond it: for those load a published checkpoint (see README.md)."
)
SIDE = 384  # pixels of a picture on the page
ALPHA = 0.7  # the classes of drawings have the colours of their objects: make them stand out


@dataclass(frozen=True)
class Scores:
    """mIoU in percent over the classes that training saw, and over those that it did not."""

    name: str
    seen: float
    unseen: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of the two."""
        return 2 * self.seen * self.unseen / max(self.seen + self.unseen, 1e-9)

    def beats(self, other: "Scores") -> bool:
        """Better on seen and on unseen classes."""
        return self.seen > other.seen and self.unseen > other.unseen


@dataclass(frozen=True)
class Example:
    """One segmented picture.

    Attributes:
        image: path of the picture.
        labels: path of the label map that the model gave it.
        truth: path of the label map that was drawn with it, if any.
    """

    image: Path
    labels: Path
    truth: Path | None = None


@dataclass(frozen=True)
class Results:
    """Everything that the page tells.

    Attributes:
        baseline, model: what was measured.
        drawings, drawing_words: segmented drawings, and the classes of their label maps.
        photographs, photograph_words: the same for photographs.
        seconds: (title, seconds) of each step.
        commands: the lines that were run.
    """

    baseline: Scores
    model: Scores
    drawings: Sequence[Example]
    drawing_words: Vocabulary
    photographs: Sequence[Example]
    photograph_words: Vocabulary
    seconds: Sequence[tuple[str, float]]
    commands: Sequence[str]


def write_page(results: Results, folder: Path) -> Path:
    """Writes index.html with its pictures, and sheet.png with some of them; returns the page.

    Args:
        results: what to show.
        folder: where it goes; made if absent.
    """
    page = Page(folder, "CatRank: a very small CAT-Seg, trained from nothing")
    page.text(
        "CAT-Seg compares every place of a picture with every word of a vocabulary. This one was "
        "trained on drawn pictures (demo/models/README.md says how), and is asked here for classes "
        "that training showed it and for combinations that it never saw."
    )
    page.note(HONEST_LINE)
    _write_scores(page, results)
    page.heading(f"{len(results.drawings)} drawings")
    page.text("Not used in training. The truth is known, for the pictures were drawn with it.")
    cards = [
        drawing_card(f"Drawing {number}", example, results.drawing_words)
        for number, example in enumerate(results.drawings, 1)
    ]
    page.cards(cards)
    page.heading(f"{len(results.photographs)} photographs")
    page.text(
        f"Segmented with the words: {', '.join(results.photograph_words.names)}. Of these the "
        f"model has met only {_known_words(results)}, and those as drawings."
    )
    page.cards([photograph_card(e, results.photograph_words) for e in results.photographs])
    page.heading("How it was made")
    page.table(["step", "seconds"], [[title, f"{s:.0f}"] for title, s in results.seconds])
    page.commands(results.commands)
    _write_sheet(cards, folder / "sheet.png")
    return page.write()


def drawing_card(title: str, example: Example, words: Vocabulary) -> Card:
    """Picture, truth and prediction beside each other; names that training never saw are marked."""
    truth, labels = read_labels(example.truth), read_labels(example.labels)
    right = float((truth == labels)[truth != words.ignore_label].mean())
    image = visualize.fit(read_image(example.image), SIDE)
    truth, labels = visualize.fit(truth, SIDE), visualize.fit(labels, SIDE)
    ignore, colors = words.ignore_label, words.colors
    pictures = [
        ("picture", image),
        ("truth", visualize.overlay(image, truth, colors, alpha=ALPHA, ignore_label=ignore)),
        (f"CAT-Seg, {right:.0%} right", visualize.overlay(image, labels, colors, alpha=ALPHA)),
    ]
    legends = [
        ("truth:", _entries(words, visualize.present_classes(truth, ignore))),
        ("CAT-Seg:", _entries(words, visualize.present_classes(labels))),
    ]
    return Card(title, pictures, legends, side=SIDE)


def photograph_card(example: Example, words: Vocabulary) -> Card:
    """Picture and prediction beside each other."""
    image = visualize.fit(read_image(example.image), SIDE)
    labels = visualize.fit(read_labels(example.labels), SIDE)
    pictures = [
        ("photograph", image),
        ("CAT-Seg", visualize.overlay(image, labels, words.colors, alpha=ALPHA)),
    ]
    legends = [("CAT-Seg:", _entries(words, visualize.present_classes(labels)))]
    return Card(example.image.stem, pictures, legends, side=SIDE)


def _write_scores(page: Page, results: Results) -> None:
    page.heading("Against the nearest mean colour")
    page.text(
        "mIoU in percent on the test pictures. The baseline gives each pixel the class whose mean "
        "colour is nearest; unseen classes are combinations that training left out."
    )
    rows = [
        [s.name, f"{s.seen:.1f}", f"{s.unseen:.1f}", f"{s.harmonic:.1f}"]
        for s in (results.baseline, results.model)
    ]
    better = results.model.beats(results.baseline)
    page.table(["", "seen", "unseen", "harmonic mean"], rows, best=1 if better else None)
    page.text(
        "The model beats the baseline on seen and on unseen classes."
        if better
        else "The model does not beat the baseline on both: something is wrong."
    )


def _write_sheet(cards: Sequence[Card], path: Path) -> None:
    """Every third drawing, two in a row, as one small picture: that of README.md."""
    shown = [[picture for _, picture in card.pictures] for card in cards[::3]]
    rows = [left + right for left, right in zip(shown[::2], shown[1::2], strict=True)]
    sheet = visualize.contact_sheet(rows, ["picture", "truth", "CAT-Seg"] * 2, cell=144)
    Image.fromarray(sheet).quantize(256).save(path, optimize=True)


def _entries(words: Vocabulary, shares: Sequence[tuple[int, float]]) -> list[LegendEntry]:
    """Legend of the classes (id, share); those that training never showed are marked."""
    seen = words.seen or (True,) * len(words)
    return [
        LegendEntry(
            words.names[i] if seen[i] else f"{words.names[i]} (never seen)", words.colors[i], share
        )
        for i, share in shares
    ]


def _known_words(results: Results) -> str:
    known = {word for name in results.drawing_words.names for word in name.split()}
    return ", ".join(name for name in results.photograph_words.names if name in known) or "none"
