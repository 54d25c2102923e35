"""A trained model as a function from a video to the predictions for its frames, in order."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from predictor import Prediction, Segmenter
from torch import Tensor

from segcore.drawing.segments import Segment, paint_masks
from segcore.video_files import BrokenVideo, ForwardFrames, Video

CLIP_FRAMES = 16  # frames of a clip, where the config takes the whole video as one

Predictions = Iterator[tuple[np.ndarray, Prediction]]


def frame_by_frame(segmenter: Segmenter, video: Video) -> Predictions:
    """Yield frames and predictions of an image model, each frame for itself."""
    for frame in video.frames():
        yield frame, segmenter(frame)


@torch.inference_mode()
def clip_by_clip(segmenter: Segmenter, video: Video, length: int) -> Predictions:
    """Yield frames and predictions of a video model, in the memory of one clip.

    Args:
        segmenter: whose model has ``stream``.
        video: to segment.
        length: the number of frames that can be read: :func:`count_frames`.
    """
    model = segmenter.model
    model.clip_frames = model.clip_frames or CLIP_FRAMES
    frames = ForwardFrames(video.frames(), length, keep=model.clip_frames)
    height, width = frames[0].shape[:2]
    item = {
        "image": PreparedFrames(frames, segmenter.prepare),
        "height": height,
        "width": width,
        "length": length,
        "video_id": str(video.path),
    }
    numbers: dict[int, int] = {}  # track id -> number, in the order in which they appear
    for part in model.stream(item, segmenter.min_score):
        for position, number in enumerate(part["frames"]):
            if "sem_seg_labels" in part:
                prediction = Prediction(segmenter.label_map(part["sem_seg_labels"][position]))
            else:
                prediction = _objects(part["instances"], position, (height, width), numbers)
            yield frames[number], prediction


def count_frames(video: Video) -> tuple[int, BrokenVideo | None]:
    """Return the number of readable frames, and the error behind them, if any.

    Raises:
        UserError: no frame can be read.
    """
    count = 0
    try:
        for _ in video.frames():
            count += 1
    except BrokenVideo as error:
        if not count:
            raise
        return count, error
    return count, None


class PreparedFrames(Sequence):
    """Frames prepared for the model, each when it is accessed."""

    def __init__(
        self, frames: Sequence[np.ndarray], prepare: Callable[[np.ndarray], Tensor]
    ) -> None:
        self._frames, self._prepare = frames, prepare

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Tensor:
        return self._prepare(self._frames[number])


def _objects(
    tracks: Sequence[dict], position: int, size: tuple[int, int], numbers: dict[int, int]
) -> Prediction:
    """Return the tracks visible in a frame; new ones get the next number in `numbers`."""
    visible = [track for track in tracks if track["masks"][position].any()]
    visible.sort(key=lambda track: -track["score"])
    masks = np.zeros((len(visible), *size), dtype=bool)
    segments = []
    for mask, track in zip(masks, visible, strict=True):
        mask[:] = track["masks"][position].cpu().numpy()
        number = numbers.setdefault(track["track_id"], len(numbers) + 1)
        segments.append(Segment(number, track["label"], score=track["score"]))
    labels = paint_masks(masks, [segment.number for segment in segments])
    return Prediction(labels, tuple(segments), masks)
