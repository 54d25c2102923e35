"""Multi-label heads, which classify the classes that are present in an image.

All take features (B, L, D) of any model, pixels or object queries, and return logits (B, C).
Source: RankSeg (ECCV 2022), section 3.2 and table 5; decoder and classifier after Query2Label.

Shapes: B images, L tokens, D width of the features, C classes, E width inside the head.
"""

import math

import torch
from torch import Tensor, nn

from segcore.errors import UserError

from .layers import (
    DecoderLayer,
    EncoderBlock,
    GroupWiseLinear,
    SeparableProjection,
    sine_positions,
)

# "none": the model projects the features itself, to the width inside the head.
PROJECTIONS = {"linear": nn.Linear, "separable": SeparableProjection, "none": nn.Identity}


class ClassTokenHead(nn.Module):
    """Base of the heads with a token per class.

    Attributes:
        input_proj: of the features, D -> E.
        class_embeddings: (1, C, E), or None if the model passes its own at each call.
        token_proj: linear, E -> E, of the class embeddings, or None.
        norm: of the class tokens that are classified.
        classifier: a group-wise linear layer, weight (1, C, E), bias (1, C).
    """

    def __init__(
        self,
        input_proj: nn.Module,
        num_classes: int,
        hidden_dim: int,
        own_embeddings: bool,
        project_tokens: bool,
    ) -> None:
        super().__init__()
        self.input_proj = input_proj
        self.class_embeddings = None
        if own_embeddings:
            self.class_embeddings = nn.Parameter(torch.empty(1, num_classes, hidden_dim))
            nn.init.trunc_normal_(self.class_embeddings, std=0.02)
        self.token_proj = nn.Linear(hidden_dim, hidden_dim) if project_tokens else None
        self.norm = nn.LayerNorm(hidden_dim)
        self.classifier = GroupWiseLinear(num_classes, hidden_dim)

    def forward(self, features: Tensor, class_embeddings: Tensor | None = None) -> Tensor:
        """
        Args:
            features: (B, L, D).
            class_embeddings: the model's, (C, E) or (1, C, E), or (B, C, E) of each image; for
                heads without their own.
        Returns:
            Logits (B, C).
        """
        return self.classifier(self.refine(features, class_embeddings))

    def refine(self, features: Tensor, class_embeddings: Tensor | None = None) -> Tensor:
        """Return the class tokens after attention to the image, before they are classified.

        Arguments as in :meth:`forward`; returns (B, C, E).
        """
        raise NotImplementedError

    def class_tokens(self, class_embeddings: Tensor | None, batch: int) -> Tensor:
        """Return the head's class embeddings or the given ones, for each image: (B, C, E)."""
        if (class_embeddings is None) == (self.class_embeddings is None):
            raise TypeError("class embeddings come either from the head or from its caller")
        tokens = class_embeddings if self.class_embeddings is None else self.class_embeddings
        if self.token_proj is not None:
            tokens = self.token_proj(tokens)
        return tokens.expand(batch, -1, -1)


