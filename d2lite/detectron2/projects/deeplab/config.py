"""Config keys of DeepLab, which published segmentation configs build on."""

from detectron2.config import CfgNode

_KEYS = {
    "INPUT.CROP": {"SINGLE_CATEGORY_MAX_AREA": 1.0},
    "SOLVER": {"POLY_LR_POWER": 0.9, "POLY_LR_CONSTANT_ENDING": 0.0},
    "MODEL.RESNETS": {
        "STEM_TYPE": "deeplab",
        "RES4_DILATION": 1,
        "RES5_MULTI_GRID": [1, 2, 4],
    },
    "MODEL.SEM_SEG_HEAD": {
        "LOSS_TYPE": "hard_pixel_mining",
        "PROJECT_FEATURES": ["res2"],
        "PROJECT_CHANNELS": [48],
        "ASPP_CHANNELS": 256,
        "ASPP_DILATIONS": [6, 12, 18],
        "ASPP_DROPOUT": 0.1,
        "USE_DEPTHWISE_SEPARABLE_CONV": False,
    },
}


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add the keys with their defaults to ``cfg``."""
    for path, values in _KEYS.items():
        node = cfg
        for key in path.split("."):
            node = node[key]
        for key, value in values.items():
            setattr(node, key, list(value) if isinstance(value, list) else value)
