"""RankSeg on pixels: select the top-kappa classes of each image by a map of the backbone.

Source: He et al., "RankSeg: Adaptive Pixel Classification with Image Category Ranking for
Segmentation", ECCV 2022, sections 3.1 and 3.2.

Shapes: B images, K classes, kappa selected classes, D channels of the map, C width of the class
table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError, printable
from segcore.rankseg.heads import ClassTokenHead, EncoderHead
from segcore.rankseg.oracle import oracle_logits
from segcore.rankseg.ranker import Ranker, Selection
from segcore.rankseg.scores import RankScores
from segcore.rankseg.selection import gather_rows

CLASS_ROWS = ("original", "refined")


class Ranked(NamedTuple):
    """The selected classes of each image, in the order of their ranks.

    Attributes:
        selection: their ids, and which of them are kept.
        rows: (B, kappa, C), embeddings to classify pixels with.
        category_logits: (B, K) of the multi-label head, the oracle or an independent classifier.
        pixels: (B, L, C), the head's features after attention to the classes; None unless an
            encoder refines the rows.
    """

    selection: Selection
    rows: Tensor
    category_logits: Tensor
    pixels: Tensor | None = None


class PixelRanking(Ranker):
    """A multi-label head on a map, the selection by it, and rank-adaptive scores of pixels."""

    def __init__(
        self,
        head: nn.Module | None,
        scores: RankScores,
        *,
        kappa: int,
        test_kappa: int,
        confidence: float = 0.0,
        independent: bool = False,
        pool: int = 0,
        share_classes: bool = False,
        class_rows: str = "original",
    ) -> None:
        """
        Args:
            head: features (B, L, D) -> logits (B, K); this and the next ones are those of
                :class:`Ranker`.
            pool: side of the grid that the map is averaged to before the head; 0: every position.
            share_classes: the head uses the class table of the classifier.
            class_rows: classify pixels with the "original" rows of the class table, or with those
                that the head has "refined" for the image.

        Raises:
            UserError: there are no such rows.
        """
        super().__init__(
            head,
            scores,
            kappa=kappa,
            test_kappa=test_kappa,
            confidence=confidence,
            independent=independent,
        )
        if class_rows not in CLASS_ROWS:
            raise UserError(
                f"MODEL.RANKSEG.CLASS_ROWS is {class_rows!r}: use {' or '.join(CLASS_ROWS)}"
            )
        if class_rows == "refined" and not isinstance(head, ClassTokenHead):
            raise UserError(
                "MODEL.RANKSEG.CLASS_ROWS is 'refined', but the multi-label head refines no class "
                "rows: use MODEL.RANKSEG.HEAD 'encoder' or 'decoder', or CLASS_ROWS 'original'"
            )
        self.pool, self.share_classes = pool, share_classes
        self.refined = class_rows == "refined"

    def forward(self, features: Tensor, class_table: Tensor, present: Tensor | None) -> Ranked:
        """Select the classes of each image.

        Args:
            features: a map (B, D, h, w).
            class_table: (1, K, C), one row a class.
            present: (B, K), see :meth:`DecodeHead.forward`.
        """
        rows, pixels = class_table, None
        if self.head is None:
            logits = oracle_logits(present) if self.oracle else present
        else:
            if self.pool:
                features = F.adaptive_avg_pool2d(features, self.pool)
            tokens = features.flatten(2).transpose(1, 2)
            inputs = (tokens, class_table) if self.share_classes else (tokens,)
            if not self.refined:
                logits = self.head(*inputs)
            else:
                if isinstance(self.head, EncoderHead):
                    pixels, rows = self.head.encode(*inputs)
                else:
                    rows = self.head.refine(*inputs)
                logits = self.head.classifier(rows)
        selection = self.select(logits).trimmed()
        return Ranked(selection, gather_rows(rows, selection.ids), logits, pixels)


def given_logits(batched_inputs: Sequence[dict], num_classes: int) -> Tensor:
    """Return the logits of an independent classifier of whole images: (B, K).

    Args:
        batched_inputs: one dict an image, with "category_logits" (K,).
        num_classes: K.

    Raises:
        UserError: an image has none, or those of other classes.
    """
    rows = [item.get("category_logits") for item in batched_inputs]
    for item, logits in zip(batched_inputs, rows, strict=True):
        name = printable(item.get("file_name", "an image"))
        if logits is None:
            raise UserError(
                f"{name} has no scores of a classifier, by which this model selects classes: name "
                "them in MODEL.RANKSEG.INDEPENDENT.SCORES and evaluate their data sets"
            )
        if logits.shape != (num_classes,):
            raise UserError(
                f"{name} has scores of {len(logits)} classes in MODEL.RANKSEG.INDEPENDENT.SCORES, "
                f"but the model has {num_classes}: write scores of its classes"
            )
    return torch.stack(rows)
