"""Load the published checkpoints of the backbones of per-pixel models, and of their pre-training.

A published model has its backbone under ``backbone.``, mmsegmentation's BEiT also its pyramid
under ``neck.``; a checkpoint of a pre-training holds the backbone alone. Names in the tables have
no prefix ``backbone.``.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from segcore.checkpoint.renaming import Renaming
from segcore.checkpoint.weights import resample_other_shapes
from segcore.errors import UserError

from .beit import Beit
from .checkpoint import HEADS, RESNET
from .clip import image_encoder
from .resnet import DilatedResNet
from .semask import SeMaskSwin
from .swin import SwinTransformer, from_unfolded
from .tresnet import TResNetBackbone, convert_tresnet
from .vit import VisionTransformer
from .vit_adapter import BeitAdapter

PREFIX, NECK = "backbone.", "neck."


class Layout(NamedTuple):
    """The published layout of a kind of backbone.

    Attributes:
        names: pairs (published, ours); the first of several published names is the one to write.
        first: published names of the first layer, by which a backbone's checkpoint is recognised.
        dropped: entries that the backbone has no use for: classifiers, and tables that follow from
            the geometry.
        own: parameters of ours that a pre-training does not have.
        convert: (backbone, {published name: value}) -> {our name: value}.
    """

    names: Renaming
    first: tuple[str, ...]
    dropped: str
    own: str
    convert: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


def _transformer(published: str) -> list[tuple[str, str]]:
    """Return the pairs of an MLP and two norms in mmsegmentation's blocks."""
    return [
        (f"{published}ln1.*", "blocks.#.norm1.*"),
        (f"{published}ln2.*", "blocks.#.norm2.*"),
        (f"{published}ffn.layers.0.0.*", "blocks.#.mlp.fc1.*"),
        (f"{published}ffn.layers.1.*", "blocks.#.mlp.fc2.*"),
    ]


# mmsegmentation's and RankSeg's; timm's names, which AugReg's checkpoints have, are ours.
VIT = Renaming(
    [
        ("pos_embed", "positions"),
        ("cls_emb", "class_embeddings"),
        ("patch_embed.projection.*", "patch_embed.proj.*"),
        *_transformer("layers.#."),
        ("layers.#.attn.attn.in_proj_weight", "blocks.#.attn.qkv.weight"),
        ("layers.#.attn.attn.in_proj_bias", "blocks.#.attn.qkv.bias"),
        ("layers.#.attn.attn.out_proj.*", "blocks.#.attn.proj.*"),
        ("ln1.*", "norm.*"),
    ]
)


