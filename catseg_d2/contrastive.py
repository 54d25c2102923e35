"""The meta-architecture ``ContrastiveCLIP``: CLIP's towers learn from images and their captions.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021; the loss is open_clip's.

Shapes: B images of a process, C joint width, L tokens.
"""

import logging
import math
from collections.abc import Sequence

import open_clip
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import Tensor, nn

from segcore.errors import UserError

from .checkpoint import load_clip_weights
from .clip import DenseCLIP
from .text import encode, tokenize

logger = logging.getLogger(__name__)

MAX_LOGIT_SCALE = 100.0


@META_ARCH_REGISTRY.register()
class ContrastiveCLIP(nn.Module):
    """Two towers, all of whose parameters learn which caption belongs to which image."""

    @configurable
    def __init__(
        self,
        *,
        clip: DenseCLIP,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        clip_weights: tuple[str, str] = ("", ""),
    ) -> None:
        """
        Args:
            clip: the two towers.
            pixel_mean, pixel_std: of CLIP, RGB, 0..255.
            clip_weights: name of the towers, and what :meth:`load_pretrained` fills them from.
        """
        super().__init__()
        self.clip = clip
        self.clip_weights = clip_weights
        self._has_cut_captions = False
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate a config into the arguments of the constructor."""
        name = cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
        return {
            "clip": DenseCLIP(name),
            "pixel_mean": cfg.MODEL.CLIP_PIXEL_MEAN,
            "pixel_std": cfg.MODEL.CLIP_PIXEL_STD,
            "clip_weights": (name, cfg.MODEL.CLIP_WEIGHTS),
        }

    def load_pretrained(self) -> None:
        """Start the towers from ``clip_weights``: for training that starts from no checkpoint."""
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
                batch, sides multiples of the patch size; "caption", cut where the text tower's
                context ends.
        Returns:
            training: "loss_contrastive", over the images of all processes.
            otherwise: one dict an image with "image_embedding" and "text_embedding" (C,), of unit
            norm.
        Raises:
            UserError: the images do not fit each other or the towers.
        """
        images = self._images(batched_inputs)
        tokens = self._tokens([item["caption"] for item in batched_inputs])
        if self.training:
            return {"loss_contrastive": self._loss(images, tokens)}
        with torch.no_grad():
            pairs = zip(self.clip.embed_image(images), self.clip.encode_text(tokens), strict=True)
            return [{"image_embedding": image, "text_embedding": text} for image, text in pairs]

    def _images(self, batched_inputs: list[dict]) -> Tensor:
        """Normalised images (B, 3, H, W)."""
        shapes = {tuple(item["image"].shape[-2:]) for item in batched_inputs}
        if len(shapes) > 1:
            raise UserError(
                f"the images of a batch differ in size {sorted(shapes)}: set "
                "INPUT.DATASET_MAPPER_NAME image_caption, which makes equal squares of them"
            )
        patch = self.clip.patch_size
        if any(side % patch for side in next(iter(shapes))):
            raise UserError(
                f"the images have (height, width) {next(iter(shapes))}, but the towers read "
                f"patches of {patch} pixels: set INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST to "
                f"multiples of {patch}"
            )
        images = torch.stack([item["image"] for item in batched_inputs])
        return (images.to(self.device).float() - self.pixel_mean) / self.pixel_std

    def _tokens(self, captions: list[str]) -> Tensor:
        """Token rows (B, L); the first caption that has to be cut is warned of."""
        tokens, num_cut = tokenize_captions(captions, self.clip.context_length)
        if num_cut and not self._has_cut_captions:
            self._has_cut_captions = True
            logger.warning(
                "Captions of more than %d tokens are cut there; this is said once",
                self.clip.context_length,
            )
        return tokens.to(self.device)

    def _loss(self, images: Tensor, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        image, text = self.clip.embed_image(images), self.clip.encode_text(tokens)
        with torch.autocast(self.device.type, enabled=False):
            return contrastive_loss(image.float(), text.float(), self.clip.logit_scale.exp())


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy: every image against all captions, every caption against all images.

    "All" are those of all processes. Each computes the rows of its own part, and gradients flow
    back through what was gathered, so that their mean over the processes, which distributed
    training takes, is the gradient of one process with the whole batch.

    Args:
        image, text: (B, C), unit norm; row i of one belongs to row i of the other. B is the same in
            all processes.
        scale: factor of the cosines, a scalar.
    """
    loss = open_clip.ClipLoss(
        local_loss=True,
        gather_with_grad=True,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return loss(image, text, scale)


def tokenize_captions(captions: Sequence[str], context_length: int = 77) -> tuple[Tensor, int]:
    """Token rows (len(captions), context_length), and how many captions had to be cut.

    Captions of the web may be of any length, other than the names of classes: of a long one the
    first tokens are kept, and the end marker behind them.
    """
    start, end = tokenize([""])[0, :2].tolist()
    rows = torch.zeros(len(captions), context_length, dtype=torch.long)
    num_cut = 0
    for row, caption in zip(rows, captions, strict=True):
        ids = encode(caption)
        num_cut += len(ids) > context_length - 2
        ids = [start, *ids[: context_length - 2], end]
        row[: len(ids)] = torch.tensor(ids)
    return rows, num_cut
