"""GroupViT: image and text encoder with a joint space, for images, their segments and texts.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022.

Shapes: B images, S segments, K texts, L tokens of a text, C joint width.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.text import ClipTokenizer

from .image_encoder import ImageEncoder, ImageFeatures
from .projector import Projector
from .text_encoder import TextEncoder

TEMPERATURE = 0.07  # at the start
MAX_SCALE = 100.0


class ImageEmbeddings(NamedTuple):
    """Images in the joint space; all rows have unit norm.

    Attributes:
        features: of the encoder.
        vector: (B, C), of the mean of the segments.
        segments: (B, S, C).
    """

    features: ImageFeatures
    vector: Tensor
    segments: Tensor


class GroupViTModel(nn.Module):
    """The two encoders, their projections, and the factors of similarities.

    It is a :class:`segcore.text.TextEncoder`.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        image_projector: Projector,
        text_projector: Projector,
        *,
        multi_label: bool = True,
    ) -> None:
        """
        Args:
            image_encoder, text_encoder: images and texts -> vectors.
            image_projector, text_projector: vectors -> the joint space; that of images serves
                their segments, too.
            multi_label: whether there is a factor for the multi-label loss.
        """
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_projector, self.text_projector = image_projector, text_projector
        start = math.log(1 / TEMPERATURE)
        self.logit_scale = nn.Parameter(torch.tensor(start))
        self.multi_label_logit_scale = nn.Parameter(torch.tensor(start)) if multi_label else None

    @property
    def tokenizer(self) -> ClipTokenizer:
        """CLIP's tokenizer, of the text encoder's context length."""
        return ClipTokenizer(self.text_encoder.context_length)

    @property
    def text_width(self) -> int:
        """Width of the text encoder."""
        return self.text_encoder.width

    @property
    def joint_width(self) -> int:
        """C."""
        return self.text_projector.output.out_features

    @property
    def scale(self) -> Tensor:
        """The factor of similarities of images and texts, at most 100."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    @property
    def multi_label_scale(self) -> Tensor:
        """The factor in the multi-label loss, at most 100."""
        return self.multi_label_logit_scale.exp().clamp(max=MAX_SCALE)

    def embed_images(self, images: Tensor) -> ImageEmbeddings:
        """Embed images (B, 3, H, W), normalised, sides multiples of the patch size."""
        features = self.image_encoder(images)
        return ImageEmbeddings(
            features, self.project(features.vector), self.project(features.segments)
        )

    def project(self, x: Tensor) -> Tensor:
        """Project vectors of images or segments: (..., D) -> (..., C) float32, unit norm."""
        return F.normalize(self.image_projector(x).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed token ids (K, L), zero-padded after the end of text: (K, C) float32.

        They have no unit norm: prompts of a class are averaged before.
        """
        return self.text_projector(self.text_encoder(tokens)).float()

    def text_state(self) -> Iterator[Tensor]:
        """Yield the parameters and buffers that determine the embeddings of texts."""
        for module in (self.text_encoder, self.text_projector):
            yield from module.state_dict(keep_vars=True).values()
