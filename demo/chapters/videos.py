"""Mask2Former for videos: objects keep their number from frame to frame."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from steps import Step

from chapters import DATASETS, MODELS, OUTPUT, Outcome, commands
from segcore.drawing import overlays
from segcore.drawing.page import LegendEntry, Page
from segcore.drawing.segments import Segment, segment_regions
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_video_instance.yaml"
WEIGHTS = MODELS / "scenes_60_video_instance.safetensors"
VOCABULARY = Vocabulary.registered("scenes_60")
NUM_OBJECTS = sum(len(name.split()) > 1 for name in VOCABULARY.names)  # the first classes
DATA_SET = "scenes_60_video_test_instance"
VIDEOS = DATASETS / "scenes-60" / "videos" / "data"
EVALUATION = OUTPUT / "evaluation_videos"
SHOWN = ("test_0000", "test_0001")
CLIPS = ("MODEL.MASK_FORMER.TEST.CLIP_FRAMES", "8")  # shorter than the videos, to show tracking
SIDE = 288  # pixels of a frame on the page
ALPHA = 0.7


def _segment(name: str) -> list[str]:
    where = ["--video-input", str(VIDEOS / name / "origin"), "--output", str(OUTPUT / name)]
    options = ["--opts", "MODEL.WEIGHTS", str(WEIGHTS), *CLIPS]
    return ["demo/demo.py", "--config-file", CONFIG, *where, *options]


def read_scores(evaluation: Path) -> dict[str, float]:
    """Read the scores of tracks in percent."""
    path = evaluation / "inference" / DATA_SET / "video_instances_evaluation.json"
    return json.loads(path.read_text())["scores"]


STEPS = [
    Step(
        name="evaluate-videos",
        title="Video Mask2Former: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, EVALUATION),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=EVALUATION,
        result=lambda folder: f"AP of tracks {read_scores(folder)['AP']:.1f}",
    ),
    *(
        Step(
            name=f"video-{name}",
            title=f"Video Mask2Former: segment {name}",
            command=_segment(name),
            sources=commands.SEGMENTING,
            output=OUTPUT / name,
        )
        for name in SHOWN
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Write the average precision of tracks, and videos with ground truth, tracks and legends."""
    page.heading("Videos: objects that keep their number")
    page.text(
        "A query of Mask2Former stands for one object in all frames of a clip, and tracking keeps "
        "its number from clip to clip, in bounded memory."
    )
    for name in SHOWN:
        frames, legends = side_by_side(folder / VIDEOS.relative_to(OUTPUT) / name, folder / name)
        page.animation("video, ground truth, predicted tracks", frames, fps=4, legends=legends)
    scores = read_scores(folder / EVALUATION.name)
    page.text(
        "Average precision and recall of tracks in percent, over 54 classes of which training "
        "showed 40: class and masks of all frames have to be right."
    )
    names = ("AP", "AP50", "AP75", "AR1", "AR10")
    page.table(["", *names], [["tracks", *(f"{scores[name]:.1f}" for name in names)]])
    return Outcome((("Video Mask2Former", "AP of tracks", f"{scores['AP']:.1f}"),))


def side_by_side(
    video: Path, results: Path
) -> tuple[list[np.ndarray], list[tuple[str, list[LegendEntry]]]]:
    """Draw a video, its ground truth and its predicted tracks, a class in one colour.

    Args:
        video: folder with frames (``origin``) and their label maps (``mask``).
        results: folder of demo/demo.py.

    Returns:
        frames (SIDE, 3 SIDE, 3) uint8 of a square video; legends of the two.
    """
    frames, classes, tracks = [], set(), {}
    for path in sorted((video / "origin").glob("*.png")):
        image = overlays.fit(read_image(path), SIDE)
        labels = read_labels(video / "mask" / path.name).astype(int) - 1  # VSPW's begin with 1
        classes |= {int(i) for i in np.unique(labels) if 0 <= i < NUM_OBJECTS}
        listed = json.loads((results / f"{path.stem}_segments.json").read_text())
        segments = [Segment(each["id"], each["category_id"]) for each in listed]
        tracks |= {each.number: each.class_id for each in segments}
        predicted = draw_tracks(image, read_labels(results / f"{path.stem}_labels.png"), segments)
        frames.append(np.concatenate([image, draw_objects(image, labels), predicted], axis=1))
    names, colors = VOCABULARY.names, VOCABULARY.colors
    true = [LegendEntry(names[i], colors[i]) for i in sorted(classes)]
    found = [LegendEntry(f"{n} {names[i]}", colors[i]) for n, i in sorted(tracks.items())]
    return frames, [("ground truth:", true), ("predicted tracks:", found)]


def draw_objects(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the objects of a label map (h, w) onto an image (H, W, 3) uint8."""
    labels = overlays.fit(np.where(labels < NUM_OBJECTS, labels, -1), SIDE)
    return overlays.overlay(image, labels, VOCABULARY.colors, alpha=ALPHA, ignore_label=-1)


def draw_tracks(image: np.ndarray, numbers: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """Draw tracks (h, w) with their numbers onto an image (H, W, 3) uint8."""
    numbers = overlays.fit(numbers, SIDE)
    regions = segment_regions(numbers, segments, VOCABULARY, tell_apart=False)
    regions = replace(regions, names=["", *(str(segment.number) for segment in segments)])
    drawn = overlays.overlay(
        image, regions.labels, regions.colors, alpha=ALPHA, ignore_label=regions.ignore_label
    )
    return overlays.name_regions(
        drawn, regions.labels, regions.names, regions.colors, ignore_label=regions.ignore_label
    )
