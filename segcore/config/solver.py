"""Config keys of the optimizer and of the learning rates, which all families share."""

from detectron2.config import CfgNode


def add_solver_keys(node: CfgNode) -> None:
    """Add the keys to ``SOLVER``, in place; :mod:`segcore.engine` reads them."""
    node.OPTIMIZER = "ADAMW"  # or "SGD"
    # Factors on the learning rate: of modules whose path contains "backbone" and "clip", and of
    # RankSeg's multi-label head.
    node.BACKBONE_MULTIPLIER = 0.1
    node.CLIP_MULTIPLIER = 0.01
    node.MLHEAD_MULTIPLIER = 1.0
    # Factor from every block of a transformer backbone to the block before it, as in BEiT; what
    # follows the last block has BASE_LR. The published runs have BACKBONE_MULTIPLIER 1.0 with it.
    node.LAYER_DECAY = 1.0
    # How the names of further parameters begin that have the rate of what precedes the first block.
    node.LAYER_DECAY_FIRST = []

    # Which parameters have WEIGHT_DECAY. "modules": all, but norm layers have WEIGHT_DECAY_NORM,
    # embedding tables WEIGHT_DECAY_EMBED and position tables 0. "layer_norms", as in Swin: all but
    # layer norms and position tables. "vectors", as in BEiT: all but biases and one-dimensional
    # parameters. "all", as in DeepLab.
    node.WEIGHT_DECAY_RULE = "modules"
    node.WEIGHT_DECAY_EMBED = 0.0
    # [[part of a parameter's name, factor], ...]: the first entry whose text occurs in the name
    # multiplies the weight decay of that rule.
    node.WEIGHT_DECAY_FACTORS = []

    # ESSNet's class table: its momentum with SGD, and its power in the schedule PolyLR.
    node.TABLE_MOMENTUM = 0.95
    node.TABLE_POWER = 0.95

    # LR_SCHEDULER_NAME "WarmupPolyLR" is Detectron2's: the share of iterations left to the power
    # POLY_LR_POWER, not below POLY_LR_CONSTANT_ENDING, all times BASE_LR. "PolyLR" goes from the
    # learning rate to POLY_LR_END instead, both absolute, and not below POLY_LR_MIN. Both multiply
    # the curve by the warm-up of WARMUP_ITERS, WARMUP_FACTOR and WARMUP_METHOD; with the
    # convention "chained" PolyLR begins the curve after the warm-up, as newer libraries do.
    node.POLY_LR_END = 0.0
    node.POLY_LR_MIN = 0.0
    node.POLY_LR_CONVENTION = "multiplied"

    # "OneCycleLR" is torch's: a cosine from 1/25 of the learning rate up to it over this share of
    # the iterations, then down to 1/250,000; beta 1 of AdamW (or the momentum of SGD) goes from
    # 0.95 to 0.85 and back meanwhile.
    node.ONE_CYCLE_RISE = 0.2

    # Decay of the exponential moving average of the weights, which is evaluated beside the model; 0
    # is none. BEST_METRIC: a result of the evaluation, such as "multilabel/mAP"; the weights, or
    # averaged weights, with the best one so far are kept as model_best.pth. EARLY_STOP: training
    # ends when more than so many evaluations have brought no better one; 0 is never.
    node.EMA_DECAY = 0.0
    node.BEST_METRIC = ""
    node.EARLY_STOP = 0

    # "CosineLR" is GroupViT's: a linear warm-up of WARMUP_ITERS from WARMUP_FACTOR times the
    # learning rate, then the cosine over MAX_ITER, down to COSINE_END_FACTOR times it.
    node.COSINE_END_FACTOR = 0.0
