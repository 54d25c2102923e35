"""Rank-adaptive scores: their scale depends on the rank of the class in the image.

Three forms of RankSeg's section 3.3: the published code's (``"norm"``), the paper's equation 3
(``"temperature"``), and the ablation with one factor for all ranks (``"shared"``). All take the
scores of the selected classes in order of their rank, optionally followed by that of "no object".

Shapes: B images, C columns of scores, kappa ranks, n = kappa, or kappa + 1 with "no object".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError

DROPPED = -100.0  # the score of a class that was not selected: a probability of 0, yet finite


class RankScores(nn.Module):
    """Base of the three forms.

    A module trained with one kappa can be used with another. With fewer ranks it uses the factors
    of the first ones and that of "no object"; further ranks repeat the factor of the last one.
    """

    def __init__(self, kappa: int, no_object: bool) -> None:
        super().__init__()
        self.kappa = kappa
        self.no_object = no_object

    def forward(self, scores: Tensor, kept: Tensor | None = None) -> Tensor:
        """
        Args:
            scores: (B, ..., n), the last axis in order of the ranks.
            kept: (B, kappa) bool, the kept ranks of each image; None keeps all.
        Returns:
            (B, ..., n); ranks that are not kept are ``DROPPED``.
        """
        if kept is None:
            return self.adjust(scores, None)
        if self.no_object:
            kept = torch.cat([kept, torch.ones_like(kept[:, :1])], dim=1)
        kept = kept.view(len(kept), *[1] * (scores.ndim - 2), -1)
        return self.adjust(scores, kept).masked_fill(~kept, DROPPED)

    def adjust(self, scores: Tensor, kept: Tensor | None) -> Tensor:
        """scores (B, ..., n), kept (B, 1, ..., n) or None -> (B, ..., n)."""
        raise NotImplementedError

    def per_rank(self, values: Tensor, columns: int) -> Tensor:
        """Fit trained values (n,) to another number of columns: (columns,)."""
        if len(values) == columns:
            return values
        ranks, last = values[: self.kappa], values[self.kappa :]
        number = columns - len(last)
        beyond = ranks[-1:].expand(max(number - self.kappa, 0))
        return torch.cat([ranks[:number], beyond, last])


class NormScores(RankScores):
    """Layer normalisation over the ranks of a region or pixel, with a scale and a bias per rank.

    Attributes:
        weight, bias: (n,).
    """

    def __init__(self, kappa: int, no_object: bool = True, *, unbiased: bool = False) -> None:
        """
        Args:
            kappa: number of ranks.
            no_object: whether "no object" follows them.
            unbiased: divide the sum of squares by n - 1, as the published oracle heads do.
        """
        super().__init__(kappa, no_object)
        self.unbiased = unbiased
        self.weight = nn.Parameter(torch.ones(kappa + no_object))
        self.bias = nn.Parameter(torch.zeros(kappa + no_object))

    def adjust(self, scores: Tensor, kept: Tensor | None) -> Tensor:
        columns = scores.shape[-1]
        scale, bias = (self.per_rank(values, columns) for values in (self.weight, self.bias))
        return standardize(scores, kept, self.unbiased) * scale + bias


class TemperatureScores(RankScores):
    """Scores divided by a trained temperature per rank.

    Attributes:
        inverse_temperature: (n,).
    """

    def __init__(self, kappa: int, no_object: bool = True) -> None:
        super().__init__(kappa, no_object)
        self.inverse_temperature = nn.Parameter(torch.ones(kappa + no_object))

    def adjust(self, scores: Tensor, kept: Tensor | None) -> Tensor:
        return scores * self.per_rank(self.inverse_temperature, scores.shape[-1])


class SharedScores(RankScores):
    """Layer normalisation with one factor for all ranks: the ablation of selection alone.

    Attributes:
        weight: (1,).
    """

    def __init__(self, kappa: int, no_object: bool = True) -> None:
        super().__init__(kappa, no_object)
        self.weight = nn.Parameter(torch.ones(1))

    def adjust(self, scores: Tensor, kept: Tensor | None) -> Tensor:
        return standardize(scores, kept) * self.weight


FORMS = {"norm": NormScores, "temperature": TemperatureScores, "shared": SharedScores}


def build_rank_scores(
    form: str, kappa: int, no_object: bool = True, *, unbiased: bool = False
) -> RankScores:
    """Build the module of one of the ``FORMS``; ``unbiased`` concerns ``"norm"`` alone.

    Raises:
        UserError: there is no such form.
    """
    if form not in FORMS:
        raise UserError(f"there are no rank-adaptive scores {form!r}: use {', '.join(FORMS)}")
    options = {"unbiased": unbiased} if form == "norm" else {}
    return FORMS[form](kappa, no_object, **options)


def standardize(scores: Tensor, kept: Tensor | None = None, unbiased: bool = False) -> Tensor:
    """Scale to mean 0 and variance 1 over the last axis, in float32.

    Args:
        scores: (..., n).
        kept: bool that broadcasts to the scores: those that count; None counts all.
        unbiased: divide the sum of squares by n - 1. A single score becomes 0 either way.
    """
    scores = scores.float()
    if kept is None and not unbiased:
        return F.layer_norm(scores, scores.shape[-1:])
    kept = scores.new_ones(scores.shape[-1:], dtype=torch.bool) if kept is None else kept
    count = kept.sum(dim=-1, keepdim=True)
    mean = (scores * kept).sum(dim=-1, keepdim=True) / count
    centred = (scores - mean) * kept
    squares = centred.square().sum(dim=-1, keepdim=True)
    variance = squares / (count - 1).clamp(min=1) if unbiased else squares / count
    return centred / (variance + 1e-5).sqrt()


def gather_columns(scores: Tensor, columns: Tensor) -> Tensor:
    """Return the scores of the selected classes, in their order.

    Args:
        scores: (B, ..., C).
        columns: (B, n) int64.
    Returns:
        (B, ..., n).
    """
    index = columns.view(len(columns), *[1] * (scores.ndim - 2), -1)
    return scores.gather(-1, index.expand(*scores.shape[:-1], -1))


def scatter_columns(scores: Tensor, columns: Tensor, num_columns: int) -> Tensor:
    """Invert :func:`gather_columns`; all other columns are ``DROPPED``.

    Args:
        scores: (B, ..., n).
        columns: (B, n) int64, each at most once an image.
        num_columns: C.
    Returns:
        (B, ..., C).
    """
    index = columns.view(len(columns), *[1] * (scores.ndim - 2), -1).expand_as(scores)
    everything = scores.new_full((*scores.shape[:-1], num_columns), DROPPED)
    return everything.scatter(-1, index, scores)
