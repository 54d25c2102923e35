"""Config keys of RankSeg, which all families share, and the settings that are read from them."""

from typing import NamedTuple

from detectron2.config import CfgNode
from torch import nn

from segcore.errors import UserError
from segcore.rankseg.heads import start_from_prior
from segcore.rankseg.ranker import Ranker
from segcore.rankseg.scores import RankScores, build_rank_scores
from segcore.rankseg.selection import check_kappa


def add_rankseg_keys(cfg: CfgNode) -> None:
    """Add ``MODEL.RANKSEG`` with the published names and defaults, in place."""
    node = cfg.MODEL.setdefault("RANKSEG", CfgNode())
    node.FLAG = False  # rank the classes of an image first
    # Oracle: ignore the classes that are not in the ground truth (evaluation only).
    node.USE_GT = False
    node.LOSS_WEIGHT = 0
    node.TOPK = 0
    node.SHARE_EMBEDDING = False
    node.HIDDEN_DIM = 512
    # Not in the published code. HEAD: multi-label head ("encoder", "decoder", "gap"). SCORES:
    # rank-adaptive scores ("norm", "temperature", "shared"). TEST_TOPK: selected classes in
    # evaluation (0 = TOPK). CONFIDENCE: probability below which evaluation drops a selected class
    # (0 = none). ORACLE: the ground truth selects the classes, in training and evaluation.
    # NUM_HEADS, FEEDFORWARD_DIM: of the multi-label head (0 = those of the published head of that
    # kind). GAMMAS: focusing exponents of absent and of present classes in its loss. PRIOR:
    # probability of a class at the start of a training, about the classes of an image divided by
    # all classes (0 = the published start, one half).
    node.HEAD = "encoder"
    node.SCORES = "norm"
    node.TEST_TOPK = 0
    node.CONFIDENCE = 0.0
    node.ORACLE = False
    node.NUM_HEADS = 0
    node.FEEDFORWARD_DIM = 0
    node.GAMMAS = [2.0, 0.0]
    node.PRIOR = 0.0
    # Models that classify pixels. CLASS_ROWS: classify with the rows of the class table
    # ("original"), with those that the multi-label head has refined ("refined"), or with those that
    # the backbone has refined ("backbone", overlapping class embeddings). POOL: side of the grid
    # that the head's features are averaged to (0 = every position). CLASS_TOKEN_PROJECTION: a
    # linear layer on the class tokens before the head.
    node.CLASS_ROWS = "original"
    node.POOL = 0
    node.CLASS_TOKEN_PROJECTION = False
    # The name of USE_GT in one published config.
    cfg.MODEL.setdefault("MLSEG", CfgNode()).USE_GT = False


class RankSettings(NamedTuple):
    """Arguments of :class:`segcore.rankseg.ranker.Ranker` beside the head."""

    scores: RankScores
    kappa: int
    test_kappa: int
    confidence: float


def ranks_from_config(cfg: CfgNode, *, no_object: bool, unbiased: bool = False) -> RankSettings:
    """Read the selection and the rank-adaptive scores of ``MODEL.RANKSEG``.

    Args:
        cfg: with ``MODEL.RANKSEG`` and ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``.
        no_object: whether a score of "no object" follows those of the classes.
        unbiased: of :class:`segcore.rankseg.scores.NormScores`.

    Raises:
        UserError: its keys contradict each other.
    """
    node, num_classes = cfg.MODEL.RANKSEG, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    check_kappa(node.TOPK, num_classes)
    test_kappa = node.TEST_TOPK or node.TOPK
    if not 1 <= test_kappa <= num_classes:
        raise UserError(
            f"MODEL.RANKSEG.TEST_TOPK is {node.TEST_TOPK}; it has to be a number of classes, at "
            f"most {num_classes}, or 0 for as many as TOPK."
        )
    if not 0 <= node.CONFIDENCE < 1:
        raise UserError(
            f"MODEL.RANKSEG.CONFIDENCE is {node.CONFIDENCE}; it has to be a probability below 1."
        )
    scores = build_rank_scores(node.SCORES, node.TOPK, no_object, unbiased=unbiased)
    return RankSettings(scores, node.TOPK, test_kappa, node.CONFIDENCE)


def only_present(cfg: CfgNode) -> bool:
    """Whether an ordinary model ignores the classes that are not in the ground truth."""
    return cfg.MODEL.RANKSEG.USE_GT or cfg.MODEL.MLSEG.USE_GT


def start_ranker(cfg: CfgNode, ranker: Ranker) -> None:
    """Apply ``MODEL.RANKSEG.PRIOR`` to a new model's ranker, in place; one without a head stays.

    Raises:
        UserError: it is no probability.
    """
    start_head(cfg, ranker.head)


def start_head(cfg: CfgNode, head: nn.Module | None) -> None:
    """Apply ``MODEL.RANKSEG.PRIOR`` to a new multi-label head, in place.

    Raises:
        UserError: it is no probability.
    """
    prior = cfg.MODEL.RANKSEG.PRIOR
    if not 0 <= prior < 1:
        raise UserError(f"MODEL.RANKSEG.PRIOR is {prior}; it has to be a probability below 1.")
    if prior and head is not None:
        start_from_prior(head, prior)
