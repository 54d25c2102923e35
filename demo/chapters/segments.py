"""Mask2Former: every object and every ground a segment of its own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from steps import Step

from chapters import DRAWN, MODELS, OUTPUT, Outcome, commands
from chapters.cards import ALPHA, SIDE, legend_entries
from segcore.annotations.panoptic_png import PanopticFile
from segcore.drawing import overlays
from segcore.drawing.page import Card, LegendEntry, Page
from segcore.drawing.segments import Segment, segment_regions
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_panoptic.yaml"
WEIGHTS = MODELS / "scenes_60_panoptic.safetensors"
WORDS = Vocabulary.registered("scenes_60")
DATA_SET = "scenes_60_test_panoptic"
DRAWINGS = DRAWN / "scenes-60" / "demo"
SHOWN = 6  # images

STEPS = [
    Step(
        name="evaluate-panoptic",
        title="Panoptic Mask2Former: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, OUTPUT / "evaluation_panoptic"),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=OUTPUT / "evaluation_panoptic",
    ),
    Step(
        name="drawings-panoptic",
        title="Panoptic Mask2Former: segment twelve drawings",
        command=commands.segment(
            CONFIG, WEIGHTS, DRAWINGS / "images", OUTPUT / "drawings_panoptic"
        ),
        sources=commands.SEGMENTING,
        output=OUTPUT / "drawings_panoptic",
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Panoptic quality, and drawings with their segments."""
    page.heading("Mask2Former: panoptic segmentation")
    page.text(
        "Every object is a segment of its own, and so is every ground. Panoptic quality in "
        "percent, the mean over classes; objects of classes that training never showed are beyond "
        "a model without words."
    )
    quality = read_quality(folder / "evaluation_panoptic" / "inference" / DATA_SET)
    header = ["", "panoptic quality", "segmentation", "recognition"]
    page.table(header, [[name, *(f"{v:.1f}" for v in row)] for name, row in quality.items()])
    drawn = folder / DRAWINGS.relative_to(OUTPUT)
    ground_truth = PanopticFile(drawn / "panoptic.json", drawn / "panoptic")
    images = sorted((drawn / "images").glob("*.png"))[:SHOWN]
    predictions = folder / "drawings_panoptic"
    page.cards(
        [
            segments_card(f"Drawing {number}", image, ground_truth, predictions)
            for number, image in enumerate(images, 1)
        ]
    )
    lines = [f"{f'panoptic quality, {name}':28}  {row[0]:5.1f}" for name, row in quality.items()]
    return Outcome(tuple(lines))


def read_quality(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Means of PQ, SQ and RQ over the grounds, and over seen and unseen kinds of objects."""
    scores = json.loads((folder / "panoptic_evaluation.json").read_text())["categories"]
    seen = dict(zip(WORDS.names, WORDS.seen, strict=True))
    grounds = {name for name in scores if len(name.split()) == 1}
    groups = {
        "grounds": grounds,
        "objects of seen classes": {name for name in scores if seen[name]} - grounds,
        "objects of unseen classes": {name for name in scores if not seen[name]} - grounds,
    }
    return {
        title: tuple(
            float(np.mean([scores[name][key] for name in sorted(names)]))
            for key in ("PQ", "SQ", "RQ")
        )
        for title, names in groups.items()
    }


def segments_card(title: str, path: Path, ground_truth: PanopticFile, predictions: Path) -> Card:
    """Image, true and found segments; those of one class have its colour."""
    image = overlays.fit(read_image(path), SIDE)
    images, legends = [("image", image)], []
    for name, (numbers, segments) in {
        "ground truth": true_segments(ground_truth, int(path.stem)),
        "Mask2Former": found_segments(predictions, path.stem),
    }.items():
        regions = segment_regions(numbers, segments, WORDS, tell_apart=False)
        labels = overlays.fit(regions.labels, SIDE)
        images.append(
            (
                f"{name}, {len(segments)} segments",
                overlays.overlay(
                    image, labels, regions.colors, alpha=ALPHA, ignore_label=regions.ignore_label
                ),
            )
        )
        legends.append((f"{name}:", _legend(numbers, segments)))
    return Card(title, images, legends, side=SIDE)


def true_segments(ground_truth: PanopticFile, image_id: int) -> tuple[np.ndarray, list[Segment]]:
    """A map (H, W) of numbers, and what they stand for."""
    segments = ground_truth.segments(image_id)
    return segments.ids, [Segment(*each) for each in segments.categories.items()]


def found_segments(predictions: Path, name: str) -> tuple[np.ndarray, list[Segment]]:
    """The same, of what demo/demo.py wrote for an image of this name."""
    listed = json.loads((predictions / f"{name}_segments.json").read_text())
    segments = [Segment(each["id"], each["category_id"], each["isthing"]) for each in listed]
    return read_labels(predictions / f"{name}_labels.png"), segments


def _legend(numbers: np.ndarray, segments: Sequence[Segment]) -> list[LegendEntry]:
    shares = [(segment.class_id, float((numbers == segment.number).mean())) for segment in segments]
    return legend_entries(WORDS, sorted(shares, key=lambda each: -each[1]))
