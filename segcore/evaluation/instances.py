"""COCO's average precision of instance masks over a data set, computed by pycocotools."""

import contextlib
import io
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcore.annotations import AnnotatedImage, read_instance_file
from segcore.datasets import check_registered
from segcore.datasets.instance import our_category
from segcore.errors import UserError
from segcore.evaluation.report import write_report
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.outlines import encode_masks

logger = logging.getLogger(__name__)

# In the order of pycocotools; AP is the mean over IoU thresholds of 0.5 to 0.95 and the classes,
# s, m and l are small, medium and large objects, AR<n> is the recall of n predictions an image.
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class InstanceEvaluator(StatefulEvaluator):
    """Compute mask AP; predictions are kept as RLE.

    Scores do not depend on the number of processes, to the last digit.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        distributed: bool = True,
        output_dir: str | Path | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered data set whose metadata has ``json_file``, of COCO's instance
                format, and ``thing_dataset_id_to_contiguous_id``, from its category ids to the
                model's.
            distributed: gather the predictions of all processes; only the main one returns scores.
            output_dir: folder for ``instances_evaluation.json``; None writes nothing.

        Raises:
            UserError: the data set is unknown or has no such files.
        """
        check_registered([dataset_name])
        metadata = MetadataCatalog.get(dataset_name)
        for key in ("json_file", "thing_dataset_id_to_contiguous_id"):
            if not metadata.get(key):
                raise UserError(
                    f"dataset {dataset_name!r} has no instances: its metadata has no {key}"
                )
        self.dataset_name = dataset_name
        self.json_file = metadata.json_file
        self._ids = metadata.thing_dataset_id_to_contiguous_id  # the file's -> the model's
        self._category = {ours: theirs for theirs, ours in self._ids.items()}
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        self._num_images = 0
        self._predictions: list[dict] = []

    @cached_property
    def _ground_truth(self) -> "InstanceGroundTruth":
        return InstanceGroundTruth(self.dataset_name, self.json_file, self._ids)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keep a batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``, which have ``pred_masks`` (N, H, W), ``scores`` (N,)
                and ``pred_classes`` (N,), the model's.

        Raises:
            UserError: ground truth and prediction do not fit each other.
        """
        for item, output in zip(inputs, outputs, strict=True):
            image = self._ground_truth.image(item["image_id"])
            instances = output["instances"]
            if tuple(instances.pred_masks.shape[1:]) != (image.height, image.width):
                raise UserError(
                    f"image {image.id} has (height, width) {image.height, image.width} "
                    f"in {self.json_file}, but the prediction has "
                    f"{tuple(instances.pred_masks.shape[1:])}: the two must agree"
                )
            self._predictions += [
                {
                    "image_id": image.id,
                    "category_id": self._category_of(found),
                    "score": score,
                    "segmentation": mask,
                }
                for mask, score, found in zip(
                    encode_masks(instances.pred_masks),
                    instances.scores.tolist(),
                    instances.pred_classes.tolist(),
                    strict=True,
                )
            ]
            self._num_images += 1

    def evaluate(self) -> OrderedDict | None:
        """Return ``{"segm": {score: percent}}``; None in all but the main process.

        The scores are those of ``SCORES``, and ``AP-<class>``; nan without ground truth.
        """
        states = self.gather_states()
        if not states:
            return None
        num_images = sum(state["num_images"] for state in states)
        if num_images == 0:
            raise UserError(f"no image of dataset {self.dataset_name!r} was evaluated")
        predictions = [prediction for state in states for prediction in state["predictions"]]
        scores = average_precision(self._ground_truth, predictions)
        summary = ", ".join(f"{name} {scores[name]:.2f}" for name in SCORES)
        logger.info("%s, %d images: %s", self.dataset_name, num_images, summary)
        if self.output_dir is not None:
            report = {"dataset": self.dataset_name, "num_images": num_images, "scores": scores}
            write_report(self.output_dir / "instances_evaluation.json", report)
        return OrderedDict(segm=scores)

    def state(self) -> dict:
        return {"num_images": self._num_images, "predictions": self._predictions}

    def load_state(self, state: dict) -> None:
        self._num_images, self._predictions = state["num_images"], list(state["predictions"])

    def _category_of(self, predicted: int) -> int:
        category = self._category.get(predicted)
        if category not in self._ground_truth.categories:
            raise UserError(
                f"the model predicts an instance of class {predicted}, which is not in "
                f"{self.json_file}: give the model the classes of the data set "
                f"{self.dataset_name!r}"
            )
        return category


class InstanceGroundTruth:
    """A file of COCO's instance format, by image.

    Attributes:
        categories: the file's category id -> name.
    """

    def __init__(self, name: str, json_file: str | Path, ids: Mapping[int, int]) -> None:
        """
        Args:
            name: of the data set, for messages.
            json_file: annotated objects.
            ids: category ids of the file -> the model's.

        Raises:
            UserError: as :func:`segcore.annotations.read_instance_file`, or an object's category is
                not among ``ids``.
        """
        self.json_file = json_file
        self.categories, images = read_instance_file(json_file)
        for category in {each.category_id for image in images for each in image.objects}:
            our_category(name, json_file, category, ids)
        self._images = {image.id: image for image in images}
        in_order = sorted(self._images, key=lambda id: (isinstance(id, str), id))
        self.number = {id: number for number, id in enumerate(in_order)}

    def image(self, image_id: int | str) -> AnnotatedImage:
        """Return the image of an id.

        Raises:
            UserError: there is none.
        """
        image = self._images.get(image_id)
        if image is None:
            raise UserError(f"{self.json_file} has no image with the id {image_id!r}")
        return image

    def as_coco(self) -> COCO:
        """Return the ground truth as a pycocotools object, with new ids.

        Images are numbered in the order of their ids (``number``), in which pycocotools sorts equal
        scores; objects are numbered from 1, because in pycocotools 0 means "not matched".
        """
        pairs = [(image, each) for image in self._images.values() for each in image.objects]
        ground_truth = COCO()
        ground_truth.dataset = {
            "images": [
                {"id": self.number[image.id], "height": image.height, "width": image.width}
                for image in self._images.values()
            ],
            "categories": [{"id": id, "name": name} for id, name in self.categories.items()],
            "annotations": [
                {
                    "id": id,
                    "image_id": self.number[image.id],
                    "category_id": each.category_id,
                    "iscrowd": int(each.is_crowd),
                    "area": each.area,
                    "segmentation": each.outline,
                }
                for id, (image, each) in enumerate(pairs, start=1)
            ],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            ground_truth.createIndex()
        return ground_truth


def average_precision(
    ground_truth: InstanceGroundTruth, predictions: list[dict]
) -> dict[str, float]:
    """Return ``SCORES`` and ``AP-<class>`` in percent; nan without ground truth.

    Args:
        ground_truth: annotated objects.
        predictions: dicts with ``image_id``, ``category_id``, ``score`` and ``segmentation``.
    """
    known = ground_truth.as_coco()
    predictions = [
        prediction | {"image_id": ground_truth.number[prediction["image_id"]]}
        for prediction in predictions
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        if predictions:
            found = known.loadRes(predictions)
        else:  # loadRes raises an error for an empty list
            found = COCO()
            found.dataset = known.dataset | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(known, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: _percent(value) for name, value in zip(SCORES, evaluation.stats, strict=True)}
    # (thresholds, recalls, classes, object sizes, predictions per image); of all sizes, at most 100
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for k, category in enumerate(evaluation.params.catIds):
        defined = precision[:, :, k][precision[:, :, k] > -1]
        value = defined.mean() if defined.size else -1
        scores[f"AP-{ground_truth.categories[category]}"] = _percent(value)
    return scores


def _percent(value: float) -> float:
    """Return a score in percent; pycocotools' -1, for no ground truth, becomes nan."""
    return math.nan if value < 0 else 100 * float(value)
