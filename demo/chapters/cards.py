"""Cards of the page: an image, its ground truth and predictions beside each other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.drawing import overlays
from segcore.drawing.page import Card, LegendEntry
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

SIDE = 384  # pixels of an image on the page
ALPHA = 0.7  # the colours of the classes are those of the objects: make them stand out


@dataclass(frozen=True)
class Example:
    """An image with its label maps.

    Attributes:
        image: path.
        predictions: name of a model -> path of the label map that it predicted.
        ground_truth: path of the true label map, if any.
    """

    image: Path
    predictions: Mapping[str, Path]
    ground_truth: Path | None = None


def examples(
    images: Path, predictions: Mapping[str, Path], *, with_ground_truth: bool
) -> list[Example]:
    """List the images of a folder with their label maps.

    Args:
        images: the folder; label maps of the ground truth are in ``labels`` beside it.
        predictions: name of a model -> folder of its results.
        with_ground_truth: whether there is any.
    """
    return [
        Example(
            image,
            {name: folder / f"{image.stem}_labels.png" for name, folder in predictions.items()},
            images.parent / "labels" / image.name if with_ground_truth else None,
        )
        for image in sorted(images.glob("*.png"))
    ]


def label_card(
    title: str,
    example: Example,
    vocabulary: Vocabulary,
    more: Sequence[tuple[str, Sequence[LegendEntry]]] = (),
    alpha: float = ALPHA,
) -> Card:
    """Return image, ground truth if known, and predictions with their pixel accuracy.

    Args:
        title: heading of the card.
        example: to show.
        vocabulary: classes of its label maps; classes that training did not show are marked.
        more: further legends.
        alpha: weight of the colours.
    """
    image = overlays.fit(read_image(example.image), SIDE)
    maps = {name: read_labels(path) for name, path in example.predictions.items()}
    accuracies = dict.fromkeys(maps, "")
    if example.ground_truth is not None:
        ground_truth = read_labels(example.ground_truth)
        labelled = ground_truth != vocabulary.ignore_label
        accuracies = {
            name: f", {float((labels == ground_truth)[labelled].mean()):.0%} correct"
            for name, labels in maps.items()
        }
        maps = {"ground truth": ground_truth, **maps}
    images, legends = [("image", image)], []
    for name, labels in maps.items():
        drawn, entries = draw_labels(image, labels, vocabulary, alpha)
        images.append((f"{name}{accuracies.get(name, '')}", drawn))
        legends.append((f"{name}:", entries))
    return Card(title, images, [*legends, *more], side=SIDE)


def draw_labels(
    image: np.ndarray, labels: np.ndarray, vocabulary: Vocabulary, alpha: float = ALPHA
) -> tuple[np.ndarray, list[LegendEntry]]:
    """Return the overlay of a label map (h, w) on an image (H, W, 3) uint8, and its legend."""
    ignore = vocabulary.ignore_label
    labels = overlays.fit(labels, SIDE)
    drawn = overlays.overlay(image, labels, vocabulary.colors, alpha=alpha, ignore_label=ignore)
    return drawn, legend_entries(vocabulary, overlays.present_classes(labels, ignore))


def legend_entries(
    vocabulary: Vocabulary, fractions: Sequence[tuple[int, float]]
) -> list[LegendEntry]:
    """Return the legend of classes (id, fraction); classes unseen in training are marked."""
    seen = vocabulary.seen or (True,) * len(vocabulary)
    return [
        LegendEntry(
            vocabulary.names[i] if seen[i] else f"{vocabulary.names[i]} (unseen)",
            vocabulary.colors[i],
            fraction,
        )
        for i, fraction in fractions
    ]


def ranked_categories(
    example: Example, name: str, vocabulary: Vocabulary, number: int
) -> list[LegendEntry]:
    """Return the highest ranks of a prediction with their probabilities.

    Args:
        example: with ground truth; the categories in it are marked.
        name: of the prediction, whose results have ranked categories.
        vocabulary: its classes.
        number: of ranks.
    """
    path = example.predictions[name]
    path = path.with_name(path.name.replace("_labels.png", "_categories.json"))
    present = {i for i, _ in overlays.present_classes(read_labels(example.ground_truth))}
    return [
        LegendEntry(
            f"{rank}. {each['name']}{' (present)' if each['id'] in present else ''}",
            vocabulary.colors[each["id"]],
            each["score"],
        )
        for rank, each in enumerate(json.loads(path.read_text())[:number], 1)
    ]
