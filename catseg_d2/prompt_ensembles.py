"""Other words for the same classes, without training again.

A class may be called by all its synonyms and in many sentences: their embeddings are averaged, as
CLIP's ensembles are, so that a model that learned with one sentence can read them.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

from .clip import DenseCLIP
from .text import TextCache, prompt_templates

SYNONYMS = ("first", "all")  # of the words of a class


class WordedCache:
    """Stands in the place of a model's :class:`TextCache`, and knows classes by other words.

    Attributes:
        templates: name of the sentence ensemble.
        synonyms: "first", the prompt of a class alone, or "all" its words.
    """

    def __init__(self, own: TextCache, own_templates: str, templates: str, synonyms: str) -> None:
        """
        Args:
            own: the cache that the model has.
            own_templates: the ensemble that it was trained with, whose sentences it tells apart.
            templates, synonyms: see above.

        Raises:
            UserError: there is no such ensemble or rule, or the model cannot read it.
        """
        if synonyms not in SYNONYMS:
            raise UserError(f"the synonyms are {synonyms!r}: use {' or '.join(SYNONYMS)}")
        prompt_templates(templates)
        if templates != own_templates and len(prompt_templates(own_templates)) > 1:
            raise UserError(
                f"the model was trained with the templates {own_templates!r}, each of which it "
                f"reads on its own: it cannot be asked with {templates!r}"
            )
        self.templates, self.synonyms = templates, synonyms
        self._own, self._own_templates = own, own_templates
        self._averaged: tuple[Tensor, Tensor] | None = None  # of what, and the result

    def get(self, clip: DenseCLIP, vocabulary: Vocabulary, templates: str) -> Tensor:
        """Embeddings (T, P, C) of the classes in float32, P as the model has it."""
        words = [
            list(dict.fromkeys((prompt, *more))) if self.synonyms == "all" else [prompt]
            for prompt, more in zip(vocabulary.prompts, vocabulary.synonyms, strict=True)
        ]
        flat = tuple(word for each in words for word in each)
        spread = replace(vocabulary, prompts=flat, synonyms=((),) * len(flat))
        if self.templates != self._own_templates:  # what was asked for goes before the vocabulary's
            spread = replace(spread, templates=())
        embeddings = self._own.get(clip, spread, self.templates)  # (words, P, C)
        known = self._averaged
        if known is None or known[0] is not embeddings:
            numbers = [len(each) for each in words]
            classes = torch.stack([each.mean(dim=0) for each in embeddings.split(numbers)])
            if self.templates != self._own_templates:
                classes = classes.mean(dim=1, keepdim=True)
            self._averaged = known = embeddings, F.normalize(classes, dim=-1)
        return known[1]


def reword(model: nn.Module, templates: str, synonyms: str) -> None:
    """Ask a ``CATSeg`` with other sentences, or all words of a class, from now on.

    Args:
        model: which is changed.
        templates: "single" or "imagenet".
        synonyms: "first" or "all".
    """
    model.text_cache = WordedCache(model.text_cache, model.templates, templates, synonyms)
