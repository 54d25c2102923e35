"""Load published CAT-Seg checkpoints, and CLIP encoders from OpenAI's and open_clip's files."""

import logging
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor, nn

from segcore.checkpoint import read_checkpoint
from segcore.errors import UserError

from .encoders import PUBLISHED_NAMES, ImageTextEncoder
from .encoders.names import TRUNK

logger = logging.getLogger(__name__)


def _fragments() -> list[tuple[str, str]]:
    """Return pairs (published, ours) of name fragments, replaced in this order, or in reverse."""
    pairs = [
        ("sem_seg_head.predictor.clip_model.", "clip."),
        ("clip.visual.transformer.prompt_tokens", "clip.prompt_tokens"),
        ("sem_seg_head.predictor.transformer.", "aggregator."),
        ("upsample1.", "aggregator.upsample.0."),
        ("upsample2.", "aggregator.upsample.1."),
        ("aggregator.conv1.", "aggregator.cost_embedding."),
        ("aggregator.guidance_projection.0.", "aggregator.appearance_projection."),
        ("aggregator.text_guidance_projection.0.", "aggregator.text_projection."),
        ("aggregator.head.", "aggregator.decoder.logit."),
        (".swin_block.guidance_norm.", ".spatial.guidance_norm."),
        (".attention.MLP.", ".category.mlp."),
        (".attention.norm", ".category.norm"),
        (".attention.padding_tokens", ".category.padding_token"),
        (".attention.padding_guidance", ".category.padding_guidance"),
    ]
    for index in (0, 1):
        block = (f".swin_block.block_{index + 1}.", f".spatial.blocks.{index}.")
        for inner in (
            ("attn.q.", "attention.query."),
            ("attn.k.", "attention.key."),
            ("attn.v.", "attention.value."),
            ("attn.proj.", "attention.output."),
            ("mlp.fc1.", "mlp.0."),
            ("mlp.fc2.", "mlp.2."),
            ("norm", "norm"),
        ):
            pairs.append((block[0] + inner[0], block[1] + inner[1]))
        pairs.append(
            (
                f"aggregator.decoder_guidance_projection.{index}.0.",
                f"aggregator.decoder_projections.{index}.",
            )
        )
        stage = (f"aggregator.decoder{index + 1}.", f"aggregator.decoder.stages.{index}.")
        for inner in (
            ("up.", "up."),
            ("conv.double_conv.0.", "conv1."),
            ("conv.double_conv.1.", "norm1."),
            ("conv.double_conv.3.", "conv2."),
            ("conv.double_conv.4.", "norm2."),
        ):
            pairs.append((stage[0] + inner[0], stage[1] + inner[1]))
    for letter, name in (("q", "query"), ("k", "key"), ("v", "value")):
        pairs.append((f".attention.attention.{letter}.", f".category.{name}."))
    return pairs


FRAGMENTS = _fragments()


def from_published(name: str) -> str:
    """Return our name of a published parameter."""
    for published, ours in FRAGMENTS:
        name = name.replace(published, ours)
    return name


def to_published(name: str) -> str:
    """Return the published name of one of our parameters."""
    for published, ours in reversed(FRAGMENTS):
        name = name.replace(ours, published)
    return name


def rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters to ours, in place: a ``load_state_dict`` pre-hook of the model.

    The attention masks of shifted windows in published files are left out: the model computes them.
    """
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if not name.startswith(("sem_seg_head.", "upsample")):
            continue
        value = state_dict.pop(key)
        if not name.endswith(".attn_mask"):
            state_dict[prefix + from_published(name)] = value


def load_clip_weights(clip: ImageTextEncoder, name: str, source: str) -> None:
    """Load the CLIP encoders from a file, or from a tag that open_clip downloads.

    Args:
        clip: encoders of the model ``name``.
        source: path to a state dict in a published layout of the model (.pth, .pt, .bin,
            .safetensors), to a checkpoint of :class:`ContrastiveCLIP`, whose names begin with
            ``clip.``, or a tag that open_clip lists for this model, such as "openai". A file of an
            image encoder alone, such as timm's, leaves the text encoder random.
    Raises:
        UserError: no such file or tag, or the file is of other encoders.
    """
    model_name = PUBLISHED_NAMES.get(name, name)
    if Path(source).is_file():
        state_dict = read_checkpoint(source)["model"]
        ours = {k.removeprefix("clip."): v for k, v in state_dict.items() if k.startswith("clip.")}
        state_dict = ours or state_dict
    elif source in (tags := open_clip.list_pretrained_tags_by_model(model_name)):
        try:
            state_dict = open_clip.create_model(model_name, pretrained=source).state_dict()
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"MODEL.CLIP_WEIGHTS {source} could not be downloaded: start once with a network "
                "connection, or name a file."
            ) from error
    else:
        raise UserError(
            f"MODEL.CLIP_WEIGHTS is '{source}', which is neither a file nor a tag of {model_name}: "
            f"use a path or one of {tags}."
        )
    _fill(clip, clip.from_published(state_dict), source)


def _fill(clip: ImageTextEncoder, state_dict: dict[str, Tensor], source: str) -> None:
    """Copy ``state_dict`` to the encoders; refuse missing parameters and other shapes."""
    current = clip.state_dict()
    wanted = [key for key in current if not key.startswith("prompt_tokens")]
    if state_dict and all(key.startswith(TRUNK) for key in state_dict):
        logger.warning("%s holds an image encoder alone: the text encoder starts at random", source)
        wanted = [key for key in wanted if key.startswith(TRUNK)]
    wrong = [k for k in wanted if k not in state_dict or state_dict[k].shape != current[k].shape]
    if wrong:
        raise UserError(
            f"{source} does not fit MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED: {len(wrong)} of "
            f"{len(wanted)} tensors are missing or of another shape, such as {wrong[0]}; name the "
            "model whose weights these are."
        )
    clip.load_state_dict({k: state_dict[k].float() for k in wanted}, strict=False)
