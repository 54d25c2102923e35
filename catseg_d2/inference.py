"""Inference of CAT-Seg in bounded memory: scores or labels of images.

Crops pass through the image encoder a few at a time, and through the aggregation one by one, on a
GPU as many at a time as fit; a window of the image is merged once its crops have been predicted.

Shapes: n crops, T classes, K of them that enter the aggregation, P prompts a class.
"""

import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.inference.predictions import SemanticPrediction
from segcore.memory import batches_crops
from segcore.vocabulary import Vocabulary

from .aggregator import cost_volume, select_classes, strongest_classes
from .background import add_background, text_without_background
from .merging import CropLogits, UnmergedCrops, merge_crops
from .patches import PatchPlan, WholeImage


def segment(model: nn.Module, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
    """Segment a batch of images with a ``CATSeg``; see its ``forward``."""
    results = []
    for crops, plan, size, classes in _crops_of_images(model, batched_inputs):
        prediction = SemanticPrediction(model.prediction_kind, classes, size, model.device)
        merge_crops(crops, plan, size, prediction, model.merge_chunk)
        results.append(prediction.result())
    return results


def unmerged_crops(model: nn.Module, batched_inputs: list[dict]) -> list[UnmergedCrops]:
    """Return the un-merged predictions of a ``CATSeg`` for a batch of images."""
    return [
        UnmergedCrops(dict(enumerate(crops)), plan, size, classes)
        for crops, plan, size, classes in _crops_of_images(model, batched_inputs)
    ]


def text_embeddings(model: nn.Module, batched_inputs: list[dict]) -> list[Tensor]:
    """Return embeddings (T, P, C) of the vocabulary of each image, by default the model's.

    With a background threshold the first class has none. The model's vocabulary is read once:
    another thread may change it meanwhile.

    Raises:
        UserError: neither an image nor the model has a vocabulary, or it is invalid.
    """
    of_model = model.vocabulary
    embeddings: dict[str, Tensor] = {}  # one access to the cache for equal vocabularies
    hashes = []
    for item in batched_inputs:
        vocabulary = item.get("vocabulary", of_model)
        if vocabulary is None:
            raise UserError(
                "the model has no vocabulary: call set_vocabulary, set "
                'MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON, or pass one with each image ("vocabulary")'
            )
        vocabulary = Vocabulary.load(vocabulary)
        if vocabulary.hash not in embeddings:
            text = model.text_cache.get(model.clip, vocabulary, model.templates)
            if model.background_threshold:
                text = text_without_background(text, vocabulary)
            embeddings[vocabulary.hash] = text
        hashes.append(vocabulary.hash)
    return [embeddings[each] for each in hashes]


def _crops_of_images(
    model: nn.Module, batched_inputs: list[dict]
) -> Iterator[tuple[Iterator[CropLogits], PatchPlan | WholeImage, tuple[int, int], int]]:
    """Yield for each image the logits of its crops, its plan, the size of the prediction and T.

    The iterator of an image must be consumed before that of the next one.
    """
    texts = text_embeddings(model, batched_inputs)
    images = [item["image"].to(model.device) for item in batched_inputs]
    sizes = [
        (item.get("height", image.shape[-2]), item.get("width", image.shape[-1]))
        for item, image in zip(batched_inputs, images, strict=True)
    ]
    plans = [
        model.patches.plan(*image.shape[-2:]) if model.patches else WholeImage(size)
        for image, size in zip(images, sizes, strict=True)
    ]
    crops = (
        (crop, text)
        for image, plan, text in zip(images, plans, texts, strict=True)
        for crop in plan.cut(image)
    )
    logits, threshold = predict_crops(model, crops), model.background_threshold
    if threshold:
        logits = (add_background(crop, threshold) for crop in logits)
    for plan, size, text in zip(plans, sizes, texts, strict=True):
        yield itertools.islice(logits, len(plan)), plan, size, len(text) + bool(threshold)


def predict_crops(model: nn.Module, crops: Iterator[tuple[Tensor, Tensor]]) -> Iterator[CropLogits]:
    """Yield the logits of crops (3, H, W), RGB, 0..255, each with text embeddings (T, P, C)."""
    small = ((model.to_clip(crop[None]), text) for crop, text in crops)
    while batch := list(itertools.islice(small, model.crop_chunk.size)):
        crops_now, texts_now = zip(*batch, strict=True)
        pixels = torch.cat(crops_now)
        del batch, crops_now  # they are as large as the pixels
        features, guidance = model.crop_chunk.run(partial(_encode, model, pixels))
        end = 0
        for _, group in itertools.groupby(texts_now, key=id):
            texts = list(group)
            start, end = end, end + len(texts)
            yield from _aggregate_crops(
                model, features[start:end], [x[start:end] for x in guidance], texts[0]
            )


def _aggregate_crops(
    model: nn.Module, features: Tensor, guidance: list[Tensor], text: Tensor
) -> Iterator[CropLogits]:
    """Yield the logits of crops that share text embeddings (T, P, C), in chunks of crops."""
    classes = min(model.max_classes or len(text), len(text))
    done = 0
    while done < len(features):
        here = slice(done, done + _crops_at_once(model, classes))
        costs, kept = [], []
        for crop in features[here].split(1):
            cost = cost_volume(crop, text)  # of all classes: much larger than the kept part
            kept.append(strongest_classes(cost, classes))
            costs.append(select_classes(cost, kept[-1]))
            del cost
        kept = torch.cat(kept)
        inputs = (features[here], *(x[here] for x in guidance), torch.cat(costs), text[kept])
        del costs
        logits = model.class_chunk.run(partial(_aggregate, model, inputs))
        yield from (CropLogits(*crop) for crop in zip(logits, kept, strict=True))
        done += len(kept)


def _aggregate(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return logits (n, K, H, W) float32 of the features, guidance, cost and text of n crops."""
    crops = _crops_at_once(model, inputs[-1].shape[1])
    logits = []
    for features, *guidance, cost, text in zip(*(x.split(crops) for x in inputs), strict=True):
        logits.append(model.aggregator(features, guidance, cost, text).float())
    return torch.cat(logits)


def _crops_at_once(model: nn.Module, classes: int) -> int:
    """Return the number of crops per chunk; the classes of a single crop pass in chunks."""
    return max(model.class_chunk.size // classes, 1) if batches_crops(model.device) else 1


def _encode(model: nn.Module, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return dense features of crops (n, 3, H, W), and the two guidance features."""
    parts = [model.clip.encode_image(part) for part in crops.split(model.crop_chunk.size)]
    features, guidance = zip(*parts, strict=True)
    return torch.cat(features), [torch.cat(x) for x in zip(*guidance, strict=True)]
