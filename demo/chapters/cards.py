"""Cards of the page: an image, its ground truth and what a model made of it, beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.drawing import overlays
from segcore.drawing.page import Card, LegendEntry
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

SIDE = 384  # pixels of an image on the page
ALPHA = 0.7  # the classes of drawings have the colours of their objects: make them stand out


@dataclass(frozen=True)
class Example:
    """One segmented image.

    Attributes:
        image: path of the image.
        labels: path of the label map that a model gave it.
        ground truth: path of the label map that was drawn with it, if any.
    """

    image: Path
    labels: Path
    ground_truth: Path | None = None


def examples(images: Path, segmented: Path, *, with_ground_truth: bool) -> list[Example]:
    """The images of a folder, the ground truth beside them, and label maps in another folder."""
    return [
        Example(
            image,
            segmented / f"{image.stem}_labels.png",
            images.parent / "labels" / image.name if with_ground_truth else None,
        )
        for image in sorted(images.glob("*.png"))
    ]


def label_card(
    title: str,
    model: str,
    example: Example,
    words: Vocabulary,
    more: Sequence[tuple[str, Sequence[LegendEntry]]] = (),
) -> Card:
    """Image, ground truth if known, and prediction; names that training never saw are marked.

    Args:
        title, model: headings of the card and of the prediction.
        example: what to show.
        words: the classes of its label maps.
        more: further legends.
    """
    image = overlays.fit(read_image(example.image), SIDE)
    labels = read_labels(example.labels)
    images = [("image", image)]
    legends = []
    right = ""
    if example.ground_truth is not None:
        ignore = words.ignore_label
        ground_truth = read_labels(example.ground_truth)
        right = f", {float((ground_truth == labels)[ground_truth != ignore].mean()):.0%} right"
        ground_truth = overlays.fit(ground_truth, SIDE)
        drawn = overlays.overlay(
            image, ground_truth, words.colors, alpha=ALPHA, ignore_label=ignore
        )
        images.append(("ground truth", drawn))
        shares = overlays.present_classes(ground_truth, ignore)
        legends.append(("ground truth:", legend_entries(words, shares)))
    labels = overlays.fit(labels, SIDE)
    drawn = overlays.overlay(image, labels, words.colors, alpha=ALPHA)
    images.append((f"{model}{right}", drawn))
    shares = overlays.present_classes(labels)
    legends.append((f"{model}:", legend_entries(words, shares)))
    return Card(title, images, [*legends, *more], side=SIDE)


def legend_entries(words: Vocabulary, shares: Sequence[tuple[int, float]]) -> list[LegendEntry]:
    """Legend of the classes (id, share); those that training never showed are marked."""
    seen = words.seen or (True,) * len(words)
    return [
        LegendEntry(
            words.names[i] if seen[i] else f"{words.names[i]} (never seen)", words.colors[i], share
        )
        for i, share in shares
    ]


def sheet(cards: Sequence[Card], captions: Sequence[str]) -> np.ndarray:
    """Two cards a row, as one small image (H, W, 3) uint8."""
    shown = [[image for _, image in card.images] for card in cards]
    rows = [left + right for left, right in zip(shown[::2], shown[1::2], strict=True)]
    return overlays.contact_sheet(rows, [*captions] * 2, cell=144)
