"""The decoders under their published names, built from a config through Detectron2's registries."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from segcore.errors import UserError

from .masked_decoder import Decoded, MaskedDecoder
from .pixel_decoder import PixelDecoder

# Entries are called with cfg and return a module from (levels, mask_features, every_layer) to
# Decoded. A decoder of clips also takes the number of frames: its maps are those of all frames.
TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_DECODER")

ENCODER_FEEDFORWARD = 1024  # of the pixel decoder; published code has no key for it


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(PixelDecoder):
    """The pixel decoder over named feature maps of the backbone."""

    @configurable
    def __init__(self, *, fine: str, levels: list[str], **arguments: Any) -> None:
        """
        Args:
            fine, levels: names of the feature maps, ``levels`` coarsest first.
            **arguments: of :class:`PixelDecoder`.
        """
        super().__init__(**arguments)
        self.fine, self.levels = fine, levels

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        head = cfg.MODEL.SEM_SEG_HEAD
        levels = sorted(
            head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            key=lambda name: -input_shape[name].stride,
        )
        fine = [name for name in input_shape if name not in levels]
        if len(fine) != 1:
            raise UserError(
                "MODEL.SEM_SEG_HEAD.IN_FEATURES has to name one map more than "
                f"DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES, not {len(fine)} more."
            )
        return {
            "fine": fine[0],
            "levels": levels,
            "fine_channels": input_shape[fine[0]].channels,
            "level_channels": [input_shape[name].channels for name in levels],
            "width": head.CONVS_DIM,
            "mask_width": head.MASK_DIM,
            "num_layers": head.TRANSFORMER_ENC_LAYERS,
            "num_heads": head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS,
            "num_points": head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS,
            "feedforward": ENCODER_FEEDFORWARD,
            "dropout": cfg.MODEL.MASK_FORMER.DROPOUT,
        }

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`PixelDecoder.forward`."""
        return super().forward(features[self.fine], [features[name] for name in self.levels])


@TRANSFORMER_DECODER_REGISTRY.register()
class MultiScaleMaskedTransformerDecoder(MaskedDecoder):
    """The masked-attention decoder."""

    @configurable
    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            **arguments: of :class:`MaskedDecoder`.
        """
        super().__init__(**arguments)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        return {
            "num_classes": head.NUM_CLASSES,
            "width": node.HIDDEN_DIM,
            "mask_width": head.MASK_DIM,
            "num_queries": node.NUM_OBJECT_QUERIES,
            "num_layers": node.DEC_LAYERS - 1,  # published code counts the query features
            "num_heads": node.NHEADS,
            "feedforward": node.DIM_FEEDFORWARD,
            "num_levels": len(head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES),
            "cosine_classes": head.USE_LAYERNORM,
        }


@TRANSFORMER_DECODER_REGISTRY.register()
class VideoMultiScaleMaskedTransformerDecoder(MultiScaleMaskedTransformerDecoder):
    """The masked-attention decoder of clips: all frames of a clip share the queries."""

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, every_layer: bool, num_frames: int
    ) -> Decoded:
        """See :meth:`MaskedDecoder.forward`.

        Args:
            levels: feature maps (B T, D, h_i, w_i), for each clip its frames.
            mask_features: (B T, mask_width, h, w).
            every_layer: predict after every layer, not after the last one alone.
            num_frames: T.
        """
        levels = [as_clips(level, num_frames) for level in levels]
        return super().forward(levels, as_clips(mask_features, num_frames), every_layer)


def as_clips(maps: Tensor, num_frames: int) -> Tensor:
    """Reshape maps of frames (B T, D, h, w) to maps of clips (B, D, T, h, w)."""
    return maps.unflatten(0, (-1, num_frames)).transpose(1, 2)


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(nn.Module):
    """A pixel decoder, followed by a transformer decoder."""

    @configurable
    def __init__(self, *, pixel_decoder: nn.Module, predictor: nn.Module) -> None:
        """
        Args:
            pixel_decoder: feature maps by name -> mask features, and feature maps of the levels.
            predictor: these -> :class:`Decoded`.
        """
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, nn.Module]:
        """Translate a config into the arguments of the constructor."""
        _check(cfg, input_shape)
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        decoder = SEM_SEG_HEADS_REGISTRY.get(head.PIXEL_DECODER_NAME)
        predictor = TRANSFORMER_DECODER_REGISTRY.get(node.TRANSFORMER_DECODER_NAME)
        used = {name: input_shape[name] for name in head.IN_FEATURES}
        return {"pixel_decoder": decoder(cfg, used), "predictor": predictor(cfg)}

    def forward(
        self, features: dict[str, Tensor], every_layer: bool, num_frames: int | None = None
    ) -> Decoded:
        """Return the predictions of every decoder layer, or of the last one alone.

        Args:
            features: feature maps of the backbone by name.
            every_layer: predict after every layer, not after the last one alone.
            num_frames: T, where the feature maps are those of the frames of clips.
        """
        mask_features, levels = self.pixel_decoder(features)
        clip = () if num_frames is None else (num_frames,)
        return self.predictor(levels, mask_features, every_layer, *clip)


def _check(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
    """Refuse settings that the layers would not notice or would refuse less clearly."""
    head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    levels, width = head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES, node.HIDDEN_DIM
    rules = {
        "SEM_SEG_HEAD.IN_FEATURES": (
            set(head.IN_FEATURES) <= set(input_shape),
            f"among the maps of the backbone, {', '.join(input_shape)}",
        ),
        "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": (
            levels and set(levels) < set(head.IN_FEATURES),
            f"among IN_FEATURES, {head.IN_FEATURES}, and fewer",
        ),
        "SEM_SEG_HEAD.PIXEL_DECODER_NAME": (
            head.PIXEL_DECODER_NAME in SEM_SEG_HEADS_REGISTRY,
            "a registered pixel decoder, such as MSDeformAttnPixelDecoder",
        ),
        "SEM_SEG_HEAD.NORM": (head.NORM == "GN", "GN"),
        "SEM_SEG_HEAD.CONVS_DIM": (
            width % 32 == 0 and width == head.CONVS_DIM,
            f"a multiple of 32, and MASK_FORMER.HIDDEN_DIM, {width}",
        ),
        "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": (
            width % max(head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS, 1) == 0,
            f"a divisor of MASK_FORMER.HIDDEN_DIM, {width}",
        ),
        "MASK_FORMER.NHEADS": (
            width % max(node.NHEADS, 1) == 0,
            f"a divisor of HIDDEN_DIM, {width}",
        ),
        "MASK_FORMER.DEC_LAYERS": (node.DEC_LAYERS > 1, "2 or more"),
        "MASK_FORMER.TRANSFORMER_DECODER_NAME": (
            node.TRANSFORMER_DECODER_NAME in TRANSFORMER_DECODER_REGISTRY,
            "a registered decoder, such as MultiScaleMaskedTransformerDecoder",
        ),
        "MASK_FORMER.TRANSFORMER_IN_FEATURE": (
            node.TRANSFORMER_IN_FEATURE == "multi_scale_pixel_decoder",
            "multi_scale_pixel_decoder",
        ),
        "MASK_FORMER.PRE_NORM": (not node.PRE_NORM, "False"),
        "MASK_FORMER.ENFORCE_INPUT_PROJ": (not node.ENFORCE_INPUT_PROJ, "False"),
    }
    for key, (kept, demand) in rules.items():
        if not kept:
            section, name = key.split(".")
            raise UserError(f"MODEL.{key} is {cfg.MODEL[section][name]!r}; it has to be {demand}.")
