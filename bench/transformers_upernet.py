"""Load our UPerNet's weights into the same model of the library `transformers`.

Both compute the same function for Swin and BEiT, so that their times can be compared;
tests/bench/test_pixel_classifiers.py checks it. Nothing is downloaded: a config object defines the
model. Names are those of transformers 5.23, which has neither RankSeg nor Segmenter nor DeepLabv3
with a ResNet.
"""

import re

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from transformers_weights import (
    BACKBONE,
    import_transformers,
    load_weights,
    normalised,
    rename,
    split_joint,
    swin_config,
)

from per_pixel import PerPixelSegmenter
from segcore.errors import UserError

HEAD = r"(decode|auxiliary)_head\."
BEIT = "backbone.beit."
# (ours, theirs), regular expressions of whole names; the first that fits is taken. The backbone's
# of Swin are those of transformers_weights.
NAMES = [
    (HEAD + r"classifier\.linear\.(.*)", r"\1_head.classifier.\2"),
    (r"auxiliary_head\.decoder\.(convs\.\d)\.(.*)", r"auxiliary_head.\1.\2"),
    (r"decode_head\.decoder\.pools\.(\d)\.(.*)", r"decode_head.psp_modules.\1.1.\2"),
    (r"decode_head\.decoder\.bottleneck\.(.*)", r"decode_head.bottleneck.\1"),
    (r"decode_head\.decoder\.lateral\.(.*)", r"decode_head.lateral_convs.\1"),
    (r"decode_head\.decoder\.smooth\.(.*)", r"decode_head.fpn_convs.\1"),
    (r"decode_head\.decoder\.fusion\.(.*)", r"decode_head.fpn_bottleneck.\1"),
]
BEIT_NAMES = [
    (r"backbone\.cls_token", BEIT + "embeddings.cls_token"),
    (r"backbone\.patch_embed\.proj\.(.*)", BEIT + r"embeddings.patch_embeddings.projection.\1"),
    (
        r"backbone\.positions\.(\d+)\.table",
        BEIT + r"layers.\1.relative_position_bias.relative_position_bias_table",
    ),
    (r"backbone\.blocks\.(\d+)\.gamma_(\d)", BEIT + r"layers.\1.lambda_\2"),
    (r"backbone\.blocks\.(\d+)\.norm1\.(.*)", BEIT + r"layers.\1.layernorm_before.\2"),
    (r"backbone\.blocks\.(\d+)\.norm2\.(.*)", BEIT + r"layers.\1.layernorm_after.\2"),
    (r"backbone\.blocks\.(\d+)\.attn\.proj\.(.*)", BEIT + r"layers.\1.attention.o_proj.\2"),
    (r"backbone\.blocks\.(\d+)\.attn\.(._proj\..*)", BEIT + r"layers.\1.attention.\2"),
    (r"backbone\.blocks\.(\d+)\.attn\.(q|v)_bias", BEIT + r"layers.\1.attention.\2_proj.bias"),
    (r"backbone\.blocks\.(\d+)\.mlp\.(.*)", BEIT + r"layers.\1.mlp.\2"),
    (r"backbone\.pyramid\.up4\.0\.(.*)", r"backbone.fpn.fpn1.conv_transpose1.\1"),
    (r"backbone\.pyramid\.up4\.1\.(.*)", r"backbone.fpn.fpn1.normalization.\1"),
    (r"backbone\.pyramid\.up4\.3\.(.*)", r"backbone.fpn.fpn1.conv_transpose2.\1"),
    (r"backbone\.pyramid\.up2\.0\.(.*)", r"backbone.fpn.fpn2.\1"),
]
# Only transformers has these: unused norms behind the backbones, and batch counters.
EXTRA = r".*\.num_batches_tracked|backbone\.(swin|beit)\.layernorm\..*"


