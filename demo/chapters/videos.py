"""Mask2Former on videos: objects that keep their number from frame to frame."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from steps import Step

from chapters import DRAWN, MODELS, OUTPUT, Outcome, commands
from segcore.drawing import overlays
from segcore.drawing.page import Page
from segcore.drawing.segments import Segment, segment_regions
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary

CONFIG = "mask2former_rankseg/scenes_60_video_instance.yaml"
WEIGHTS = MODELS / "scenes_60_video_instance.safetensors"
WORDS = Vocabulary.registered("scenes_60")
DATA_SET = "scenes_60_video_test_instance"
VIDEOS = DRAWN / "scenes-60" / "videos" / "data"
SHOWN = ("test_0000", "test_0001")
CLIPS = ("MODEL.MASK_FORMER.TEST.CLIP_FRAMES", "8")  # so that numbers pass from clip to clip
SIDE = 288  # pixels of a frame on the page


def _segment(name: str) -> list[str]:
    where = ["--video-input", str(VIDEOS / name / "origin"), "--output", str(OUTPUT / name)]
    options = ["--opts", "MODEL.WEIGHTS", str(WEIGHTS), *CLIPS]
    return ["demo/demo.py", "--config-file", CONFIG, *where, *options]


STEPS = [
    Step(
        name="evaluate-videos",
        title="Mask2Former on videos: evaluate",
        command=commands.evaluate(CONFIG, WEIGHTS, OUTPUT / "evaluation_videos"),
        sources=[*commands.MASK2FORMER, str(WEIGHTS)],
        output=OUTPUT / "evaluation_videos",
    ),
    *(
        Step(
            name=f"video-{name}",
            title=f"Mask2Former on videos: segment {name}",
            command=_segment(name),
            sources=(*commands.SEGMENTING, "demo/video.py"),
            output=OUTPUT / name,
        )
        for name in SHOWN
    ),
]


def write(page: Page, folder: Path) -> Outcome:
    """Average precision of tracks, and videos that move."""
    page.heading("Mask2Former on videos")
    page.text(
        "A query stands for an object in all frames of a clip, and objects keep their number from "
        "clip to clip. The average precision is over tracks: class and all masks have to be right. "
        "Of the classes, training showed 40 of 54."
    )
    report = folder / "evaluation_videos" / "inference" / DATA_SET
    scores = json.loads((report / "video_instances_evaluation.json").read_text())["scores"]
    names = ("AP", "AP50", "AP75", "AR1", "AR10")
    page.table(["percent", *names], [["tracks", *(f"{scores[name]:.1f}" for name in names)]])
    videos = folder / VIDEOS.relative_to(OUTPUT)
    for name in SHOWN:
        frames = moving(videos / name / "origin", folder / name)
        page.animation(f"{name}: the video, and its objects", frames, fps=4)
    return Outcome((f"{'average precision of tracks':28}  {scores['AP']:5.1f}",))


def moving(frames: Path, predictions: Path) -> Iterator[np.ndarray]:
    """Each frame beside the objects in it: (SIDE, 2 SIDE, 3) uint8 of a square video."""
    for path in sorted(frames.glob("*.png")):
        image = overlays.fit(read_image(path), SIDE)
        numbers = overlays.fit(read_labels(predictions / f"{path.stem}_labels.png"), SIDE)
        listed = json.loads((predictions / f"{path.stem}_segments.json").read_text())
        segments = [Segment(each["id"], each["category_id"]) for each in listed]
        regions = segment_regions(numbers, segments, WORDS)
        drawn = overlays.overlay(
            image, regions.labels, regions.colors, alpha=0.7, ignore_label=regions.ignore_label
        )
        yield np.concatenate([image, drawn], axis=1)