def _convert_vit(backbone: VisionTransformer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {VIT.to_ours(name): value for name, value in tensors.items()}
    if "pre_norm.weight" in weights and isinstance(backbone.pre_norm, nn.Identity):
        raise UserError(
            "the checkpoint holds an image encoder of CLIP, which has a norm before its blocks: "
            "set MODEL.VIT.PRE_NORM True and MODEL.VIT.PATCH_BIAS False, and for OpenAI's weights "
            "MODEL.VIT.ACTIVATION quick_gelu"
        )
    return weights


# mmsegmentation's names, then those of the original release and of timm's pre-training.
BEIT = Renaming(
    [
        ("patch_embed.projection.*", "patch_embed.proj.*"),
        *_transformer("layers.#."),
        ("layers.#.attn.relative_position_bias_table", "positions.#.table"),
        ("layers.#.*", "blocks.#.*"),
        ("neck.upsample_4x.*", "pyramid.up4.*"),
        ("neck.upsample_2x.*", "pyramid.up2.*"),
        ("blocks.#.attn.relative_position_bias_table", "positions.#.table"),
        ("fpn1.*", "pyramid.up4.*"),
        ("fpn2.*", "pyramid.up2.*"),
    ]
)
SHARED = "rel_pos_bias.relative_position_bias_table"  # one table for all blocks


def _convert_beit(backbone: Beit, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {BEIT.to_ours(name): value for name, value in tensors.items()}
    if SHARED in weights:
        table = weights.pop(SHARED)
        weights |= {f"positions.{index}.table": table for index in range(len(backbone.blocks))}
    return weights


# Those of BEiT's original release and of the adapter's.
ADAPTER = Renaming(
    [
        ("blocks.#.attn.relative_position_bias_table", "positions.#.table"),
        *(
            (f"interactions.#.{part}.ffn.dwconv.dwconv.*", f"interactions.#.{part}.ffn.conv.*")
            for part in ("extractor", "extra_extractors.#")
        ),
    ]
)


def _convert_adapter(backbone: BeitAdapter, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return _convert_beit(backbone, {ADAPTER.to_ours(n): value for n, value in tensors.items()})


# mmsegmentation's; the names of the original release are ours.
SWIN = Renaming(
    [
        ("patch_embed.projection.*", "patch_embed.proj.*"),
        ("stages.#.blocks.#.attn.w_msa.*", "layers.#.blocks.#.attn.*"),
        ("stages.#.blocks.#.ffn.layers.0.0.*", "layers.#.blocks.#.mlp.fc1.*"),
        ("stages.#.blocks.#.ffn.layers.1.*", "layers.#.blocks.#.mlp.fc2.*"),
        ("stages.#.*", "layers.#.*"),
    ]
)
UNFOLDED = re.compile(r"stages\.\d+\.downsample\..*")


def _convert_swin(_: SwinTransformer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        SWIN.to_ours(name): from_unfolded(value) if UNFOLDED.fullmatch(name) else value
        for name, value in tensors.items()
    }


# SeMask's, over those of Swin's original release.
SEMASK = Renaming(
    [
        ("layers.#.semantic_layer.norm1.*", "layers.#.semantic_layer.norm.*"),
        *(
            (
                f"layers.#.semantic_layer.class_injection.0.{theirs}",
                f"layers.#.semantic_layer.{ours}",
            )
            for theirs, ours in (
                ("mlp_cls_q.*", "query.*"),
                ("mlp_cls_k.*", "key.*"),
                ("mlp_v.*", "value.*"),
                ("mlp_res.*", "proj.*"),
                ("gamma", "gamma"),
            )
        ),
    ]
)


def _convert_semask(backbone: SeMaskSwin, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    swin = _convert_swin(backbone, tensors)
    return {SEMASK.to_ours(name): value for name, value in swin.items()}


# Mask2Former's checkpoints have Detectron2's names; those of DilatedResNet are torchvision's.
def _convert_resnet(_: DilatedResNet, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {RESNET.to_published(name): value for name, value in tensors.items()}


AS_PUBLISHED = Renaming([])
# The projection of patches in the two kinds of published files, and what these hold beside the
# parameters of a backbone.
PATCHES = ("patch_embed.projection.weight", "patch_embed.proj.weight")
BEIT_DROPPED = r".*\.relative_position_index|(head|norm|fc_norm|lm_head)\..*|mask_token"
SWIN_DROPPED = r".*\.(relative_position_index|attn_mask)|(head|norm)\..*"
LAYOUTS: dict[type[nn.Module], Layout] = {
    VisionTransformer: Layout(
        names=VIT,
        first=PATCHES,
        dropped=r"(head|pre_logits)\..*",
        own="class_embeddings",
        convert=_convert_vit,
    ),
    Beit: Layout(
        names=BEIT,
        first=PATCHES,
        dropped=BEIT_DROPPED,
        own=r"pyramid\..*",
        convert=_convert_beit,
    ),
    BeitAdapter: Layout(
        names=ADAPTER,
        first=PATCHES,
        dropped=BEIT_DROPPED,
        own=r"(spm|interactions|up|norm\d)\..*|level_embed",
        convert=_convert_adapter,
    ),
    SeMaskSwin: Layout(
        names=SEMASK,
        first=PATCHES,
        dropped=SWIN_DROPPED,
        own=r"norm\d\..*|layers\.\d\.semantic_layer\..*",
        convert=_convert_semask,
    ),
    SwinTransformer: Layout(
        names=SWIN,
        first=PATCHES,
        dropped=SWIN_DROPPED,
        own=r"norm\d\..*",
        convert=_convert_swin,
    ),
    DilatedResNet: Layout(
        names=AS_PUBLISHED,
        first=("stem.0.weight", "conv1.weight", "stem.conv1.weight"),
        dropped=r"(stem\.)?fc\..*",
        own="",
        convert=_convert_resnet,
    ),
    TResNetBackbone: Layout(
        names=AS_PUBLISHED,
        first=("body.conv1.0.weight", "body.conv1.conv.weight"),
        dropped=r"head\..*",
        own="",
        convert=convert_tresnet,
    ),
}
AS_IS = Layout(AS_PUBLISHED, (), "", "", lambda _, tensors: tensors)


def layout_of(backbone: nn.Module) -> Layout:
    """Return the published layout of a backbone; one without a table has published names."""
    found = (layout for kind, layout in LAYOUTS.items() if isinstance(backbone, kind))
    return next(found, AS_IS)


def to_published(backbone: nn.Module, name: str) -> str:
    """Return the published name of one of the model's parameters, if it is the backbone's."""
    if not name.startswith(PREFIX):
        return name
    published = layout_of(backbone).names.to_published(name.removeprefix(PREFIX))
    return published if published.startswith(NECK) else PREFIX + published


def from_published(backbone: nn.Module, name: str) -> str:
    """Return our name of a published parameter of a model, if it is the backbone's."""
    if not name.startswith((PREFIX, NECK)):
        return name
    return PREFIX + layout_of(backbone).names.to_ours(name.removeprefix(PREFIX))


def load_published(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a model's checkpoint with our names and values of the backbone.

    Args:
        backbone: of the model, as ``model.backbone``.
        tensors: all entries of a model; those of its backbone by published names or by ours.
    Raises:
        UserError: they do not fit the backbone and cannot be interpolated.
    """
    of_backbone = {
        name.removeprefix(PREFIX): value
        for name, value in tensors.items()
        if name.startswith((PREFIX, NECK))
    }
    others = {n: value for n, value in tensors.items() if not n.startswith((PREFIX, NECK))}
    return others | {PREFIX + n: value for n, value in _convert(backbone, of_backbone).items()}


def load_pretrained(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of the backbone from a checkpoint of its pre-training.

    Args:
        backbone: of the model; parameters that a pre-training does not have keep their values.
        tensors: entries of a checkpoint that holds a backbone, with or without ``backbone.``; for
            a Vision Transformer also those of CLIP or CAT-Seg.
    Returns:
        {our name, with ``backbone.``: value}; None if the checkpoint holds more than a backbone or
        another one.
    Raises:
        UserError: as :func:`load_published`.
    """
    layout = layout_of(backbone)
    if isinstance(backbone, VisionTransformer):
        tensors = image_encoder(tensors) or tensors
    bare = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    if not any(name in bare for name in layout.first) or any(n.startswith(HEADS) for n in bare):
        return None
    own = {
        name: value
        for name, value in backbone.state_dict().items()
        if re.fullmatch(layout.own, name)
    }
    return {PREFIX + n: value for n, value in (own | _convert(backbone, bare)).items()}


def _convert(backbone: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layout = layout_of(backbone)
    kept = {n: value for n, value in tensors.items() if not re.fullmatch(layout.dropped, n)}
    weights, ours = layout.convert(backbone, kept), backbone.state_dict()
    resample_other_shapes(backbone, weights)
    # Frozen batch norm does not count batches.
    return {n: v for n, v in weights.items() if n in ours or not n.endswith("num_batches_tracked")}
