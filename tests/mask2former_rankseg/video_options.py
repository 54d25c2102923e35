"""Config options that turn an image model into a video model."""

VIDEO = {
    "MODEL.META_ARCHITECTURE": "VideoMaskFormer",
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "VideoMultiScaleMaskedTransformerDecoder",
    "MODEL.MASK_FORMER.TEST.INSTANCE_ON": True,
}
CLIPS = {"MODEL.MASK_FORMER.TEST.CLIP_FRAMES": 4, "MODEL.MASK_FORMER.TEST.CLIP_OVERLAP": 2}
