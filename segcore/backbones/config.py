"""Backbones in Detectron2's registry, and their config keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from segcore.config import register_config_keys
from segcore.errors import UserError

from .mobilenet import MAPS, MobileNetV2
from .swin import SwinTransformer


@register_config_keys
def add_swin_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SWIN`` with the published names; the defaults are Swin-T's."""
    swin = CfgNode()
    swin.EMBED_DIM = 96  # channels of the first stage; each stage doubles them
    swin.DEPTHS = [2, 2, 6, 2]  # blocks of each stage
    swin.NUM_HEADS = [3, 6, 12, 24]  # attention heads of each stage
    swin.WINDOW_SIZE = 7  # side of a window, in patches
    swin.PATCH_SIZE = 4  # side of a patch, in pixels
    swin.MLP_RATIO = 4.0  # hidden channels of an MLP, relative
    swin.QKV_BIAS = True  # query, key and value have biases
    swin.QK_SCALE = None  # scale of the products of query and key; None: 1 / sqrt(channels)
    swin.DROP_RATE = 0.0  # dropout of patches and MLPs
    swin.ATTN_DROP_RATE = 0.0  # dropout of attention weights
    swin.DROP_PATH_RATE = 0.3  # stochastic depth of the last block; it rises linearly to there
    swin.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # feature maps that the model gets
    swin.USE_CHECKPOINT = False  # recompute blocks in the backward pass, to save memory
    # Set by released files: the size of the pre-training images, which nothing depends on, and
    # two variations that no released model has.
    swin.PRETRAIN_IMG_SIZE = 224
    swin.APE = False
    swin.PATCH_NORM = True
    # Of D2SeMaskSwinTransformer. SEM_WINDOW_SIZE, NUM_SEM_BLOCKS (1 alone is built): published.
    # SEM_LAST_STAGE: where its last stage attends: "windows", "map", the whole one, or "published",
    # as the released code, which takes the map for 150 classes and windows for all other numbers.
    swin.SEM_WINDOW_SIZE = 7
    swin.NUM_SEM_BLOCKS = 1
    swin.SEM_LAST_STAGE = "published"
    cfg.MODEL.SWIN = swin


