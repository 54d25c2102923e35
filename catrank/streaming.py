"""Videos: frame by frame with a model of images, clip by clip with a model of videos."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catrank.outputs import label_map
from catrank.results import Result
from segcore.drawing.segments import Segment, paint_masks
from segcore.video_files import BrokenVideo, ForwardFrames, Video
from segcore.vocabulary import Vocabulary

CLIP_FRAMES = 16  # of a clip, where the config would take the whole video as one


def count_frames(video: Video) -> tuple[int, BrokenVideo | None]:
    """The number of frames that can be read, and what is wrong behind them, if anything.

    Raises:
        UserError: there is none.
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


def clip_by_clip(
    network: Any,
    frames: Iterable[np.ndarray],
    length: int,
    prepare: Callable[[np.ndarray], Tensor],
    *,
    name: str,
    vocabulary: Vocabulary,
    min_score: float,
) -> Iterator[Result]:
    """Yield the results of a video's frames, in the memory of a clip.

    Args:
        network: with ``stream``, such as ``VideoMaskFormer``.
        frames: (H, W, 3) uint8, RGB, of one size.
        length: the number of frames.
        prepare: makes the input of the network of a frame.
        name: of the video.
        vocabulary: the network's classes.
        min_score: of tracks that are kept.
    """
    kept = ForwardFrames(frames, length, keep=network.clip_frames)
    height, width = kept[0].shape[:2]
    item = {
        "image": PreparedFrames(kept, prepare),
        "height": height,
        "width": width,
        "length": length,
        "video_id": name,
    }
    ids: dict[int, int] = {}  # track -> id, in the order in which they appear
    parts = network.stream(item, min_score)
    while True:
        # Not around the loop: the mode would hold for the caller between two frames, too.
        with torch.inference_mode():
            part = next(parts, None)
        if part is None:
            return
        for index, number in enumerate(part["frames"]):
            about = {"frame": number, "tracked": "instances" in part}
            frame = kept[number]
            if "sem_seg_labels" in part:
                labels = label_map(part["sem_seg_labels"][index], vocabulary)
                yield Result.semantic(name, frame, vocabulary, labels, **about)
                continue
            masks, segments = _objects(part["instances"], index, (height, width), ids)
            painted = paint_masks(masks, [segment.number for segment in segments])
            yield Result(
                name,
                frame,
                vocabulary,
                "instance",
                painted.astype(np.int32),
                segments,
                object_masks=masks,
                **about,
            )


class PreparedFrames(Sequence[Tensor]):
    """Frames as a network reads them, made when they are asked for."""

    def __init__(
        self, frames: Sequence[np.ndarray], prepare: Callable[[np.ndarray], Tensor]
    ) -> None:
        self._frames, self._prepare = frames, prepare

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: Any) -> Any:
        return self._prepare(self._frames[number])


def _objects(
    tracks: Sequence[dict[str, Any]], index: int, size: tuple[int, int], ids: dict[int, int]
) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """Masks (N, H, W) and segments of the tracks that are in a frame, best first; new tracks get
    the next id in ``ids``."""
    there = [track for track in tracks if track["masks"][index].any()]
    there.sort(key=lambda track: -track["score"])
    masks = np.zeros((len(there), *size), dtype=bool)
    segments = []
    for mask, track in zip(masks, there, strict=True):
        mask[:] = track["masks"][index].cpu().numpy()
        number = ids.setdefault(track["track_id"], len(ids) + 1)
        segments.append(Segment(number, track["label"], score=track["score"]))
    return masks, tuple(segments)
