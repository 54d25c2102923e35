"""The meta-architecture ``PerPixelSegmenter``: images in, a semantic prediction out.

Source: He et al., "RankSeg: Adaptive Pixel Classification with Image Category Ranking for
Segmentation", ECCV 2022, and the papers of its hosts, which the decode heads name.

Shapes: B images, K classes.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from segcore.checkpoint.vocabulary import carry_vocabulary
from segcore.checkpoint.weights import guard
from segcore.config.numerics import precision_from_config, refuse_compile
from segcore.config.rankseg import only_present
from segcore.datasets.model_classes import HasClasses, ModelClasses, classes_from_config
from segcore.errors import UserError, printable
from segcore.inference.precision import FLOAT32, Precision, in_precision
from segcore.inference.predictions import SCORES, PredictionKind
from segcore.rankseg.oracle import instance_classes, presence_in_ground_truth
from segcore.rankseg.selection import presence

from .checkpoint import rename_published, spare_auxiliary
from .config import build_decode_head
from .heads import DecodeHead, PixelScores
from .inference import Crop, Sliding, UnmergedPixels, predict_crops
from .losses import accuracy, precision, recalls
from .pixel_builders import build_auxiliary_head
from .ranking import given_logits

LOG_PERIOD = 20  # iterations from one entry of the statistics to the next, as Detectron2's writers


@META_ARCH_REGISTRY.register()
class PerPixelSegmenter(HasClasses, nn.Module):
    """A backbone and a decode head that classifies pixels, optionally with RankSeg."""

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        decode_head: DecodeHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        auxiliary_head: DecodeHead | None = None,
        auxiliary_weight: float = 0.0,
        ignore_label: int = 255,
        sliding: Sliding | None = None,
        align_corners: bool = False,
        prediction_kind: PredictionKind = SCORES,
        precision: Precision = FLOAT32,
        classes: ModelClasses | None = None,
        only_present: bool = False,
        oracle: bool = False,
        independent: bool = False,
    ) -> None:
        """
        Args:
            backbone: images -> feature maps by name.
            decode_head: feature maps -> scores of classes at every pixel.
            pixel_mean, pixel_std: per channel, 0..255.
            auxiliary_head: adds a loss in training; None: none.
            auxiliary_weight: of its loss.
            ignore_label: label of training pixels without a class.
            sliding: the windows of inference; None: whole images.
            align_corners: resize scores with aligned corners.
            prediction_kind: form of the prediction.
            precision: of the network, for predictions.
            classes: their names.
            only_present: oracle: at inference, predict classes of the ground truth only.
            oracle: the decode head selects the classes of the ground truth.
            independent: the decode head selects classes by the logits of another model.
        """
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head
        self.auxiliary_weight = auxiliary_weight
        self.ignore_label = ignore_label
        self.sliding = sliding or Sliding()
        self.align_corners = align_corners
        self.prediction_kind, self.precision = prediction_kind, precision
        self.classes = classes or ModelClasses()
        self.only_present = only_present
        self.oracle, self.independent = oracle, independent
        # Multi-label logits and ground truth of the last training batch, for logging.
        self.category_predictions: tuple[Tensor, Tensor] | None = None
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)
        carry_vocabulary(self)
        self.register_load_state_dict_pre_hook(rename_published)
        self.register_load_state_dict_pre_hook(spare_auxiliary)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        refuse_compile(cfg)
        backbone = build_backbone(cfg)
        shapes, node = backbone.output_shape(), cfg.MODEL.PER_PIXEL
        return {
            "backbone": backbone,
            "decode_head": build_decode_head(cfg, shapes),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "auxiliary_head": build_auxiliary_head(cfg, shapes),
            "auxiliary_weight": node.AUXILIARY.WEIGHT,
            "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "sliding": Sliding(
                *map(tuple, (node.TEST.WINDOW, node.TEST.STRIDE, node.TEST.CANVAS)),
                section="MODEL.PER_PIXEL.TEST",
            ),
            "align_corners": node.ALIGN_CORNERS,
            "prediction_kind": PredictionKind(cfg.TEST.SEM_SEG_OUTPUT, cfg.TEST.TOP_K),
            "precision": precision_from_config(cfg),
            "classes": classes_from_config(cfg),
            "only_present": only_present(cfg),
            "oracle": cfg.MODEL.RANKSEG.FLAG and cfg.MODEL.RANKSEG.ORACLE,
            "independent": cfg.MODEL.RANKSEG.FLAG and cfg.MODEL.RANKSEG.INDEPENDENT.FLAG,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def num_classes(self) -> int:
        return self.decode_head.num_classes

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Segment images, or in training return the losses.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), 0..255, of any size; "height" and
                "width" of the prediction, by default those of "image". Training reads "sem_seg"
                (H, W) int64; the oracles read "instances" with ``gt_classes`` (N,), the independent
                scheme "category_logits" (K,) of the whole image.
        Returns:
            training: the losses by name, among them "loss_seg", with RankSeg "loss_ml", and
            "loss_aux" of the auxiliary head.
            inference: one dict an image: "sem_seg" (K, height, width) or "sem_seg_labels" (height,
            width), as ``prediction_kind`` says. With RankSeg also "category_scores" (K,),
            probabilities that a class is in the image (of several windows their maximum), and
            "category_ids" (m,), the classes that any window selects, the most probable first.
        """
        if self.training:
            return self._losses(batched_inputs)
        predictions = []
        for unmerged in self.unmerged_predictions(batched_inputs):
            prediction = unmerged.prediction(self.prediction_kind)
            if unmerged.category_scores is not None:
                prediction["category_scores"] = unmerged.category_scores
                prediction["category_ids"] = unmerged.category_ids
            predictions.append(prediction)
        return predictions

    @torch.no_grad()
    def unmerged_predictions(self, batched_inputs: list[dict]) -> list[UnmergedPixels]:
        """Return un-merged predictions, for test-time augmentation; inputs as of :meth:`forward`.

        Images of one size, or windows of one size, pass through the network together; others are
        not padded to each other.
        """
        present = None
        if self.only_present or self.oracle:
            present = presence_in_ground_truth(batched_inputs, instance_classes, self.num_classes)
            present = present.to(self.device)
        selecting = self._given_logits(batched_inputs) if self.independent else present

        def predict(pixels: Tensor, indices: Sequence[int]) -> PixelScores:
            of_crops = None if selecting is None else selecting[list(indices)]
            return self._score(pixels, of_crops)

        images = [self.normalise(item["image"]) for item in batched_inputs]
        crops = predict_crops(predict, images, self.sliding, self.decode_head.num_columns)
        return [
            self._unmerged(crops[index], image, item, present[index] if self.only_present else None)
            for index, (image, item) in enumerate(zip(images, batched_inputs, strict=True))
        ]

    @in_precision
    def _score(self, pixels: Tensor, selecting: Tensor | None) -> PixelScores:
        """Return the scores of crops (b, 3, H, W), normalised; see :class:`DecodeHead`."""
        return self.decode_head(self.backbone(pixels), selecting)

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise an image (3, H, W), 0..255."""
        image = (image.to(self.device) - self.pixel_mean) / self.pixel_std
        return image.to(self.pixel_mean.dtype)

    def _unmerged(
        self, crops: Sequence[Crop], image: Tensor, item: dict, allowed: Tensor | None
    ) -> UnmergedPixels:
        """Return the prediction of an image; ``allowed`` (K,) bool restricts its classes."""
        size = tuple(image.shape[-2:])
        classes = torch.arange(self.num_classes, device=self.device)
        if self.decode_head.scores_classes:
            if allowed is not None:
                crops = [crop.restricted(allowed) for crop in crops]
            classes = torch.cat([crop.columns for crop in crops]).unique()
        elif allowed is not None:
            classes = allowed.nonzero()[:, 0]
        return UnmergedPixels(
            self.decode_head,
            crops,
            size,
            (item.get("height", size[0]), item.get("width", size[1])),
            classes,
            self.align_corners,
        )

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        images = ImageList.from_tensors(
            [self.normalise(item["image"]) for item in batched_inputs]
        ).tensor
        labels = self._labels(batched_inputs)
        present = presence(list(labels), self.num_classes)
        features = self.backbone(images)
        selecting = self._given_logits(batched_inputs) if self.independent else present
        losses, scores = self.decode_head.losses(features, labels, selecting)
        if self.auxiliary_head is not None:
            auxiliary, _ = self.auxiliary_head.losses(features, labels, present)
            losses["loss_aux"] = self.auxiliary_weight * sum(auxiliary.values())
        self.category_predictions = None
        if scores.category_logits is not None and not self.oracle:
            self.category_predictions = scores.category_logits.detach(), present
        self._log(scores, labels, present)
        return losses

    def _given_logits(self, batched_inputs: list[dict]) -> Tensor:
        """Return the logits (B, K) of the independent classifier."""
        return given_logits(batched_inputs, self.num_classes).to(self.device)

    def _labels(self, batched_inputs: list[dict]) -> Tensor:
        """Return the label maps, padded like the images: (B, H, W) int64.

        Raises:
            UserError: an image has none, or one with a label that is no class.
        """
        maps = []
        for item in batched_inputs:
            name = printable(item.get("file_name", "a training image"))
            if "sem_seg" not in item:
                raise UserError(
                    f'{name} has no "sem_seg": set INPUT.DATASET_MAPPER_NAME to a mapper of label '
                    "maps, such as mask_former_semantic."
                )
            labels = item["sem_seg"].to(self.device)
            wrong = labels[
                ((labels < 0) | (labels >= self.num_classes)) & (labels != self.ignore_label)
            ]
            if len(wrong):
                raise UserError(
                    f"{name} has pixels of class {int(wrong[0])}, but there are "
                    f"{self.num_classes}: fix the label, or set MODEL.SEM_SEG_HEAD.NUM_CLASSES."
                )
            maps.append(labels)
        return ImageList.from_tensors(maps, pad_value=self.ignore_label).tensor

    def _log(self, scores: PixelScores, labels: Tensor, present: Tensor) -> None:
        """Log statistics of the training batch, every ``LOG_PERIOD`` iterations."""
        if not has_event_storage() or get_event_storage().iter % LOG_PERIOD:
            return
        statistics, args = {}, (labels, scores.classes, self.num_classes)
        if self.decode_head.scores_classes:
            statistics["pixel_accuracy"] = accuracy(scores.scores, *args, self.align_corners)
        if scores.classes is not None:
            of_pixels, of_image = recalls(*args)
            statistics["pixel_recall"] = of_pixels.nanmean()
            statistics["image_recall"] = of_image.nanmean()
            statistics["precision"] = precision(*args).mean()
        for name, value in statistics.items():
            if value.isfinite():
                get_event_storage().put_scalar(
                    f"train_pixels/{name}", float(value), smoothing_hint=False
                )
