"""The base of the mappers of videos.

Shapes: (H, W) the frames as stored, (h, w) as the model sees them, T frames, N objects.
"""

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.structures import Instances

from segcore.datasets.presence import shown_in_video
from segcore.mappers.clip_augmentations import clip_augmentations
from segcore.mappers.sampling import ClipSampler
from segcore.mappers.segmentation import SegmentationMapper, make_instances
from segcore.videos import Frames, read_frame

GROUND_TRUTH = ("sem_seg_file_names", "frame_annotations")
ABSENT = -1  # id of an object in frames that do not show it


class VideoMapper(SegmentationMapper):
    """Read a clip of a video and its ground truth, or in testing all frames of the video.

    In training some frames are drawn, and all of them get the random transform of the first one.
    In testing frames are only resized, and decoded on access. Subclasses read the ground truth.
    """

    of_videos = True

    @configurable
    def __init__(self, *, sampler: ClipSampler, **arguments: object) -> None:
        """
        Args:
            sampler: draws the frames of a clip.
            arguments: those of :class:`SegmentationMapper`.
        """
        super().__init__(**arguments)
        self.sampler = sampler

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict:
        """Return the constructor's arguments from a config."""
        arguments = super().from_config(cfg, is_train, clip_augmentations)
        return arguments | {"sampler": ClipSampler.from_config(cfg)}

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``file_names``, ``height``, ``width``, ``length``, ``video_id``, and
                in training ground truth.

        Returns:
            the entries of ``dataset_dict`` without its ground truth, with ``image``: T frames (3,
            h, w) uint8. In training ``file_names`` and ``length`` are those of the clip, and
            ``instances`` has for each frame the same N objects in the same order, those in any of
            the frames: ``gt_classes`` (N,) int64, ``gt_masks`` (N, h, w) bool, and ``gt_ids`` (N,)
            int64, the object's index or, with an empty mask, ``ABSENT``. In testing for an oracle
            ``instances`` has ``gt_classes`` alone, the classes of the video.

        Raises:
            UserError: a file cannot be read, is of another size than the video, or the ground truth
                does not fit.
        """
        self.check_record(dataset_dict)
        output = {key: value for key, value in dataset_dict.items() if key not in GROUND_TRUTH}
        if self.is_train:
            return output | self._read_clip(dataset_dict)
        frames = Frames(
            dataset_dict["file_names"],
            image_format=self.image_format,
            size=_size(dataset_dict),
            resize=partial(_augmented, self.augmentations),
        )
        output["image"] = frames
        if self.adds_gt_classes:
            shown = shown_in_video(dataset_dict, self.num_classes, self.ignore_label)
            objects = Instances(_size(dataset_dict), gt_classes=torch.from_numpy(shown))
            output["instances"] = [objects] * len(frames)
        return output

    def _read_clip(self, dataset_dict: dict) -> dict:
        chosen = self.sampler(dataset_dict["length"])
        paths = [dataset_dict["file_names"][frame] for frame in chosen]
        images = [read_frame(path, _size(dataset_dict), self.image_format) for path in paths]
        inputs = T.AugInput(images[0])
        transforms = self.augmentations(inputs)
        images = [inputs.image, *map(transforms.apply_image, images[1:])]
        size = inputs.image.shape[:2]
        objects = [self.objects(dataset_dict, frame, transforms, size) for frame in chosen]
        return {
            "image": [self.pad_image(image) for image in images],
            "instances": self._align(objects, size),
            "file_names": paths,
            "length": len(paths),
        }

    def objects(
        self,
        dataset_dict: dict,
        frame: int,
        transforms: T.TransformList,
        size: tuple[int, int],
    ) -> dict[tuple[Hashable, int], np.ndarray]:
        """Return the objects of a frame.

        Args:
            dataset_dict: of the video.
            frame: its index.
            transforms: those of the image.
            size: (h, w) of the image after them.

        Returns:
            (identity of the object, its class) -> its mask (h, w) bool, possibly empty.
        """
        raise NotImplementedError

    def _align(
        self, frames: Sequence[dict[tuple[Hashable, int], np.ndarray]], size: tuple[int, int]
    ) -> list[Instances]:
        """Return for every frame all objects of the clip, in the same order."""
        seen = dict.fromkeys(key for frame in frames for key, mask in frame.items() if mask.any())
        aligned = []
        for frame in frames:
            masks = np.zeros((len(seen), *size), dtype=bool)
            for index, key in enumerate(seen):
                masks[index] = frame.get(key, False)
            objects = make_instances(
                [label for _, label in seen], self.pad(torch.from_numpy(masks), 0)
            )
            shown = objects.gt_masks.flatten(1).any(dim=1)
            objects.gt_ids = torch.where(shown, torch.arange(len(seen)), ABSENT)
            aligned.append(objects)
        return aligned


def _size(dataset_dict: dict) -> tuple[int, int]:
    return dataset_dict["height"], dataset_dict["width"]


def _augmented(augmentations: T.AugmentationList, image: np.ndarray) -> np.ndarray:
    inputs = T.AugInput(image)
    augmentations(inputs)
    return inputs.image
