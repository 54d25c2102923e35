"""Config keys of CAT-Seg's ranking head, and the ranking that is built from them."""

from detectron2.config import CfgNode

from segcore.config.rankseg import add_rankseg_keys
from segcore.errors import UserError
from segcore.rankseg.dial import ClassesKept
from segcore.rankseg.scores import TemperatureScores

from .rank_adapter import RankAdapter
from .ranking import ClassRanker, HeadShape, Ranking

SCALES = ("", "cost", "logits")


def add_ranking_keys(cfg: CfgNode) -> None:
    """Add the keys of CAT-Seg's ranking to ``MODEL.RANKSEG``, in place.

    Of those that all families share it reads FLAG, LOSS_WEIGHT, TOPK (0 = MAX_CLASSES), TEST_TOPK
    (0 = TOPK), CONFIDENCE, HIDDEN_DIM, NUM_HEADS (0 = 4), FEEDFORWARD_DIM (0 = twice HIDDEN_DIM),
    POOL, GAMMAS and PRIOR.
    """
    add_rankseg_keys(cfg)
    node = cfg.MODEL.RANKSEG
    # A rank adapter, the file of a head alone; its sizes replace those of the config.
    node.WEIGHTS = ""
    # Train the head alone, and the scales of the ranks if there are any: all else is frozen.
    node.ALONE = False
    node.NUM_LAYERS = 1
    # Give each class token the pooled cost volume of its class.
    node.POOLED_COST = True
    # Classes that the head ranks: those with the highest cosine similarity, if there are more.
    node.LIMIT = 1024
    # A trained scale for each rank: of the "cost" volume before the aggregation, or of the
    # "logits" behind it; "" = none.
    node.SCALE = ""
    # Patch inference: the global view selects the classes of all crops; else each crop its own.
    node.PER_IMAGE = False


def adapter_from_config(cfg: CfgNode) -> RankAdapter | None:
    """Read the adapter that ``MODEL.RANKSEG.WEIGHTS`` names; None if it names none."""
    path = cfg.MODEL.RANKSEG.WEIGHTS
    return RankAdapter.read(path) if path else None


def ranking_from_config(
    cfg: CfgNode, joint_width: int, memory: int, adapter: RankAdapter | None
) -> Ranking | None:
    """Build the ranking that ``MODEL.RANKSEG`` describes; None if it is off.

    Args:
        cfg: of the whole model.
        joint_width: of the encoders.
        memory: bytes of the temporaries of a chunk of classes.
        adapter: holds the head, if not None.

    Raises:
        UserError: keys are out of range or contradict each other.
    """
    node = cfg.MODEL.RANKSEG
    if not node.FLAG and adapter is None:
        return None
    _check(cfg)
    kappa = node.TOPK or cfg.MODEL.SEM_SEG_HEAD.MAX_CLASSES
    if adapter is None:
        ranks = (kappa or cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) if node.SCALE else 0
        shape, scale = _shape(node), node.SCALE
    else:
        shape, scale, ranks = adapter.shape, adapter.scale, adapter.ranks
    ranking = Ranking(
        ClassRanker(joint_width, shape, limit=node.LIMIT, chunk_memory=memory),
        TemperatureScores(ranks, no_object=False) if ranks else None,
        scale=scale,
        kappa=kappa,
        kept=ClassesKept(node.TEST_TOPK or kappa, node.CONFIDENCE),
        per_image=node.PER_IMAGE,
        alone=node.ALONE,
        loss_weight=node.LOSS_WEIGHT,
        gammas=tuple(node.GAMMAS),
    )
    if adapter is not None:
        adapter.fill(ranking)
    elif node.PRIOR:
        ranking.head.start_from_prior(node.PRIOR)
    return ranking


def _shape(node: CfgNode) -> HeadShape:
    return HeadShape(
        width=node.HIDDEN_DIM,
        num_heads=node.NUM_HEADS or 4,
        num_layers=node.NUM_LAYERS,
        feedforward_dim=node.FEEDFORWARD_DIM,
        pool=node.POOL,
        pooled_cost=node.POOLED_COST,
    )


def _check(cfg: CfgNode) -> None:
    """Refuse values that would be noticed late or never."""
    node = cfg.MODEL.RANKSEG
    patches = cfg.TEST.PATCH_INFERENCE
    rules = {
        "TOPK": (node.TOPK >= 0, "a number of classes, 0 for MAX_CLASSES"),
        "TEST_TOPK": (node.TEST_TOPK >= 0, "a number of classes, 0 for TOPK"),
        "LIMIT": (node.LIMIT >= 1, "a number of classes"),
        "CONFIDENCE": (0 <= node.CONFIDENCE < 1, "a probability below 1, 0 for none"),
        "PRIOR": (0 <= node.PRIOR < 1, "a probability below 1, 0 for one half"),
        "SCALE": (node.SCALE in SCALES, "'', 'cost' or 'logits'"),
        "GAMMAS": (
            len(node.GAMMAS) == 2 and min(node.GAMMAS) >= 0,
            "two exponents from 0, of absent and of present classes",
        ),
        "LOSS_WEIGHT": (
            node.LOSS_WEIGHT > 0 or (not node.ALONE and node.LOSS_WEIGHT == 0),
            "positive where the head is trained alone, and never negative",
        ),
        "PER_IMAGE": (
            not (node.PER_IMAGE and cfg.TEST.SLIDING_WINDOW and not patches.GLOBAL_VIEW),
            "False where TEST.PATCH_INFERENCE.GLOBAL_VIEW is: no crop shows the whole image",
        ),
    }
    for key, (kept, demand) in rules.items():
        if not kept:
            raise UserError(f"MODEL.RANKSEG.{key} is {node[key]!r}; it has to be {demand}.")
