"""The work for an uploaded image or video, as the steps of a request in the queue."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from catrank import Model, Result
from catrank.serving.limits import Limits, Upload
from segcore.errors import UserError
from segcore.images import read_image
from segcore.rankseg.dial import ClassesKept
from segcore.video_files.writing import VideoWriter

NAMED_CLASSES = 200  # of a video, in the list of its classes


class Progress(NamedTuple):
    """Frames of a video that are done, and all of them where the header says."""

    done: int
    total: int | None


class SegmentedVideo(NamedTuple):
    """A video whose frames show their predictions.

    Attributes:
        path: of the video file.
        last: result of the last frame.
        fractions: of all pixels, by class name, the largest first.
    """

    path: Path
    last: Result
    fractions: dict[str, float]


@dataclass(frozen=True)
class Question:
    """What a client asks of a model.

    Attributes:
        classes: class names; None: those of the model.
        min_score: of objects; None: as the model was loaded.
        keep: how many classes are kept for an image; None: as the model was loaded.
    """

    classes: list[str] | None = None
    min_score: float | None = None
    keep: ClassesKept | None = None

    def check(self, model: Model) -> None:
        """Check what a model can do before the request is queued.

        Raises:
            UserError: the model keeps as many classes as it was loaded with, or its classes are
                fixed.
        """
        if self.keep is not None and not has_dial(model):
            raise UserError("this model has a fixed number of kept classes: leave out keep")
        if self.classes is not None and not model.open_vocabulary:
            raise UserError(
                f"this model knows only the {len(model.class_names)} classes of its training: "
                "leave out classes"
            )


def has_dial(model: Model) -> bool:
    """Return whether each request may say how many classes are kept."""
    return hasattr(model.network, "selector")


def segment_upload(model: Model, upload: Upload, question: Question, limits: Limits) -> Result:
    """Segment an uploaded image.

    Raises:
        UserError: it cannot be read, or the class names cannot be used.
    """
    with upload.named():
        pixels = read_image(upload.path, max_pixels=limits.pixels)
    image = Image.fromarray(pixels)
    image.filename = upload.name  # type: ignore[attr-defined]  # names the result
    return model.segment(
        image, question.classes, min_score=question.min_score, classes_kept=question.keep
    )


def segment_uploaded_video(
    model: Model, upload: Upload, question: Question, limits: Limits, output: Path, alpha: float
) -> Generator[Progress, None, SegmentedVideo]:
    """Segment an uploaded video frame by frame into a video file.

    Args:
        output: of the file, ``.mp4``.
        alpha: weight of the colours, 0 to 1.

    Raises:
        UserError: it cannot be read to its end or is too long, or the class names cannot be used.
    """
    areas: dict[str, int] = {}
    with upload.named():
        video = limits.open_video(upload.path)
        results = model.segment_video(video, question.classes, min_score=question.min_score)
        with VideoWriter(output, video.rate, video.pixel_aspect) as writer:
            for done, result in enumerate(results, 1):
                writer.write(np.asarray(result.overlay(alpha=alpha)))
                for class_id, area in zip(*np.unique(result.labels, return_counts=True)):  # noqa: B905
                    if class_id >= 0:
                        name = result.class_names[class_id]
                        areas[name] = areas.get(name, 0) + int(area)
                yield Progress(done, video.length)
    total = sum(areas.values()) or 1
    ordered = sorted(areas.items(), key=lambda item: -item[1])[:NAMED_CLASSES]
    return SegmentedVideo(output, result, {name: area / total for name, area in ordered})
