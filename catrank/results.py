"""What a model predicts for an image: one kind of object for all tasks."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from catrank.exports.annotations import Annotation
from catrank.exports.datasets import coco_of, coco_panoptic_of, write_coco_panoptic
from catrank.exports.files import save_json
from catrank.exports.geojson import geojson_features
from catrank.exports.label_png import write_label_png
from catrank.exports.label_studio import label_studio_task
from catrank.exports.labelme import labelme_document
from catrank.exports.saving import save_result
from catrank.exports.supervision import supervision_detections
from segcore.drawing.segments import (
    NOTHING,
    Regions,
    Segment,
    class_regions,
    draw_regions,
    regions_legend,
    segment_regions,
)
from segcore.runtime.files import user_path
from segcore.vocabulary import Vocabulary

if TYPE_CHECKING:
    import supervision

NO_CLASS = -1
PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The segmentation of an image, or of a frame of a video.

    Semantic results have a segment for each class in the image; panoptic ones a segment for each
    object and each kind of background; instance ones a segment for each object, and objects may
    overlap. The same attributes describe all three.

    Shapes: (H, W) the image, N segments, T classes.

    Attributes:
        name: path or address of the image, or a number.
        image: (H, W, 3) uint8, RGB.
        vocabulary: the T classes.
        task: "semantic", "panoptic" or "instance".
        segment_ids: (H, W) int32, the ids of ``segments``, 0 = none; where objects overlap, that
            of the object with the highest score.
        segments: N of them, each with ``number`` (its id), ``class_id``, ``is_object`` and
            ``score``; objects by descending score.
        pixel_scores: (H, W) float32, the score of each pixel's class; None of tasks without.
        top_labels, top_scores: (k, H, W) int32 and float32, the k best classes of each pixel, best
            first, from a semantic model whose ``TEST.TOP_K`` is k > 1; else None.
        category_scores: (T,) float32, probability of each class to be in the image, from a model
            with RankSeg; else None.
        category_ids: (K,) int64, the classes that such a model kept for the image, the most
            probable first; else None.
        frame: index of the frame in its video; None of an image.
        tracked: whether ids stand for the same object in all frames.
    """

    name: str
    image: np.ndarray
    vocabulary: Vocabulary
    task: str
    segment_ids: np.ndarray
    segments: tuple[Segment, ...]
    object_masks: np.ndarray | None = None
    pixel_scores: np.ndarray | None = None
    top_labels: np.ndarray | None = None
    top_scores: np.ndarray | None = None
    category_scores: np.ndarray | None = None
    category_ids: np.ndarray | None = None
    frame: int | None = None
    tracked: bool = False

    @classmethod
    def semantic(
        cls,
        name: str,
        image: np.ndarray,
        vocabulary: Vocabulary,
        labels: np.ndarray,
        *,
        pixel_scores: np.ndarray | None = None,
        **more: Any,
    ) -> "Result":
        """Make a result of class ids (H, W), -1 = none; the score of a segment is the mean of its
        pixels' scores."""
        flat = labels.ravel() + 1
        count = len(vocabulary.label_names) + 1
        areas = np.bincount(flat, minlength=count)
        present = [number for number in range(1, count) if areas[number]]
        scores: dict[int, float] = {}
        if pixel_scores is not None:
            sums = np.bincount(flat, weights=pixel_scores.ravel(), minlength=count)
            scores = {number: float(sums[number] / areas[number]) for number in present}
        segments = tuple(
            Segment(number, number - 1, is_object=False, score=scores.get(number))
            for number in present
        )
        ids = flat.reshape(labels.shape).astype(np.int32, copy=False)
        return cls(
            name, image, vocabulary, "semantic", ids, segments, pixel_scores=pixel_scores, **more
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that ``labels`` and ``class_ids`` count."""
        return self.vocabulary.label_names

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.segment_ids.shape[0], self.segment_ids.shape[1]

    @cached_property
    def labels(self) -> np.ndarray:
        """Class id of each pixel, (H, W) int32; -1 = none."""
        last = max((segment.number for segment in self.segments), default=0)
        class_of = np.full(last + 1, NO_CLASS, dtype=np.int32)
        for segment in self.segments:
            class_of[segment.number] = segment.class_id
        class_of[NOTHING] = NO_CLASS
        return class_of[self.segment_ids]

    @property
    def class_ids(self) -> np.ndarray:
        """Class of each segment: (N,) int64."""
        return np.array([segment.class_id for segment in self.segments], dtype=np.int64)

    @property
    def scores(self) -> np.ndarray | None:
        """Score of each segment, 0 to 1: (N,) float32; None of a model that gives none."""
        scores = [segment.score for segment in self.segments]
        if any(score is None for score in scores):
            return None
        return np.array(scores, dtype=np.float32)

    @property
    def track_ids(self) -> np.ndarray | None:
        """Number of each segment's object in its video: (N,) int64; None where not tracked."""
        if not self.tracked:
            return None
        return np.array([segment.number for segment in self.segments], dtype=np.int64)

    def mask(self, index: int) -> np.ndarray:
        """The pixels of segment ``index``, whole where another covers it: (H, W) bool."""
        if self.object_masks is not None:
            return self.object_masks[index]
        return self.segment_ids == self.segments[index].number

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks of all segments, (N, H, W) bool: N times the pixels in bytes; see :meth:`mask`."""
        if self.object_masks is not None:
            return self.object_masks
        masks = [self.mask(index) for index in range(len(self))]
        return np.stack(masks) if masks else np.zeros((0, *self.size), dtype=bool)

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes of the masks, x0, y0, x1, y1 in pixels, x1 and y1 exclusive: (N, 4) float32."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for index in range(len(self)):
            mask = self.mask(index)
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if len(rows):
                boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes

    def __len__(self) -> int:
        """The number of segments."""
        return len(self.segments)

    def __repr__(self) -> str:
        present = {self.class_names[segment.class_id]: None for segment in self.segments}
        names = ", ".join([*present][:5]) + (", ..." if len(present) > 5 else "")
        height, width = self.size
        return (
            f"Result({self.name!r}, {self.task}, {width} x {height}, {len(self)} segments: {names})"
        )

    def top_categories(self, count: int = 10) -> list[tuple[str, float]]:
        """The most probable classes by ``category_scores``, best first; none without RankSeg."""
        if self.category_scores is None:
            return []
        order = np.argsort(-self.category_scores, kind="stable")[:count]
        return [(self.vocabulary.names[i], float(self.category_scores[i])) for i in order]

    @property
    def classes_kept(self) -> int | None:
        """How many classes could be predicted in the image; None without RankSeg."""
        return None if self.category_ids is None else len(self.category_ids)

    @property
    def last_probability(self) -> float | None:
        """Probability of the least probable class that was kept; None without RankSeg.

        A high one means that more classes may be in the image than were kept.
        """
        if self.category_ids is None or self.category_scores is None:
            return None
        return float(self.category_scores[self.category_ids[-1]])

    # ---- drawn -------------------------------------------------------------------------------

    def regions(self) -> Regions:
        """What is drawn onto the image: a colour a class, and of objects one each."""
        if self.task == "semantic":
            return replace(class_regions(self.labels, self.vocabulary), ignore_label=NO_CLASS)
        # Without tracks the ids change from frame to frame, and colours would flicker.
        tell_apart = self.frame is None or self.tracked
        return segment_regions(
            self.segment_ids, self.segments, self.vocabulary, tell_apart=tell_apart
        )

    def overlay(self, *, alpha: float = 0.55) -> Image.Image:
        """The image with colours, borders and names; ``alpha`` is the weight of the colours."""
        return Image.fromarray(draw_regions(self.image, self.regions(), alpha=alpha))

    def legend(self) -> Image.Image:
        """Colour, name and fraction of each class or object in the image, the largest first."""
        return Image.fromarray(regions_legend(self.regions()))

    # ---- files -------------------------------------------------------------------------------

    @property
    def isthing(self) -> tuple[bool, ...] | None:
        """Which classes are things and not stuff; None where nothing says so."""
        if self.task == "instance":
            return (True,) * len(self.class_names)
        if self.task == "semantic":
            return (False,) * len(self.class_names)
        return self.vocabulary.isthing

    @property
    def file_name(self) -> str:
        """The name of the image without its folder; of a frame its video's name and its number."""
        name = PurePath(self.name.partition("?")[0] if "://" in self.name else self.name).name
        if self.frame is not None:
            return f"{PurePath(name).stem}_{self.frame:06d}.png"
        return name if PurePath(name).suffix else f"{name}.png"

    def annotations(self) -> Iterator[Annotation]:
        """The segments with their masks and class names, as the exports take them."""
        for index, segment in enumerate(self.segments):
            yield Annotation(
                segment.number,
                segment.class_id,
                self.class_names[segment.class_id],
                self.mask(index),
                segment.is_object,
                segment.score,
            )

    def save(self, folder: PathLike, formats: Sequence[str] = ("overlay", "labels")) -> list[Path]:
        """Write files into a folder, which is made if absent, and return their paths.

        Args:
            folder: where they go; files of the same names are replaced.
            formats: names in ``catrank.exports.saving.FORMATS``.

        Raises:
            UserError: there is no such format, or a file cannot be written.
        """
        return save_result(self, folder, formats)

    def to_label_png(self, path: PathLike, *, segments: bool = False) -> None:
        """Write a 16-bit PNG of class ids, 65535 = none; or of segment ids, 0 = none."""
        write_label_png(self.segment_ids if segments else self.labels, user_path(path))

    def to_coco(self, path: PathLike | None = None, *, shapes: str = "rle") -> dict[str, Any]:
        """Return COCO's JSON, and write it; ``shapes`` are "rle" or "polygons".

        Many results in one file: :func:`catrank.exports.datasets.write_coco`.
        """
        return self._written(coco_of([self], shapes=shapes), path)

    def to_coco_panoptic(self, path: PathLike | None = None) -> dict[str, Any]:
        """Return COCO's panoptic JSON, and write it with the PNG of segment ids, which goes into
        the folder of the file's name without its ending."""
        if path is not None:
            write_coco_panoptic([self], user_path(path))
        return coco_panoptic_of([self])

    def to_labelme(
        self,
        path: PathLike | None = None,
        *,
        shapes: str = "polygons",
        embed_image: bool | None = None,
    ) -> dict[str, Any]:
        """Return LabelMe's JSON, and write it.

        Args:
            path: beside the image, where LabelMe finds it by its name; None writes nothing.
            shapes: "polygons" or "masks".
            embed_image: put the image into the file; None: where it is no file on this machine.
        """
        is_file = self.frame is None and Path(self.name).is_file()
        embed = not is_file if embed_image is None else embed_image
        image_path = self.file_name
        if is_file and path is not None:
            image_path = os.path.relpath(self.name, user_path(path).parent)
        document = labelme_document(
            self.annotations(),
            self.size,
            image_path,
            shapes=shapes,
            image=self.image if embed else None,
        )
        return self._written(document, path)

    def to_label_studio(
        self, path: PathLike | None = None, *, shapes: str = "brush", image: str | None = None
    ) -> dict[str, Any]:
        """Return a task of Label Studio with a prediction, and write it as a list of one.

        Args:
            path: of the file to import; None writes nothing.
            shapes: "brush" or "polygons".
            image: address of the image for the server; None: its name.
        """
        address = image or (self.name if "://" in self.name else self.file_name)
        task = label_studio_task(self.annotations(), self.size, address, shapes=shapes)
        self._written([task], path)
        return task

    def to_geojson(self, path: PathLike | None = None) -> dict[str, Any]:
        """Return a GeoJSON feature collection in pixels, and write it."""
        return self._written(geojson_features(self.annotations()), path)

    def to_supervision(self) -> "supervision.Detections":
        """Return detections of the package supervision, which has to be installed."""
        return supervision_detections(
            self.boxes,
            self.masks,
            self.class_ids,
            self.class_names,
            scores=self.scores,
            track_ids=self.track_ids,
        )

    @staticmethod
    def _written(content: Any, path: PathLike | None) -> Any:
        if path is not None:
            save_json(content, user_path(path), compact=True)
        return content
