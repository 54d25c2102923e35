"""Self-attention with separate query, key and value matrices, which fine-tuning trains apart.

Shapes: B crops or prompts, L tokens, M queries.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SplitAttention(nn.Module):
    """Multi-head attention whose query, key and value matrices are separate parameters."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj_weight = nn.Parameter(torch.empty(width, width))
        self.k_proj_weight = nn.Parameter(torch.empty(width, width))
        self.v_proj_weight = nn.Parameter(torch.empty(width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    @classmethod
    def from_fused(cls, fused: nn.MultiheadAttention) -> "SplitAttention":
        """Convert torch's module with one fused matrix, with the same weights."""
        return cls.from_weights(
            fused.num_heads, fused.in_proj_weight, fused.in_proj_bias, fused.out_proj
        )

    @classmethod
    def from_timm(cls, fused: nn.Module) -> "SplitAttention":
        """Convert the attention of timm's vision transformer, with the same weights."""
        return cls.from_weights(fused.num_heads, fused.qkv.weight, fused.qkv.bias, fused.proj)

    @classmethod
    def from_weights(
        cls, heads: int, weight: Tensor, bias: Tensor, output: nn.Linear
    ) -> "SplitAttention":
        """Build it from fused weights (3 * width, width), (3 * width,), and an output layer."""
        split = cls(weight.shape[1], heads)
        with torch.no_grad():
            for parameter, part in zip(split.projections(), weight.chunk(3), strict=True):
                parameter.copy_(part)
            split.in_proj_bias.copy_(bias)
        split.out_proj.load_state_dict(output.state_dict())
        return split

    def projections(self) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
        """Return the matrices of query, key and value, each (width, width)."""
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def forward(self, x: Tensor, is_causal: bool = False, query: Tensor | None = None) -> Tensor:
        """Attend to x (B, L, width) from ``query`` (B, M, width), by default x: (B, M, width)."""
        inputs = (x if query is None else query, x, x)
        parts = zip(inputs, self.projections(), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (
            F.linear(each, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each, weight, bias in parts
        )  # each (B, heads, L, width / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def value_path(self, x: Tensor) -> Tensor:
        """Attend to the token itself only: x (B, L, width) -> (B, L, width)."""
        value = F.linear(x, self.v_proj_weight, self.in_proj_bias.chunk(3)[2])
        return self.out_proj(with_zero_gradient(value, self.q_proj_weight, self.k_proj_weight))


def with_zero_gradient(x: Tensor, *unused: nn.Parameter) -> Tensor:
    """Return ``x``; parameters that have no influence get a gradient of zero.

    Distributed training needs one of every trainable parameter.
    """
    if not torch.is_grad_enabled():
        return x
    return x + 0.0 * sum(parameter.sum() for parameter in unused if parameter.requires_grad)
