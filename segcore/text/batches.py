"""Batches of images with captions, as models read them that learn from both."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from segcore.errors import UserError
from segcore.text.tokenizers import Tokenizer

logger = logging.getLogger(__name__)


def stack_images(batched_inputs: Sequence[dict], patch_size: int) -> Tensor:
    """Return the "image" (3, H, W) of all items as one tensor (B, 3, H, W).

    Args:
        batched_inputs: of the mapper ``image_caption``.
        patch_size: of the image encoder.

    Raises:
        UserError: the images differ in size, or their sides are no multiples of the patch size.
    """
    shapes = {tuple(item["image"].shape[-2:]) for item in batched_inputs}
    if len(shapes) > 1:
        raise UserError(
            f"the images of a batch differ in size {sorted(shapes)}: set "
            "INPUT.DATASET_MAPPER_NAME image_caption, which makes squares of equal size of them"
        )
    if any(side % patch_size for side in next(iter(shapes))):
        raise UserError(
            f"the images have (height, width) {next(iter(shapes))}, but the image encoder has "
            f"patches of {patch_size} pixels: set INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST to "
            f"multiples of {patch_size}"
        )
    return torch.stack([item["image"] for item in batched_inputs])


class CaptionTokenizer:
    """Turns captions into token ids; logs once when one is truncated."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Args:
            tokenizer: of the text encoder.
        """
        self.tokenizer = tokenizer
        self._has_truncated = False

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Return token ids (len(captions), L), as :meth:`Tokenizer.truncated`."""
        tokens, num_truncated = self.tokenizer.truncated(captions)
        if num_truncated and not self._has_truncated:
            self._has_truncated = True
            logger.warning(
                "Captions of more than %d tokens are truncated; this is logged once",
                self.tokenizer.context_length,
            )
        return tokens