def has_equal(cfg: CfgNode) -> bool:
    """Return whether transformers has the same network."""
    known = cfg.MODEL.BACKBONE.NAME in ("D2SwinTransformer", "build_beit_backbone")
    node = cfg.MODEL.PER_PIXEL
    variants = (cfg.MODEL.RANKSEG, cfg.MODEL.ENCNET, cfg.MODEL.ESSNET)
    plain = not any(variant.FLAG for variant in variants)
    auxiliary = node.AUXILIARY.WEIGHT > 0 and node.AUXILIARY.IN_FEATURE == "res4"
    return known and plain and auxiliary and node.DECODER == "upernet" and not node.ALIGN_CORNERS


def to_transformers(model: PerPixelSegmenter, cfg: CfgNode) -> nn.Module:
    """Return an ``UperNetForSemanticSegmentation`` with our weights, in evaluation mode.

    Args:
        model: UPerNet on Swin or BEiT, with an auxiliary head and without RankSeg.
        cfg: the config that it was built from.
    Raises:
        UserError: transformers is missing, or has no such model.
    """
    if not has_equal(cfg):
        raise UserError("transformers has UPerNet alone, on Swin or BEiT and without RankSeg")
    theirs = import_transformers("UperNetForSemanticSegmentation")(_config(cfg))
    names = NAMES if "Swin" in cfg.MODEL.BACKBONE.NAME else [*NAMES, *BEIT_NAMES]
    weights = {}
    for name, value in model.state_dict().items():
        parts = split_joint(name, value)
        weights |= {_rename(part, names): tensor for part, tensor in parts.items()}
    load_weights(theirs, weights, EXTRA, "bench/transformers_upernet.py")
    return theirs.to(model.device).eval()


def _config(cfg: CfgNode) -> object:
    from transformers import UperNetConfig

    node, is_swin = cfg.MODEL.PER_PIXEL, "Swin" in cfg.MODEL.BACKBONE.NAME
    return UperNetConfig(
        backbone_config=swin_config(cfg) if is_swin else _beit_config(cfg),
        hidden_size=node.CHANNELS,
        pool_scales=node.POOL_SCALES,
        auxiliary_loss_weight=node.AUXILIARY.WEIGHT,
        auxiliary_channels=node.AUXILIARY.CHANNELS,
        loss_ignore_index=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        num_labels=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
    )


def _beit_config(cfg: CfgNode) -> object:
    from transformers import BeitConfig

    beit = cfg.MODEL.BEIT
    return BeitConfig(
        hidden_size=beit.EMBED_DIM,
        num_hidden_layers=beit.DEPTH,
        num_attention_heads=beit.NUM_HEADS,
        intermediate_size=int(beit.EMBED_DIM * beit.MLP_RATIO),
        layer_norm_eps=1e-6,
        image_size=beit.IMAGE_SIZE,
        patch_size=beit.PATCH_SIZE,
        use_relative_position_bias=True,
        layer_scale_init_value=beit.LAYER_SCALE,
        drop_path_rate=beit.DROP_PATH_RATE,
        out_indices=[block + 1 for block in beit.OUT_BLOCKS],
        add_fpn=True,
    )


def _rename(name: str, names: list[tuple[str, str]]) -> str:
    for pattern, template in names:
        if match := re.fullmatch(pattern, name):
            theirs = match.expand(template)
            return theirs.replace(".norm.", ".batch_norm.") if "_head." in theirs else theirs
    return rename(name).replace(BACKBONE, "backbone.")


class TransformersUperNet(nn.Module):
    """The model of transformers with our interface, for images and predictions of one size."""

    def __init__(self, model: PerPixelSegmenter, cfg: CfgNode) -> None:
        super().__init__()
        self.theirs = to_transformers(model, cfg)
        self.ours = [model]  # not a part of this module

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[Tensor]:
        """Return the loss; in evaluation mode the label map of each image."""
        images = normalised(self.ours[0], [item["image"] for item in batched_inputs])
        if self.training:
            labels = torch.stack([item["sem_seg"] for item in batched_inputs])
            return {"loss": self.theirs(images, labels=labels).loss}
        with torch.no_grad():
            return list(self.theirs(images).logits.argmax(dim=1))
