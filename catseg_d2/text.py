"""From words to text embeddings: sentence templates, tokens, and a cache that cannot be stale.

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

OUT_OF_MEMORY = "give the model fewer words, or lower MODEL.SEM_SEG_HEAD.CHUNK_MEMORY"

_MARKER = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")


def prompt_templates(name: str) -> Sequence[Callable[[str], str]]:
    """The templates of an ensemble: functions from a word to a sentence.

    Raises:
        UserError: the ensemble has no such name.
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
    """Token ids of ``text``, without start and end; CLIP's literal markers become their own ids."""
    tokenizer = _tokenizer()
    markers = {"<|startoftext|>": tokenizer.sot_token_id, "<|endoftext|>": tokenizer.eot_token_id}
    ids: list[int] = []
    for part in _MARKER.split(text):
        ids += [markers[part]] if part in markers else tokenizer.encode(part)
    return ids


def tokenize(sentences: Sequence[str], context_length: int = 77) -> Tensor:
    """Token rows (len(sentences), context_length): start, ids, end, zeros.

    Raises:
        UserError: a sentence has more tokens than the context; it is never cut silently.
    """
    tokenizer = _tokenizer()
    rows = torch.zeros(len(sentences), context_length, dtype=torch.long)
    for row, sentence in zip(rows, sentences, strict=True):
        ids = [tokenizer.sot_token_id, *encode(sentence), tokenizer.eot_token_id]
        if len(ids) > context_length:
            raise UserError(
                f"'{sentence[:60]}...' has {len(ids)} tokens, but the text tower reads "
                f"{context_length}: use a shorter name for this class."
            )
        row[: len(ids)] = torch.tensor(ids)
    return rows


def embed_vocabulary(
    clip: DenseCLIP, vocabulary: Vocabulary, templates: str, memory: int = 0
) -> Tensor:
    """Unit-norm embeddings (T, P, C) of a vocabulary, P as many as ``templates`` has sentences.

    A vocabulary with templates of its own is read in those. Where the model knows one sentence and
    they are several, or the other way round, their mean stands for each.

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
    """Unit-norm embeddings (T, P, C) of T words in P sentences.

    Args:
        clip: towers whose text tower predictions.
        prompts: the words, one a class.
        templates: functions from a word to a sentence, or name of an ensemble in ``TEMPLATES``.
        memory: bytes that the temporaries of the sentences may take that pass through the tower
            together; 0 lets all pass together.
    """
    ensemble = prompt_templates(templates) if isinstance(templates, str) else templates
    sentences = [template(word) for word in prompts for template in ensemble]
    tokens = tokenize(sentences, clip.context_length).to(clip.positional_embedding.device)
    embeddings = _encode_in_chunks(clip, tokens, memory) if memory else clip.encode_text(tokens)
    return embeddings.unflatten(0, (len(prompts), len(ensemble)))


def _encode_in_chunks(clip: DenseCLIP, tokens: Tensor, memory: int) -> Tensor:
    """Embeddings of token rows, the longest first: those of one length waste no columns."""
    lengths = tokens.argmax(dim=-1) + 1  # the end marker has the largest id
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
    """Text embeddings by (weights, vocabulary, templates). Safe between threads.

    The weights enter the key by their content: whatever changes them (a step of the optimizer, a
    loaded checkpoint, an assignment to ``.data``) changes the key, so no entry can be stale.
    """

    def __init__(self, size: int = 8, chunk_memory: int = CPU_BUDGET) -> None:
        """
        Args:
            size: entries kept; the one used longest ago leaves first.
            chunk_memory: bytes that the temporaries of sentences may take.
        """
        self._size = size
        self._chunk_memory = chunk_memory
        self._entries: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        """Copied or pickled with its model, a cache starts empty."""
        return TextCache, (self._size, self._chunk_memory)

    @torch.no_grad()
    def get(self, clip: DenseCLIP, vocabulary: Vocabulary, templates: str) -> Tensor:
        """Embeddings (T, P, C) of ``vocabulary`` in float32, without gradient."""
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
    """A number that changes with the bits of the text tower's weights.

    A sum of 64-bit words, each times an odd number of its own, modulo 2**64: one pass over the
    memory, so that it can be taken before every image.
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


_PART = 1 << 17  # words that stay in a processor's cache
