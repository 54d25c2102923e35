"""ViT-Adapter in Detectron2's registry, and its config keys."""

from functools import partial
from itertools import chain

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from segcore.config import register_config_keys

from .config import demand
from .config_transformers import STAGES, beit_arguments


@register_config_keys
def add_vit_adapter_config(cfg: CfgNode) -> None:
    """Add ``MODEL.VIT_ADAPTER``; the defaults are those of ViT-Adapter-L."""
    adapter = CfgNode()
    # First and last block of the transformer between the exchanges of each interaction.
    adapter.INTERACTIONS = [[0, 5], [6, 11], [12, 17], [18, 23]]
    adapter.PRIOR_WIDTH = 64  # channels of the first convolutions
    adapter.DEFORM_HEADS = 16  # of the deformable attention, and its points a level
    adapter.DEFORM_POINTS = 4
    adapter.VALUE_RATIO = 0.5  # width of its values over that of the transformer
    adapter.FEEDFORWARD_RATIO = 0.25  # width of the convolutional networks over the same
    cfg.MODEL.VIT_ADAPTER = adapter


@BACKBONE_REGISTRY.register()
def build_beit_adapter_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the BEiT of ``MODEL.BEIT``, without its pyramid, with the adapter of
    ``MODEL.VIT_ADAPTER``; ``MODEL.BEIT.NORM`` is the norm of the adapter.

    Raises:
        UserError: no such backbone exists.
    """
    from .vit_adapter import PATCH, BeitAdapter  # timm imports all models, which takes a second

    beit, adapter = cfg.MODEL.BEIT, cfg.MODEL.VIT_ADAPTER
    arguments = beit_arguments(beit, input_shape)
    value_width = int(beit.EMBED_DIM * adapter.VALUE_RATIO)
    pairs = all(len(blocks) == 2 for blocks in adapter.INTERACTIONS)
    covered = pairs and [*chain(*(range(a, b + 1) for a, b in adapter.INTERACTIONS))]
    in_order = len(adapter.INTERACTIONS) == len(STAGES) and covered == [*range(beit.DEPTH)]
    heads = adapter.DEFORM_HEADS
    demand("BEIT", beit, {"PATCH_SIZE": (beit.PATCH_SIZE == PATCH, f"{PATCH} with an adapter")})
    rules = {
        "INTERACTIONS": (in_order, f"four pairs that cover the {beit.DEPTH} blocks in order"),
        "PRIOR_WIDTH": (adapter.PRIOR_WIDTH > 0, "1 or more"),
        "DEFORM_HEADS": (
            heads > 0 and value_width > 0 and value_width % heads == 0,
            f"a divisor of the width of the values, {value_width}",
        ),
        "DEFORM_POINTS": (adapter.DEFORM_POINTS > 0, "1 or more"),
        "FEEDFORWARD_RATIO": (
            int(beit.EMBED_DIM * adapter.FEEDFORWARD_RATIO) > 0,
            "a positive share of the width",
        ),
    }
    demand("VIT_ADAPTER", adapter, rules)
    return BeitAdapter(
        **arguments,
        interactions=adapter.INTERACTIONS,
        prior_width=adapter.PRIOR_WIDTH,
        deform_heads=heads,
        num_points=adapter.DEFORM_POINTS,
        feedforward_ratio=adapter.FEEDFORWARD_RATIO,
        value_ratio=adapter.VALUE_RATIO,
        norm=partial(get_norm, beit.NORM),
        out_features=beit.OUT_FEATURES,
    )
