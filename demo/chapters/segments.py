"""Mask2Former for panoptic segmentation: every object and every background is a segment."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from chapters.cards import ALPHA, SIDE, legend_entries
from segcore.annotations.panoptic_png import PanopticFile
from segcore.drawing import overlays
from segcore.drawing.page import Card, LegendEntry, Page
from segcore.drawing.segments import Segment, segment_regions
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_panoptic.yaml"
WEIGHTS = MODELS / "scenes_60_panoptic.safetensors"
VOCABULARY = Vocabulary.registered("scenes_60")
DATA_SET = "scenes_60_test_panoptic"
IMAGES = DATASETS / "scenes-60" / "demo"
EVALUATION, RESULTS = OUTPUT / "evaluation_panoptic", OUTPUT / "segmented_panoptic"
SHOWN = 4  # images


def _summary(folder: Path) -> str:
    quality = read_quality(folder / "inference" / DATA_SET)
    return "PQ: " + ", ".join(f"{name} {row[0]:.1f}" for name, row in [*quality.items()][:2])


STEPS = [
    Step(
        name="evaluate-panoptic",
        title="Panoptic Mask2Former: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=EVALUATION,
        result=_summary,
    ),
    Step(
        name="segment-panoptic",
        title="Panoptic Mask2Former: segment 12 images",
        command=commands.segment(CONFIG, WEIGHTS, IMAGES / "images", RESULTS),
        sources=commands.SEGMENTING,
        output=RESULTS,
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write panoptic quality, and images with their segments."""
    page.heading("Panoptic segmentation: Mask2Former")
    page.text(
        "Every object is a segment of its own, and so is every kind of background. Panoptic "
        "quality (PQ), segmentation quality (SQ) and recognition quality (RQ) in percent: means "
        "over the classes that training showed."
    )
    images = sorted((folder / IMAGES.relative_to(OUTPUT) / "images").glob("*.png"))[:SHOWN]
    annotated = folder / IMAGES.relative_to(OUTPUT)
    ground_truth = PanopticFile(annotated / "panoptic.json", annotated / "panoptic")
    page.cards(
        [
            segments_card(f"Image {number}", image, ground_truth, folder / RESULTS.name)
            for number, image in enumerate(images, 1)
        ]
    )
    quality = read_quality(folder / EVALUATION.name / "inference" / DATA_SET)
    header = ["", "PQ", "SQ", "RQ"]
    cells = {name: [f"{value:.1f}" for value in row] for name, row in quality.items()}
    page.table(header, [[name, *row] for name, row in cells.items()])
    return Outcome(
        tuple(("Panoptic Mask2Former", f"PQ, {name}", row[0]) for name, row in cells.items())
    )


def read_quality(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Read the means of PQ, SQ and RQ over the objects and the backgrounds of seen classes."""
    scores = json.loads((folder / "panoptic_evaluation.json").read_text())["categories"]
    seen = {name for name, was in zip(VOCABULARY.names, VOCABULARY.seen, strict=True) if was}
    backgrounds = {name for name in scores if len(name.split()) == 1}
    groups = {"objects": (seen & {*scores}) - backgrounds, "backgrounds": backgrounds}
    return {
        title: tuple(
            float(np.mean([scores[name][key] for name in sorted(names)]))
            for key in ("PQ", "SQ", "RQ")
        )
        for title, names in groups.items()
    }


def segments_card(title: str, path: Path, ground_truth: PanopticFile, results: Path) -> Card:
    """Return an image, its true and its predicted segments; a class has one colour in both."""
    image = overlays.fit(read_image(path), SIDE)
    images, legends = [("image", image)], []
    for name, (numbers, segments) in {
        "ground truth": true_segments(ground_truth, int(path.stem)),
        "Mask2Former": predicted_segments(results, path.stem),
    }.items():
        regions = segment_regions(numbers, segments, VOCABULARY, tell_apart=False)
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
    """Return a map (H, W) of segment ids, and the segments."""
    segments = ground_truth.segments(image_id)
    return segments.ids, [Segment(*each) for each in segments.categories.items()]


def predicted_segments(results: Path, name: str) -> tuple[np.ndarray, list[Segment]]:
    """Return the same from the files that demo/demo.py wrote for an image of this name."""
    listed = json.loads((results / f"{name}_segments.json").read_text())
    segments = [Segment(each["id"], each["category_id"], each["isthing"]) for each in listed]
    return read_labels(results / f"{name}_labels.png"), segments


def _legend(numbers: np.ndarray, segments: Sequence[Segment]) -> list[LegendEntry]:
    fractions = [
        (segment.class_id, float((numbers == segment.number).mean())) for segment in segments
    ]
    return legend_entries(VOCABULARY, sorted(fractions, key=lambda each: -each[1]))
