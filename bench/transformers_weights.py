"""Load our Mask2Former's weights into the same model of the library `transformers`.

Both compute the same function, so that their times can be compared; tests/bench/test_mask2former.py
checks it. Nothing is downloaded: a config object defines the model. Names are those of transformers
5.23, which has no RankSeg and no cosine class logits.
"""

import importlib
import os
import re

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from mask2former_rankseg import MaskFormer
from segcore.errors import UserError

STAGES = ["stage1", "stage2", "stage3", "stage4"]
RESNET_DEPTHS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}

LEVEL, DECODER = "model.pixel_level_module.", "model.transformer_module."
BACKBONE, PIXEL = LEVEL + "encoder.", LEVEL + "decoder."
# (ours, theirs), regular expressions of whole names; the first that fits is taken.
NAMES = [
    # Swin
    (
        r"backbone\.patch_embed\.proj(.*)",
        BACKBONE + r"swin.embeddings.patch_embeddings.projection\1",
    ),
    (r"backbone\.patch_embed\.norm(.*)", BACKBONE + r"swin.embeddings.norm\1"),
    (r"backbone\.(layers\.\d+\.downsample.*)", BACKBONE + r"swin.encoder.\1"),
    (r"backbone\.(.*)\.norm1(.*)", BACKBONE + r"swin.encoder.\1.layernorm_before\2"),
    (r"backbone\.(.*)\.norm2(.*)", BACKBONE + r"swin.encoder.\1.layernorm_after\2"),
    (r"backbone\.(.*)\.attn\.proj(.*)", BACKBONE + r"swin.encoder.\1.attention.o_proj\2"),
    (
        r"backbone\.(.*)\.attn\.(relative_position_bias_table)",
        BACKBONE + r"swin.encoder.\1.attention.relative_position_bias.\2",
    ),
    (r"backbone\.(.*)\.attn\.(._proj.*)", BACKBONE + r"swin.encoder.\1.attention.\2"),
    (r"backbone\.(layers\..*\.mlp.*)", BACKBONE + r"swin.encoder.\1"),
    # ResNet
    (r"backbone\.stem\.conv1\.norm(.*)", BACKBONE + r"embedder.embedder.normalization\1"),
    (r"backbone\.stem\.conv1(.*)", BACKBONE + r"embedder.embedder.convolution\1"),
    # Pixel decoder
    (r"sem_seg_head\.pixel_decoder\.input_proj(.*)", PIXEL + r"input_projections\1"),
    (
        r"sem_seg_head\.pixel_decoder\.(layers\.\d+)\.attention(.*)",
        PIXEL + r"encoder.\1.self_attn\2",
    ),
    (
        r"sem_seg_head\.pixel_decoder\.(layers\.\d+)\.norm1(.*)",
        PIXEL + r"encoder.\1.self_attn_layer_norm\2",
    ),
    (
        r"sem_seg_head\.pixel_decoder\.(layers\.\d+)\.norm2(.*)",
        PIXEL + r"encoder.\1.final_layer_norm\2",
    ),
    (r"sem_seg_head\.pixel_decoder\.(layers\.\d+)\.linear(.*)", PIXEL + r"encoder.\1.fc\2"),
    (r"sem_seg_head\.pixel_decoder\.lateral(.*)", PIXEL + r"adapter_1\1"),
    (r"sem_seg_head\.pixel_decoder\.smooth(.*)", PIXEL + r"layer_1\1"),
    (r"sem_seg_head\.pixel_decoder\.mask_features(.*)", PIXEL + r"mask_projection\1"),
    (r"sem_seg_head\.pixel_decoder\.level_embed", PIXEL + "level_embed"),
    # Decoder
    (r"sem_seg_head\.predictor\.query_feat(.*)", DECODER + r"queries_features\1"),
    (r"sem_seg_head\.predictor\.query_embed(.*)", DECODER + r"queries_embedder\1"),
    (r"sem_seg_head\.predictor\.level_embed(.*)", DECODER + r"level_embed\1"),
    (
        r"sem_seg_head\.predictor\.(layers\.\d+)\.cross_attention\.in_proj\.(.*)",
        DECODER + r"decoder.\1.cross_attn.in_proj_\2",
    ),
    (
        r"sem_seg_head\.predictor\.(layers\.\d+)\.(self|cross)_attention(.*)",
        DECODER + r"decoder.\1.\2_attn\3",
    ),
    (
        r"sem_seg_head\.predictor\.(layers\.\d+)\.(self|cross)_norm(.*)",
        DECODER + r"decoder.\1.\2_attn_layer_norm\3",
    ),
    (
        r"sem_seg_head\.predictor\.(layers\.\d+)\.norm(.*)",
        DECODER + r"decoder.\1.final_layer_norm\2",
    ),
    (r"sem_seg_head\.predictor\.(layers\.\d+)\.linear(.*)", DECODER + r"decoder.\1.fc\2"),
    (r"sem_seg_head\.predictor\.norm(.*)", DECODER + r"decoder.layernorm\1"),
    (r"sem_seg_head\.predictor\.classifier(.*)", r"class_predictor\1"),
]

