"""A trained model as a function from an image to a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from torch import Tensor, nn

import segcore.datasets  # noqa: F401  names of the classes of the benchmarks
from segcore.checkpoint import Checkpointer
from segcore.config import TASK_SWITCHES, task_switches
from segcore.datasets.class_names import compare_names, names_of
from segcore.datasets.custom import register_custom_datasets
from segcore.drawing.segments import Segment, paint_masks
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, distinct_colors

# The tasks of a model that has several, the most detailed first: the first one is predicted.
TASKS = {"panoptic": "PANOPTIC_ON", "instance": "INSTANCE_ON", "semantic": "SEMANTIC_ON"}


@dataclass(frozen=True)
class Prediction:
    """The prediction for an image.

    Attributes:
        labels: (H, W) int64: class ids, or segment ids where there are `segments` (0 = no segment).
        segments: of a panoptic or instance model; None of a semantic model.
        masks: of an instance model, which overlap: (N, H, W) bool in the order of `segments`.
        category_scores: probability of each class to be in the image; None without RankSeg.
    """

    labels: np.ndarray
    segments: tuple[Segment, ...] | None = None
    masks: np.ndarray | None = None
    category_scores: Sequence[float] | None = None


class Segmenter:
    """Segments images: with any vocabulary, or with the classes of a closed-vocabulary model.

    Args:
        cfg: a complete config; every parameter of the checkpoint MODEL.WEIGHTS must fit.
        vocabulary: the classes; None: those of the config or of its first data set.
        min_score: objects with a lower score are dropped.

    Raises:
        UserError: no checkpoint is named, it is not of this model, or nothing names the classes.
    """

    def __init__(
        self, cfg: CfgNode, vocabulary: Vocabulary | None = None, min_score: float = 0.5
    ) -> None:
        self.cfg = cfg
        self.model = build_model(_single_task(cfg)).eval()
        Checkpointer(self.model).load_for_use(cfg.MODEL.WEIGHTS)
        self.vocabulary = settle_vocabulary(self.model, cfg, vocabulary)
        self.min_score = min_score
        self.format = cfg.INPUT.FORMAT
        self.resize = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )

    @property
    def reads_videos(self) -> bool:
        """Whether the model takes videos instead of single images."""
        return hasattr(self.model, "stream")

    def prepare(self, image: np.ndarray) -> Tensor:
        """Resize an image (H, W, 3) uint8, RGB, to the model's input (3, h, w) uint8."""
        transform = self.resize.get_transform(image)
        # The limit on the longer side takes the shorter one of a very thin image below a pixel.
        transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        resized = transform.apply_image(image)
        ordered = resized if self.format == "RGB" else resized[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(ordered.transpose(2, 0, 1)))

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, vocabulary: Vocabulary | None = None) -> Prediction:
        """Segment an image.

        Args:
            image: (H, W, 3) uint8, RGB.
            vocabulary: of this call alone, for threads that share the model; None:
                ``self.vocabulary``.

        Raises:
            UserError: the model has a closed vocabulary.
        """
        height, width = image.shape[:2]
        request = {"image": self.prepare(image), "height": height, "width": width}
        if vocabulary is not None:
            if not hasattr(self.model, "set_vocabulary"):
                raise UserError("this model knows only the classes of its training set")
            request["vocabulary"] = vocabulary
        prediction = self.model([request])[0]
        scores = prediction.get("category_scores")
        categories = None if scores is None else scores.tolist()
        if "panoptic_seg" in prediction:
            numbers, segments = prediction["panoptic_seg"]
            listed = tuple(Segment(s["id"], s["category_id"], s["isthing"]) for s in segments)
            return Prediction(_numpy(numbers), listed, category_scores=categories)
        if "instances" in prediction:
            return self._objects(prediction["instances"], categories)
        labels = self.label_map(prediction["sem_seg_labels"], vocabulary)
        return Prediction(labels, category_scores=categories)

    def label_map(self, labels: Tensor, vocabulary: Vocabulary | None = None) -> np.ndarray:
        """Return class ids (H, W) in which all prompts of the background are one class."""
        background = (vocabulary or self.vocabulary).background
        return _numpy(labels if background is None else labels.clamp(max=background.first))

    def _objects(self, found, categories: Sequence[float] | None) -> Prediction:
        """Convert those of Detectron2's ``Instances`` whose score reaches ``min_score``."""
        found = found[(found.scores >= self.min_score) & found.pred_masks.flatten(1).any(dim=1)]
        classes, scores = found.pred_classes.tolist(), found.scores.tolist()
        segments = tuple(
            Segment(number, class_id, score=score)
            for number, (class_id, score) in enumerate(zip(classes, scores, strict=True), 1)
        )
        masks = found.pred_masks.cpu().numpy()
        labels = paint_masks(masks, range(1, len(segments) + 1))
        return Prediction(labels, segments, masks, categories)


