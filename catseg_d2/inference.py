"""Inference of CAT-Seg in bounded memory: scores or labels of images.

Crops pass through the image encoder a few at a time. Through the aggregation they pass one by one,
on a GPU as many at a time as its memory holds of crops times classes. A window of the image is
merged once its crops have been predicted.

Shapes: n crops, T classes, K of them that enter the aggregation, P prompts a class.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.inference.precision import at_least_float32
from segcore.inference.predictions import SemanticPrediction
from segcore.memory import batches_crops
from segcore.vocabulary import Vocabulary

from .background import add_background, text_without_background
from .merging import CropLogits, UnmergedCrops, merge_crops
from .patches import PatchPlan, WholeImage
from .selecting import Choice, Selector


@dataclass
class ImageClasses:
    """The classes of an image, which its crops share.

    Attributes:
        text: embeddings (T, P, C).
        selector: of the classes that enter the aggregation of a crop.
        first: the choice of the first crop.
        logits: (T,) of the presence of each class, the maximum over the crops so far; None without
            a ranking.
        kept: (T,) bool, whether a crop so far keeps the class; None without a ranking.
        background: whether a class without embedding precedes the others.
    """

    text: Tensor
    selector: Selector
    background: bool = False
    first: Choice | None = field(default=None, init=False)
    logits: Tensor | None = field(default=None, init=False)
    kept: Tensor | None = field(default=None, init=False)

    def choose(self, features: Tensor) -> tuple[Choice, Tensor]:
        """Select classes of the next crop: see :meth:`Selector.choose`."""
        if self.first is not None and self.selector.per_image:
            return self.first, self.selector.cost(features, self.text, self.first)
        choice, cost = self.selector.choose(features, self.text)
        self.first = self.first or choice
        if choice.logits is not None:
            if self.logits is None:
                self.logits = choice.logits
                self.kept = torch.zeros_like(choice.logits, dtype=torch.bool)
            self.logits = torch.maximum(self.logits, choice.logits)
            self.kept[choice.classes] = True
        return choice, cost

    def categories(self) -> dict[str, Tensor]:
        """Return, once all crops are done, which classes the image contains; {} without a ranking.

        Returns:
            "category_scores" (T,), probabilities, and "category_ids" (K,), the classes that a crop
            kept, the most probable first. The background has the probability 0.
        """
        if self.logits is None:
            return {}
        scores, kept = self.logits.sigmoid(), self.kept.nonzero()[:, 0]
        kept = kept[scores[kept].argsort(descending=True, stable=True)]
        if self.background:
            scores, kept = torch.cat([scores.new_zeros(1), scores]), kept + 1
        return {"category_scores": scores, "category_ids": kept}


def segment(model: nn.Module, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
    """Segment a batch of images with a ``CATSeg``; see its ``forward``."""
    results = []
    for crops, plan, size, classes in _crops_of_images(model, batched_inputs):
        count = len(classes.text) + classes.background
        prediction = SemanticPrediction(model.prediction_kind, count, size, model.device)
        merge_crops(crops, plan, size, prediction, model.merge_chunk)
        results.append(prediction.result() | classes.categories())
    return results


def unmerged_crops(model: nn.Module, batched_inputs: list[dict]) -> list[UnmergedCrops]:
    """Return the un-merged predictions of a ``CATSeg`` for a batch of images."""
    views = []
    for crops, plan, size, classes in _crops_of_images(model, batched_inputs):
        held = dict(enumerate(crops))
        count = len(classes.text) + classes.background
        scores = classes.categories().get("category_scores")
        views.append(UnmergedCrops(held, plan, size, count, scores))
    return views


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
) -> Iterator[tuple[Iterator[CropLogits], PatchPlan | WholeImage, tuple[int, int], ImageClasses]]:
    """Yield for each image the logits of its crops, its plan, the prediction's size, its classes.

    The iterator of an image must be consumed before that of the next one.
    """
    threshold = model.background_threshold
    classes = [
        ImageClasses(text, model.selector(item.get("classes_kept")), bool(threshold))
        for item, text in zip(batched_inputs, text_embeddings(model, batched_inputs), strict=True)
    ]
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
        (crop, of_image)
        for image, plan, of_image in zip(images, plans, classes, strict=True)
        for crop in plan.cut(image)
    )
    logits = predict_crops(model, crops)
    if threshold:
        logits = (add_background(crop, threshold) for crop in logits)
    for plan, size, of_image in zip(plans, sizes, classes, strict=True):
        yield itertools.islice(logits, len(plan)), plan, size, of_image


def predict_crops(
    model: nn.Module, crops: Iterator[tuple[Tensor, ImageClasses]]
) -> Iterator[CropLogits]:
    """Yield the logits of crops (3, H, W), RGB, 0..255, each with the classes of its image."""
    small = ((model.to_clip(crop[None]), classes) for crop, classes in crops)
    while batch := list(itertools.islice(small, model.crop_chunk.size)):
        crops_now, classes_now = zip(*batch, strict=True)
        pixels = torch.cat(crops_now)
        del batch, crops_now  # they are as large as the pixels
        features, guidance = model.crop_chunk.run(partial(_encode, model, pixels))
        done = 0
        while done < len(features):
            text, selector = classes_now[done].text, classes_now[done].selector
            here = slice(done, done + _crops_at_once(model, selector.limit(len(text))))
            chosen = [
                (of_image.text, *of_image.choose(crop[None]))
                for crop, of_image in zip(features[here], classes_now[here], strict=True)
            ]
            inputs = zip(chosen, features[here], *(x[here] for x in guidance), strict=True)
            done += len(chosen)
            # Crops that keep equally many classes pass the aggregation together.
            for _, group in itertools.groupby(inputs, lambda crop: len(crop[0][1].classes)):
                yield from _aggregate_crops(model, *zip(*group, strict=True))


def _aggregate_crops(
    model: nn.Module, chosen: Sequence[tuple[Tensor, Choice, Tensor]], *images: Sequence[Tensor]
) -> Iterator[CropLogits]:
    """Yield the logits of crops that keep K classes each.

    Args:
        chosen: of each crop the text embeddings (T, P, C), its choice, and the cost volume
            (1, K, P, h, w).
        images: features of each crop, and twice guidance.
    """
    text = torch.stack([text[choice.classes] for text, choice, _ in chosen])
    cost = torch.cat([cost for *_, cost in chosen])
    ranks = None
    if model.ranking is not None:
        ranks = torch.stack([choice.ranks for _, choice, _ in chosen])
        cost = model.ranking.scaled("cost", cost, ranks)
    inputs = (*map(torch.stack, images), cost, text)
    logits = model.class_chunk.run(partial(_aggregate, model, inputs))
    if ranks is not None:
        logits = model.ranking.scaled("logits", logits, ranks)
    for crop, (_, choice, _) in zip(logits, chosen, strict=True):
        yield CropLogits(crop, choice.classes)


def _aggregate(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return logits (n, K, H, W) of the features, guidance, cost and text of n crops."""
    crops = _crops_at_once(model, inputs[-1].shape[1])
    logits = []
    for features, *guidance, cost, text in zip(*(x.split(crops) for x in inputs), strict=True):
        logits.append(model.run(model.aggregator, features, guidance, cost, text))
    return at_least_float32(torch.cat(logits))


def _crops_at_once(model: nn.Module, classes: int) -> int:
    """Return the number of crops per chunk; the classes of a single crop pass in chunks."""
    return max(model.class_chunk.size // classes, 1) if batches_crops(model.device) else 1


def _encode(model: nn.Module, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return dense features of crops (n, 3, H, W), and the two guidance features."""
    parts = [model.run(model.clip, part) for part in crops.split(model.crop_chunk.size)]
    features, guidance = zip(*parts, strict=True)
    features = at_least_float32(torch.cat(features))
    return features, [torch.cat(x) for x in zip(*guidance, strict=True)]
