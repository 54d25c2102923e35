"""Segmenter's mask transformer: pixels and classes attend to each other, their products are scores.

With RankSeg a multi-label head selects the classes of every image, and these alone take part. The
published head serves one image at a time; here every image of a batch has its own classes.

Source: Strudel et al., "Segmenter: Transformer for Semantic Segmentation", ICCV 2021; He et al.,
"RankSeg", ECCV 2022, sections 3 and 4.

Shapes: B images, (h, w) the backbone's map, L = h * w pixels, E the width of the backbone, D of the
head, K classes, n of them (K, or kappa selected ones).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.rankseg.layers import EncoderBlock

from .criterion import Criterion
from .heads import DecodeHead, PixelScores
from .ranking import PixelRanking

CLASS_TOKENS = "classes"  # the map of a backbone that refines the class tokens itself


class MaskTransformer(nn.Module):
    """Transformer layers over pixels and classes, then the cosines between them.

    Attributes:
        pixel_proj, class_proj: (D, S), multiply pixels and classes from the right.
    """

    def __init__(
        self,
        width: int,
        *,
        num_layers: int,
        num_heads: int,
        dropout: float = 0.1,
        similarity_dim: int | None = None,
    ) -> None:
        """
        Args:
            width: D, a multiple of the number of heads.
            num_layers: number of transformer layers.
            num_heads: of their attention.
            dropout: its probability in training.
            similarity_dim: S, dimensions of the space where pixels and classes are compared; None
                is D.
        """
        super().__init__()
        self.blocks = nn.ModuleList(
            EncoderBlock(width, num_heads, 4 * width, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        shape = width, similarity_dim or width
        self.pixel_proj = nn.Parameter(torch.randn(shape) * width**-0.5)
        self.class_proj = nn.Parameter(torch.randn(shape) * width**-0.5)

    def forward(self, pixels: Tensor, rows: Tensor, kept: Tensor | None = None) -> Tensor:
        """
        Args:
            pixels: (B, L, D).
            rows: (B, n, D), of the classes.
            kept: (B, n) bool, the classes that take part; None: all.
        Returns:
            Cosines (B, L, n), without meaning for the other classes.
        """
        length = pixels.shape[1]
        x = torch.cat([pixels, rows], dim=1)
        if kept is not None:
            kept = torch.cat([kept.new_ones(pixels.shape[:2]), kept], dim=1)
        for block in self.blocks:
            x = block(x, kept)
        x = self.norm(x)
        pixels = F.normalize(x[:, :length] @ self.pixel_proj, dim=-1)
        classes = F.normalize(x[:, length:] @ self.class_proj, dim=-1)
        return pixels @ classes.transpose(1, 2)


class SegmenterHead(DecodeHead):
    """The mask transformer on the last map of a plain ViT, optionally with RankSeg.

    Attributes:
        class_embeddings: (1, K, D); None if the backbone refines the class tokens itself.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        transformer: MaskTransformer,
        criterion: Criterion,
        *,
        ranking: PixelRanking | None = None,
        rank_projected: bool = True,
        own_classes: bool = True,
        feature: str = "tokens",
    ) -> None:
        """
        Args:
            width: E.
            num_classes: K.
            transformer: of width D.
            criterion: the training losses.
            ranking: RankSeg; None: all classes in their order.
            rank_projected: the selection is based on the projected map (B, D, h, w) instead of the
                backbone's.
            own_classes: the head has the class tokens; False: it reads ``"classes"`` (B, K, D)
                from the backbone ("overlapping class embeddings" of the published code).
            feature: name of the backbone's map (B, E, h, w).
        """
        super().__init__()
        self.num_classes, self.feature = num_classes, feature
        hidden_dim = transformer.norm.normalized_shape[0]
        self.input_proj = nn.Linear(width, hidden_dim)
        self.class_embeddings = None
        if own_classes:
            self.class_embeddings = nn.Parameter(torch.empty(1, num_classes, hidden_dim))
            nn.init.trunc_normal_(self.class_embeddings, std=0.02)
        self.transformer = transformer
        self.ranking, self.rank_projected = ranking, rank_projected
        self.mask_norm = nn.LayerNorm(num_classes) if ranking is None else None
        self.criterion = criterion
        self.apply(_init_linear)

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """See :meth:`DecodeHead.forward`."""
        maps = features[self.feature]
        pixels = self.input_proj(to_tokens(maps))
        rows = features[CLASS_TOKENS] if self.class_embeddings is None else self.class_embeddings
        if self.ranking is None:
            cosines = self.transformer(pixels, rows.expand(len(maps), -1, -1))
            return PixelScores(to_maps(self.mask_norm(cosines), maps))
        ranked = self.ranking(to_maps(pixels, maps) if self.rank_projected else maps, rows, present)
        if ranked.pixels is not None and not self.ranking.pool:
            pixels = ranked.pixels  # the layer of the multi-label head is the first for them, too
        ids, kept = ranked.selection
        cosines = self.transformer(pixels, ranked.rows, kept)
        scores = self.ranking.scores(cosines, kept)
        return PixelScores(to_maps(scores, maps), ids, ranked.category_logits)

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """See :meth:`DecodeHead.losses`."""
        found = self(features, present)
        return self.criterion(found, labels, present), found


def to_tokens(maps: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h * w, D), row by row."""
    return maps.flatten(2).transpose(1, 2)


def to_maps(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, h * w, n) -> (B, n, h, w), the size of ``like`` (..., h, w)."""
    return tokens.transpose(1, 2).unflatten(-1, like.shape[-2:])


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
