"""ViT and BEiT in Detectron2's registry, and their config keys."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from segcore.config import register_config_keys

from .config import demand


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
    vit.PATCH_BIAS = True  # False: mmsegmentation's Segmenter
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
        drop_path=vit.DROP_PATH_RATE,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES if with_classes else 0,
        checkpointing=vit.USE_CHECKPOINT,
    )


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
