"""Token ids of CLIP's byte-pair encoding."""

import functools
import re
from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor

from segcore.errors import UserError, printable

MAX_CHARACTERS = 2048  # of a caption that are read: many times the tokens of a context
MOST_PROMPTS = 2**14  # whose token ids are kept: 171 classes in 80 templates are 13,680
_MARKER = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")


@functools.cache
def _tokenizer() -> open_clip.tokenizer.SimpleTokenizer:
    return open_clip.tokenizer.SimpleTokenizer()


def encode(text: str) -> list[int]:
    """Return the token ids of ``text``, without start and end of text.

    The texts of CLIP's special tokens become their ids.
    """
    tokenizer = _tokenizer()
    markers = {"<|startoftext|>": tokenizer.sot_token_id, "<|endoftext|>": tokenizer.eot_token_id}
    ids: list[int] = []
    for part in _MARKER.split(text):
        ids += [markers[part]] if part in markers else tokenizer.encode(part)
    return ids


def tokenize(prompts: Sequence[str], context_length: int = 77) -> Tensor:
    """Return token ids (len(prompts), context_length): start of text, ids, end of text, zeros.

    Raises:
        UserError: a prompt has more tokens than the context; it is never truncated.
    """
    rows = [_prompt_ids(prompt, context_length) for prompt in prompts]
    return torch.tensor(rows, dtype=torch.long).view(len(rows), context_length)


# A training of the text encoder reads the same prompts in every step.
@functools.lru_cache(maxsize=MOST_PROMPTS)
def _prompt_ids(prompt: str, context_length: int) -> tuple[int, ...]:
    """Return a row of :func:`tokenize`."""
    tokenizer = _tokenizer()
    ids = [tokenizer.sot_token_id, *encode(prompt), tokenizer.eot_token_id]
    if len(ids) > context_length:
        raise UserError(
            f"'{printable(prompt[:60])}...' has {len(ids)} tokens, but the text encoder reads "
            f"{context_length}: use a shorter name for this class."
        )
    return (*ids, *(0,) * (context_length - len(ids)))


def tokenize_captions(captions: Sequence[str], context_length: int = 77) -> tuple[Tensor, int]:
    """Return token ids (len(captions), context_length), and the number of truncated captions.

    Captions may be longer than the context, unlike the names of classes: the first tokens are kept,
    followed by the end-of-text token. Of a caption the first ``MAX_CHARACTERS`` are read.
    """
    tokenizer = _tokenizer()
    rows = torch.zeros(len(captions), context_length, dtype=torch.long)
    num_truncated = 0
    for row, caption in zip(rows, captions, strict=True):
        ids = encode(caption[:MAX_CHARACTERS])
        num_truncated += len(ids) > context_length - 2 or len(caption) > MAX_CHARACTERS
        ids = [tokenizer.sot_token_id, *ids[: context_length - 2], tokenizer.eot_token_id]
        row[: len(ids)] = torch.tensor(ids)
    return rows, num_truncated
