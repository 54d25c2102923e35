"""A background without words: pixels at which no class name scores enough.

Source: the protocol of Xu et al., "GroupViT", CVPR 2022, for models that learn from captions. Here
a pixel is background if the scores of all class names, after merging, are below the threshold,
which is the score of the background.
"""

import math

import torch
from torch import Tensor

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

from .merging import CropLogits

BACKGROUND = "background"


def text_without_background(text: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return embeddings (T - 1, P, C) of the classes but the first, the background.

    Args:
        text: (T, P, C).
        vocabulary: of these classes.

    Raises:
        UserError: the first class is not the background, or the only one.
    """
    if vocabulary.names[0] != BACKGROUND or len(vocabulary) < 2:
        raise UserError(
            "MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD needs a vocabulary whose first class is "
            f'"{BACKGROUND}" and that has others: add it, or set the threshold to 0'
        )
    return text[1:]


def add_background(crop: CropLogits, threshold: float) -> CropLogits:
    """Put the background before the K classes of a crop; its score is the threshold everywhere."""
    logit = math.log(threshold / (1 - threshold))
    first = crop.logits.new_full((1, *crop.logits.shape[1:]), logit)
    classes = torch.cat([crop.classes.new_zeros(1), crop.classes + 1])
    return CropLogits(torch.cat([first, crop.logits]), classes)
