"""Prompt ensembles: average the text embeddings of synonyms and prompt templates.

As in CLIP, a class is embedded with all its synonyms and several templates, and the mean is used,
so that a model that was trained with one template can use them without training.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.text import TextCache, prompt_templates
from segcore.vocabulary import Vocabulary

from .encoders import ImageTextEncoder

SYNONYMS = ("first", "all")  # of a class


class EnsembleCache:
    """Replaces a model's :class:`TextCache`, and embeds classes with other prompts.

    Attributes:
        templates: name of the prompt templates.
        synonyms: "first", the prompt of a class alone, or "all" its synonyms.
    """

    def __init__(
        self, cache: TextCache, trained_templates: str, templates: str, synonyms: str
    ) -> None:
        """
        Args:
            cache: of the model.
            trained_templates: name of the templates that the model was trained with.
            templates, synonyms: see above.

        Raises:
            UserError: there are no such templates or synonyms, or the model cannot use them.
        """
        if synonyms not in SYNONYMS:
            raise UserError(f"the synonyms are {synonyms!r}: use {' or '.join(SYNONYMS)}")
        prompt_templates(templates)
        if templates != trained_templates and len(prompt_templates(trained_templates)) > 1:
            raise UserError(
                f"the model was trained with the templates {trained_templates!r}, one channel for "
                f"each of them: it cannot be used with {templates!r}"
            )
        self.templates, self.synonyms = templates, synonyms
        self._cache, self._trained_templates = cache, trained_templates
        self._averaged: tuple[Tensor, Tensor] | None = None  # the embeddings, and their mean

    def get(self, clip: ImageTextEncoder, vocabulary: Vocabulary, templates: str) -> Tensor:
        """Return embeddings (T, P, C) of the classes in float32, P as the model was trained."""
        names = [
            list(dict.fromkeys((prompt, *more))) if self.synonyms == "all" else [prompt]
            for prompt, more in zip(vocabulary.prompts, vocabulary.synonyms, strict=True)
        ]
        flat = tuple(name for each in names for name in each)
        spread = replace(vocabulary, prompts=flat, synonyms=((),) * len(flat))
        if self.templates != self._trained_templates:  # these replace the vocabulary's templates
            spread = replace(spread, templates=())
        embeddings = self._cache.get(clip, spread, self.templates)  # (names, P, C)
        known = self._averaged
        if known is None or known[0] is not embeddings:
            numbers = [len(each) for each in names]
            classes = torch.stack([each.mean(dim=0) for each in embeddings.split(numbers)])
            if self.templates != self._trained_templates:
                classes = classes.mean(dim=1, keepdim=True)
            self._averaged = known = embeddings, F.normalize(classes, dim=-1)
        return known[1]


def use_ensemble(model: nn.Module, templates: str, synonyms: str) -> None:
    """Make a ``CATSeg`` embed its classes with other templates, or all their synonyms.

    Args:
        model: is changed.
        templates: a name in :data:`segcore.text.TEMPLATES`.
        synonyms: "first" or "all".
    """
    model.text_cache = EnsembleCache(model.text_cache, model.templates, templates, synonyms)
