"""Segmenting: pictures and words in, scores or labels out, in bounded memory.

Crops pass through the image tower a few at a time and through the aggregation one by one; a window
of the picture is merged as soon as its crops are there.

Shapes: n crops, T classes, K of them that enter the aggregation, P sentences a class.
"""

import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from segcore.answers import SemanticAnswer
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

from .aggregator import cost_volume, select_classes, strongest_classes
from .merging import CropLogits, CropView, merge_crops
from .patches import PatchPlan, WholePicture


def segment(model: nn.Module, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
    """Segment a batch of images with a ``CATSeg``; see its ``forward``."""
    results = []
    for crops, plan, size, classes in _images(model, batched_inputs):
        answer = SemanticAnswer(model.answer_kind, classes, size, model.device)
        merge_crops(crops, plan, size, answer, model.merge_chunk)
        results.append(answer.result())
    return results


def views(model: nn.Module, batched_inputs: list[dict]) -> list[CropView]:
    """What a ``CATSeg`` finds in images, before it becomes scores of pixels."""
    return [
        CropView(dict(enumerate(crops)), plan, size, classes)
        for crops, plan, size, classes in _images(model, batched_inputs)
    ]


def text_of_each(model: nn.Module, batched_inputs: list[dict]) -> list[Tensor]:
    """Embeddings (T, P, C) of the vocabulary of each image: its own, or the model's.

    The model's is read once: another thread may give the model another one meanwhile.

    Raises:
        UserError: an image has no vocabulary and neither has the model, or it cannot be used.
    """
    of_model = model.vocabulary
    embeddings: dict[str, Tensor] = {}  # one look into the cache for equal vocabularies
    hashes = []
    for item in batched_inputs:
        vocabulary = item.get("vocabulary", of_model)
        if vocabulary is None:
            raise UserError(
                "the model has no vocabulary: call set_vocabulary, set "
                'MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON, or give each image one ("vocabulary")'
            )
        vocabulary = Vocabulary.load(vocabulary)
        if vocabulary.hash not in embeddings:
            embeddings[vocabulary.hash] = model.text_cache.get(
                model.clip, vocabulary, model.templates
            )
        hashes.append(vocabulary.hash)
    return [embeddings[each] for each in hashes]


def _images(
    model: nn.Module, batched_inputs: list[dict]
) -> Iterator[tuple[Iterator[CropLogits], PatchPlan | WholePicture, tuple[int, int], int]]:
    """For each image the logits of its crops, to be drawn before those of the next one, how it was
    cut, the (height, width) that is asked for, and the number of its classes."""
    texts = text_of_each(model, batched_inputs)
    images = [item["image"].to(model.device) for item in batched_inputs]
    sizes = [
        (item.get("height", image.shape[-2]), item.get("width", image.shape[-1]))
        for item, image in zip(batched_inputs, images, strict=True)
    ]
    plans = [
        model.patches.plan(*image.shape[-2:]) if model.patches else WholePicture(size)
        for image, size in zip(images, sizes, strict=True)
    ]
    crops = (
        (crop, text)
        for image, plan, text in zip(images, plans, texts, strict=True)
        for crop in plan.cut(image)
    )
    logits = predict_crops(model, crops)
    for plan, size, text in zip(plans, sizes, texts, strict=True):
        yield itertools.islice(logits, len(plan)), plan, size, len(text)


def predict_crops(model: nn.Module, crops: Iterator[tuple[Tensor, Tensor]]) -> Iterator[CropLogits]:
    """The logits of crops in turn: (3, H, W), RGB, 0..255, each with its text (T, P, C)."""
    small = ((model.to_clip(crop[None]), text) for crop, text in crops)
    while batch := list(itertools.islice(small, model.crop_chunk.size)):
        pixels = torch.cat([crop for crop, _ in batch])
        features, guidance = model.crop_chunk.run(partial(_encode, model, pixels))
        for number, (_, text) in enumerate(batch):
            one = slice(number, number + 1)
            cost = cost_volume(features[one], text)
            kept = strongest_classes(cost, model.max_classes or len(text))
            inputs = (
                features[one],
                [x[one] for x in guidance],
                select_classes(cost, kept),
                text[kept],
            )
            del cost  # of all classes: much larger than what is kept of it
            logits = model.class_chunk.run(partial(model.aggregator, *inputs))
            yield CropLogits(logits[0].float(), kept[0])


def _encode(model: nn.Module, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Dense features of crops (n, 3, H, W), and the two guidance features, as many at a time."""
    parts = [model.clip.encode_image(part) for part in crops.split(model.crop_chunk.size)]
    features, guidance = zip(*parts, strict=True)
    return torch.cat(features), [torch.cat(x) for x in zip(*guidance, strict=True)]
