"""Text embeddings of class names: prompt templates, tokens, and a cache.

Source: CAT-Seg (CVPR 2024), section 4 ("A photo of a {} in the scene"); CLIP's ImageNet templates.
"""

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

from .clip import DenseCLIP
from .memory import CPU_BUDGET, Chunk

TEMPLATES: dict[str, Sequence[Callable[[str], str]]] = {
    "single": ["A photo of a {} in the scene".format],
    "imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
}

OUT_OF_MEMORY = "use a smaller vocabulary, or lower MODEL.SEM_SEG_HEAD.CHUNK_MEMORY"

_MARKER = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")


def prompt_templates(name: str) -> Sequence[Callable[[str], str]]:
    """Return the prompt templates of a name: functions from a class name to a prompt.

    Raises:
        UserError: there is no such name.
    """
    if name not in TEMPLATES:
        raise UserError(
            f"MODEL.PROMPT_ENSEMBLE_TYPE is '{name}': use one of {', '.join(TEMPLATES)}."
        )
    return TEMPLATES[name]


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
    tokenizer = _tokenizer()
    rows = torch.zeros(len(prompts), context_length, dtype=torch.long)
    for row, prompt in zip(rows, prompts, strict=True):
        ids = [tokenizer.sot_token_id, *encode(prompt), tokenizer.eot_token_id]
        if len(ids) > context_length:
            raise UserError(
                f"'{prompt[:60]}...' has {len(ids)} tokens, but the text encoder reads "
                f"{context_length}: use a shorter name for this class."
            )
        row[: len(ids)] = torch.tensor(ids)
    return rows


def embed_vocabulary(
    clip: DenseCLIP, vocabulary: Vocabulary, templates: str, memory: int = 0
) -> Tensor:
    """Return unit-norm embeddings (T, P, C) of a vocabulary, for the P templates of a model.

    The vocabulary's own templates take precedence. If their number is not P, the mean of their
    embeddings is used for each of the P.

    Args:
        clip, templates, memory: as of :func:`embed_prompts`.
        vocabulary: T classes.
    """
    named = prompt_templates(templates)
    if not vocabulary.templates:
        return embed_prompts(clip, vocabulary.prompts, named, memory)
    own = [template.format for template in vocabulary.templates]
    embeddings = embed_prompts(clip, vocabulary.prompts, own, memory)
    if len(own) == len(named):
        return embeddings
    return F.normalize(embeddings.mean(dim=1, keepdim=True), dim=-1).expand(-1, len(named), -1)


def embed_prompts(
    clip: DenseCLIP,
    prompts: Sequence[str],
    templates: str | Sequence[Callable[[str], str]],
    memory: int = 0,
) -> Tensor:
    """Return unit-norm embeddings (T, P, C) of T class names in P templates.

    Args:
        clip: its text encoder is used.
        prompts: T class names.
        templates: functions from a class name to a prompt, or a name in ``TEMPLATES``.
        memory: bytes of the temporaries of a chunk of prompts; 0: one chunk.
    """
    ensemble = prompt_templates(templates) if isinstance(templates, str) else templates
    texts = [template(name) for name in prompts for template in ensemble]
    tokens = tokenize(texts, clip.context_length).to(clip.positional_embedding.device)
    embeddings = _encode_in_chunks(clip, tokens, memory) if memory else clip.encode_text(tokens)
    return embeddings.unflatten(0, (len(prompts), len(ensemble)))


def _encode_in_chunks(clip: DenseCLIP, tokens: Tensor, memory: int) -> Tensor:
    """Embed token ids, the longest first: chunks of similar lengths need little padding."""
    lengths = tokens.argmax(dim=-1) + 1  # end of text has the largest id
    order = lengths.argsort(descending=True, stable=True)
    chunk = Chunk(memory // (64 * clip.positional_embedding.shape[1]), OUT_OF_MEMORY)
    embeddings = tokens.new_empty(len(tokens), clip.joint_width, dtype=torch.float32)

    def encode(left: Tensor) -> Tensor:
        left = left[: max(chunk.size // int(lengths[left[0]]), 1)]
        embeddings[left] = clip.encode_text(tokens[left]).float()
        return left

    while len(order):
        order = order[len(chunk.run(partial(encode, order))) :]
    return embeddings


class TextCache:
    """A thread-safe cache of text embeddings by (weights, vocabulary, templates).

    A fingerprint of the weights is part of the key: any change of them (an optimizer step, a loaded
    checkpoint, an assignment to ``.data``) changes the key, so no entry is outdated.
    """

    def __init__(self, size: int = 8, chunk_memory: int = CPU_BUDGET) -> None:
        """
        Args:
            size: number of entries; the least recently used one is dropped first.
            chunk_memory: bytes of the temporaries of a chunk of prompts.
        """
        self._size = size
        self._chunk_memory = chunk_memory
        self._entries: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        """Copy or pickle the cache without its entries."""
        return TextCache, (self._size, self._chunk_memory)

    @torch.no_grad()
    def get(self, clip: DenseCLIP, vocabulary: Vocabulary, templates: str) -> Tensor:
        """Return embeddings (T, P, C) of ``vocabulary`` in float32, without gradient."""
        device = clip.positional_embedding.device
        key = (text_fingerprint(clip), vocabulary.hash, templates, device)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        with torch.autocast(device.type, enabled=False):
            embeddings = embed_vocabulary(clip, vocabulary, templates, self._chunk_memory)
        with self._lock:
            self._entries[key] = embeddings
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return embeddings


@torch.no_grad()
def text_fingerprint(clip: DenseCLIP) -> int:
    """Return a hash of the bits of the text encoder's weights.

    It is a sum of 64-bit integers, each times a different odd number, modulo 2**64: one pass over
    the memory, fast enough for every image.
    """
    total = torch.zeros((), dtype=torch.int64, device=clip.positional_embedding.device)
    factors = 2 * torch.arange(_PART, device=total.device) + 1
    for parameter in (
        *clip.transformer.parameters(),
        *clip.token_embedding.parameters(),
        *clip.ln_final.parameters(),
        clip.positional_embedding,
        clip.text_projection,
    ):
        bits = parameter.detach().flatten().view(torch.uint8)
        whole = len(bits) // 8 * 8
        for part in (*bits[:whole].view(torch.int64).split(_PART), bits[whole:].long()):
            total = total * 31 + (part * factors[: len(part)]).sum()
    return int(total)


_PART = 1 << 17  # integers that fit the cache of a processor
