"""The meta-architecture ``ContrastiveCLIP``: contrastive pre-training of CLIP's encoders.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021.

Shapes: B images of a process, C joint embedding width, L tokens.
"""

import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from segcore.checkpoint.weights import guard
from segcore.config.numerics import precision_from_config, refuse_compile
from segcore.inference.precision import FLOAT32, Precision, in_precision
from segcore.text import CaptionTokenizer, contrastive_loss, stack_images

from .checkpoint import load_clip_weights
from .config import encoders_from_config
from .encoders import ImageTextEncoder

MAX_LOGIT_SCALE = 100.0


@META_ARCH_REGISTRY.register()
class ContrastiveCLIP(nn.Module):
    """Image and text encoder, trained to match images with their captions."""

    @configurable
    def __init__(
        self,
        *,
        clip: ImageTextEncoder,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        precision: Precision = FLOAT32,
        clip_weights: tuple[str, str] = ("", ""),
    ) -> None:
        """
        Args:
            clip: the two encoders.
            pixel_mean, pixel_std: of CLIP, RGB, 0..255.
            precision: of the image encoder, for predictions.
            clip_weights: name of the CLIP model, and the source of :meth:`load_pretrained`.
        """
        super().__init__()
        self.clip = clip
        self.clip_weights, self.precision = clip_weights, precision
        self.tokenize = CaptionTokenizer(clip.tokenizer)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        guard(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        refuse_compile(cfg)
        name = cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
        return {
            "clip": encoders_from_config(cfg),
            "pixel_mean": cfg.MODEL.CLIP_PIXEL_MEAN,
            "pixel_std": cfg.MODEL.CLIP_PIXEL_STD,
            "precision": precision_from_config(cfg),
            "clip_weights": (name, cfg.MODEL.CLIP_WEIGHTS),
        }

    def load_pretrained(self) -> None:
        """Load ``clip_weights`` into the encoders, where training starts without a checkpoint."""
        name, source = self.clip_weights
        if source:
            load_clip_weights(self.clip, name, source)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Embed images and captions, or in training return the loss.

        Args:
            batched_inputs: one dict an image: "image" (3, H, W), RGB, 0..255, of one size in a
                batch, sides multiples of the patch size; "caption", truncated to the context length
                of the text encoder.
        Returns:
            training: "loss_contrastive", over the images of all processes.
            inference: one dict an image with "image_embedding" and "text_embedding" (C,), of unit
            norm.
        Raises:
            UserError: the images differ in size, or do not fit the image encoder.
        """
        images = self._images(batched_inputs)
        tokens = self.tokenize([item["caption"] for item in batched_inputs]).to(self.device)
        if self.training:
            return {"loss_contrastive": self._loss(images, tokens)}
        with torch.no_grad():
            pairs = zip(self._embed(images), self.clip.encode_text(tokens), strict=True)
            return [{"image_embedding": image, "text_embedding": text} for image, text in pairs]

    @in_precision
    def _embed(self, images: Tensor) -> Tensor:
        return self.clip.embed_image(images)

    def _images(self, batched_inputs: list[dict]) -> Tensor:
        """Return normalised images (B, 3, H, W)."""
        images = stack_images(batched_inputs, self.clip.patch_size)
        return (images.to(self.device).float() - self.pixel_mean) / self.pixel_std

    def _loss(self, images: Tensor, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        image, text = self.clip.embed_image(images), self.clip.encode_text(tokens)
        with torch.autocast(self.device.type, enabled=False):
            scale = self.clip.logit_scale.exp()
            return contrastive_loss(image.float(), text.float()[:, None], scale)
