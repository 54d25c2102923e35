"""Learning rate, weight decay and momentum of every parameter, as ``SOLVER`` describes them."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from segcore.errors import UserError
from segcore.rankseg.ranker import Ranker
from segcore.rankseg.scores import RankScores

BATCH_NORMS = nn.modules.batchnorm._NormBase  # every batch and instance norm
# RankScores: per-rank scale and bias, which the reference implementation keeps in a layer norm.
LAYER_NORMS = (nn.LayerNorm, RankScores)
NORM_LAYERS = (BATCH_NORMS, nn.GroupNorm, nn.LocalResponseNorm, *LAYER_NORMS)
# Position embeddings that are plain parameters and no nn.Embedding.
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed")

# The class table of ESSNet.
TABLE = "embedding_table"

# Parameters of a transformer before its first block, and of a block: BEiT's relative positions too.
FIRST_LAYER = re.compile(r"backbone\.(cls_token|positions|patch_embed\..+)")
BLOCK = re.compile(r"backbone\.(?:blocks|positions)\.(\d+)\..+")


def parameter_groups(solver: CfgNode, model: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield one group per trainable parameter, in the order of the modules.

    The learning rate is ``BASE_LR``, times each of the :func:`learning_rate_factors` whose key
    occurs in the path of the module, times the :func:`layer_decay`. The weight decay is that of
    ``WEIGHT_DECAY_RULE``, times the first of ``WEIGHT_DECAY_FACTORS`` whose text occurs in the
    parameter's name. ESSNet's class table has its own momentum and, for :class:`PolyLR`, power.

    Raises:
        UserError: a key has an unknown value.
    """
    seen, factors = set(), learning_rate_factors(solver, model)
    layer_factors = layer_decay(solver.LAYER_DECAY, model, solver.LAYER_DECAY_FIRST)
    rule = weight_decay_rule(solver)
    for path, module in model.named_modules():
        factor = math.prod(factors[part] for part in factors if part in path)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            full_name = f"{path}.{name}" if path else name
            group = {
                "params": [parameter],
                "lr": solver.BASE_LR * factor * layer_factors.get(full_name, 1.0),
                "weight_decay": rule(module, name, parameter)
                * _weight_decay_factor(solver.WEIGHT_DECAY_FACTORS, full_name),
            }
            if TABLE in path:
                group["power"] = solver.TABLE_POWER
                if solver.OPTIMIZER == "SGD":
                    group["momentum"] = solver.TABLE_MOMENTUM
            yield group


def learning_rate_factors(solver: CfgNode, model: nn.Module) -> dict[str, float]:
    """Return {part of a module's path: factor on the learning rate of its parameters}."""
    heads = {
        f"{path}.head": solver.MLHEAD_MULTIPLIER
        for path, module in model.named_modules()
        if isinstance(module, Ranker)
    }
    return {"backbone": solver.BACKBONE_MULTIPLIER, "clip": solver.CLIP_MULTIPLIER, **heads}


def layer_decay(decay: float, model: nn.Module, first: Sequence[str] = ()) -> dict[str, float]:
    """Return {name: factor on the learning rate} of the parameters of a transformer backbone.

    The factor is ``decay ** (n + 1 - layer)``, n the number of blocks: layer 0 is what comes before
    the first block, layer i + 1 is block i. All other parameters have the factor 1.

    Source: Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, appendix.

    Args:
        decay: its base.
        model: has the backbone.
        first: how the names of other parameters begin that belong to layer 0; the released code of
            ViT-Adapter puts queries, class and mask embeddings there.
    Raises:
        UserError: the decay is not 1, and the backbone has no blocks; or no name begins like that.
    """
    if decay == 1.0:
        return {}
    layers = {}
    for name, _ in model.named_parameters():
        if FIRST_LAYER.fullmatch(name):
            layers[name] = 0
        elif block := BLOCK.fullmatch(name):
            layers[name] = int(block[1]) + 1
    last = max(layers.values(), default=0) + 1
    if last == 1:
        raise UserError(
            f"SOLVER.LAYER_DECAY is {decay}, but the backbone of {type(model).__name__} is no "
            "plain transformer with blocks: set it to 1.0"
        )
    for start in first:
        found = [name for name, _ in model.named_parameters() if name.startswith(start)]
        if not found:
            raise UserError(
                f"SOLVER.LAYER_DECAY_FIRST holds {start!r}, but no parameter of "
                f"{type(model).__name__} begins like that"
            )
        layers |= dict.fromkeys(found, 0)
    return {name: decay ** (last - layer) for name, layer in layers.items()}


# ---- weight decay ----------------------------------------------------------------------------

WeightDecay = Callable[[nn.Module, str, nn.Parameter], float]


def weight_decay_rule(solver: CfgNode) -> WeightDecay:
    """Return ``SOLVER.WEIGHT_DECAY_RULE`` as a function (module, name, parameter) -> weight decay.

    Raises:
        UserError: there is no such rule.
    """
    decay = solver.WEIGHT_DECAY

    def modules(module: nn.Module, name: str, _: nn.Parameter) -> float:
        if name in POSITION_TABLES:
            return 0.0
        if isinstance(module, NORM_LAYERS):
            return solver.WEIGHT_DECAY_NORM
        return solver.WEIGHT_DECAY_EMBED if isinstance(module, nn.Embedding) else decay

    def layer_norms(module: nn.Module, name: str, _: nn.Parameter) -> float:
        return 0.0 if name in POSITION_TABLES or isinstance(module, LAYER_NORMS) else decay

    def vectors(_: nn.Module, name: str, parameter: nn.Parameter) -> float:
        return 0.0 if parameter.dim() == 1 or name == "bias" else decay

    def everything(*_: Any) -> float:
        return decay

    rules: dict[str, WeightDecay] = {
        "modules": modules,
        "layer_norms": layer_norms,
        "vectors": vectors,
        "all": everything,
    }
    if solver.WEIGHT_DECAY_RULE not in rules:
        raise UserError(
            f"SOLVER.WEIGHT_DECAY_RULE is {solver.WEIGHT_DECAY_RULE!r}, but takes "
            f"{', '.join(rules)}"
        )
    return rules[solver.WEIGHT_DECAY_RULE]


def _weight_decay_factor(factors: list, name: str) -> float:
    """Return the first factor of [[part of a name, factor], ...] whose text occurs in the name.

    Raises:
        UserError: the list has another form.
    """
    for entry in factors:
        match entry:
            case [str(part), int() | float() as factor]:
                if part in name:
                    return factor
            case _:
                raise UserError(
                    f"SOLVER.WEIGHT_DECAY_FACTORS holds {entry!r}: an entry is a part of a "
                    "parameter's name and a factor, as in [[norm, 0.0]]"
                )
    return 1.0
