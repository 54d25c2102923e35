"""The open-vocabulary multi-label head: which of any list of classes an image contains.

It is RankSeg's multi-label head (ECCV 2022, section 3.2) for class names instead of a fixed list:
class tokens are text embeddings, and the classifier is one for all classes. Class tokens attend to
the image and not to each other, so that classes pass in chunks: no parameter depends on the number
of classes, their order does not matter, and memory does not grow with them.

Shapes: B crops, T classes, t of them at a time, P prompts a class, C joint embedding width, N = h*w
positions, L image tokens, E width of the head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError, printable
from segcore.inference.precision import at_least_float32
from segcore.memory import CPU_BUDGET, Chunk
from segcore.rankseg.dial import ClassesKept
from segcore.rankseg.layers import DecoderLayer
from segcore.rankseg.losses import asymmetric_loss
from segcore.rankseg.ranker import Ranker
from segcore.rankseg.scores import TemperatureScores, scatter_columns

OUT_OF_MEMORY = "lower MODEL.RANKSEG.HIDDEN_DIM, the width of the ranking head"
SCALE = 30.0  # initial factor of the distance to the best class of a position
LEAST_DISTANCE = -10.0  # times the factor; farther classes are as good as none
LIMIT = 1024
EVIDENCE = 4  # numbers per class that :func:`pooled_cost` returns


@dataclass(frozen=True)
class HeadShape:
    """The sizes of a :class:`ClassRanker`; ``MODEL.RANKSEG`` and adapter files hold them.

    Attributes:
        width: E, a multiple of ``num_heads``.
        num_heads: of the attention.
        num_layers: of :class:`DecoderLayer`.
        feedforward_dim: hidden width of a layer; 0 is twice ``width``.
        pool: side of the grid that image tokens are averaged to; 0 = every position.
        pooled_cost: give the pooled cost volume of a class to its token.

    Raises:
        UserError: a number is out of range.
    """

    width: int = 128
    num_heads: int = 4
    num_layers: int = 1
    feedforward_dim: int = 0
    pool: int = 0
    pooled_cost: bool = True

    def __post_init__(self) -> None:
        limits = {
            "HIDDEN_DIM": (self.width, 1, 4096),
            "NUM_HEADS": (self.num_heads, 1, 64),
            "NUM_LAYERS": (self.num_layers, 1, 24),
            "FEEDFORWARD_DIM": (self.feedforward_dim, 0, 16384),
            "POOL": (self.pool, 0, 256),
        }
        for key, (value, low, high) in limits.items():
            if type(value) is not int or not low <= value <= high:
                raise UserError(
                    f"MODEL.RANKSEG.{key} is {printable(value)}; of a ranking head it has to be a "
                    f"number from {low} to {high}"
                )
        if self.width % self.num_heads:
            raise UserError(
                f"MODEL.RANKSEG.HIDDEN_DIM is {self.width}; it has to be a multiple of NUM_HEADS, "
                f"{self.num_heads}"
            )


class ClassRanker(nn.Module):
    """Probability of presence for each class of a vocabulary, from dense image and text features.

    Attributes:
        token_proj: of the text embeddings, C -> E.
        input_proj: of the image tokens, C -> E.
        evidence_proj: of the pooled cost volume of a class, added to its token; None without.
        layers: in which class tokens attend to image tokens.
        classifier: of a class token, the same for all classes.
    """

    def __init__(
        self,
        joint_width: int,
        shape: HeadShape,
        *,
        limit: int = LIMIT,
        dropout: float = 0.1,
        chunk_memory: int = CPU_BUDGET,
    ) -> None:
        """
        Args:
            joint_width: C.
            shape: of the head.
            limit: of more classes those with the highest cosine similarity anywhere are ranked, and
                the others have the probability 0: cost beyond a cosine similarity is bounded.
            dropout: its probability in training.
            chunk_memory: bytes of the temporaries of a chunk of classes.
        """
        super().__init__()
        width, feedforward_dim = shape.width, shape.feedforward_dim or 2 * shape.width
        self.shape, self.limit = shape, limit
        self.floats_of_tokens = 8 * width + 2 * feedforward_dim  # of a class, beside its costs
        self.floats = Chunk(chunk_memory // 4, OUT_OF_MEMORY)  # of a chunk of classes
        self.token_proj = nn.Linear(joint_width, width)
        self.input_proj = nn.Linear(joint_width, width)
        self.evidence_proj = None
        if shape.pooled_cost:
            self.evidence_proj = nn.Sequential(
                nn.Linear(EVIDENCE, width), nn.GELU(), nn.Linear(width, width)
            )
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.layers = nn.ModuleList(
            DecoderLayer(width, shape.num_heads, feedforward_dim, dropout)
            for _ in range(shape.num_layers)
        )
        self.classifier = nn.Linear(width, 1)

    def start_from_prior(self, prior: float) -> None:
        """Set the bias, in place, to the logit of a class's frequency in images, 0 ... 1.

        See :func:`segcore.rankseg.heads.start_from_prior`.
        """
        nn.init.zeros_(self.classifier.weight)
        nn.init.constant_(self.classifier.bias, math.log(prior / (1 - prior)))

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Return logits (B, T) of the presence of classes in crops.

        Args:
            features: dense features (B, C, h, w), not normalised.
            text: (T, P, C), or (B, T, P, C) of each crop; of unit norm.
        """
        cells = F.normalize(features.flatten(2), dim=1)
        names = text[..., 0, :]
        if text.shape[-2] > 1:
            names = F.normalize(text.mean(dim=-2), dim=-1)
        names = names.expand(len(features), -1, -1) if names.ndim == 2 else names
        tokens = self.input_proj(self._image_tokens(features))
        if torch.is_grad_enabled():
            return self._logits(cells, tokens, names, names.shape[1])
        per_class = len(cells) * (self.floats_of_tokens + 4 * cells.shape[2])
        return self.floats.run(
            lambda: self._logits(cells, tokens, names, max(self.floats.size // per_class, 1))
        )

    def _logits(self, cells: Tensor, tokens: Tensor, names: Tensor, chunk: int) -> Tensor:
        """cells (B, C, N), tokens (B, L, E), names (B, T, C), ``chunk`` at a time -> (B, T)."""
        classes, best, peaks = names.shape[1], None, []
        if self.evidence_proj is not None or classes > self.limit:
            for part in names.split(chunk, dim=1):
                cost = part @ cells
                peaks.append(cost.amax(dim=2))
                here = cost.amax(dim=1)
                best = here if best is None else torch.maximum(best, here)
        if classes <= self.limit:
            parts = names.split(chunk, dim=1)
            return torch.cat([self._classify(cells, tokens, best, x) for x in parts], dim=1)
        ids = torch.cat(peaks, dim=1).topk(self.limit, dim=1).indices
        parts = names[torch.arange(len(ids), device=ids.device)[:, None], ids].split(chunk, dim=1)
        logits = torch.cat([self._classify(cells, tokens, best, x) for x in parts], dim=1)
        return scatter_columns(logits, ids, classes)

    def _classify(self, cells: Tensor, tokens: Tensor, best: Tensor, names: Tensor) -> Tensor:
        """Return the logits (B, t) of classes (B, t, C); ``best`` is of :func:`pooled_cost`."""
        x = self.token_proj(names)
        if self.evidence_proj is not None:
            x = x + self.evidence_proj(pooled_cost(names @ cells, best, self.log_scale.exp()))
        for layer in self.layers:
            x = layer(x, x.new_zeros(()), tokens, tokens)
        return at_least_float32(self.classifier(x)[..., 0])

    def _image_tokens(self, features: Tensor) -> Tensor:
        """Average unit-norm features (B, C, h, w) over the cells of a grid: (B, L, C)."""
        features = F.normalize(features, dim=1)
        if self.shape.pool:
            features = F.adaptive_avg_pool2d(features, self.shape.pool)
        return features.flatten(2).transpose(1, 2)


def pooled_cost(cost: Tensor, best: Tensor, scale: Tensor) -> Tensor:
    """Pool the cost volume of each class over positions: is it anywhere, and how much of it?

    Args:
        cost: cosine similarities (B, t, N).
        best: (B, N), the highest one of all T classes at each position.
        scale: of the distance to it, a scalar.
    Returns:
        (B, t, 4): maximum and mean cosine; of the distance to the best class, times ``scale``, the
        maximum and the logarithm of the mean exponential, divided by 10. Neither depends on how
        many classes there are, only on how good the best one is.
    """
    distance = (scale * (cost - best[:, None])).clamp(min=LEAST_DISTANCE)
    extent = torch.logsumexp(distance, dim=2) - math.log(distance.shape[2])
    pooled = [cost.amax(dim=2), cost.mean(dim=2), distance.amax(dim=2) / 10, extent / 10]
    return torch.stack(pooled, dim=-1)


class Ranking(Ranker):
    """A ranking head with its loss, the number of classes that it keeps, and a scale per rank."""

    def __init__(
        self,
        head: ClassRanker,
        scores: TemperatureScores | None,
        *,
        scale: str = "",
        kappa: int,
        kept: ClassesKept,
        per_image: bool = False,
        alone: bool = False,
        loss_weight: float = 1.0,
        gammas: tuple[float, float] = (2.0, 0.0),
    ) -> None:
        """
        Args:
            head: ranks the classes.
            scores: a trained scale per rank; None: there is none.
            scale: what ``scores`` scale: "cost", the cost volume before the aggregation, or
                "logits", its result; "" without them.
            kappa: classes that enter the aggregation in training; 0 = all candidates.
            kept: classes that enter it in evaluation.
            per_image: in patch inference the global view selects the classes of all crops.
            alone: nothing but the head and the scales is trained.
            loss_weight: of the loss of the head.
            gammas: focusing exponents of absent and of present classes.
        """
        super().__init__(head, scores, kappa=kappa, test_kappa=kept.top, confidence=kept.threshold)
        self.scale, self.per_image, self.alone = scale, per_image, alone
        self.loss_weight, self.gammas = loss_weight, gammas

    @property
    def kept(self) -> ClassesKept:
        """Classes that enter the aggregation in evaluation."""
        return ClassesKept(self.test_kappa, self.confidence)

    def loss(self, logits: Tensor, present: Tensor) -> Tensor:
        """Return the weighted asymmetric loss of logits (B, K) of K candidate classes.

        ``present`` (B, K) bool says which of them the image contains.
        """
        negative, positive = self.gammas
        loss = asymmetric_loss(logits, present, gamma_neg=negative, gamma_pos=positive)
        return self.loss_weight * loss

    def scale_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the scales, if there are any."""
        yield from () if self.scores is None else self.scores.parameters()

    def scaled(self, what: str, values: Tensor, ranks: Tensor | None) -> Tensor:
        """Multiply values (B, K, ...) by the scale of each class's rank, if ``what`` is scaled.

        Args:
            what: the values are: "cost" or "logits".
            ranks: (B, K) of the classes; beyond the trained ranks the last scale is repeated.
        """
        if self.scale != what:
            return values
        scales = self.scores.per_rank(self.scores.inverse_temperature, ranks.shape[1])[ranks]
        return values * scales.view(*scales.shape, *[1] * (values.ndim - 2))
