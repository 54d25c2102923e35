"""Grouping blocks: image tokens join segments, by hard assignment to learned group tokens.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 3.1.

Shapes: B images, L image tokens, G group tokens, S segments that they become, D width.
"""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention of queries to other tokens; query, key and value have biases."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """queries (B, G, D), tokens (B, L, D) -> (B, G, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, tokens), (self.value, tokens))
        )  # each (B, heads, G or L, D / heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.output(attended.transpose(1, 2).flatten(2))


class TokenMixer(nn.Module):
    """A layer norm, and an MLP along the token axis that changes the number of tokens."""

    def __init__(self, width: int, num_tokens: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = Mlp(num_tokens, width // 2, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, G, D) -> (B, S, D)."""
        return self.mlp(self.norm(tokens).transpose(1, 2)).transpose(1, 2)


class GroupReader(nn.Module):
    """Group tokens read the image tokens: attention without a norm before it, MLP, norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(width, num_heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, groups: Tensor, tokens: Tensor) -> Tensor:
        """groups (B, S, D), tokens (B, L, D) -> (B, S, D)."""
        groups = groups + self.attention(groups, tokens)
        return self.norm(groups + self.mlp(self.mlp_norm(groups)))


class HardAssignment(nn.Module):
    """Assign every image token to one group, and average the tokens of each group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, groups: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            groups: (B, S, D).
            tokens: (B, L, D).
        Returns:
            features of the groups (B, S, D), and the soft assignment (B, S, L) float32: for every
            token probabilities of the groups, without noise.
        """
        q, k, v = self.query(groups), self.key(tokens), self.value(tokens)
        # Half precision would make neighbours of close decisions equal.
        with torch.autocast(q.device.type, enabled=False):
            logits = q.float() @ k.float().transpose(1, 2) * q.shape[-1] ** -0.5
            weights = one_hot_assignment(logits, noise=self.training)
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1)
            soft = logits.softmax(dim=1)
        return self.output(weights.to(v.dtype) @ v), soft


def one_hot_assignment(logits: Tensor, noise: bool) -> Tensor:
    """Return 1 for the group with the largest logit of each token, else 0: (B, S, L).

    The gradient is that of the softmax over the groups ("straight-through").

    Args:
        logits: (B, S, L).
        noise: add Gumbel noise before, which draws the group from the softmax's probabilities.
    """
    if noise:
        logits = logits - torch.empty_like(logits).exponential_().log()
    soft = logits.softmax(dim=1)
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


class GroupingBlock(nn.Module):
    """Turn image tokens and group tokens into fewer segment tokens."""

    def __init__(self, width: int, num_heads: int, num_groups: int, num_segments: int) -> None:
        """
        Args:
            width: D.
            num_heads: of the attention that reads the image tokens.
            num_groups: G.
            num_segments: S.
        """
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.group_mixer = TokenMixer(width, num_groups, num_segments)
        self.group_norm = nn.LayerNorm(width)
        self.reader = GroupReader(width, num_heads)
        self.assignment = HardAssignment(width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            tokens: (B, L, D).
            groups: (B, G, D).
        Returns:
            segment tokens (B, S, D), and the soft assignment (B, S, L) of :class:`HardAssignment`.
        """
        tokens = self.token_norm(tokens)
        groups = self.group_norm(self.group_mixer(groups))
        groups = self.reader(groups, tokens)
        segments, soft = self.assignment(groups, tokens)
        segments = segments + groups
        return segments + self.mlp(self.mlp_norm(segments)), soft
