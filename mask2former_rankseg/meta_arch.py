"""The meta-architecture ``MaskFormer``: images in, semantic, panoptic and instance predictions out.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021 (MaskFormer), and "Masked-attention Mask Transformer for Universal Image Segmentation",
CVPR 2022 (Mask2Former); He et al., "RankSeg", ECCV 2022.

Shapes: B images, Q queries, C classes, kappa selected classes.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.structures import ImageList
from torch import Tensor, nn

from segcore.backbones.auxiliary import SEMANTIC_LOGITS
from segcore.checkpoint.vocabulary import carry_vocabulary
from segcore.checkpoint.weights import guard
from segcore.config.numerics import precision_from_config, refuse_compile
from segcore.config.rankseg import only_present
from segcore.datasets.model_classes import HasClasses, ModelClasses, classes_from_config
from segcore.inference.precision import FLOAT32, Precision, in_precision
from segcore.inference.predictions import SCORES, PredictionKind
from segcore.inference.sliding import Sliding
from segcore.inference.unmerged import mean_prediction
from segcore.rankseg.oracle import drop_absent, instance_classes, presence_in_ground_truth
from segcore.rankseg.scores import scatter_columns
from segcore.rankseg.selection import presence, with_no_object

from .checkpoint import rename_published
from .config import (
    criterion_from_config,
    ranking_from_config,
    size_divisibility,
    sliding_from_config,
    tasks_from_config,
)
from .criterion import Criterion
from .inference import ImageSizes
from .outputs import solve
from .queries import Decoded
from .ranking import QueryRanking, Ranked
from .semantic_loss import semantic_loss
from .sliding import UnmergedWindows, unmerged_windows
from .targets import checked_labels, padded_masks
from .tasks import Tasks
from .unmerged import UnmergedQueries, unmerged_queries


@META_ARCH_REGISTRY.register()
class MaskFormer(HasClasses, nn.Module):
    """MaskFormer or Mask2Former, optionally with RankSeg on its queries."""

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: Criterion,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int = 32,
        ranking: QueryRanking | None = None,
        tasks: Tasks | None = None,
        prediction_kind: PredictionKind = SCORES,
        precision: Precision = FLOAT32,
        classes: ModelClasses | None = None,
        only_present: bool = False,
        deep_supervision: bool = True,
        semantic_weight: float = 0.4,
        sliding: Sliding | None = None,
        published_output: bool = False,
    ) -> None:
        """
        Args:
            backbone: images -> feature maps by name.
            sem_seg_head: feature maps -> :class:`Decoded`.
            criterion: the training losses.
            num_classes: C.
            pixel_mean, pixel_std: per channel, 0..255.
            size_divisibility: batches are padded to multiples of it.
            ranking: RankSeg; None: the model without it.
            tasks: which tasks to solve at inference.
            prediction_kind: form of the semantic prediction.
            precision: of the network, for predictions.
            classes: their names, and which are things; the panoptic task needs the latter.
            only_present: oracle: at inference, predict classes of the ground truth only.
            deep_supervision: compute losses after every decoder layer, not after the last alone.
            semantic_weight: of the loss of ``SEMANTIC_LOGITS``, if the backbone returns them.
            sliding: the windows of inference, for the semantic task alone; None: whole images.
            published_output: return the published form of the output, see :meth:`forward`.
        """
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        self.ranking = ranking
        self.num_classes = num_classes
        self.size_divisibility = size_divisibility
        self.tasks = tasks or Tasks()
        self.prediction_kind, self.precision = prediction_kind, precision
        self.classes = classes or ModelClasses()
        self.only_present = only_present
        self.deep_supervision = deep_supervision
        self.semantic_weight = semantic_weight
        self.sliding = sliding or Sliding()
        self.published_output = published_output
        # Multi-label logits and ground truth of the last training batch, for logging.
        self.category_predictions: tuple[Tensor, Tensor] | None = None
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)
        carry_vocabulary(self)
        self.register_load_state_dict_pre_hook(rename_published)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        refuse_compile(cfg)
        backbone = build_backbone(cfg)
        node = cfg.MODEL.MASK_FORMER
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "criterion": criterion_from_config(cfg),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": size_divisibility(cfg, backbone),
            "ranking": ranking_from_config(cfg),
            "tasks": tasks_from_config(cfg),
            "prediction_kind": PredictionKind(cfg.TEST.SEM_SEG_OUTPUT, cfg.TEST.TOP_K),
            "precision": precision_from_config(cfg),
            "classes": classes_from_config(cfg),
            "only_present": only_present(cfg),
            "deep_supervision": node.DEEP_SUPERVISION,
            "semantic_weight": node.CATE_WEIGHT,
            "sliding": sliding_from_config(cfg),
            "published_output": node.TEST.PUBLISHED_OUTPUT,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Segment images, or in training return the losses.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), 0..255, of any size; "height" and
                "width" of the prediction, by default those of "image". Training and the oracles
                read "instances": ``gt_classes`` (N,) and ``gt_masks`` (N, H, W).
        Returns:
            training: see :class:`Criterion`; also ``loss_cate`` if the backbone returns
            ``SEMANTIC_LOGITS``.
            inference: one dict an image, with the outputs of the tasks: "sem_seg" (C, height,
            width) or "sem_seg_labels" (height, width), as ``prediction_kind`` says; "panoptic_seg",
            a map (height, width) int32 and a list of its segments; "instances" with ``scores``,
            ``pred_classes``, ``pred_masks`` bool and ``pred_boxes``, the boxes of the masks (with
            ``published_output`` zeros, as in the published code). With RankSeg also
            "category_scores" (C,), probabilities that a class is in the image, and "category_ids"
            (kappa,), the selected classes, the most probable first.
        """
        if self.training:
            return self._losses(batched_inputs)
        with torch.no_grad():
            return self._segment(batched_inputs)

    @torch.no_grad()
    def unmerged_predictions(
        self, batched_inputs: list[dict]
    ) -> list[UnmergedQueries | UnmergedWindows]:
        """Return un-merged predictions, for test-time augmentation; inputs as of :meth:`forward`.

        Images pass one by one, because their sizes differ.
        """
        if self.sliding.is_on:
            return [unmerged_windows(self, item) for item in batched_inputs]
        return [unmerged_queries(self, [item])[0] for item in batched_inputs]

    def to_batch(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the images and pad them with zeros to a common size."""
        return self.pad_images([item["image"] for item in batched_inputs])

    def pad_images(self, images: Sequence[Tensor]) -> ImageList:
        """Normalise images (3, H, W), 0..255, and pad them with zeros to a common size."""
        images = [image.to(self.device) for image in images]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        images = [image.to(self.pixel_mean.dtype) for image in images]
        return ImageList.from_tensors(images, self.size_divisibility)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the backbone's maps of normalised images (B, 3, H, W), for clips of all frames."""
        return self.backbone(images.flatten(0, -4))

    def decode(self, images: Tensor, every_layer: bool) -> Decoded:
        """Decode normalised images (B, 3, H, W), or clips (B, T, 3, H, W), after every layer or
        the last one alone."""
        return self.sem_seg_head(self.features(images), every_layer, *images.shape[1:-3])

    def targets(
        self, batched_inputs: list[dict], size: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the classes (N,) of the objects of every image, and their masks (N, *size)."""
        labels = checked_labels(batched_inputs, self.num_classes)
        masks = padded_masks(batched_inputs, size, self.device)
        return [label.to(self.device) for label in labels], masks

    @in_precision
    def predict(
        self, images: Tensor, batched_inputs: list[dict]
    ) -> tuple[Tensor, Tensor, Ranked | None]:
        """Return the queries' final predictions.

        Args:
            images: normalised, as :meth:`decode` takes them.
            batched_inputs: with the ground truth that the oracles read.
        Returns:
            Class logits (B, Q, C + 1), mask logits, and the ranking of RankSeg, None without it.
        """
        decoded = self.decode(images, every_layer=False)
        class_logits, mask_logits = decoded.predictions[-1]
        if self.only_present:
            class_logits = drop_absent(class_logits, self._present(batched_inputs))
        ranked = self.rank(decoded, [class_logits], batched_inputs)
        if ranked is not None:
            columns = with_no_object(ranked.selected, self.num_classes)
            class_logits = scatter_columns(ranked.logits[0], columns, self.num_classes + 1)
        return class_logits, mask_logits, ranked

    def rank(
        self, decoded: Decoded, logits: Sequence[Tensor], batched_inputs: list[dict]
    ) -> Ranked | None:
        """Apply RankSeg to the queries and their class logits (B, Q, C + 1); None without it."""
        if self.ranking is None:
            return None
        present = self._present(batched_inputs) if self.ranking.head is None else None
        class_embeddings = self.sem_seg_head.predictor.classifier.weight[: self.num_classes]
        return self.ranking(decoded, logits, class_embeddings, present)

    def scored_classes(self, selected: Tensor | None) -> Tensor:
        """Return the ids of the classes that can have a score: all of them without RankSeg."""
        return torch.arange(self.num_classes, device=self.device) if selected is None else selected

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        images = self.to_batch(batched_inputs).tensor
        labels, masks = self.targets(batched_inputs, images.shape[-2:])
        features = self.features(images)
        decoded = self.sem_seg_head(features, self.deep_supervision, *images.shape[1:-3])
        losses = self._decoder_losses(decoded, labels, masks, batched_inputs)
        if SEMANTIC_LOGITS in features:
            loss = semantic_loss(features[SEMANTIC_LOGITS], labels, masks)
            losses["loss_cate"] = self.semantic_weight * loss
        return losses

    def _decoder_losses(
        self,
        decoded: Decoded,
        labels: list[Tensor],
        masks: list[Tensor],
        batched_inputs: list[dict],
    ) -> dict[str, Tensor]:
        """Return the losses of the queries' predictions; arguments as those of the criterion."""
        logits, mask_logits = zip(*decoded.predictions, strict=True)
        ranked = self.rank(decoded, logits, batched_inputs)
        if ranked is None:
            return self.criterion(decoded.predictions, labels, masks)
        if self.ranking.head is not None:
            present = presence(labels, self.num_classes)
            self.category_predictions = ranked.category_logits.detach(), present
        return self.criterion(
            list(zip(ranked.logits, mask_logits, strict=True)),
            labels,
            masks,
            selected=ranked.selected,
            category_logits=None if self.ranking.head is None else ranked.category_logits,
        )

    def _segment(self, batched_inputs: list[dict]) -> list[dict]:
        if self.sliding.is_on:
            return [self._slide(item) for item in batched_inputs]
        images = self.to_batch(batched_inputs)
        class_logits, mask_logits, ranked = self.predict(images.tensor, batched_inputs)
        predictions = []
        for i, item in enumerate(batched_inputs):
            selected = None if ranked is None else ranked.selected[i]
            sizes = ImageSizes.of(images.tensor.shape[-2:], images.image_sizes[i], item)
            prediction = solve(
                self.tasks,
                class_logits[i],
                mask_logits[i],
                sizes,
                kind=self.prediction_kind,
                scored_classes=self.scored_classes(selected),
                classes=self.classes,
                zero_boxes=self.published_output,
            )
            if ranked is not None:
                prediction["category_scores"] = ranked.category_logits[i].float().sigmoid()
                prediction["category_ids"] = selected
            predictions.append(prediction)
        return predictions

    def _slide(self, item: dict) -> dict:
        """Return the semantic prediction of an image, the mean over its windows."""
        windows = unmerged_windows(self, item)
        prediction = mean_prediction([windows], self.prediction_kind)
        if windows.category_scores is not None:
            prediction["category_scores"] = windows.category_scores
            prediction["category_ids"] = windows.category_ids
        return prediction

    def _present(self, batched_inputs: list[dict]) -> Tensor:
        """Return which classes the ground truth of each image contains: (B, C) bool."""
        present = presence_in_ground_truth(batched_inputs, self.present_classes, self.num_classes)
        return present.to(self.device)

    def present_classes(self, item: dict) -> Tensor:
        """Return the class ids of the ground truth, in any order, with repetitions: (N,)."""
        return instance_classes(item)


@META_ARCH_REGISTRY.register()
class SeMaskMaskFormer(MaskFormer):
    """The same model under the name that SeMask's published configs give it."""
