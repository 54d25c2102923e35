"""Text embeddings of class names, for any text encoder."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.memory import Chunk
from segcore.text.templates import prompt_templates
from segcore.text.tokenizers import Tokenizer
from segcore.vocabulary import Vocabulary

OUT_OF_MEMORY = "use a smaller vocabulary, or a narrower text encoder"


class TextEncoder(Protocol):
    """What the functions of this package need of a model."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns texts into rows of token ids, (K, L)."""

    @property
    def text_width(self) -> int:
        """Width of the layers, for estimates of memory."""

    @property
    def joint_width(self) -> int:
        """Width of the embeddings, C."""

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return embeddings (K, C) of token ids (K, L), rows of the tokenizer."""

    def text_state(self) -> Iterable[Tensor]:
        """Return parameters and buffers that determine the embeddings; they are on one device."""


def text_device(encoder: TextEncoder) -> torch.device:
    """Return the device of the encoder's parameters."""
    return next(iter(encoder.text_state())).device


def embed_vocabulary(
    encoder: TextEncoder, vocabulary: Vocabulary, templates: str, memory: int = 0
) -> Tensor:
    """Return embeddings (T, P, C) of a vocabulary, for the P templates of a model.

    The vocabulary's own templates take precedence. If their number is not P, the mean of their
    embeddings, of unit norm, is used for each of the P.

    Args:
        encoder, templates, memory: as of :func:`embed_prompts`.
        vocabulary: T classes.
    """
    named = prompt_templates(templates)
    if not vocabulary.templates:
        return embed_prompts(encoder, vocabulary.prompts, named, memory)
    own = [template.format for template in vocabulary.templates]
    embeddings = embed_prompts(encoder, vocabulary.prompts, own, memory)
    if len(own) == len(named):
        return embeddings
    return F.normalize(embeddings.mean(dim=1, keepdim=True), dim=-1).expand(-1, len(named), -1)


def embed_prompts(
    encoder: TextEncoder,
    prompts: Sequence[str],
    templates: str | Sequence[Callable[[str], str]],
    memory: int = 0,
) -> Tensor:
    """Return embeddings (T, P, C) of T class names in P templates.

    Args:
        encoder: of the text.
        prompts: T class names.
        templates: functions from a class name to a prompt, or a name in ``TEMPLATES``.
        memory: bytes of the temporaries of a chunk of prompts; 0: one chunk.
    """
    ensemble = prompt_templates(templates) if isinstance(templates, str) else templates
    texts = [template(name) for name in prompts for template in ensemble]
    tokens = encoder.tokenizer(texts).to(text_device(encoder))
    embeddings = (
        _encode_in_chunks(encoder, tokens, memory) if memory else encoder.encode_text(tokens)
    )
    return embeddings.unflatten(0, (len(prompts), len(ensemble)))


def _encode_in_chunks(encoder: TextEncoder, tokens: Tensor, memory: int) -> Tensor:
    """Embed token ids, the longest first: chunks of similar lengths need little padding."""
    lengths = encoder.tokenizer.lengths(tokens)
    order = lengths.argsort(descending=True, stable=True)
    chunk = Chunk(memory // (64 * encoder.text_width), OUT_OF_MEMORY)
    dtype = torch.promote_types(next(iter(encoder.text_state())).dtype, torch.float32)
    embeddings = tokens.new_empty(len(tokens), encoder.joint_width, dtype=dtype)

    def encode(left: Tensor) -> Tensor:
        left = left[: max(chunk.size // int(lengths[left[0]]), 1)]
        embeddings[left] = encoder.encode_text(tokens[left]).to(dtype)
        return left

    while len(order):
        order = order[len(chunk.run(partial(encode, order))) :]
    return embeddings
