"""Text encoders of open_clip: causal, as CLIP's, or with full attention, as SigLIP's.

Shapes: K prompts, L tokens, C joint width.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.memory import recomputed

Run = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]  # of ImageTextEncoder.run


def run_block(block: nn.Module, x: Tensor, is_causal: bool = False) -> Tensor:
    """Run a pre-norm transformer block of open_clip on x (B, L, width)."""
    x = x + block.ls_1(block.attn(block.ln_1(x), is_causal=is_causal))
    return x + recomputed(lambda x: block.ls_2(block.mlp(block.ln_2(x))), x)


def causal_embeddings(text: nn.Module, tokens: Tensor, run: Run) -> Tensor:
    """Return unit-norm embeddings (K, C) of token ids (K, L), read at the end of text.

    Columns that are padding in every row are not computed: attention is causal, so tokens after the
    end-of-text token do not affect it.

    Args:
        text: module with the parameters of CLIP's text encoder.
        tokens: zero-padded after the end-of-text token, which has the largest id.
        run: runs a block.
    """
    end = tokens.argmax(dim=-1)
    length = int(end.max()) + 1
    x = text.token_embedding(tokens[:, :length]) + text.positional_embedding[:length]
    for block in text.transformer.resblocks:
        x = run(partial(run_block, block, is_causal=True), x)
    x = text.ln_final(x[torch.arange(len(x), device=x.device), end])
    return F.normalize(x @ text.text_projection, dim=-1)


def full_embeddings(text: nn.Module, tokens: Tensor, run: Run) -> Tensor:
    """Return unit-norm embeddings (K, C) of token ids (K, L), read at the last position.

    Every token attends to every other, padding included: all L columns are computed.

    Args:
        text: module with the parameters of SigLIP's text encoder.
        tokens: rows of its full context length.
        run: runs a block.
    """
    x = text.token_embedding(tokens) + text.positional_embedding
    for block in text.transformer.resblocks:
        x = run(partial(run_block, block), x)
    return F.normalize(text.text_projection(text.ln_final(x[:, -1])), dim=-1)
