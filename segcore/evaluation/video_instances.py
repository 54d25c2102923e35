"""Evaluate tracks of masks: the scores of YouTube-VIS, and the file for its server."""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from segcore.annotations import AnnotatedVideo, read_track_file
from segcore.datasets import check_registered
from segcore.datasets.instance import our_category
from segcore.errors import UserError
from segcore.evaluation.report import write_report
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.evaluation.submission import PredictionFile, join_predictions
from segcore.evaluation.tracks import SCORES, Matches, Track, average_precision, match_video
from segcore.outlines import merged_rle

logger = logging.getLogger(__name__)


class VideoInstanceEvaluator(StatefulEvaluator):
    """Compute AP and AR of tracks; matches are kept, and no masks.

    Scores do not depend on the number of processes, to the last digit. For a data set without
    annotations only the submission is written.
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
            dataset_name: a registered data set whose metadata has ``json_file``, of YouTube-VIS's
                format, ``thing_classes`` and ``thing_dataset_id_to_contiguous_id``, from the file's
                category ids to the model's.
            distributed: gather the matches of all processes; only the main one returns scores.
            output_dir: folder for ``video_instances_evaluation.json`` and the submission; None
                writes nothing.
            submission: write ``results.json`` also for a data set with annotations.

        Raises:
            UserError: the data set is unknown or has no such file.
        """
        check_registered([dataset_name])
        metadata = MetadataCatalog.get(dataset_name)
        for key in ("json_file", "thing_classes", "thing_dataset_id_to_contiguous_id"):
            if not metadata.get(key):
                raise UserError(
                    f"dataset {dataset_name!r} has no tracks: its metadata has no {key}"
                )
        self.dataset_name = dataset_name
        self.json_file = metadata.json_file
        self.class_names = list(metadata.thing_classes)
        self._ids = metadata.thing_dataset_id_to_contiguous_id  # the file's -> the model's
        self._category = {ours: theirs for theirs, ours in self._ids.items()}
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.submission = submission
        self.reset()

    def reset(self) -> None:
        self._num_videos = 0
        self._matches: list[Matches] = []
        rank, number = comm.get_rank(), comm.get_world_size()
        self._predictions = PredictionFile(self.output_dir or Path(), rank, number)

    @cached_property
    def _ground_truth(self) -> "VideoGroundTruth":
        return VideoGroundTruth(self.dataset_name, self.json_file, self._ids)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Match a batch of videos.

        Args:
            inputs: dicts with ``video_id``.
            outputs: dicts with ``pred_scores`` and ``pred_labels``, lists of N numbers, and
                ``pred_masks``, N lists of T RLE masks in the size of the video.

        Raises:
            UserError: ground truth and prediction do not fit each other.
        """
        for item, output in zip(inputs, outputs, strict=True):
            video = self._ground_truth.video(item["video_id"])
            predictions = [
                {
                    "video_id": video.id,
                    "category_id": self._category_of(label),
                    "score": float(score),
                    "segmentations": self._fitting(masks, video),
                }
                for score, label, masks in zip(
                    output["pred_scores"], output["pred_labels"], output["pred_masks"], strict=True
                )
            ]
            if self._ground_truth.annotated:
                self._match(video, predictions)
            if self._writes_predictions:
                self._predictions.add(self._ground_truth.index_in_file[video.id], predictions)
            self._num_videos += 1

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"segm": {score: percent}}``, or {} if the ground truth is not public; None in
        all but the main process.

        The scores are those of :func:`segcore.evaluation.tracks.average_precision`.
        """
        states = self.gather_states()
        if not states:
            return None
        num_videos = sum(state["num_videos"] for state in states)
        if num_videos == 0:
            raise UserError(f"no video of dataset {self.dataset_name!r} was evaluated")
        if self._writes_predictions:
            path = join_predictions(self.output_dir, [state["predictions"] for state in states])
            logger.info("%s: wrote %s for the server of the benchmark", self.dataset_name, path)
        if not self._ground_truth.annotated:
            logger.info("%s has no annotations, so there are no scores", self.json_file)
            return OrderedDict()
        matches = Matches.joined([Matches(**state["matches"]) for state in states])
        scores = average_precision(matches, self.class_names)
        summary = ", ".join(f"{name} {scores[name]:.2f}" for name in SCORES)
        logger.info("%s, %d videos: %s", self.dataset_name, num_videos, summary)
        if self.output_dir is not None:
            report = {"dataset": self.dataset_name, "num_videos": num_videos, "scores": scores}
            write_report(self.output_dir / "video_instances_evaluation.json", report)
        return OrderedDict(segm=scores)

    def state(self) -> dict:
        self._matches = [Matches.joined([Matches.none(len(self.class_names)), *self._matches])]
        return {
            "num_videos": self._num_videos,
            "matches": vars(self._matches[0]),
            "predictions": self._predictions.size,
        }

    def load_state(self, state: dict) -> None:
        self._num_videos = state["num_videos"]
        self._matches = [Matches(**state["matches"])]
        self._predictions.resume_at(state["predictions"])

    @property
    def _writes_predictions(self) -> bool:
        return self.output_dir is not None and (self.submission or not self._ground_truth.annotated)

    def _match(self, video: AnnotatedVideo, predictions: list[dict]) -> None:
        found = defaultdict(list)
        for prediction in predictions:
            track = Track.of(prediction["segmentations"], score=prediction["score"])
            found[self._ids[prediction["category_id"]]].append(track)
        objects = self._ground_truth.objects(video)
        index = self._ground_truth.index_by_id[video.id]
        self._matches.append(match_video(index, found, objects, len(self.class_names)))

    def _category_of(self, predicted: int) -> int:
        category = self._category.get(int(predicted))
        if category is None:
            raise UserError(
                f"the model predicts a track of class {predicted}, which is not in "
                f"{self.json_file}: give the model the classes of the data set "
                f"{self.dataset_name!r}"
            )
        return category

    def _fitting(self, masks: Sequence[dict], video: AnnotatedVideo) -> list[dict[str, Any]]:
        """Return the masks of a prediction; raise UserError if they do not fit the video."""
        wanted = [[video.height, video.width]] * len(video.paths)
        sizes = [list(mask["size"]) for mask in masks]
        if sizes != wanted:
            raise UserError(
                f"video {video.id} has {len(video.paths)} frames of (height, width) "
                f"{(video.height, video.width)} in {self.json_file}, but the model predicts "
                f"{len(sizes)} masks of {sorted({tuple(size) for size in sizes})}: the two "
                "must agree"
            )
        return list(masks)


