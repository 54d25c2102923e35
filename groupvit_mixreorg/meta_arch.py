"""The meta-architecture ``GroupViT``: trained with captions alone, it segments by class names.

Sources: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022; Cai
et al., "MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner for Open-World
Semantic Segmentation", ICCV 2023.

Shapes: B images, T classes, C joint width.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from segcore.checkpoint.weights import guard
from segcore.config.numerics import precision_from_config, refuse_compile
from segcore.datasets.model_classes import HasVocabulary
from segcore.errors import UserError
from segcore.inference.precision import FLOAT32, Precision, in_precision
from segcore.inference.predictions import SCORES, PredictionKind
from segcore.inference.unmerged import mean_prediction
from segcore.memory import CPU_BUDGET, memory_budget
from segcore.text import CaptionTokenizer, TextCache, draw_prompts, stack_images
from segcore.text.token_rows import restore_token_rows
from segcore.vocabulary import Vocabulary

from .checkpoint import rename_published, spare_training_parts
from .config import (
    mixreorg_from_config,
    model_from_config,
    weights_from_config,
    zero_shot_from_config,
)
from .inference import ZeroShot, segment_images
from .mixreorg import MixReorg
from .model import GroupViTModel
from .objective import WEIGHTS, Weights, training_losses
from .zero_shot import UnmergedSegments

BACKGROUND = "background"


@META_ARCH_REGISTRY.register()
class GroupViT(HasVocabulary, nn.Module):
    """Open-vocabulary segmentation from text supervision, optionally trained with MixReorg."""

    @configurable
    def __init__(
        self,
        *,
        model: GroupViTModel,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        mixreorg: MixReorg | None = None,
        weights: Weights = WEIGHTS,
        multi_label: int = 3,
        vocabulary: Vocabulary | None = None,
        templates: str = "photo",
        zero_shot: ZeroShot | None = None,
        predicts_segments: bool = False,
        prediction_kind: PredictionKind = SCORES,
        precision: Precision = FLOAT32,
        chunk_memory: int = CPU_BUDGET,
    ) -> None:
        """
        Args:
            model: encoders and projections.
            pixel_mean, pixel_std: per channel, RGB, 0..255.
            mixreorg: what it adds in training; None: GroupViT alone.
            weights: of its losses.
            multi_label: prompts of an image in the multi-label loss; 0: no such loss.
            vocabulary: of the predictions; None until :meth:`set_vocabulary`.
            templates: name of the prompt templates.
            zero_shot: windows and scores of predictions.
            predicts_segments: predict the segments instead of classes.
            prediction_kind: form of the prediction.
            precision: of the image encoder, for predictions.
            chunk_memory: bytes of the temporaries of a chunk of prompts.
        """
        super().__init__()
        self.model, self.mixreorg, self.weights = model, mixreorg, weights
        self.multi_label = multi_label
        self.templates = templates
        self.zero_shot = zero_shot or ZeroShot()
        self.predicts_segments = predicts_segments
        self.prediction_kind, self.precision = prediction_kind, precision
        self.text_cache = TextCache(chunk_memory=chunk_memory)
        self.tokenize = CaptionTokenizer(model.tokenizer)
        self._vocabulary = self._segment_names() if predicts_segments else vocabulary
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)
        self.register_load_state_dict_pre_hook(rename_published)
        self.register_load_state_dict_pre_hook(spare_training_parts)
        self.register_load_state_dict_pre_hook(restore_token_rows)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        refuse_compile(cfg)
        test = cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON
        return {
            "model": model_from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "mixreorg": mixreorg_from_config(cfg),
            "weights": weights_from_config(cfg),
            "multi_label": cfg.MODEL.GROUPVIT.MULTI_LABEL,
            "vocabulary": Vocabulary.load(test) if test else None,
            "templates": cfg.MODEL.PROMPT_ENSEMBLE_TYPE,
            "zero_shot": zero_shot_from_config(cfg),
            "predicts_segments": cfg.MODEL.ZERO_SHOT.SEGMENTS,
            "prediction_kind": PredictionKind(cfg.TEST.SEM_SEG_OUTPUT, cfg.TEST.TOP_K),
            "precision": precision_from_config(cfg),
            "chunk_memory": memory_budget(cfg.MODEL.DEVICE),
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _check_vocabulary(self, vocabulary: Vocabulary) -> None:
        self._texts(vocabulary)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Segment images, or in training return the losses.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), RGB, 0..255; "height" and "width"
                of the prediction, by default those of "image"; "vocabulary", as for
                :meth:`set_vocabulary`, by default that of the model. In training, images of one
                size, "caption", and, for the multi-label loss, "words", those of the caption.
        Returns:
            training: "loss_contrastive", "loss_multi_label", with MixReorg "loss_restored" and
            "loss_mixed", over the images of all processes.
            inference: one dict an image with "sem_seg" (T, height, width), scores from 0 to 1, or
            "sem_seg_labels" (height, width) int64, as ``prediction_kind`` says. Images with a
            "caption" have "image_embedding" and "text_embedding" (C,), of unit norm, instead.
        """
        if self.training:
            return self._losses(batched_inputs)
        if batched_inputs and all("caption" in item for item in batched_inputs):
            return self._embed_pairs(batched_inputs)
        return [
            mean_prediction([unmerged], self.prediction_kind)
            for unmerged in self.unmerged_predictions(batched_inputs)
        ]

    @torch.no_grad()
    def unmerged_predictions(self, batched_inputs: list[dict]) -> list[UnmergedSegments]:
        """Return un-merged predictions, for test-time augmentation; see :meth:`forward`."""
        settings, of_model = self.zero_shot, self._vocabulary
        if self.predicts_segments:
            settings = replace(settings, stride=0)  # windows would have segments of their own
        texts = [
            None
            if self.predicts_segments and item.get("vocabulary", of_model) == of_model
            else self._texts(item.get("vocabulary", of_model))
            for item in batched_inputs
        ]
        images = [self._normalise(item["image"]) for item in batched_inputs]
        sizes = [
            (item.get("height", image.shape[-2]), item.get("width", image.shape[-1]))
            for item, image in zip(batched_inputs, images, strict=True)
        ]
        return segment_images(self.model, images, texts, sizes, settings, self.precision)

    @torch.no_grad()
    def classify(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Return probabilities of the classes of whole images: zero-shot classification.

        Args:
            batched_inputs: as of :meth:`forward`, images of one size, whose sides are multiples of
                the patch size.
        Returns:
            one dict an image with "category_scores" (T,), whose sum is 1; without the background.
        """
        images = self._normalise(stack_images(batched_inputs, self._patch_size))
        vectors, of_model = self._image_vectors(images), self._vocabulary
        texts = [self._texts(item.get("vocabulary", of_model)) for item in batched_inputs]
        return [
            {"category_scores": (self.model.scale * text @ vector).softmax(dim=0)}
            for vector, text in zip(vectors, texts, strict=True)
        ]

    @in_precision
    def _image_vectors(self, images: Tensor) -> Tensor:
        """Embed whole images (B, 3, H, W), normalised: (B, C)."""
        return self.model.embed_images(images).vector

    @property
    def _patch_size(self) -> int:
        return self.model.image_encoder.patch_size

    def _normalise(self, images: Tensor) -> Tensor:
        """Normalise images (..., 3, H, W), 0..255."""
        return (images.to(self.device).float() - self.pixel_mean) / self.pixel_std

    def _texts(self, vocabulary: Vocabulary | str | Sequence[str] | None) -> Tensor:
        """Return embeddings (T, C), unit norm, of all classes but the background.

        Raises:
            UserError: there is no vocabulary, or it lacks the background where it is needed.
        """
        if self.predicts_segments:
            raise UserError(
                "MODEL.ZERO_SHOT.SEGMENTS is True: the model predicts segments, which have no "
                "class names; leave these out, or set the key to False"
            )
        if vocabulary is None:
            raise UserError(
                "the model has no vocabulary: call set_vocabulary, set "
                'MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON, or pass one with each image ("vocabulary")'
            )
        vocabulary = Vocabulary.load(vocabulary)
        has_background = self.zero_shot.threshold > 0
        if has_background and (vocabulary.names[0] != BACKGROUND or len(vocabulary) < 2):
            raise UserError(
                f"MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD is {self.zero_shot.threshold}: it needs a "
                f'vocabulary whose first class is "{BACKGROUND}" and that has others; add it, or '
                "set the key to 0"
            )
        embeddings = self.text_cache.get(self.model, vocabulary, self.templates).mean(dim=1)
        return F.normalize(embeddings, dim=-1)[int(has_background) :]

    def _segment_names(self) -> Vocabulary:
        """Return the vocabulary of predicted segments."""
        number = self.model.image_encoder.num_segments
        names = [f"segment {index}" for index in range(1, number + 1)]
        return Vocabulary.from_class_names(names, "segments")

    # ------------------------------------------------------------------ images with captions

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        images = self._normalise(stack_images(batched_inputs, self._patch_size))
        texts = [text for item in batched_inputs for text in self._training_texts(item)]
        tokens = self.tokenize(texts).unflatten(0, (len(batched_inputs), -1)).to(self.device)
        return training_losses(self.model, images, tokens, self.mixreorg, self.weights)

    def _training_texts(self, item: dict) -> list[str]:
        """Return the caption of an image, and the prompts of the multi-label loss."""
        for key in ("caption", "words") if self.multi_label else ("caption",):
            if key not in item:
                raise UserError(
                    f'{item.get("file_name", "a training image")} has no "{key}": set '
                    "INPUT.DATASET_MAPPER_NAME image_caption and DATASETS.TRAIN to data sets of "
                    "captions, such as scenes_60_train_captions"
                )
        caption = item["caption"]
        prompts = draw_prompts(item["words"], caption, self.multi_label) if self.multi_label else []
        return [caption, *prompts]

    @torch.no_grad()
    def _embed_pairs(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        images = self._normalise(stack_images(batched_inputs, self._patch_size))
        tokens = self.tokenize([item["caption"] for item in batched_inputs]).to(self.device)
        vectors = self._image_vectors(images)
        texts = F.normalize(self.model.encode_text(tokens), dim=-1)
        return [
            {"image_embedding": image, "text_embedding": text}
            for image, text in zip(vectors, texts, strict=True)
        ]