class EncoderHead(ClassTokenHead):
    """One pre-norm encoder layer over the features and a token per class; the default."""

    def __init__(
        self,
        input_proj: nn.Module,
        num_classes: int,
        hidden_dim: int,
        own_embeddings: bool,
        project_tokens: bool,
        *,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__(input_proj, num_classes, hidden_dim, own_embeddings, project_tokens)
        self.block = EncoderBlock(hidden_dim, num_heads, feedforward_dim, dropout)

    def refine(self, features: Tensor, class_embeddings: Tensor | None = None) -> Tensor:
        return self.encode(features, class_embeddings)[1]

    def encode(
        self, features: Tensor, class_embeddings: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the features after the layer, (B, L, E), and what :meth:`refine` returns.

        A model may go on with the features; they are not normalised.
        """
        tokens = self.class_tokens(class_embeddings, len(features))
        encoded = self.block(torch.cat([self.input_proj(features), tokens], dim=1))
        length = features.shape[1]
        return encoded[:, :length], self.norm(encoded[:, length:])


class DecoderHead(ClassTokenHead):
    """Two decoder layers in which the class tokens attend to the features."""

    def __init__(
        self,
        input_proj: nn.Module,
        num_classes: int,
        hidden_dim: int,
        own_embeddings: bool,
        project_tokens: bool,
        *,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        grid: tuple[int, int] | None,
        num_layers: int = 2,
    ) -> None:
        super().__init__(input_proj, num_classes, hidden_dim, own_embeddings, project_tokens)
        self.layers = nn.ModuleList(
            DecoderLayer(hidden_dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers)
        )
        positions = None if grid is None else sine_positions(*grid, hidden_dim)
        self.register_buffer("positions", positions, persistent=False)

    def refine(self, features: Tensor, class_embeddings: Tensor | None = None) -> Tensor:
        return self.attend(self.input_proj(features), self.positions, class_embeddings)

    def attend(
        self, memory: Tensor, positions: Tensor | None, class_embeddings: Tensor | None = None
    ) -> Tensor:
        """Return the refined class tokens (B, C, E) of projected features (B, L, E).

        ``positions`` (L, E) are added where the tokens look for features, not to the features.
        """
        query = self.class_tokens(class_embeddings, len(memory))
        key = memory if positions is None else memory + positions
        x = torch.zeros_like(query)
        for layer in self.layers:
            x = layer(x, query, key, memory)
        return self.norm(x)


class PoolingHead(nn.Module):
    """Global average pooling of the features, then two linear layers."""

    def __init__(self, input_proj: nn.Module, num_classes: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_proj = input_proj
        self.classifier = nn.Linear(hidden_dim, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, L, D) -> logits (B, C)."""
        pooled = features.mean(dim=1, keepdim=True)
        return self.classifier(self.input_proj(pooled).relu()[:, 0])


def build_multilabel_head(
    kind: str,
    width: int,
    num_classes: int,
    *,
    hidden_dim: int = 512,
    shared_width: int | None = None,
    num_heads: int | None = None,
    feedforward_dim: int | None = None,
    dropout: float = 0.1,
    grid: tuple[int, int] | None = None,
    projection: str = "linear",
    project_tokens: bool = False,
) -> nn.Module:
    """Build a module from features (B, L, width) to logits (B, num_classes).

    Args:
        kind: ``"encoder"`` (the default of RankSeg), ``"decoder"`` or ``"gap"``.
        width: of the features.
        num_classes: C.
        hidden_dim: width inside the head; for tokens a multiple of the number of heads.
        shared_width: width of the model's class embeddings, which each call then passes as second
            argument; None gives the head its own embeddings. Not for ``"gap"``.
        num_heads: of the attention; None is the published number: one per 64 channels in the
            encoder, 8 in the decoder.
        feedforward_dim: width of the hidden layer behind the attention; None is the published one:
            four times hidden_dim in the encoder, 2048 in the decoder.
        dropout: its probability in training.
        grid: (rows, columns) if the L features are cells of an image, row by row; the decoder then
            adds position encodings.
        projection: of the features: one of ``PROJECTIONS``.
        project_tokens: the class embeddings pass a linear layer first; the parameter counts of the
            paper contain it, the published code does not. Not for ``"gap"``.

    Raises:
        UserError: an unknown kind, or settings that do not fit each other.
    """
    if kind not in ("encoder", "decoder", "gap"):
        raise UserError(f"there is no multi-label head {kind!r}: use 'encoder', 'decoder' or 'gap'")
    input_proj = PROJECTIONS[projection](width, hidden_dim)
    if kind == "gap":
        for key, asked in (
            ("SHARE_EMBEDDING", shared_width),
            ("CLASS_TOKEN_PROJECTION", project_tokens),
        ):
            if asked:
                raise UserError(
                    "the multi-label head 'gap' has no class embeddings to share with the model or "
                    f"to project: use 'encoder' or 'decoder', or set MODEL.RANKSEG.{key} False"
                )
        return PoolingHead(input_proj, num_classes, hidden_dim)
    if shared_width not in (None, hidden_dim):
        raise UserError(
            f"class embeddings of width {shared_width} cannot be shared with a multi-label "
            f"head of width {hidden_dim}: set MODEL.RANKSEG.HIDDEN_DIM {shared_width}, or "
            "MODEL.RANKSEG.SHARE_EMBEDDING False"
        )
    encoder = kind == "encoder"
    num_heads = num_heads or (max(hidden_dim // 64, 1) if encoder else 8)
    if hidden_dim % num_heads:
        raise UserError(
            f"a multi-label head of width {hidden_dim} cannot have {num_heads} attention heads: "
            f"set MODEL.RANKSEG.HIDDEN_DIM to a multiple of {num_heads}"
        )
    options = {
        "num_heads": num_heads,
        "feedforward_dim": feedforward_dim or (4 * hidden_dim if encoder else 2048),
        "dropout": dropout,
    }
    tokens = (num_classes, hidden_dim, shared_width is None, project_tokens)
    if encoder:
        return EncoderHead(input_proj, *tokens, **options)
    return DecoderHead(input_proj, *tokens, **options, grid=grid)


def start_from_prior(head: nn.Module, prior: float) -> None:
    """Set the bias of a multi-label head, in place, to the logit of a class's frequency in images.

    From a probability of one half, the published start, the first steps drive the features of all
    images the same way, until the logits of all classes are low; with many classes that can ruin
    the features for everything else. Source: Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017, section 3.3.

    Args:
        head: of :func:`build_multilabel_head`.
        prior: probability, 0 ... 1 exclusive.
    """
    nn.init.constant_(head.classifier.bias, math.log(prior / (1 - prior)))
