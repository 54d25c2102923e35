"""What EVA-02 and SigLIP have in common: an image encoder of timm, a text encoder of open_clip.

Shapes: as in ``base.py``.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import timm
import torch
from open_clip.transformer import LayerNorm, TextTransformer
from torch import Tensor, nn

from segcore.checkpoint.renaming import Renaming

from .attention import SplitAttention
from .base import EncoderOptions, ImageTextEncoder
from .names import rename_weights

# Entries of open_clip's ``text_cfg`` that are followed, or that the tokenizer heeds.
TEXT_KEYS = {
    "context_length",
    "vocab_size",
    "width",
    "heads",
    "layers",
    "mlp_ratio",
    "no_causal_mask",
    "pool_type",
    "proj_bias",
    "norm_kwargs",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
}


class TrunkEncoder(ImageTextEncoder):
    """Encoders with open_clip's parameter names, ``visual.trunk.`` and ``text.``."""

    NAMES: ClassVar[Renaming]  # of published weights

    @staticmethod
    @abstractmethod
    def fits(trunk: nn.Module) -> bool:
        """Return whether an image encoder of :func:`build_trunk` is one of this class."""

    def __init__(
        self, name: str, config: Mapping[str, Any], trunk: nn.Module, options: EncoderOptions
    ) -> None:
        """
        Args:
            name: of the model, for error messages.
            config: of open_clip.
            trunk: image encoder of :func:`build_trunk`.
            options: of all encoders.
        """
        super().__init__(options)
        self.visual = nn.ModuleDict({"trunk": trunk})
        self.text = build_text_encoder(config["text_cfg"], config["embed_dim"])
        scale = config.get("init_logit_scale", math.log(1 / 0.07))
        self.logit_scale = nn.Parameter(torch.tensor(float(scale)))
        self.finish(name)

    @property
    def trunk(self) -> nn.Module:
        """The image encoder."""
        return self.visual["trunk"]

    @property
    def vision_width(self) -> int:
        return self.trunk.embed_dim

    @property
    def text_width(self) -> int:
        return self.text.width

    @property
    def joint_width(self) -> int:
        return self.text.output_dim

    @property
    def patch_size(self) -> int:
        return self.trunk.patch_embed.proj.kernel_size[0]

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        return self.trunk.blocks

    def text_state(self) -> Iterator[nn.Parameter]:
        return self.text.parameters()

    def from_published(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights with the names of ``names.py`` under ours."""
        return rename_weights(state_dict, self.NAMES)


def build_trunk(config: Mapping[str, Any], **sizes: Any) -> nn.Module:
    """Build the image encoder of open_clip's ``config`` with timm, with random weights.

    ``vision_cfg`` may hold ``timm_kwargs``, sizes that differ from those of the named model, and
    so do ``sizes``.
    """
    vision = config["vision_cfg"]
    return timm.create_model(
        vision["timm_model_name"],
        num_classes=0 if vision.get("timm_proj") == "none" else config["embed_dim"],
        global_pool=vision["timm_pool"],
        dynamic_img_size=True,
        **(vision.get("timm_kwargs", {}) | sizes),
    )


def build_text_encoder(config: Mapping[str, Any], joint_width: int) -> TextTransformer:
    """Build the text encoder of open_clip's ``text_cfg``, with separate attention matrices."""
    text = TextTransformer(
        context_length=config["context_length"],
        vocab_size=config["vocab_size"],
        width=config["width"],
        heads=config["heads"],
        layers=config["layers"],
        mlp_ratio=config.get("mlp_ratio", 4.0),
        output_dim=joint_width,
        no_causal_mask=config.get("no_causal_mask", False),
        pool_type=config.get("pool_type", "argmax"),
        proj_bias=config.get("proj_bias", False),
        norm_layer=partial(LayerNorm, **config.get("norm_kwargs", {})),
    )
    for block in text.transformer.resblocks:
        block.attn = SplitAttention.from_fused(block.attn)
    return text
