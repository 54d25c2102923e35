"""The losses of a training batch of CAT-Seg.

Shapes: B images, T classes, K candidates of them, k of these that enter the aggregation, P prompts
a class, C joint embedding width, (h, w) the feature grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.inference.precision import at_least_float32
from segcore.rankseg.scores import scatter_columns
from segcore.rankseg.selection import presence, select_top
from segcore.text import embed_vocabulary

from .aggregator import cost_volume, scatter_logits, select_classes, strongest_classes
from .losses import candidate_classes, cost_loss, mask_loss, relabel
from .resampling import resize


def training_losses(model: nn.Module, batched_inputs: list[dict]) -> dict[str, Tensor]:
    """Return the losses of a ``CATSeg`` on a batch of images with labels; see its ``forward``."""
    images, labels = _training_batch(model, batched_inputs)
    features, guidance = model.clip.encode_image(model.to_clip(images))
    text = _training_text(model)
    classes = image_candidates(model, labels, text)  # (B, K)

    losses, category_logits = {}, None
    if model.ranking is not None:
        category_logits = model.ranking.head(features, text[classes])
        losses["loss_category"] = _ranking_loss(model, category_logits, labels, classes, len(text))
        if model.ranking.alone and not model.ranking.scale:
            return losses
    if classes.shape[1] < len(text):
        labels = relabel(labels, classes, len(text), model.ignore_label)
    cost, text = select_classes(cost_volume(features, text), classes), text[classes]
    if model.cost_loss_weight:
        loss = cost_loss(cost, labels, model.ignore_label, model.clip.logit_scale.exp())
        losses["loss_cost"] = model.cost_loss_weight * loss
    if model.mask_loss_weight:
        kept, ranks = _kept_classes(model, cost, category_logits)
        inputs = features, guidance, select_classes(cost, kept), select_classes(text, kept)
        logits = scatter_logits(_decode(model, *inputs, ranks), kept, cost.shape[1])
        loss = mask_loss(
            resize(logits, labels.shape[-2:]),
            labels,
            model.ignore_label,
            model.mask_ignored_pixels,
        )
        losses["loss_sem_seg"] = model.mask_loss_weight * loss
    else:
        # Distributed training needs a gradient of unused parameters: zero.
        scales = () if model.ranking is None else model.ranking.scale_parameters()
        unused = sum(parameter.sum() for parameter in (*model.aggregator.parameters(), *scales))
        losses["loss_cost"] = losses["loss_cost"] + 0.0 * unused
    return losses


def _training_batch(model: nn.Module, batched_inputs: list[dict]) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, H, W) float and labels (B, H, W) int64."""
    shapes = {item["sem_seg"].shape for item in batched_inputs}
    if len(shapes) > 1:
        raise UserError(
            f"the images of a training batch differ in size {sorted(map(tuple, shapes))}: "
            "set INPUT.CROP.SIZE and INPUT.SIZE_DIVISIBILITY to the size that they should have."
        )
    for item in batched_inputs:
        highest = item["sem_seg"].masked_fill(item["sem_seg"] == model.ignore_label, -1).max()
        if highest >= len(model.train_vocabulary):
            raise UserError(
                f"{item.get('file_name', 'a training image')} has the label {int(highest)}, "
                f"but {model.train_vocabulary.name} has {len(model.train_vocabulary)} classes: "
                "fix the label, or set MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON to its vocabulary."
            )
    images = torch.stack([item["image"] for item in batched_inputs])
    labels = torch.stack([item["sem_seg"] for item in batched_inputs])
    return images.to(model.device).float(), labels.to(model.device)


def _training_text(model: nn.Module) -> Tensor:
    """Return the embeddings (T, P, C) of the training vocabulary."""
    if any(parameter.requires_grad for parameter in model.clip.text_state()):
        return embed_vocabulary(model.clip, model.train_vocabulary, model.templates)
    # A copy, because an embedding that inference has cached may not enter a graph.
    return model.text_cache.get(model.clip, model.train_vocabulary, model.templates).clone()


def image_candidates(model: nn.Module, labels: Tensor, text: Tensor) -> Tensor:
    """Return the ids (B, K) of the candidate classes of each image."""
    seen = model.train_vocabulary.seen or (True,) * len(text)
    seen = torch.tensor(seen, device=text.device)
    if model.train_candidates:
        mean = F.normalize(text.mean(dim=1), dim=-1)
        return candidate_classes(labels, mean, seen, model.train_candidates)
    return seen.nonzero()[:, 0].expand(len(labels), -1)


def _ranking_loss(
    model: nn.Module, logits: Tensor, labels: Tensor, classes: Tensor, num_classes: int
) -> Tensor:
    """Return the loss of a ranking's logits (B, K) of candidate classes (B, K).

    The logits and the present classes are left in ``model.category_predictions``.
    """
    present = presence(list(labels), num_classes)
    everything = scatter_columns(logits.detach(), classes, num_classes)
    model.category_predictions = (everything, present)
    return model.ranking.loss(logits, present.gather(1, classes))


def _kept_classes(
    model: nn.Module, cost: Tensor, category_logits: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return which candidates enter the aggregation (B, k), ascending, and their ranks.

    cost (B, K, P, h, w), category_logits (B, K) of a ranking; without one there are no ranks.
    """
    if category_logits is None:
        return strongest_classes(cost, model.max_classes or cost.shape[1]), None
    number = min(model.ranking.kappa or cost.shape[1], cost.shape[1])
    kept, ranks = select_top(category_logits, number).sort(dim=1)
    return kept, ranks


def _decode(
    model: nn.Module,
    features: Tensor,
    guidance: Sequence[Tensor],
    cost: Tensor,
    text: Tensor,
    ranks: Tensor | None,
) -> Tensor:
    """Return logits (B, k, H, W): see :class:`CostAggregator`; scaled by the ranks."""
    aggregate = model.aggregator.forward  # MODEL.COMPILE is for predictions
    if ranks is None:
        return at_least_float32(aggregate(features, guidance, cost, text))
    cost = model.ranking.scaled("cost", cost, ranks)
    logits = at_least_float32(aggregate(features, guidance, cost, text))
    return model.ranking.scaled("logits", logits, ranks)
