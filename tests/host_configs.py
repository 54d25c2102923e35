"""Configs of the models in the reference outputs of per-pixel hosts."""

from collections.abc import Mapping

from detectron2.config import CfgNode

from segcore.config import default_config

STAGES = ("res2", "res3", "res4", "res5")
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def backbone_config(part: Mapping) -> CfgNode:
    """Return the config of a backbone, given mmsegmentation's."""
    cfg = default_config()
    name, section, keys = BACKBONES[part["type"]](part)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = name, 0
    for key, value in keys.items():
        cfg.MODEL[section][key] = value
    return cfg


def _vit(part: Mapping) -> tuple[str, str, dict]:
    keys = _transformer(part) | {"PATCH_BIAS": False}
    return "build_vit_backbone", "VIT", keys


def _beit(part: Mapping) -> tuple[str, str, dict]:
    keys = _transformer(part) | {"OUT_BLOCKS": part["out_indices"], "NORM": "BN"}
    return "build_beit_backbone", "BEIT", keys


def _transformer(part: Mapping) -> dict:
    return {
        "IMAGE_SIZE": part["img_size"][0],
        "PATCH_SIZE": part["patch_size"],
        "EMBED_DIM": part["embed_dims"],
        "DEPTH": part["num_layers"],
        "NUM_HEADS": part["num_heads"],
        "DROP_PATH_RATE": part["drop_path_rate"],
    }


def _resnet(part: Mapping) -> tuple[str, str, dict]:
    keys = {
        "DEPTH": part["depth"],
        "STEM_TYPE": "deeplab",
        "RES4_DILATION": part["dilations"][2],
        "RES5_DILATION": part["dilations"][3],
        "RES5_MULTI_GRID": [1, 1, 1],
        "STRIDE_IN_1X1": False,
        "NORM": "BN",
        "WIDTH_PER_GROUP": part["base_channels"],
        "RES2_OUT_CHANNELS": 4 * part["base_channels"],
        "STEM_OUT_CHANNELS": part["stem_channels"],
        "OUT_FEATURES": list(STAGES),
    }
    return "build_dilated_resnet_backbone", "RESNETS", keys


def _swin(part: Mapping) -> tuple[str, str, dict]:
    keys = {
        "EMBED_DIM": part["embed_dims"],
        "DEPTHS": part["depths"],
        "NUM_HEADS": part["num_heads"],
        "WINDOW_SIZE": part["window_size"],
        "PATCH_SIZE": part["patch_size"],
        "DROP_PATH_RATE": part["drop_path_rate"],
    }
    return "D2SwinTransformer", "SWIN", keys


BACKBONES = {
    "VisionTransformer": _vit,
    "ResNetV1c": _resnet,
    "SwinTransformer": _swin,
    "BEiT": _beit,
}

DECODERS = {"ASPPHead": "aspp", "UPerHead": "upernet"}


def model_config(case: Mapping) -> CfgNode:
    """Return the config of a model with a decoder of convolutions, a case of ``cases.json``."""
    model = case["model"]
    cfg = backbone_config(model["backbone"])
    head, node = model["decode_head"], cfg.MODEL.PER_PIXEL
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "PerPixelSegmenter", "cpu"
    mean, std = IMAGENET if case["mean_std"] == "ImageNet" else case["mean_std"]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(mean), list(std)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = head["num_classes"]
    node.DECODER = DECODERS[head["type"]]
    indices = head["in_index"] if isinstance(head["in_index"], list) else [head["in_index"]]
    node.IN_FEATURES = [STAGES[index] for index in indices]
    node.CHANNELS, node.DROPOUT, node.NORM = head["channels"], head["dropout_ratio"], "BN"
    node.ALIGN_CORNERS = head["align_corners"]
    node.DILATIONS = head.get("dilations", node.DILATIONS)
    node.POOL_SCALES = head.get("pool_scales", node.POOL_SCALES)
    if auxiliary := model.get("auxiliary_head"):
        node.AUXILIARY.WEIGHT = auxiliary["loss_decode"]["loss_weight"]
        node.AUXILIARY.IN_FEATURE = STAGES[auxiliary["in_index"]]
        node.AUXILIARY.CHANNELS = auxiliary["channels"]
    return cfg
