"""Check the config keys of the decoders before they are built."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

from segcore.errors import UserError

from .config import ENCODED_TOP, MULTI_SCALE, decoder_names, is_mask2former

Rules = list[tuple[str, Any, str]]  # key below MODEL, whether it is right, what it has to be


def check_head(
    cfg: CfgNode, input_shape: dict[str, ShapeSpec], transformer_decoders: Registry
) -> None:
    """Refuse settings that the layers would not notice or would refuse less clearly.

    Args:
        cfg: the config.
        input_shape: the feature maps of the backbone, by name.
        transformer_decoders: the decoders that ``TRANSFORMER_DECODER_NAME`` can name.

    Raises:
        UserError: a key has a wrong value.
    """
    rules = _rules_of_both(cfg, input_shape, transformer_decoders)
    rules += _mask2former_rules(cfg) if is_mask2former(cfg) else _maskformer_rules(cfg)
    for key, kept, demand in rules:
        if not kept:
            section, name = key.split(".")
            raise UserError(f"MODEL.{key} is {cfg.MODEL[section][name]!r}; it has to be {demand}.")


def _rules_of_both(
    cfg: CfgNode, input_shape: dict[str, ShapeSpec], transformer_decoders: Registry
) -> Rules:
    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    pixel, transformer = decoder_names(cfg)
    in_feature = node.TRANSFORMER_IN_FEATURE
    return [
        (
            "SEM_SEG_HEAD.IN_FEATURES",
            head.IN_FEATURES and set(head.IN_FEATURES) <= set(input_shape),
            f"among the maps of the backbone, {', '.join(input_shape)}",
        ),
        (
            "SEM_SEG_HEAD.PIXEL_DECODER_NAME",
            pixel in SEM_SEG_HEADS_REGISTRY,
            "a registered pixel decoder, such as MSDeformAttnPixelDecoder",
        ),
        (
            "MASK_FORMER.TRANSFORMER_DECODER_NAME",
            transformer in transformer_decoders,
            "a registered decoder, such as MultiScaleMaskedTransformerDecoder",
        ),
        (
            "MASK_FORMER.TRANSFORMER_IN_FEATURE",
            in_feature in (MULTI_SCALE, ENCODED_TOP, *input_shape),
            f"{MULTI_SCALE} for Mask2Former, or for MaskFormer {ENCODED_TOP} or a map of the "
            f"backbone, {', '.join(input_shape)}",
        ),
        ("SEM_SEG_HEAD.NORM", head.NORM == "GN", "GN"),
        (
            "MASK_FORMER.NHEADS",
            node.HIDDEN_DIM % max(node.NHEADS, 1) == 0,
            f"a divisor of HIDDEN_DIM, {node.HIDDEN_DIM}",
        ),
        ("MASK_FORMER.PRE_NORM", not node.PRE_NORM, "False"),
    ]


def _mask2former_rules(cfg: CfgNode) -> Rules:
    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    pixel, transformer = decoder_names(cfg)
    levels, width = head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES, node.HIDDEN_DIM
    use = f"with TRANSFORMER_IN_FEATURE {MULTI_SCALE}"
    return [
        (
            "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES",
            levels and set(levels) < set(head.IN_FEATURES),
            f"among IN_FEATURES, {head.IN_FEATURES}, and fewer",
        ),
        (
            "SEM_SEG_HEAD.PIXEL_DECODER_NAME",
            pixel not in ("BasePixelDecoder", "TransformerEncoderPixelDecoder"),
            f"a pixel decoder of several levels {use}, such as MSDeformAttnPixelDecoder",
        ),
        (
            "MASK_FORMER.TRANSFORMER_DECODER_NAME",
            transformer != "StandardTransformerDecoder",
            f"a decoder of several levels {use}, such as MultiScaleMaskedTransformerDecoder",
        ),
        (
            "SEM_SEG_HEAD.CONVS_DIM",
            width % 32 == 0 and width == head.CONVS_DIM,
            f"a multiple of 32, and MASK_FORMER.HIDDEN_DIM, {width}",
        ),
        (
            "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS",
            width % max(head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS, 1) == 0,
            f"a divisor of MASK_FORMER.HIDDEN_DIM, {width}",
        ),
        ("MASK_FORMER.DEC_LAYERS", node.DEC_LAYERS > 1, "2 or more"),
        ("MASK_FORMER.ENFORCE_INPUT_PROJ", not node.ENFORCE_INPUT_PROJ, "False"),
    ]


def _maskformer_rules(cfg: CfgNode) -> Rules:
    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    pixel, transformer = decoder_names(cfg)
    in_feature, encodes = node.TRANSFORMER_IN_FEATURE, pixel == "TransformerEncoderPixelDecoder"
    return [
        (
            "SEM_SEG_HEAD.PIXEL_DECODER_NAME",
            pixel != "MSDeformAttnPixelDecoder"
            and (pixel, in_feature) != ("BasePixelDecoder", ENCODED_TOP),
            f"{' or '.join(_pixel_decoders(in_feature))} with TRANSFORMER_IN_FEATURE {in_feature}",
        ),
        (
            "MASK_FORMER.TRANSFORMER_DECODER_NAME",
            "MultiScaleMasked" not in transformer,
            f"a decoder of one map with TRANSFORMER_IN_FEATURE {in_feature}, such as "
            "StandardTransformerDecoder",
        ),
        (
            "SEM_SEG_HEAD.CONVS_DIM",
            head.CONVS_DIM % 32 == 0 and not (encodes and head.CONVS_DIM % max(node.NHEADS, 1)),
            f"a multiple of 32, and of MASK_FORMER.NHEADS, {node.NHEADS}, where an encoder has it",
        ),
        ("MASK_FORMER.HIDDEN_DIM", node.HIDDEN_DIM % 4 == 0, "a multiple of 4"),
        ("MASK_FORMER.DEC_LAYERS", node.DEC_LAYERS > 0, "1 or more"),
        (
            "MASK_FORMER.ENC_LAYERS",
            node.ENC_LAYERS == 0,
            "0: the encoder's layers are SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
        ),
    ]


def _pixel_decoders(in_feature: str) -> list[str]:
    names = ["TransformerEncoderPixelDecoder"]
    return names if in_feature == ENCODED_TOP else ["BasePixelDecoder", *names]