def settle_vocabulary(
    model: nn.Module, cfg: CfgNode, vocabulary: Vocabulary | None = None
) -> Vocabulary:
    """Return the vocabulary of the predictions; an open-vocabulary model is set to it.

    Raises:
        UserError: nothing names the classes, or their number is not that of the model.
    """
    if hasattr(model, "set_vocabulary"):
        if vocabulary is not None:
            model.set_vocabulary(vocabulary)
        if model.vocabulary is None:
            raise UserError("the config names no classes: give some by --vocabulary")
        return model.vocabulary
    given = vocabulary is not None
    vocabulary = vocabulary or _data_set_vocabulary(cfg)
    if len(vocabulary) != (number := cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES):
        raise UserError(
            f"{vocabulary.name!r} has {len(vocabulary)} names, but MODEL.SEM_SEG_HEAD.NUM_CLASSES "
            f"is {number}: this model knows only the classes of its training set, so leave out "
            "--vocabulary or name them in their order"
        )
    if given:
        _check_order(vocabulary, cfg)
    return vocabulary


def _check_order(vocabulary: Vocabulary, cfg: CfgNode) -> None:
    """Compare the names given for a closed vocabulary with those of the data set, if it has any.

    Raises:
        UserError: they are in another order.
    """
    try:
        known = _data_set_vocabulary(cfg)
    except UserError:  # the user's names are the only ones
        return
    if len(known) == len(vocabulary):
        compare_names(names_of(vocabulary.names), names_of(known.names), "--vocabulary")


def _data_set_vocabulary(cfg: CfgNode) -> Vocabulary:
    """Return the classes of the first test data set: those of a closed-vocabulary model."""
    register_custom_datasets(cfg)
    for name in cfg.DATASETS.TEST[:1]:
        metadata = MetadataCatalog.get(name)
        kinds = [kind for kind in ("stuff", "thing") if metadata.get(f"{kind}_classes")]
        if not kinds:
            break
        # The metadata of a panoptic data set may list things and stuff apart, or all of them.
        count = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        kind = max(kinds, key=lambda kind: len(metadata.get(f"{kind}_classes")) == count)
        names = tuple(metadata.get(f"{kind}_classes"))
        colors = metadata.get(f"{kind}_colors") or distinct_colors(len(names))
        return Vocabulary(
            name=name,
            names=names,
            synonyms=((),) * len(names),
            prompts=names,
            colors=tuple(tuple(color) for color in colors),
        )
    raise UserError(
        "nothing names the classes of this model: set DATASETS.TEST to its data set, or give "
        f"--vocabulary with its {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES} names in their order"
    )


def _single_task(cfg: CfgNode) -> CfgNode:
    """Return a copy for a model that predicts one task, and labels instead of scores."""
    cfg = cfg.clone()
    options = ["TEST.SEM_SEG_OUTPUT", "labels"]
    if switches := task_switches(cfg):
        task = next((task for task, key in TASKS.items() if switches[key]), None)
        if task is None:
            raise UserError(
                f"{TASK_SWITCHES} switches every task off: set SEMANTIC_ON, INSTANCE_ON or "
                "PANOPTIC_ON to True"
            )
        for other, key in TASKS.items():
            options += [f"{TASK_SWITCHES}.{key}", other == task]
    cfg.merge_from_list(options)
    return cfg


def _numpy(labels: Tensor) -> np.ndarray:
    return labels.cpu().numpy().astype(np.int64, copy=False)
