"""GroupViT's text encoder: a causal transformer like CLIP's, narrower.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 4; the layers are open_clip's.

Shapes: K texts, L tokens, D width.
"""

import torch
from open_clip.transformer import QuickGELU, TextTransformer
from torch import Tensor

VOCABULARY = 49408  # token ids of CLIP's byte-pair encoding


class TextEncoder(TextTransformer):
    """Token ids -> one vector a text; parameters are called as in published checkpoints."""

    def __init__(
        self,
        *,
        width: int = 256,
        num_layers: int = 12,
        num_heads: int = 4,
        context_length: int = 77,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: D.
            num_layers, num_heads: of the transformer.
            context_length: tokens of the longest text.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
        """
        super().__init__(
            context_length=context_length,
            vocab_size=VOCABULARY,
            width=width,
            heads=num_heads,
            layers=num_layers,
            proj_type="none",
            act_layer=QuickGELU,
        )
        self.set_grad_checkpointing(checkpointing)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors (K, D) of token ids (K, L), zero-padded after the end of text.

        Columns that are padding in every row are not computed: attention is causal, so tokens after
        the end-of-text token do not affect it.
        """
        end = tokens.argmax(dim=-1)  # end of text has the largest id
        length = int(end.max()) + 1
        x = self.token_embedding(tokens[:, :length]) + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        return self.ln_final(x[torch.arange(len(x), device=x.device), end])
