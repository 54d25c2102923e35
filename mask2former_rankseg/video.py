"""The meta-architecture ``VideoMaskFormer``: videos in, semantic predictions and tracks out.

Source: Cheng et al., "Mask2Former for Video Instance Segmentation", 2021 (arXiv:2112.10764); He et
al., "RankSeg", ECCV 2022.

Shapes: B clips, T frames, Q queries, C classes, kappa selected classes, (H, W) the prediction.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor

from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind
from segcore.outlines import decode_masks, encode_masks
from segcore.rankseg.selection import select_top

from .clips import Clip, FrameScores, divide
from .config import check_video
from .inference import ImageSizes, class_probabilities
from .meta_arch import MaskFormer
from .targets import clip_targets
from .tracks import Tracker

NUM_TRACKS = 10  # of a video; published code has no key for it


@META_ARCH_REGISTRY.register()
class VideoMaskFormer(MaskFormer):
    """Mask2Former for videos: a query represents an object in all frames of a clip.

    Longer videos are segmented clip by clip, see ``docs/explanation/video.md``.
    """

    @configurable
    def __init__(self, *, clip_frames: int = 0, clip_overlap: int = 2, **arguments: Any) -> None:
        """
        Args:
            clip_frames: frames per clip at inference; 0: a video is one clip, whatever its length.
            clip_overlap: frames that a clip shares with the next one.
            **arguments: of :class:`MaskFormer`; there is no panoptic task.
        """
        super().__init__(**arguments)
        self.clip_frames, self.clip_overlap = clip_frames, clip_overlap

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        check_video(cfg)
        node = cfg.MODEL.MASK_FORMER.TEST
        return super().from_config(cfg) | {
            "clip_frames": node.CLIP_FRAMES,
            "clip_overlap": node.CLIP_OVERLAP,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Any] | list[dict]:
        """Segment videos, or in training return the losses.

        Args:
            batched_inputs: one dict a video: "image", a sequence of T images (3, H, W), 0..255,
                all of one size, which is read in order, clip by clip; "height" and "width" of the
                prediction, by default those of the images. Training, where T is the same for all,
                and the oracles read "instances", one for each frame, which list the same N objects
                in the same order: ``gt_classes`` (N,) and ``gt_masks`` (N, H, W).
        Returns:
            training: see :class:`Criterion`.
            inference: one dict a video, on the CPU, with "image_size" (H, W) and the outputs of the
            tasks: "sem_seg" (C, T, H, W) or "sem_seg_labels" (T, H, W); "pred_scores" and
            "pred_labels" of at most ten tracks, best first, and "pred_masks", for each of them a
            list of T masks in COCO's compressed RLE. With RankSeg also "category_scores" (C,),
            probabilities that a class is in the video, the mean over its clips, and "category_ids"
            (kappa,), the most probable classes.
            With ``published_output``: the dict of the one video, not in a list; "pred_masks" of a
            track are a tensor (T, H, W) bool, T H W bytes, and there are tracks beside "sem_seg".

        Raises:
            UserError: an item is not a video, or with ``published_output`` there are several.
        """
        predictions = super().forward(batched_inputs)
        if self.training or not self.published_output:
            return predictions
        if len(predictions) != 1:
            raise UserError(
                "MODEL.MASK_FORMER.TEST.PUBLISHED_OUTPUT is for one video at a time, but a batch "
                f"has {len(predictions)}: set it to False, or pass the videos one by one."
            )
        return _published(predictions[0])

    @torch.no_grad()
    def stream(self, item: dict, min_score: float = 0.5) -> Iterator[dict]:
        """Segment a video frame by frame, in memory that does not depend on its length.

        A frame is final when no later clip contains it: one clip after it has been read.

        Args:
            item: see :meth:`forward`.
            min_score: smallest score of a track to return it.
        Yields:
            "frames", a range of one index; models with a semantic task: "sem_seg_labels"
            (1, H, W); others: "instances", for each track in the frame "track_id", its "label" and
            "score" so far and "masks" (1, H, W) bool.
        """
        scores, tracker = FrameScores(PredictionKind("labels")), Tracker(NUM_TRACKS)
        for clip, final in self._clips(item):
            (scores if self.tasks.semantic else tracker).add(clip)
            for index in final:
                result = {"frames": range(index, index + 1)}
                if self.tasks.semantic:
                    result["sem_seg_labels"] = scores.frame(index)["sem_seg_labels"][None]
                else:
                    result["instances"] = _instances(tracker, index, clip.sizes, min_score)
                yield result

    def to_batch(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise clips and pad them with zeros to a common size: (B, T, 3, H, W)."""
        lengths = {len(_frames(item)) for item in batched_inputs}
        if len(lengths) > 1:
            raise UserError(
                f"a batch has clips of {min(lengths)} and of {max(lengths)} frames: the mapper has "
                "to sample INPUT.SAMPLING_FRAME_NUM frames of every video."
            )
        frames = self.pad_images([frame for item in batched_inputs for frame in item["image"]])
        clips = frames.tensor.unflatten(0, (len(batched_inputs), -1))
        return ImageList(clips, frames.image_sizes)

    def targets(
        self, batched_inputs: list[dict], size: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the classes (N,) of the objects of every clip, and their masks (N, T, *size)."""
        return clip_targets(batched_inputs, self.num_classes, size, self.device)

    def present_classes(self, item: dict) -> Tensor:
        """Return the class ids of the ground truth of all frames, with repetitions."""
        return torch.cat([frame.gt_classes for frame in item["instances"]])

    def _segment(self, batched_inputs: list[dict]) -> list[dict]:
        return [self._segment_video(item) for item in batched_inputs]

    def _segment_video(self, item: dict) -> dict:
        """Return the outputs of all tasks."""
        prediction, num_frames = {}, len(_frames(item))
        scores, tracker = FrameScores(self.prediction_kind), Tracker(NUM_TRACKS)
        rle: dict[int, dict[int, str]] = defaultdict(dict)  # track -> frame -> RLE counts
        categories = []
        for clip, final in self._clips(item):
            prediction["image_size"] = clip.sizes.prediction
            categories.append(clip.categories)
            if self.tasks.semantic:
                scores.add(clip)
                for index in final:
                    _insert_frame(prediction, scores.frame(index), index, num_frames)
            if self._finds_tracks:
                tracker.add(clip)
                if final.stop == num_frames:
                    tracker.keep({number for number, _, _ in tracker.best()})
                for index in final:
                    numbers, logits = tracker.frame(index)
                    masks = encode_masks(clip.sizes.resize_masks(logits) > 0)
                    for number, mask in zip(numbers, masks, strict=True):
                        rle[number][index] = mask["counts"]
                for number in rle.keys() - tracker.known():
                    del rle[number]
        if self._finds_tracks:
            prediction |= _tracks(tracker.best(), rle, prediction["image_size"], num_frames)
        if self.ranking is not None:
            mean = torch.stack(categories).mean(dim=0)
            prediction["category_scores"] = mean.float().cpu()
            prediction["category_ids"] = select_top(mean[None], self.ranking.test_kappa)[0].cpu()
        return prediction

    @property
    def _finds_tracks(self) -> bool:
        """Whether to predict tracks; the published code does so whatever the tasks are."""
        return self.tasks.instance or self.published_output

    def _clips(self, item: dict) -> Iterator[tuple[Clip, range]]:
        """Yield the clips of a video, each with its frames that are in no later clip."""
        num_frames = len(_frames(item))
        if not num_frames:
            raise UserError(f"{_name(item)} has no frames: leave it out of the data set.")
        images: list[Tensor] = []
        for frames, final in divide(num_frames, self.clip_frames, self.clip_overlap):
            for index in frames[len(images) :]:
                images.append(item["image"][index])
                if images[-1].shape != images[0].shape:
                    raise UserError(
                        f"{_name(item)} changes its size: frame {index} is "
                        f"{_size(images[-1])}, those before are {_size(images[0])}; cut it in "
                        "two there, or bring its frames to one size."
                    )
            yield self._predict_clip(images, frames, item), final
            images = images[len(final) :]

    def _predict_clip(self, images: Sequence[Tensor], frames: range, item: dict) -> Clip:
        """Return the queries' predictions for the frames of a clip."""
        padded = self.pad_images(images).tensor
        class_logits, mask_logits, ranked = self.predict(padded[None], [item])
        selected, categories = None, None
        if ranked is not None:
            selected = ranked.selected[0]
            # In double precision different high logits do not all round to 1.
            categories = ranked.category_logits[0].double().sigmoid()
        return Clip(
            frames,
            class_probabilities(class_logits[0]),
            mask_logits[0].float(),
            ImageSizes.of(padded.shape[-2:], images[0].shape[-2:], item),
            self.scored_classes(selected),
            categories,
        )


def _insert_frame(
    prediction: dict, frame_maps: dict[str, Tensor], index: int, num_frames: int
) -> None:
    """Copy maps (..., H, W) of a frame to its index in those of the video, (..., T, H, W)."""
    for name, maps in frame_maps.items():
        if name not in prediction:
            shape = (*maps.shape[:-2], num_frames, *maps.shape[-2:])
            prediction[name] = torch.empty(shape, dtype=maps.dtype)
        prediction[name][..., index, :, :] = maps


def _tracks(
    best: Sequence[tuple[int, int, float]],
    rle: Mapping[int, Mapping[int, str]],
    size: tuple[int, int],
    num_frames: int,
) -> dict[str, list]:
    """Return scores, labels and masks of tracks; masks are empty in frames without the track."""
    empty = encode_masks(torch.zeros(1, *size, dtype=torch.bool))[0]["counts"]
    return {
        "pred_scores": [score for _, _, score in best],
        "pred_labels": [label for _, label, _ in best],
        "pred_masks": [
            [
                {"size": [*size], "counts": rle[number].get(index, empty)}
                for index in range(num_frames)
            ]
            for number, _, _ in best
        ],
    }


def _published(prediction: dict) -> dict:
    """Return the prediction with masks (T, H, W) bool of the tracks instead of RLE."""
    return prediction | {"pred_masks": [decode_masks(track) for track in prediction["pred_masks"]]}


def _instances(tracker: Tracker, index: int, sizes: ImageSizes, min_score: float) -> list[dict]:
    """Return the tracks in a frame, see :meth:`VideoMaskFormer.stream`."""
    labels, (numbers, logits) = tracker.labels(), tracker.frame(index)
    confident = [row for row, number in enumerate(numbers) if labels[number][1] >= min_score]
    masks = sizes.resize_masks(logits[confident]) > 0
    return [
        {
            "track_id": numbers[row],
            "label": labels[numbers[row]][0],
            "score": labels[numbers[row]][1],
            "masks": mask[None],
        }
        for row, mask in zip(confident, masks, strict=True)
    ]


def _frames(item: dict) -> Sequence[Tensor]:
    """Return the frames of a video, and refuse an image (3, H, W), which has length 3 as well."""
    frames = item["image"]
    if getattr(frames, "ndim", None) == 3:
        raise UserError(
            f'VideoMaskFormer takes videos, but "image" is one image of {_size(frames)}: pass '
            "a list of frames, [image] for a video of one frame, or use a config for images."
        )
    return frames


def _name(item: dict) -> str:
    """Return the name of a video for error messages."""
    return f"the video {item.get('video_id') or next(iter(item.get('file_names', ())), '')}".strip()


def _size(image: Tensor) -> str:
    return " x ".join(str(side) for side in image.shape[:0:-1])
