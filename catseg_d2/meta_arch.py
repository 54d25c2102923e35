"""The meta-architecture ``CATSeg``: scores per class and pixel from images and class names.

Source: Cho et al., "CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation", CVPR
2024.

Shapes: B images, n crops, T classes, K of them that enter the aggregation, P prompts a class,
C joint embedding width of CLIP, (h, w) the feature grid.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from segcore.checkpoint.weights import guard
from segcore.config.numerics import compile_mode, precision_from_config
from segcore.datasets.model_classes import HasVocabulary
from segcore.errors import UserError
from segcore.inference.precision import FLOAT32, Precision
from segcore.inference.predictions import SCORES, PredictionKind
from segcore.memory import CPU_BUDGET, Chunk
from segcore.rankseg.dial import ClassesKept, Dial
from segcore.text import TextCache
from segcore.text.token_rows import restore_token_rows
from segcore.vocabulary import Vocabulary

from .aggregator import CostAggregator
from .background import text_without_background
from .checkpoint import load_clip_weights, rename_published
from .config import (
    aggregator_from_config,
    background_threshold,
    chunk_memory,
    encoders_from_config,
    patches_from_config,
)
from .encoders import ImageTextEncoder, set_trainable
from .inference import segment, unmerged_crops
from .merging import UnmergedCrops
from .patches import PatchGeometry
from .rank_adapter import RankAdapter, check_adapter, complete_ranking
from .rank_config import adapter_from_config, ranking_from_config
from .ranking import Ranking
from .resampling import resize
from .selecting import Selector
from .training import training_losses


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
        precision: Precision = FLOAT32,
        compile_mode: str = "",
        background_threshold: float = 0.0,
        chunk_memory: int = CPU_BUDGET,
        ignore_label: int = 255,
        mask_ignored_pixels: bool = False,
        mask_loss_weight: float = 1.0,
        cost_loss_weight: float = 0.0,
        train_candidates: int = 0,
        clip_weights: tuple[str, str] = ("", ""),
        ranking: Ranking | None = None,
        rank_adapter: RankAdapter | None = None,
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
            precision: of the image encoder and the aggregation, for predictions.
            compile_mode: of these, by ``torch.compile``, for predictions; "": not compiled.
            background_threshold: score of the background, the first class; 0: a class like others.
            chunk_memory: bytes of the temporaries of crops, prompts and merging.
            ignore_label: label of training pixels without a class.
            mask_ignored_pixels: leave them out of the loss; as published they are negatives.
            mask_loss_weight, cost_loss_weight: of the two losses; 0 leaves a loss out.
            train_candidates: candidate classes of a training image; 0 = all seen classes.
            clip_weights: name of the CLIP model, and the source of :meth:`load_pretrained`.
            ranking: selects the classes that enter the aggregation; None: cosine similarity does.
            rank_adapter: the file that ``ranking`` was loaded from, if any.
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
        self.ranking = ranking
        self.rank_adapter = rank_adapter
        # Logits (B, T) of the last training batch and the present classes: Trainer logs scores.
        self.category_predictions: tuple[Tensor, Tensor] | None = None
        if ranking is not None and ranking.alone:
            self.requires_grad_(False)
            ranking.requires_grad_(True)
        self.prediction_kind, self.precision = prediction_kind, precision
        self.compile_mode = compile_mode
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
        if compile_mode:
            clip.compile(mode=compile_mode)
            aggregator.compile(mode=compile_mode, fullgraph=True)
        guard(self)
        self.register_load_state_dict_pre_hook(rename_published)
        self.register_load_state_dict_pre_hook(restore_token_rows)
        self.register_load_state_dict_pre_hook(complete_ranking)
        self.register_load_state_dict_post_hook(check_adapter)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        head = cfg.MODEL.SEM_SEG_HEAD
        clip = encoders_from_config(cfg)
        set_trainable(clip, head.CLIP_FINETUNE)
        if not head.COST_LOSS_WEIGHT:
            clip.logit_scale.requires_grad_(False)  # nothing else reads it
        test = head.TEST_CLASS_JSON
        memory, adapter = chunk_memory(cfg), adapter_from_config(cfg)
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
            "precision": precision_from_config(cfg),
            "compile_mode": compile_mode(cfg),
            "background_threshold": background_threshold(cfg),
            "chunk_memory": memory,
            "ignore_label": head.IGNORE_VALUE,
            "mask_ignored_pixels": head.MASK_IGNORED_PIXELS,
            "mask_loss_weight": head.MASK_LOSS_WEIGHT,
            "cost_loss_weight": head.COST_LOSS_WEIGHT,
            "train_candidates": head.TRAIN_CANDIDATES,
            "clip_weights": (head.CLIP_PRETRAINED, cfg.MODEL.CLIP_WEIGHTS),
            "ranking": ranking_from_config(cfg, clip.joint_width, memory, adapter),
            "rank_adapter": adapter,
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

    def selector(self, classes_kept: Dial | None = None) -> Selector:
        """Return how the classes are selected that enter the aggregation of a crop.

        Args:
            classes_kept: how many, as of :meth:`ClassesKept.parse`; None: as the config says.

        Raises:
            UserError: it is no such number, or a threshold although the model has no ranking.
        """
        if self.ranking is None:
            selector = Selector(ClassesKept(self.max_classes))
        else:
            selector = Selector(self.ranking.kept, self.ranking.head, self.ranking.per_image)
        if classes_kept is None:
            return selector
        kept = ClassesKept.parse(classes_kept)
        if kept.threshold and self.ranking is None:
            raise UserError(
                f"classes_kept is {classes_kept}: this model has no probabilities of classes to "
                "compare with a threshold: use a number of classes or all, or name a rank adapter "
                "in MODEL.RANKSEG.WEIGHTS"
            )
        return selector.keeping(kept)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Segment images, or in training return the losses.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), RGB, 0..255; "height" and "width"
                of the prediction, by default those of "image"; "vocabulary", as for
                :meth:`set_vocabulary`, by default that of the model; "classes_kept", as for
                :meth:`selector`; in training "sem_seg" (H, W) int64.
        Returns:
            training: "loss_sem_seg", "loss_cost" and/or "loss_category".
            inference: one dict an image. As ``prediction_kind`` says it holds "sem_seg" (T, height,
            width), scores in [0, 1], a sigmoid per class, or "sem_seg_labels" (height, width)
            int64, their arg-max, which is computed without holding all scores. With a ranking also
            "category_scores" (T,), probabilities that a class is in the image (of several crops the
            highest), and "category_ids" (K,), the classes kept in any crop, most probable first.
        """
        if self.training:
            return training_losses(self, batched_inputs)
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

    def run(self, network: Callable[..., Any], *inputs: Any) -> Any:
        """Run the image encoder or the aggregation for a prediction: in its precision, compiled."""
        with self.precision.autocast(self.device):
            result = network(*inputs)
        if self.compile_mode:  # CUDA graphs write the next result to the same memory
            result = tree_map_only(Tensor, Tensor.clone, result)
        return result

    @cached_property
    def train_vocabulary(self) -> Vocabulary:
        """The classes of the training labels."""
        return Vocabulary.load(self._train_vocabulary)
