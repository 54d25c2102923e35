"""TResNet in Detectron2's registry, and its config keys.

Source: Ridnik et al., "TResNet: High Performance GPU-Dedicated Architecture", WACV 2021. The
network is timm's, whose parameters keep their names.
"""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from segcore.config import register_config_keys

from .config import demand

VARIANTS = ("tresnet_m", "tresnet_l", "tresnet_xl", "tresnet_v2_l")
STAGE = "res5"  # the only map, of stride 32


@register_config_keys
def add_tresnet_config(cfg: CfgNode) -> None:
    """Add ``MODEL.TRESNET``; the default is Query2Label's."""
    tresnet = CfgNode()
    tresnet.VARIANT = "tresnet_l"  # timm's names: one of VARIANTS
    cfg.MODEL.TRESNET = tresnet


class TResNetBackbone(Backbone):
    """The last map of a TResNet, (B, C, H / 32, W / 32), by the name "res5"."""

    def __init__(self, network: nn.Module, *, freeze_at: int = 0) -> None:
        """
        Args:
            network: timm's TResNet.
            freeze_at: the first parts, the stem and the layers, whose parameters are not trained.
        """
        super().__init__()
        self.body = network.body
        self._out_features = [STAGE]
        self._out_feature_channels = {STAGE: network.num_features}
        self._out_feature_strides = {STAGE: 32}
        for name in ("conv1", "layer1", "layer2", "layer3", "layer4")[: max(freeze_at, 0)]:
            getattr(self.body, name).requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W), both sides multiples of 32, -> the map."""
        return {STAGE: self.body(images)}


@BACKBONE_REGISTRY.register()
def build_tresnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TResNetBackbone:
    """Build the TResNet of ``MODEL.TRESNET``.

    The first ``MODEL.BACKBONE.FREEZE_AT`` parts (the stem, the first layer, ...) are not trained;
    the running statistics of their batch norm follow the images, as in Query2Label's release.

    Raises:
        UserError: no such network exists.
    """
    import timm  # it imports all of its models, which takes a second

    node = cfg.MODEL.TRESNET
    demand("TRESNET", node, {"VARIANT": (node.VARIANT in VARIANTS, " or ".join(VARIANTS))})
    network = timm.create_model(node.VARIANT, num_classes=0, in_chans=input_shape.channels)
    return TResNetBackbone(network, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


def convert_tresnet(_: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the original release, or of timm, under timm's names.

    The original batch norm scales by the absolute values of its weights.
    """
    from timm.models.tresnet import checkpoint_filter_fn

    return dict(checkpoint_filter_fn(dict(tensors), None))
