"""The decoders under their published names, built from a config through Detectron2's registries."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from segcore.errors import UserError

from .config import ENCODED_TOP, decoder_names, is_mask2former
from .head_checks import check_head
from .masked_decoder import MaskedDecoder
from .pixel_decoder import PixelDecoder
from .pyramid_decoder import MapEncoder, PyramidDecoder
from .queries import Decoded
from .standard_decoder import StandardDecoder

# Entries are called with cfg, those for MaskFormer also with the channels of the map that queries
# attend to. They return a module from (levels, mask_features, every_layer) to Decoded. A decoder of
# clips also takes the number of frames: its maps are those of all frames.
TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_DECODER")


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
            "feedforward": head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD,
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
class BasePixelDecoder(PyramidDecoder):
    """The pixel decoder of MaskFormer over named feature maps of the backbone."""

    @configurable
    def __init__(self, *, maps: list[str], attended: str | None, **arguments: Any) -> None:
        """
        Args:
            maps: names of the feature maps of the pyramid, finest first.
            attended: name of the one that the queries attend to; None: to the top of the pyramid.
            **arguments: of :class:`PyramidDecoder`.
        """
        super().__init__(**arguments)
        self.maps, self.attended = maps, attended

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        head, attended = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        maps = sorted(input_shape, key=lambda name: input_shape[name].stride)
        return {
            "maps": maps,
            "attended": None if attended == ENCODED_TOP else attended,
            "channels": [input_shape[name].channels for name in maps],
            "width": head.CONVS_DIM,
            "mask_width": head.MASK_DIM,
        }

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the mask features, and the feature map that the queries attend to, in a list."""
        mask_features, top = super().forward([features[name] for name in self.maps])
        return mask_features, [top if self.attended is None else features[self.attended]]


@SEM_SEG_HEADS_REGISTRY.register()
class TransformerEncoderPixelDecoder(BasePixelDecoder):
    """The same on top of a transformer encoder."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        arguments = super().from_config(cfg, input_shape)
        node = cfg.MODEL.MASK_FORMER
        encoder = MapEncoder(
            arguments["channels"][-1],
            arguments["width"],
            num_layers=cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS,
            num_heads=node.NHEADS,
            feedforward=node.DIM_FEEDFORWARD,
            dropout=node.DROPOUT,
        )
        return arguments | {"encoder": encoder}


@TRANSFORMER_DECODER_REGISTRY.register()
class StandardTransformerDecoder(StandardDecoder):
    """The decoder of MaskFormer."""

    @configurable
    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            **arguments: of :class:`StandardDecoder`.
        """
        super().__init__(**arguments)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        """Translate a config into the arguments of the constructor."""
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        return {
            "in_channels": in_channels,
            "num_classes": head.NUM_CLASSES,
            "width": node.HIDDEN_DIM,
            "mask_width": head.MASK_DIM,
            "num_queries": node.NUM_OBJECT_QUERIES,
            "num_layers": node.DEC_LAYERS,
            "num_heads": node.NHEADS,
            "feedforward": node.DIM_FEEDFORWARD,
            "dropout": node.DROPOUT,
            "project": node.ENFORCE_INPUT_PROJ,
            "cosine_classes": head.USE_LAYERNORM,
        }


def attended_channels(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> int:
    """Return the channels of the map that the queries of MaskFormer attend to."""
    name = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
    return cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM if name == ENCODED_TOP else input_shape[name].channels


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
        check_head(cfg, input_shape, TRANSFORMER_DECODER_REGISTRY)
        pixel, transformer = decoder_names(cfg)
        decoder = SEM_SEG_HEADS_REGISTRY.get(pixel)
        predictor = TRANSFORMER_DECODER_REGISTRY.get(transformer)
        used = {name: input_shape[name] for name in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES}
        attended = () if is_mask2former(cfg) else (attended_channels(cfg, input_shape),)
        return {"pixel_decoder": decoder(cfg, used), "predictor": predictor(cfg, *attended)}

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


@SEM_SEG_HEADS_REGISTRY.register()
class BranchMaskFormerHead(MaskFormerHead):
    """The same head under the name that SeMask's published configs give it."""
