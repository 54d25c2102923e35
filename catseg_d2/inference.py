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

from .aggregator import cost_volume, select_classes, strongest_classes
from .merging import CropLogits, CropView, merge_crops
from .patches import PatchPlan, WholePicture


def segment(model: nn.Module, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
    """Answer a batch of pictures with the words that a ``CATSeg`` has now; see its ``forward``."""
    text = current_text(model)
    results = []
    for crops, plan, size in _pictures(model, batched_inputs, text):
        answer = SemanticAnswer(model.answer_kind, len(text), size, model.device)
        merge_crops(crops, plan, size, answer, model.merge_chunk)
        results.append(answer.result())
    return results


def views(model: nn.Module, batched_inputs: list[dict]) -> list[CropView]:
    """What a ``CATSeg`` finds in pictures, before it becomes scores of pixels."""
    text = current_text(model)
    return [
        CropView(dict(enumerate(crops)), plan, size, len(text))
        for crops, plan, size in _pictures(model, batched_inputs, text)
    ]


def current_text(model: nn.Module) -> Tensor:
    """Embeddings (T, P, C) of the words that the model has now.

    To be asked once a call: another thread may give the model other words meanwhile.
    """
    vocabulary = model.vocabulary
    if vocabulary is None:
        raise UserError(
            "the model has no words to answer with: call set_vocabulary, or set "
            "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON."
        )
    return model.text_cache.get(model.clip, vocabulary, model.templates)


def _pictures(
    model: nn.Module, batched_inputs: list[dict], text: Tensor
) -> Iterator[tuple[Iterator[CropLogits], PatchPlan | WholePicture, tuple[int, int]]]:
    """For each picture the answers of its crops, to be drawn before the next one, how it was cut,
    and the (height, width) that is asked for."""
    images = [item["image"].to(model.device) for item in batched_inputs]
    sizes = [
        (item.get("height", image.shape[-2]), item.get("width", image.shape[-1]))
        for item, image in zip(batched_inputs, images, strict=True)
    ]
    plans = [
        model.patches.plan(*image.shape[-2:]) if model.patches else WholePicture(size)
        for image, size in zip(images, sizes, strict=True)
    ]
    crops = (crop for image, plan in zip(images, plans, strict=True) for crop in plan.cut(image))
    answers = answer_crops(model, crops, text)
    for plan, size in zip(plans, sizes, strict=True):
        yield itertools.islice(answers, len(plan)), plan, size


def answer_crops(model: nn.Module, crops: Iterator[Tensor], text: Tensor) -> Iterator[CropLogits]:
    """The answers of crops (3, H, W), RGB, 0..255, in turn; text (T, P, C)."""
    small = (model.to_clip(crop[None]) for crop in crops)
    while batch := list(itertools.islice(small, model.crop_chunk.size)):
        batch = torch.cat(batch)
        features, guidance = model.crop_chunk.run(partial(_encode, model, batch))
        for crop in range(len(batch)):
            one = slice(crop, crop + 1)
            cost = cost_volume(features[one], text)
            kept = strongest_classes(cost, model.max_classes or len(text))
            inputs = (
                features[one],
                [x[one] for x in guidance],
                select_classes(cost, kept),
                text[kept],
            )
            del cost  # of all words: much larger than what is kept of it
            logits = model.class_chunk.run(partial(model.aggregator, *inputs))
            yield CropLogits(logits[0].float(), kept[0])


def _encode(model: nn.Module, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Dense features of crops (n, 3, H, W), and the two guidance features, as many at a time."""
    parts = [model.clip.encode_image(part) for part in crops.split(model.crop_chunk.size)]
    features, guidance = zip(*parts, strict=True)
    return torch.cat(features), [torch.cat(x) for x in zip(*guidance, strict=True)]
