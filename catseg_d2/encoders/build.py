"""Encoders by the name of their model."""

from .base import ImageTextEncoder
from .clip import DenseCLIP


def build_encoders(
    name: str, *, prompt_length: int = 0, prompt_depth: int = 0, checkpointing: bool = False
) -> ImageTextEncoder:
    """Build the encoders of a model with random weights.

    Args:
        name: a published name of CAT-Seg ("ViT-B/16", "ViT-L/14@336px"), a model of open_clip, or
            one of ``catseg_d2/encoders/models``.
        prompt_length, prompt_depth: visual prompt tuning: ``prompt_length`` trainable tokens in
            each of the first ``prompt_depth`` vision blocks.
        checkpointing: recompute the blocks in the backward pass instead of keeping activations.

    Raises:
        UserError: there is no such model, its encoders have no dense form here, or they have fewer
            blocks than ``prompt_depth``.
    """
    return DenseCLIP(
        name,
        prompt_length=prompt_length,
        prompt_depth=prompt_depth,
        checkpointing=checkpointing,
    )
