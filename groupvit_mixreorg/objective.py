"""The losses of a training batch, with and without MixReorg.

Shapes: B images of a process in groups of M, P prompts an image, L tokens of a text, C joint width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.text import contrastive_loss, gather_with_gradient

from .losses import mixed_segmentation_loss, patch_probabilities
from .mixreorg import MixedFeatures, MixReorg
from .model import GroupViTModel

NEGATIVES = ("group", "batch")


class Weights(NamedTuple):
    """What MixReorg adds to GroupViT's losses.

    Attributes:
        restored: weight of the contrastive loss of restored images; 0 leaves it out.
        mixed: weight of the segmentation of mixed images; 0 leaves it out.
        negatives: the texts that a segment of a mixed image chooses from: those of its "group" or
            of the whole "batch" of all processes.
    """

    restored: float = 1.0
    mixed: float = 1.0
    negatives: str = "group"


WEIGHTS = Weights()


def training_losses(
    model: GroupViTModel,
    images: Tensor,
    tokens: Tensor,
    mixreorg: MixReorg | None = None,
    weights: Weights = WEIGHTS,
    sources: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the losses by name, over the images of all processes.

    Args:
        model: GroupViT.
        images: (B, 3, H, W), normalised.
        tokens: (B, 1 + P, L), of the caption and of P prompts with its words; with P = 0 there is
            no multi-label loss.
        mixreorg: None for GroupViT alone.
        weights: of MixReorg's losses.
        sources: of the mixed patches, as of :class:`MixReorg`; None: they are drawn.
    """
    texts = F.normalize(model.encode_text(tokens.flatten(0, 1)), dim=-1)
    texts = texts.unflatten(0, tokens.shape[:2])
    mixed = None if mixreorg is None else mixreorg(model.image_encoder, images, sources)
    features = model.image_encoder(images) if mixed is None else mixed.original
    vectors = model.project(features.vector)
    with torch.autocast(images.device.type, enabled=False):
        losses = {"loss_contrastive": contrastive_loss(vectors, texts[:, :1], model.scale)}
        if tokens.shape[1] > 1:
            loss = contrastive_loss(vectors, texts[:, 1:], model.multi_label_scale)
            losses["loss_multi_label"] = loss
    if mixed is not None:
        losses |= _mixreorg_losses(model, mixed, texts[:, 0], weights)
    return losses


def _mixreorg_losses(
    model: GroupViTModel, found: MixedFeatures, texts: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """Return MixReorg's own losses for captions (B, C)."""
    losses = {}
    if found.restored is not None:
        vectors = model.project(found.restored.vector)
        with torch.autocast(texts.device.type, enabled=False):
            loss = contrastive_loss(vectors, texts[:, None], model.scale)
        losses["loss_restored"] = weights.restored * loss
    if found.mixed is not None:
        segments = model.project(found.mixed.segments)
        with torch.autocast(texts.device.type, enabled=False):
            size = found.sources.shape[:2]
            probabilities = patch_probabilities(
                segments.unflatten(0, size),
                texts.unflatten(0, size),
                found.mixed.shares.unflatten(0, size),
                model.scale,
                gather_with_gradient(texts) if weights.negatives == "batch" else None,
            )
            loss = mixed_segmentation_loss(probabilities, found.sources)
        losses["loss_mixed"] = weights.mixed * loss
    return losses
