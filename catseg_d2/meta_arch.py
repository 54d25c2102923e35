"""The meta-architecture ``CATSeg``: scores per class and pixel from images and class names.

Source: Cho et al., "CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation", CVPR
2024.

Shapes: B images, n crops, T classes, K of them that enter the aggregation, P prompts a class,
C joint embedding width of CLIP, (h, w) the feature grid.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from segcore.checkpoint.weights import guard
from segcore.datasets.model_classes import HasVocabulary
from segcore.errors import UserError
from segcore.inference.predictions import SCORES, PredictionKind
from segcore.memory import CPU_BUDGET, Chunk
from segcore.text import TextCache, embed_vocabulary
from segcore.text.token_rows import restore_token_rows
from segcore.vocabulary import Vocabulary

from .aggregator import (
    CostAggregator,
    cost_volume,
    scatter_logits,
    select_classes,
    strongest_classes,
)
from .background import text_without_background
from .checkpoint import load_clip_weights, rename_published
from .config import (
    aggregator_from_config,
    background_threshold,
    chunk_memory,
    patches_from_config,
)
from .encoders import ImageTextEncoder, build_encoders, set_trainable
from .inference import segment, unmerged_crops
from .losses import candidate_classes, cost_loss, mask_loss, relabel
from .merging import UnmergedCrops
from .patches import PatchGeometry
from .resampling import resize


@META_ARCH_REGISTRY.register()
class CATSeg(HasVocabulary, nn.Module):
    """Open-vocabulary semantic segmentation by cost aggregation."""

    @configurable
    def __init__(
        self,
        *,
        clip: ImageTextEncoder,
        aggregator: CostAggregator,
        resolution: tuple[int, int],
        train_vocabulary: str,
        vocabulary: Vocabulary | None,
        templates: str,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        patches: PatchGeometry | None,
        max_classes: int = 256,
        prediction_kind: PredictionKind = SCORES,
        background_threshold: float = 0.0,
        chunk_memory: int = CPU_BUDGET,
        ignore_label: int = 255,
        mask_ignored_pixels: bool = False,
        mask_loss_weight: float = 1.0,
        cost_loss_weight: float = 0.0,
        train_candidates: int = 0,
        clip_weights: tuple[str, str] = ("", ""),
    ) -> None:
        """
        Args:
            clip: image and text encoder.
            aggregator: cost aggregation and decoder.
            resolution: (h, w); a crop is resized to h and w times the patch size.
            train_vocabulary: source of the vocabulary whose class ids the training labels hold.
            vocabulary: of the predictions; None until :meth:`set_vocabulary`.
            templates: name of the prompt templates.
            pixel_mean, pixel_std: of CLIP, RGB, 0..255.
            patches: geometry of patch inference, or None for whole images.
            max_classes: classes that enter the aggregation of a crop; 0 = all.
            prediction_kind: form of the prediction.
            background_threshold: score of the background, the first class; 0: a class like others.
            chunk_memory: bytes of the temporaries of crops, prompts and merging.
            ignore_label: label of training pixels without a class.
            mask_ignored_pixels: leave them out of the loss; as published they are negatives.
            mask_loss_weight, cost_loss_weight: of the two losses; 0 leaves a loss out.
            train_candidates: candidate classes of a training image; 0 = all seen classes.
            clip_weights: name of the CLIP model, and the source of :meth:`load_pretrained`.
        """
        super().__init__()
        self.clip = clip
        self.aggregator = aggregator
        self.side = tuple(cells * clip.patch_size for cells in resolution)
        self.templates = templates
        self.patches = patches
        self.max_classes = max_classes
        self.ignore_label = ignore_label
        self.mask_ignored_pixels = mask_ignored_pixels
        self.mask_loss_weight = mask_loss_weight
        self.cost_loss_weight = cost_loss_weight
        self.train_candidates = train_candidates
        self.clip_weights = clip_weights
        self.prediction_kind = prediction_kind
        self.background_threshold = background_threshold
        self.class_chunk = aggregator.chunk
        self.crop_chunk = Chunk(
            chunk_memory // (56 * clip.vision_width * (1 + resolution[0] * resolution[1])),
            "lower MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION",
        )
        self.merge_chunk = Chunk(
            chunk_memory // 64, "set TEST.SEM_SEG_OUTPUT to labels, or predict at a smaller size"
        )
        self.text_cache = TextCache(chunk_memory=chunk_memory)
        self._train_vocabulary = train_vocabulary
        self._vocabulary = vocabulary
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)
        self.register_load_state_dict_pre_hook(rename_published)
        self.register_load_state_dict_pre_hook(restore_token_rows)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        head = cfg.MODEL.SEM_SEG_HEAD
        clip = build_encoders(
            head.CLIP_PRETRAINED,
            prompt_length=head.PROMPT_LENGTH,
            prompt_depth=head.PROMPT_DEPTH,
            checkpointing=head.ACTIVATION_CHECKPOINTING,
        )
        set_trainable(clip, head.CLIP_FINETUNE)
        if not head.COST_LOSS_WEIGHT:
            clip.logit_scale.requires_grad_(False)  # nothing else reads it
        test = head.TEST_CLASS_JSON
        return {
            "clip": clip,
            "aggregator": aggregator_from_config(cfg, clip),
            "resolution": tuple(head.FEATURE_RESOLUTION),
            "train_vocabulary": head.TRAIN_CLASS_JSON,
            "vocabulary": Vocabulary.load(test) if test else None,
            "templates": cfg.MODEL.PROMPT_ENSEMBLE_TYPE,
            "pixel_mean": cfg.MODEL.CLIP_PIXEL_MEAN,
            "pixel_std": cfg.MODEL.CLIP_PIXEL_STD,
            "patches": patches_from_config(cfg) if cfg.TEST.SLIDING_WINDOW else None,
            "max_classes": head.MAX_CLASSES,
            "prediction_kind": PredictionKind(cfg.TEST.SEM_SEG_OUTPUT, cfg.TEST.TOP_K),
            "background_threshold": background_threshold(cfg),
            "chunk_memory": chunk_memory(cfg),
            "ignore_label": head.IGNORE_VALUE,
            "mask_ignored_pixels": head.MASK_IGNORED_PIXELS,
            "mask_loss_weight": head.MASK_LOSS_WEIGHT,
            "cost_loss_weight": head.COST_LOSS_WEIGHT,
            "train_candidates": head.TRAIN_CANDIDATES,
            "clip_weights": (head.CLIP_PRETRAINED, cfg.MODEL.CLIP_WEIGHTS),
        }

    def load_pretrained(self) -> None:
        """Load ``clip_weights`` into the encoders, where training starts without a checkpoint."""
        name, source = self.clip_weights
        if source:
            load_clip_weights(self.clip, name, source)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _check_vocabulary(self, vocabulary: Vocabulary) -> None:
        text = self.text_cache.get(self.clip, vocabulary, self.templates)  # may raise
        if self.background_threshold:
            text_without_background(text, vocabulary)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Segment images, or in training return the losses.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), RGB, 0..255; "height" and "width"
                of the prediction, by default those of "image"; "vocabulary", as for
                :meth:`set_vocabulary`, by default that of the model; in training "sem_seg"
                (H, W) int64.
        Returns:
            training: "loss_sem_seg" and/or "loss_cost".
            inference: one dict an image. As ``prediction_kind`` says it holds "sem_seg" (T, height,
            width), scores in [0, 1], a sigmoid per class, or "sem_seg_labels" (height, width)
            int64, their arg-max, which is computed without holding all scores.
        """
        if self.training:
            return self._losses(batched_inputs)
        with torch.no_grad():
            return segment(self, batched_inputs)

    @torch.no_grad()
    def unmerged_predictions(self, batched_inputs: list[dict]) -> list[UnmergedCrops]:
        """Return un-merged predictions, for test-time augmentation; see :meth:`forward`."""
        return unmerged_crops(self, batched_inputs)

    def to_clip(self, crops: Tensor) -> Tensor:
        """Normalise crops (n, 3, H, W), RGB 0..255, and resize them for the image encoder."""
        crops = (crops - self.pixel_mean) / self.pixel_std
        return crops if crops.shape[-2:] == self.side else resize(crops, self.side)

    # ------------------------------------------------------------------ training

    @cached_property
    def train_vocabulary(self) -> Vocabulary:
        """The classes of the training labels."""
        return Vocabulary.load(self._train_vocabulary)

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        images, labels = self._training_batch(batched_inputs)
        features, guidance = self.clip.encode_image(self.to_clip(images))
        text = embed_vocabulary(self.clip, self.train_vocabulary, self.templates)
        cost = cost_volume(features, text)  # (B, T, P, h, w)
        classes = self._candidate_classes(labels, text)  # (B, K)
        if classes.shape[1] < len(text):
            labels = relabel(labels, classes, len(text), self.ignore_label)
        cost, text = select_classes(cost, classes), text[classes]

        losses = {}
        if self.cost_loss_weight:
            loss = cost_loss(cost, labels, self.ignore_label, self.clip.logit_scale.exp())
            losses["loss_cost"] = self.cost_loss_weight * loss
        if self.mask_loss_weight:
            kept = strongest_classes(cost, self.max_classes or cost.shape[1])
            logits = self.aggregator(
                features,
                guidance,
                select_classes(cost, kept),
                select_classes(text, kept),
            )
            logits = scatter_logits(logits.float(), kept, cost.shape[1])
            loss = mask_loss(
                resize(logits, labels.shape[-2:]),
                labels,
                self.ignore_label,
                self.mask_ignored_pixels,
            )
            losses["loss_sem_seg"] = self.mask_loss_weight * loss
        else:
            # Distributed training needs a gradient of unused parameters: zero.
            unused = sum(parameter.sum() for parameter in self.aggregator.parameters())
            losses["loss_cost"] = losses["loss_cost"] + 0.0 * unused
        return losses

    def _training_batch(self, batched_inputs: list[dict]) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) float and labels (B, H, W) int64."""
        shapes = {item["sem_seg"].shape for item in batched_inputs}
        if len(shapes) > 1:
            raise UserError(
                f"the images of a training batch differ in size {sorted(map(tuple, shapes))}: "
                "set INPUT.CROP.SIZE and INPUT.SIZE_DIVISIBILITY to the size that they should have."
            )
        for item in batched_inputs:
            highest = item["sem_seg"].masked_fill(item["sem_seg"] == self.ignore_label, -1).max()
            if highest >= len(self.train_vocabulary):
                raise UserError(
                    f"{item.get('file_name', 'a training image')} has the label {int(highest)}, "
                    f"but {self.train_vocabulary.name} has {len(self.train_vocabulary)} classes: "
                    "fix the label, or set MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON to its vocabulary."
                )
        images = torch.stack([item["image"] for item in batched_inputs])
        labels = torch.stack([item["sem_seg"] for item in batched_inputs])
        return images.to(self.device).float(), labels.to(self.device)

    def _candidate_classes(self, labels: Tensor, text: Tensor) -> Tensor:
        """Return the ids (B, K) of the candidate classes of each image."""
        seen = self.train_vocabulary.seen or (True,) * len(text)
        seen = torch.tensor(seen, device=text.device)
        if self.train_candidates:
            mean = F.normalize(text.mean(dim=1), dim=-1)
            return candidate_classes(labels, mean, seen, self.train_candidates)
        return seen.nonzero()[:, 0].expand(len(labels), -1)