class VideoGroundTruth:
    """A file of YouTube-VIS's format, by video.

    Attributes:
        annotated: whether there are annotations; files of private ground truth have none.
        index_in_file, index_by_id: id of a video -> its index in the file, and in the order of ids,
            strings after numbers.
    """

    def __init__(self, name: str, json_file: str | Path, ids: Mapping[int, int]) -> None:
        """
        Args:
            name: of the data set, for messages.
            json_file: videos and tracks.
            ids: category ids of the file -> the model's.

        Raises:
            UserError: as :func:`segcore.annotations.read_track_file`, or a category is not among
                ``ids``.
        """
        videos, tracks = read_track_file(json_file, Path())  # no frame is opened
        self.json_file, self.annotated = json_file, tracks is not None
        self._videos = {video.id: video for video in videos}
        self._tracks = defaultdict(list)
        for track in tracks or ():
            category = our_category(name, json_file, track.category_id, ids)
            self._tracks[track.video_id].append((category, track))
        in_order = sorted(self._videos, key=lambda id: (isinstance(id, str), id))
        self.index_in_file = {id: index for index, id in enumerate(self._videos)}
        self.index_by_id = {id: index for index, id in enumerate(in_order)}

    def video(self, video_id: int | str) -> AnnotatedVideo:
        """Return the video of an id.

        Raises:
            UserError: there is none.
        """
        video = self._videos.get(video_id)
        if video is None:
            raise UserError(f"{self.json_file} has no video with the id {video_id!r}")
        return video

    def objects(self, video: AnnotatedVideo) -> dict[int, list[Track]]:
        """Return the objects of a video, by the model's ids of their categories."""
        objects, size = defaultdict(list), (video.height, video.width)
        for category, track in self._tracks[video.id]:
            masks = [outline and merged_rle(outline, size) for outline in track.outlines]
            objects[category].append(
                Track.of(masks, stated_areas=track.areas, crowd=track.is_crowd)
            )
        return objects
