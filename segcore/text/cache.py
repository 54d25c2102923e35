"""A cache of text embeddings that is never outdated."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from segcore.memory import CPU_BUDGET
from segcore.text.embeddings import TextEncoder, embed_vocabulary, text_device
from segcore.vocabulary import Vocabulary


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
    def get(self, encoder: TextEncoder, vocabulary: Vocabulary, templates: str) -> Tensor:
        """Return embeddings (T, P, C) of ``vocabulary``, float32 at least, without gradient."""
        device = text_device(encoder)
        key = (text_fingerprint(encoder), vocabulary.hash, templates, device)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        with torch.autocast(device.type, enabled=False):
            embeddings = embed_vocabulary(encoder, vocabulary, templates, self._chunk_memory)
        with self._lock:
            self._entries[key] = embeddings
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return embeddings


@torch.no_grad()
def text_fingerprint(encoder: TextEncoder) -> int:
    """Return a hash of the bits of the text encoder's state.

    It is a sum of 64-bit integers, each times a different odd number, modulo 2**64: one pass over
    the memory, fast enough for every image.
    """
    device = text_device(encoder)
    size = CPU_INTEGERS if device.type == "cpu" else GPU_INTEGERS
    total = torch.zeros((), dtype=torch.int64, device=device)
    factors = 2 * torch.arange(size, device=device) + 1
    for part in _integers(encoder.text_state(), size):
        total = total * 31 + (part * factors[: len(part)]).sum()
    return int(total)


CPU_INTEGERS = 1 << 17  # fit the cache of a processor
GPU_INTEGERS = 1 << 23  # few kernels, because their launches take longer than their work


def _integers(tensors: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the bits of tensors as 64-bit integers, at most ``size`` at a time."""
    waiting: list[Tensor] = []
    for tensor in tensors:
        bits = tensor.detach().flatten().view(torch.uint8)
        whole = len(bits) // 8 * 8
        for part in (*bits[:whole].view(torch.int64).split(size), bits[whole:].long()):
            if waiting and sum(map(len, waiting)) + len(part) > size:
                yield waiting[0] if len(waiting) == 1 else torch.cat(waiting)
                waiting.clear()
            if len(part):
                waiting.append(part)
    if waiting:
        yield torch.cat(waiting)