# Only transformers has these: an unused norm, batch counters, and a weight from the config.
EXTRA = r"criterion\.empty_weight|.*\.num_batches_tracked|.*encoder\.swin\.layernorm\..*"


def to_transformers(model: MaskFormer, cfg: CfgNode) -> nn.Module:
    """Return a ``Mask2FormerForUniversalSegmentation`` with our weights, in evaluation mode.

    Args:
        model: without RankSeg and without cosine class logits.
        cfg: the config that it was built from.
    Raises:
        UserError: transformers is missing, or has no such model.
    """
    if model.ranking is not None or cfg.MODEL.SEM_SEG_HEAD.USE_LAYERNORM:
        raise UserError("transformers has no RankSeg and no cosine class logits: set both off")
    theirs = import_transformers("Mask2FormerForUniversalSegmentation")(_config(cfg))
    weights = {}
    for name, value in model.state_dict().items():
        weights |= {rename(part): tensor for part, tensor in split_joint(name, value).items()}
    load_weights(theirs, weights, EXTRA, "bench/transformers_weights.py")
    return theirs.to(model.device).eval()


def import_transformers(name: str) -> type[nn.Module]:
    """Return a class of transformers, which then downloads nothing.

    Raises:
        UserError: transformers is missing, or has no such class.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # before it is imported
    try:
        return getattr(importlib.import_module("transformers"), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"transformers is needed (pip install .[bench]): {error}") from error


def load_weights(theirs: nn.Module, weights: dict[str, Tensor], extra: str, file: str) -> None:
    """Load weights into a model of transformers, in place.

    Args:
        extra: regular expression of the entries that only transformers has.
        file: with the table of names, for the error message.
    Raises:
        UserError: names differ.
    """
    lacking, unexpected = theirs.load_state_dict(weights, strict=False)
    wrong = [name for name in lacking if not re.fullmatch(extra, name)] + unexpected
    if wrong:
        raise UserError(
            f"transformers has other names of weights ({wrong[0]}): install version 5.23, or fix "
            f"NAMES in {file}"
        )


def _config(cfg: CfgNode) -> object:
    from transformers import Mask2FormerConfig

    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    return Mask2FormerConfig(
        backbone_config=_backbone_config(cfg),
        feature_size=head.CONVS_DIM,
        mask_feature_size=head.MASK_DIM,
        hidden_dim=node.HIDDEN_DIM,
        encoder_layers=head.TRANSFORMER_ENC_LAYERS,
        decoder_layers=node.DEC_LAYERS,
        num_attention_heads=node.NHEADS,
        dim_feedforward=node.DIM_FEEDFORWARD,
        dropout=node.DROPOUT,
        num_queries=node.NUM_OBJECT_QUERIES,
        num_labels=head.NUM_CLASSES,
        no_object_weight=node.NO_OBJECT_WEIGHT,
        class_weight=node.CLASS_WEIGHT,
        mask_weight=node.MASK_WEIGHT,
        dice_weight=node.DICE_WEIGHT,
        train_num_points=node.TRAIN_NUM_POINTS,
        oversample_ratio=node.OVERSAMPLE_RATIO,
        importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
    )


def _backbone_config(cfg: CfgNode) -> object:
    from transformers import ResNetConfig

    if "Swin" in cfg.MODEL.BACKBONE.NAME:
        return swin_config(cfg)
    resnet = cfg.MODEL.RESNETS
    return ResNetConfig(
        embedding_size=resnet.STEM_OUT_CHANNELS,
        hidden_sizes=[resnet.RES2_OUT_CHANNELS << stage for stage in range(4)],
        depths=RESNET_DEPTHS[resnet.DEPTH],
        out_features=STAGES,
    )


def swin_config(cfg: CfgNode) -> object:
    """Return the ``SwinConfig`` of ``MODEL.SWIN``, with maps of all stages."""
    from transformers import SwinConfig

    swin = cfg.MODEL.SWIN
    return SwinConfig(
        embed_dim=swin.EMBED_DIM,
        depths=swin.DEPTHS,
        num_heads=swin.NUM_HEADS,
        window_size=swin.WINDOW_SIZE,
        drop_path_rate=swin.DROP_PATH_RATE,
        out_features=STAGES,
    )


def split_joint(name: str, value: Tensor) -> dict[str, Tensor]:
    """Split the joint query, key and value weights, which transformers stores separately."""
    for joint in (".attn.qkv.", ".self_attention.in_proj."):
        if joint in name:
            module = joint.split(".")[1]
            parts = zip("qkv", value.chunk(3), strict=True)
            return {name.replace(joint, f".{module}.{part}_proj."): v for part, v in parts}
    return {name: value}


def rename(name: str) -> str:
    """Return the name of a parameter of our Mask2Former in transformers."""
    if match := re.fullmatch(r"backbone\.norm(\d)(.*)", name):
        return f"{BACKBONE}hidden_states_norms.stage{int(match[1]) + 1}{match[2]}"
    if match := re.fullmatch(r"backbone\.res(\d)\.(\d+)\.(conv(\d)|shortcut)(\.norm)?(.*)", name):
        stage, block, part, number, norm, rest = match.groups()
        part = f"layer.{int(number) - 1}" if number else part
        kind = "normalization" if norm else "convolution"
        return f"{BACKBONE}encoder.stages.{int(stage) - 2}.layers.{block}.{part}.{kind}{rest}"
    if match := re.fullmatch(r"sem_seg_head\.predictor\.mask_embed\.(\d)(.*)", name):
        number = int(match[1]) // 2  # without the activations between
        return f"{DECODER}decoder.mask_predictor.mask_embedder.{number}.0{match[2]}"
    for pattern, template in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(template)
    return name


def normalised(model: nn.Module, images: list[Tensor]) -> Tensor:
    """Return normalised images of one size, the input of both models: (B, 3, H, W)."""
    return torch.stack([(image - model.pixel_mean) / model.pixel_std for image in images])


class TransformersMaskFormer(nn.Module):
    """The model of transformers with our interface, for images and predictions of one size.

    The post-processing of transformers resizes masks to 384 x 384 first.
    """

    def __init__(self, model: MaskFormer, cfg: CfgNode) -> None:
        super().__init__()
        self.theirs = to_transformers(model, cfg)
        from transformers import Mask2FormerImageProcessor

        self.ours = [model]  # not a part of this module
        self.processor = Mask2FormerImageProcessor()
        inner = self.theirs.model
        self.backbone = inner.pixel_level_module.encoder
        self.pixel_decoder = inner.pixel_level_module.decoder
        self.decoder = inner.transformer_module

    def train(self, mode: bool = True) -> "TransformersMaskFormer":
        """Set the training mode; batch norms stay frozen, as in our model."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        return self

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list:
        """Return the loss; in evaluation mode the label map or segments of each image."""
        images = normalised(self.ours[0], [item["image"] for item in batched_inputs])
        if self.training:
            objects = [item["instances"] for item in batched_inputs]
            masks = [instances.gt_masks.float() for instances in objects]
            labels = [instances.gt_classes for instances in objects]
            return {"loss": self.theirs(images, mask_labels=masks, class_labels=labels).loss}
        with torch.no_grad():
            return self._prediction(self.theirs(images), images.shape[-2:])

    def _prediction(self, outputs: object, size: tuple[int, int]) -> list:
        model = self.ours[0]
        sizes = [tuple(size)] * len(outputs.masks_queries_logits)
        if not model.tasks.panoptic:
            return self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return self.processor.post_process_panoptic_segmentation(
            outputs,
            threshold=model.tasks.score_threshold,
            overlap_mask_area_threshold=model.tasks.overlap_threshold,
            label_ids_to_fuse=set(range(model.num_classes)) - set(model.classes.things),
            target_sizes=sizes,
        )
