"""Configs of very small per-pixel models, one of each kind of host."""

from collections.abc import Mapping
from pathlib import Path

CONFIG = """
MODEL:
  META_ARCHITECTURE: PerPixelSegmenter
  DEVICE: cpu
  PIXEL_MEAN: [127.5, 127.5, 127.5]
  PIXEL_STD: [127.5, 127.5, 127.5]
  BACKBONE: {FREEZE_AT: 0}
  SEM_SEG_HEAD: {NUM_CLASSES: 12, IGNORE_VALUE: 255}
  PER_PIXEL: {CHANNELS: 32, NUM_HEADS: 2}
  RANKSEG: {TOPK: 5, LOSS_WEIGHT: 10, HIDDEN_DIM: 32, NUM_HEADS: 2, FEEDFORWARD_DIM: 48}
DATASETS: {TRAIN: [], TEST: []}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {FORMAT: RGB, MIN_SIZE_TEST: 48, MAX_SIZE_TEST: 100}
SOLVER: {IMS_PER_BATCH: 4, BASE_LR: 0.001, MAX_ITER: 2, WARMUP_ITERS: 0}
SEED: 1
"""

VIT = {
    "MODEL.BACKBONE.NAME": "build_vit_backbone",
    "MODEL.VIT.IMAGE_SIZE": 64,
    "MODEL.VIT.PATCH_SIZE": 8,
    "MODEL.VIT.EMBED_DIM": 24,
    "MODEL.VIT.DEPTH": 2,
    "MODEL.VIT.NUM_HEADS": 2,
}
RESNET = {
    "MODEL.BACKBONE.NAME": "build_dilated_resnet_backbone",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.STEM_TYPE": "deeplab",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.RES4_DILATION": 2,
    "MODEL.RESNETS.RES5_DILATION": 4,
    "MODEL.RESNETS.RES5_MULTI_GRID": [1, 1, 1],
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
}
SWIN = {
    "MODEL.BACKBONE.NAME": "D2SwinTransformer",
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 1, 2, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 2, 4, 8],
    "MODEL.SWIN.WINDOW_SIZE": 4,
}
AUXILIARY = {"MODEL.PER_PIXEL.AUXILIARY.WEIGHT": 0.4, "MODEL.PER_PIXEL.AUXILIARY.CHANNELS": 16}
HOSTS: dict[str, dict[str, object]] = {
    "segmenter": VIT
    | {
        "MODEL.RANKSEG.FLAG": True,
        "MODEL.RANKSEG.SHARE_EMBEDDING": True,
        "MODEL.RANKSEG.CLASS_ROWS": "refined",
        "MODEL.RANKSEG.POOL": 4,
        "MODEL.PER_PIXEL.TEST.WINDOW": [48, 48],
        "MODEL.PER_PIXEL.TEST.STRIDE": [32, 32],
    },
    "deeplabv3": RESNET
    | AUXILIARY
    | {
        "MODEL.PER_PIXEL.DECODER": "aspp",
        "MODEL.PER_PIXEL.IN_FEATURES": ["res5"],
        "MODEL.RANKSEG.FLAG": True,
        "MODEL.RANKSEG.SHARE_EMBEDDING": True,
        "MODEL.RANKSEG.POOL": 4,
    },
    "upernet": SWIN
    | AUXILIARY
    | {
        "MODEL.PER_PIXEL.DECODER": "upernet",
        "MODEL.PER_PIXEL.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    },
    "essnet": RESNET
    | {
        "MODEL.RESNETS.RES4_DILATION": 1,
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.PER_PIXEL.DECODER": "deeplabv3plus",
        "MODEL.PER_PIXEL.IN_FEATURES": ["res2", "res5"],
        "MODEL.PER_PIXEL.DILATIONS": [1, 6, 12, 18],
        "MODEL.ESSNET.FLAG": True,
        "MODEL.ESSNET.DIM": 6,
        "MODEL.ESSNET.NEIGHBOURS": 4,
    },
    "encnet": VIT | {"MODEL.ENCNET.FLAG": True, "MODEL.ENCNET.NUM_CODES": 8},
    "segmenter, essnet": VIT
    | {"MODEL.ESSNET.FLAG": True, "MODEL.ESSNET.DIM": 16, "MODEL.ESSNET.NEIGHBOURS": 5},
}


def write_config(folder: Path) -> Path:
    """Write the config that the options of ``HOSTS`` complete."""
    path = folder / "per_pixel.yaml"
    path.write_text(CONFIG)
    return path


def options(host: str, more: Mapping[str, object] | None = None) -> list[object]:
    """Return the keys and values of a host, and more, in turn."""
    return [item for pair in (HOSTS[host] | (dict(more or {}))).items() for item in pair]
