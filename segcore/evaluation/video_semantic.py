"""Evaluate semantic segmentation of videos: the scores of VSPW, and the files for its server."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from torch import Tensor

from segcore.errors import UserError
from segcore.evaluation.consistency import VideoConsistency, consistency_scores
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.evaluation.submission import write_label_map
from segcore.images import read_labels
from segcore.runtime.files import join_inside
from segcore.videos import VOID, check_frame_size

logger = logging.getLogger(__name__)


class VideoSemanticEvaluator(SemanticEvaluator):
    """Compute the scores of :class:`SemanticEvaluator` over all frames, and consistency (VC).

    Videos are whole or in pieces; the pieces of a video have to follow each other, in one process.
    Scores do not depend on the number of processes, to the last digit. For a data set without label
    maps only the submission is written.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | Path | None = None,
        submission: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set of videos with VSPW's label maps: class id + 1;
                0 and 255 are ignored.
            distributed: add up the counts of all processes; only the main one returns scores.
            output_dir: folder for ``sem_seg_evaluation.json`` and the submission; None writes
                nothing.
            submission: write ``submission/<video>/<frame>.png`` also for a data set with label
                maps.

        Raises:
            UserError: the data set is unknown or not a semantic one.
        """
        self.submission = submission
        super().__init__(dataset_name, distributed=distributed, output_dir=output_dir)

    def reset(self) -> None:
        super().reset()
        self._consistency = VideoConsistency()
        self._next: tuple[int | str, int] | None = None  # video, and its next frame

    @cached_property
    def _label_files(self) -> dict[str, str]:
        """Frame -> label map; empty if the ground truth is not public."""
        return {
            frame: labels
            for video in DatasetCatalog.get(self.dataset_name)
            for frame, labels in zip(
                video["file_names"], video.get("sem_seg_file_names", ()), strict=False
            )
        }

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Count a batch of videos, or of pieces of videos.

        Args:
            inputs: dicts with ``video_id``, ``file_names`` (T) and, of pieces, ``first_frame``.
            outputs: dicts with ``sem_seg`` (C, T, H, W), scores, or ``sem_seg_labels`` (T, H, W),
                class ids; H and W are those of the label maps.

        Raises:
            UserError: as :meth:`SemanticEvaluator.process`; or the pieces are not in order.
        """
        for item, output in zip(inputs, outputs, strict=True):
            self._follow(item)
            labels = self._prediction(output)
            if len(labels) != len(item["file_names"]):
                raise UserError(
                    f"video {item['video_id']} has {len(item['file_names'])} frames, but the model "
                    f"returned {len(labels)}: one label map a frame is needed"
                )
            for frame, prediction in zip(item["file_names"], labels, strict=True):
                if self._label_files:
                    self._count(frame, prediction)
                self._num_images += 1
            if self.output_dir is not None and (self.submission or not self._label_files):
                self._submit(item, labels)

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"sem_seg": {score: percent}}``, or {} if the ground truth is not public; None
        in all but the main process."""
        if self._label_files:
            return super().evaluate()
        self.gather_states()  # waits until all processes have written their files
        logger.info(
            "%s has no label maps, so there are no scores: the server of the benchmark computes "
            "them from %s",
            self.dataset_name,
            "the submission" if self.output_dir is None else self.output_dir / "submission",
        )
        return OrderedDict()

    def state(self) -> dict:
        return super().state() | {"consistency": self._consistency.state(), "next": self._next}

    def load_state(self, state: dict) -> None:
        super().load_state(state)
        self._consistency.load_state(state["consistency"])
        self._next = state["next"]

    def _follow(self, item: dict) -> None:
        """Check that a piece follows the previous one of its video."""
        video, frame = item["video_id"], item.get("first_frame", 0)
        if frame == 0:
            self._consistency.begin_video()
        elif (video, frame) != self._next:
            raise UserError(
                f"frame {frame} of video {video} does not follow the one before it: evaluate "
                "the pieces of a video in their order and in one process"
            )
        self._next = (video, frame + len(item["file_names"]))

    def _count(self, frame: str, prediction: Tensor) -> None:
        path = self._label_files.get(frame)
        if path is None:
            raise UserError(f"{frame} is no frame of dataset {self.dataset_name!r}")
        stored = torch.from_numpy(read_labels(path).astype(np.int64))
        check_frame_size(path, stored.shape, prediction.shape)
        stored = stored.to(prediction.device)
        ground_truth = self._class_ids(stored, path)
        self._add("regions", prediction, ground_truth)
        # The benchmark compares stored values, including those of no class.
        self._consistency.add(stored, prediction)

    def _class_ids(self, stored: Tensor, path: str) -> Tensor:
        """Return a label map (H, W) as class ids, K for pixels without a class."""
        known = (stored >= 1) & (stored <= self.num_classes)
        wrong = ~known & ~torch.isin(stored, torch.tensor(VOID, device=stored.device))
        if wrong.any():
            raise UserError(
                f"the label map {path} holds the value {stored[wrong][0]}, but a video's labels "
                f"are 1 to {self.num_classes} for the classes, and 0 or 255 for none"
            )
        return torch.where(known, stored - 1, self.num_classes)

    def _scores(self, states: Sequence[dict]) -> dict[str, float]:
        consistency = consistency_scores([state["consistency"] for state in states])
        scores = super()._scores(states)
        # Before the scores of single classes, for readers.
        return {"mIoU": scores.pop("mIoU")} | consistency | scores

    def _submit(self, item: dict, labels: Tensor) -> None:
        name = str(item["video_id"])
        folder = join_inside(self.output_dir / "submission", name, "the name of a video")
        for frame, prediction in zip(item["file_names"], labels.cpu(), strict=True):
            write_label_map(folder / f"{Path(frame).stem}.png", prediction.numpy())
