"""ViT and BEiT in Detectron2's registry, and their config keys."""

from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from segcore.config import register_config_keys

from .config import demand

STAGES = ("res2", "res3", "res4", "res5")


@register_config_keys
def add_vit_config(cfg: CfgNode) -> None:
    """Add ``MODEL.VIT``; the defaults are those of Segmenter with ViT-B/16."""
    vit = CfgNode()
    # Side of the images that the learned positions are made for; others are interpolated.
    vit.IMAGE_SIZE = 512
    vit.PATCH_SIZE = 16
    vit.EMBED_DIM = 768
    vit.DEPTH = 12
    vit.NUM_HEADS = 12
    vit.MLP_RATIO = 4.0
    vit.PATCH_BIAS = True  # False: mmsegmentation's Segmenter, CLIP
    vit.PRE_NORM = False  # True: CLIP, whose tokens pass a norm before the first block
    vit.ACTIVATION = "gelu"  # "quick_gelu": OpenAI's CLIP
    vit.DROP_PATH_RATE = 0.1
    vit.USE_CHECKPOINT = False
    cfg.MODEL.VIT = vit


@BACKBONE_REGISTRY.register()
def build_vit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the Vision Transformer of ``MODEL.VIT``.

    With ``MODEL.RANKSEG.CLASS_ROWS`` "backbone" it has class embeddings.

    Raises:
        UserError: no such transformer exists.
    """
    from .vit import VisionTransformer  # timm imports all of its models, which takes a second

    vit, rankseg = cfg.MODEL.VIT, cfg.MODEL.get("RANKSEG", {})
    _check_transformer("VIT", vit)
    demand(
        "VIT", vit, {"ACTIVATION": (vit.ACTIVATION in ("gelu", "quick_gelu"), "gelu or quick_gelu")}
    )
    side = vit.IMAGE_SIZE // vit.PATCH_SIZE
    with_classes = rankseg.get("CLASS_ROWS") == "backbone"
    return VisionTransformer(
        vit.EMBED_DIM,
        vit.DEPTH,
        vit.NUM_HEADS,
        (side, side),
        patch_size=vit.PATCH_SIZE,
        in_channels=input_shape.channels,
        mlp_ratio=vit.MLP_RATIO,
        patch_bias=vit.PATCH_BIAS,
        pre_norm=vit.PRE_NORM,
        activation=vit.ACTIVATION,
        drop_path=vit.DROP_PATH_RATE,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES if with_classes else 0,
        checkpointing=vit.USE_CHECKPOINT,
    )


@register_config_keys
def add_beit_config(cfg: CfgNode) -> None:
    """Add ``MODEL.BEIT``; the defaults are those of BEiT-L with UPerNet."""
    beit = CfgNode()
    # Side of the images that the tables of relative positions are made for; others are resampled.
    beit.IMAGE_SIZE = 640
    beit.PATCH_SIZE = 16
    beit.EMBED_DIM = 1024
    beit.DEPTH = 24
    beit.NUM_HEADS = 16
    beit.MLP_RATIO = 4.0
    beit.LAYER_SCALE = 1e-6  # first value of the learned factors
    beit.DROP_PATH_RATE = 0.2
    beit.OUT_BLOCKS = [7, 11, 15, 23]  # whose outputs make the maps; the first block is 0
    beit.NORM = "SyncBN"  # of the pyramid or the adapter
    beit.OUT_FEATURES = [*STAGES]
    beit.USE_CHECKPOINT = False
    cfg.MODEL.BEIT = beit


@BACKBONE_REGISTRY.register()
def build_beit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build the BEiT of ``MODEL.BEIT``.

    Raises:
        UserError: no such transformer exists.
    """
    from .beit import Beit

    beit = cfg.MODEL.BEIT
    arguments = beit_arguments(beit, input_shape)
    blocks = list(beit.OUT_BLOCKS)
    ascending = blocks == sorted(set(blocks)) and all(0 <= b < beit.DEPTH for b in blocks)
    rules = {
        "PATCH_SIZE": (beit.PATCH_SIZE % 4 == 0, "a multiple of 4"),
        "OUT_BLOCKS": (ascending and len(blocks) == 4, f"four ascending ones of {beit.DEPTH}"),
    }
    demand("BEIT", beit, rules)
    return Beit(
        **arguments,
        out_blocks=blocks,
        patch_size=beit.PATCH_SIZE,
        norm=partial(get_norm, beit.NORM),
        out_features=beit.OUT_FEATURES,
    )


def beit_arguments(beit: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
    """Return the arguments of :class:`BeitBlocks` that ``MODEL.BEIT`` describes, but the patches.

    Raises:
        UserError: no such transformer exists.
    """
    _check_transformer("BEIT", beit)
    rules = {
        "IMAGE_SIZE": (beit.IMAGE_SIZE >= 3 * beit.PATCH_SIZE, "3 patches or more"),
        "LAYER_SCALE": (beit.LAYER_SCALE > 0, "more than 0"),
        "NORM": (bool(beit.NORM), "the name of a norm: BN, SyncBN, ..."),
        "OUT_FEATURES": ({*beit.OUT_FEATURES} <= {*STAGES}, f"among {', '.join(STAGES)}"),
    }
    demand("BEIT", beit, rules)
    side = beit.IMAGE_SIZE // beit.PATCH_SIZE
    return {
        "width": beit.EMBED_DIM,
        "depth": beit.DEPTH,
        "num_heads": beit.NUM_HEADS,
        "grid": (side, side),
        "in_channels": input_shape.channels,
        "mlp_ratio": beit.MLP_RATIO,
        "layer_scale": beit.LAYER_SCALE,
        "drop_path": beit.DROP_PATH_RATE,
        "checkpointing": beit.USE_CHECKPOINT,
    }


def _check_transformer(name: str, node: CfgNode) -> None:
    """Raise UserError unless the transformer of ``MODEL.<name>`` can be built."""
    heads, patch = node.NUM_HEADS, node.PATCH_SIZE
    rules = {
        "DEPTH": (node.DEPTH > 0, "1 or more"),
        "NUM_HEADS": (heads > 0 and node.EMBED_DIM % heads == 0, f"a divisor of {node.EMBED_DIM}"),
        "PATCH_SIZE": (patch > 0, "1 or more"),
        "IMAGE_SIZE": (patch > 0 and patch <= node.IMAGE_SIZE, f"PATCH_SIZE, {patch}, or more"),
        "DROP_PATH_RATE": (0 <= node.DROP_PATH_RATE < 1, "a probability below 1"),
    }
    demand(name, node, rules)
