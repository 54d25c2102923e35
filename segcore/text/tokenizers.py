"""Tokenizers: prompts and captions -> rows of token ids, as a text encoder reads them."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from segcore.text.tokens import tokenize, tokenize_captions


class Tokenizer(Protocol):
    """What embeddings of text need of the tokenizer of an encoder.

    Attributes:
        context_length: tokens of a row, L.
    """

    context_length: int

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return token ids (len(prompts), L).

        Raises:
            UserError: a prompt has more than L tokens; it is never truncated.
        """

    def truncated(self, captions: Sequence[str]) -> tuple[Tensor, int]:
        """Return token ids (len(captions), L), and the number of truncated captions."""

    def lengths(self, tokens: Tensor) -> Tensor:
        """Return the numbers (K,) of leading tokens that the embeddings of rows (K, L) depend on.

        It is less than L where a causal text encoder does not see the padding.
        """


class ClipTokenizer:
    """CLIP's byte-pair encoding; the end-of-text token has the largest id, zeros follow it."""

    def __init__(self, context_length: int) -> None:
        """
        Args:
            context_length: tokens of a row, L.
        """
        self.context_length = context_length

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return token ids (len(prompts), L), as :func:`tokenize`."""
        return tokenize(prompts, self.context_length)

    def truncated(self, captions: Sequence[str]) -> tuple[Tensor, int]:
        """Return token ids (len(captions), L) and a count, as :func:`tokenize_captions`."""
        return tokenize_captions(captions, self.context_length)

    def lengths(self, tokens: Tensor) -> Tensor:
        """Return the numbers (K,) of tokens up to the end of text: the encoder is causal."""
        return tokens.argmax(dim=-1) + 1


def pad_rows(rows: Sequence[Sequence[int]], length: int, padding: int) -> Tensor:
    """Return lists of ids as a tensor (len(rows), length) int64, padded at the end."""
    result = torch.full((len(rows), length), padding, dtype=torch.long)
    for row, ids in zip(result, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
    return result
