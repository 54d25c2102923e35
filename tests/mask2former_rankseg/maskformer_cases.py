"""Cases and very small models of MaskFormer for the tests."""

import torch
from torch import Tensor

FAMILY = "mask2former_rankseg"
SEMANTIC = f"{FAMILY}/ade20k-150/maskformer_R50_bs16_160k.yaml"
PANOPTIC = f"{FAMILY}/ade20k-150-panoptic/maskformer_panoptic_R50_bs16_720k.yaml"

# Configs whose names and shapes are compared, by the reference's file of keys.
KEYS = {
    "ade20k_sem_r50": "ade20k-150/maskformer_R50_bs16_160k.yaml",
    "ade20k_sem_swin_tiny": "ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml",
    "ade20k_sem_swin_base": (
        "ade20k-150/swin/maskformer_swin_base_IN21k_384_bs16_160k_res640.yaml"
    ),
    "ade20k_sem_swin_large": (
        "ade20k-150/swin/maskformer_swin_large_IN21k_384_bs16_160k_res640.yaml"
    ),
    "ade20k_pan_r50": "ade20k-150-panoptic/maskformer_panoptic_R50_bs16_720k.yaml",
}

# A model of a few thousand weights, with all parts of the large ones.
TINY = {
    "MODEL.BACKBONE.NAME": "D2SwinTransformer",
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 1, 2, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 2, 4, 8],
    "MODEL.SWIN.WINDOW_SIZE": 4,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 12,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 24,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 9,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 3,
    "MODEL.RANKSEG.HIDDEN_DIM": 64,
}
ENCODED = {
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "transformer_encoder",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
}
RANKED = {"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 5}


def rectangles(objects: list, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the classes (N,) and masks (N, height, width) of [class, top, left, bottom, right]."""
    masks = torch.zeros(len(objects), height, width, dtype=torch.bool)
    for mask, (_, top, left, bottom, right) in zip(masks, objects, strict=True):
        mask[top:bottom, left:right] = True
    return torch.tensor([each[0] for each in objects], dtype=torch.int64), masks