class NamedStages(Backbone):
    """The interface of a Detectron2 backbone, of a :class:`SwinTransformer`."""

    def set_features(self, swin: CfgNode) -> None:
        """Set names, channels and strides of the maps as ``MODEL.SWIN`` says."""
        self._stage_names = _stage_names(swin)
        self._out_features = list(swin.OUT_FEATURES)
        self._out_feature_channels = dict(zip(self._stage_names, self.widths, strict=True))
        self._out_feature_strides = dict(zip(self._stage_names, self.strides, strict=True))

    def named(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the maps of ``MODEL.SWIN.OUT_FEATURES`` by name, given those of ``out_stages``."""
        names = [self._stage_names[stage] for stage in self.out_stages]
        by_name = dict(zip(names, maps, strict=True))
        return {name: by_name[name] for name in self._out_features}

    @property
    def size_divisibility(self) -> int:
        return self.strides[-1]


def swin_arguments(swin: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
    """Return the arguments of :class:`SwinTransformer` that ``MODEL.SWIN`` describes.

    Raises:
        UserError: no such transformer exists.
    """
    _check(swin)
    stages = enumerate(_stage_names(swin))
    return {
        "width": swin.EMBED_DIM,
        "depths": swin.DEPTHS,
        "num_heads": swin.NUM_HEADS,
        "window": swin.WINDOW_SIZE,
        "patch_size": swin.PATCH_SIZE,
        "in_channels": input_shape.channels,
        "mlp_ratio": swin.MLP_RATIO,
        "qkv_bias": swin.QKV_BIAS,
        "qk_scale": swin.QK_SCALE,
        "dropout": swin.DROP_RATE,
        "attention_dropout": swin.ATTN_DROP_RATE,
        "drop_path": swin.DROP_PATH_RATE,
        "checkpointing": swin.USE_CHECKPOINT,
        "out_stages": [stage for stage, name in stages if name in swin.OUT_FEATURES],
    }


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(SwinTransformer, NamedStages):
    """Swin as a Detectron2 backbone: feature maps "res2", "res3", ... by name."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__(**swin_arguments(cfg.MODEL.SWIN, input_shape))
        self.set_features(cfg.MODEL.SWIN)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the maps of ``MODEL.SWIN.OUT_FEATURES``, (B, C, H / s, W / s)."""
        return self.named(super().forward(images))


@register_config_keys
def add_mobilenet_config(cfg: CfgNode) -> None:
    """Add ``MODEL.MOBILENET``: MobileNetV2; the defaults are ESSNet's."""
    mobilenet = CfgNode()
    mobilenet.OUTPUT_STRIDE = 16  # 8, 16 or 32: later strides become dilations
    mobilenet.NORM = "BN"  # Detectron2's names; "": folded into convolutions with biases
    mobilenet.NORM_MOMENTUM = 0.01  # of the running statistics
    mobilenet.PADDING = "block"  # "block": as ESSNet's release; "depthwise": as the paper
    mobilenet.OUT_FEATURES = ["res2", "res5"]
    cfg.MODEL.MOBILENET = mobilenet


class D2MobileNetV2(MobileNetV2, Backbone):
    """MobileNetV2 as a Detectron2 backbone: feature maps "res2", "res3", ... by name."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        mobilenet = cfg.MODEL.MOBILENET

        def norm(channels: int) -> nn.Module:
            layer = get_norm(mobilenet.NORM, channels)
            if hasattr(layer, "momentum"):
                layer.momentum = mobilenet.NORM_MOMENTUM
            return layer

        super().__init__(
            mobilenet.OUTPUT_STRIDE,
            norm=norm if mobilenet.NORM else None,
            padding=mobilenet.PADDING,
            in_channels=input_shape.channels,
        )
        self._out_features = list(mobilenet.OUT_FEATURES)
        self._out_feature_channels = self.channels
        self._out_feature_strides = self.strides

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the maps of ``MODEL.MOBILENET.OUT_FEATURES``."""
        maps = super().forward(images)
        return {name: maps[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_mobilenet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> D2MobileNetV2:
    """Build MobileNetV2.

    Raises:
        UserError: a key of ``MODEL.MOBILENET`` has a value that it cannot have.
    """
    mobilenet = cfg.MODEL.MOBILENET
    names = [*MAPS.values()]
    rules = {
        "OUTPUT_STRIDE": (mobilenet.OUTPUT_STRIDE in (8, 16, 32), "8, 16 or 32"),
        "PADDING": (mobilenet.PADDING in ("block", "depthwise"), '"block" or "depthwise"'),
        "OUT_FEATURES": (set(mobilenet.OUT_FEATURES) <= {*names}, f"among {', '.join(names)}"),
    }
    demand("MOBILENET", mobilenet, rules)
    return D2MobileNetV2(cfg, input_shape)


def _stage_names(swin: CfgNode) -> list[str]:
    return [f"res{stage + 2}" for stage in range(len(swin.DEPTHS))]


def _check(swin: CfgNode) -> None:
    """Raise UserError unless the backbone can be built."""
    names, stages = _stage_names(swin), len(swin.DEPTHS)
    widths = [swin.EMBED_DIM << stage for stage in range(stages)]
    fits = len(swin.NUM_HEADS) == stages and all(
        heads > 0 and width % heads == 0
        for width, heads in zip(widths, swin.NUM_HEADS, strict=True)
    )
    rules = {
        "APE": (not swin.APE, "False: absolute positions are not built"),
        "PATCH_NORM": (swin.PATCH_NORM, "True: patches without a norm are not built"),
        "NUM_HEADS": (fits, f"divisors of the widths of the stages, {widths}"),
        "OUT_FEATURES": (set(swin.OUT_FEATURES) <= set(names), f"among {', '.join(names)}"),
        "WINDOW_SIZE": (swin.WINDOW_SIZE > 1, "2 or more"),
    }
    demand("SWIN", swin, rules)


def demand(section: str, values: CfgNode, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Raise UserError unless each key of a section of ``MODEL`` keeps its rule: (kept, demand)."""
    for key, (kept, demand) in rules.items():
        if not kept:
            raise UserError(f"MODEL.{section}.{key} is {values[key]!r}; it has to be {demand}.")
