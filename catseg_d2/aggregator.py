"""Cost aggregation: from dense image and text embeddings to a logit per class and position.

Source: CAT-Seg (CVPR 2024), sections 3.1 to 3.3.

Shapes: B crops, T classes, P prompts a class, (H, W) the feature grid, C joint embedding width of
CLIP, E width of the volume.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.inference.precision import at_least_float32
from segcore.memory import CPU_BUDGET, Chunk, by_chunks, recomputed, return_freed_memory

from .category import ClassAggregation
from .decoder import Decoder
from .spatial import SpatialAggregation

OUT_OF_MEMORY = "lower MODEL.SEM_SEG_HEAD.MAX_CLASSES, the number of classes that enter a crop"
DROPPED_LOGIT = -100.0  # of classes outside of the aggregation: a score of zero


def cost_volume(features: Tensor, text: Tensor) -> Tensor:
    """Compute the cosine similarity of every position with every prompt, in float32 at least.

    Close class names have cosine similarities that differ by less than bfloat16 resolves.

    Args:
        features: (B, C, H, W), not normalised.
        text: (T, P, C), unit-norm.
    Returns:
        (B, T, P, H, W) in [-1, 1].
    """
    with torch.autocast(features.device.type, enabled=False):
        features, text = at_least_float32(features), at_least_float32(text)
        return torch.einsum("bchw,tpc->btphw", F.normalize(features, dim=1), text)


def strongest_classes(cost: Tensor, number: int) -> Tensor:
    """Return the ``number`` classes of each crop with the highest maximum cost, ids ascending.

    cost (B, T, P, H, W) -> (B, min(number, T)) int64.
    """
    peak = cost.flatten(2).amax(dim=2)
    return peak.topk(min(number, peak.shape[1]), dim=1).indices.sort(dim=1).values


def select_classes(values: Tensor, classes: Tensor) -> Tensor:
    """Gather the classes of each crop: values (B, T, ...), classes (B, K) ids -> (B, K, ...)."""
    return values[torch.arange(len(classes), device=classes.device)[:, None], classes]


def scatter_logits(logits: Tensor, kept: Tensor, num_classes: int) -> Tensor:
    """Scatter logits (B, K, h, w) of classes ``kept`` (B, K) to all: (B, T, h, w)."""
    if kept.shape[1] == num_classes:
        return logits
    full = logits.new_full((len(logits), num_classes, *logits.shape[2:]), DROPPED_LOGIT)
    return full.scatter(1, kept[:, :, None, None].expand_as(logits), logits)


class AggregationLayer(nn.Module):
    """Spatial aggregation, followed by class aggregation."""

    def __init__(self, spatial: SpatialAggregation, category: ClassAggregation) -> None:
        super().__init__()
        self.spatial = spatial
        self.category = category


class CostAggregator(nn.Module):
    """Embeds the cost volume, aggregates it over positions and classes, and decodes it."""

    def __init__(
        self,
        *,
        joint_width: int,
        vision_width: int,
        num_prompts: int = 1,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        resolution: tuple[int, int] = (24, 24),
        window: int = 12,
        pooling: tuple[int, int] = (2, 2),
        attention: str = "linear",
        appearance_width: int = 128,
        text_width: int = 128,
        decoder_widths: Sequence[int] = (64, 32),
        upsampled_widths: Sequence[int] = (256, 128),
        decoder_guidance_widths: Sequence[int] = (32, 16),
        padded_classes: int = 256,
        class_chunk: int = 0,
        chunk_memory: int = CPU_BUDGET,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            joint_width: C, width of CLIP's joint embedding space.
            vision_width: width of the guidance features.
            num_prompts: P.
            width: E, width of the volume.
            resolution: (H, W).
            window: side of a spatial window.
            pooling: side of the pooling before class attention; no parameter depends on it.
            attention: over classes, "linear" or "full".
            appearance_width, text_width: of the projected guidance.
            decoder_widths: output of each decoder stage.
            upsampled_widths, decoder_guidance_widths: of each stage's guidance before and after its
                projection.
            padded_classes: class attention pads fewer classes to this number.
            class_chunk: classes per chunk where no activations are kept for a gradient; the result
                does not depend on it; 0 = as many as ``chunk_memory`` holds.
            chunk_memory: bytes of the temporaries of a chunk.
            checkpointing: recompute activations in the backward pass instead of keeping them.
        """
        super().__init__()
        upsampled = 16 * resolution[0] * resolution[1] * decoder_widths[-1]
        per_class = 4 * max(14 * width * resolution[0] * resolution[1], 6 * upsampled)
        self.chunk = Chunk(class_chunk or chunk_memory // per_class, OUT_OF_MEMORY)
        self.checkpointing = checkpointing
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(vision_width, out_width, kernel_size=scale, stride=scale)
            for out_width, scale in zip(upsampled_widths, (2, 4), strict=True)
        )
        self.decoder_projections = nn.ModuleList(
            nn.Conv2d(*widths, 3, padding=1)
            for widths in zip(upsampled_widths, decoder_guidance_widths, strict=True)
        )
        self.appearance_projection = nn.Conv2d(joint_width, appearance_width, 3, padding=1)
        self.text_projection = nn.Linear(joint_width, text_width)
        self.cost_embedding = nn.Conv2d(num_prompts, width, 7, padding=3)
        self.layers = nn.ModuleList(
            AggregationLayer(
                SpatialAggregation(width, appearance_width, resolution, num_heads, window),
                ClassAggregation(width, text_width, num_heads, pooling, attention, padded_classes),
            )
            for _ in range(num_layers)
        )
        self.decoder = Decoder(width, decoder_widths, decoder_guidance_widths)

    def forward(
        self, features: Tensor, guidance: Sequence[Tensor], cost: Tensor, text: Tensor
    ) -> Tensor:
        """Return the logits of the classes of a cost volume.

        Args:
            features: dense features (B, C, H, W), not normalised.
            guidance: intermediate features of two blocks, each (B, D, H, W).
            cost: (B, T, P, H, W).
            text: (B, T, P, C), unit-norm.
        Returns:
            (B, T, 4H, 4W).
        """
        appearance = F.relu(self.appearance_projection(features)).permute(0, 2, 3, 1)
        text_guidance = F.normalize(text.mean(dim=2), dim=-1)
        text_guidance = F.relu(self.text_projection(text_guidance))  # (B, T, G)
        decoder_guidance = [
            F.relu(project(upsample(x)))
            for project, upsample, x in zip(
                self.decoder_projections, self.upsample, guidance, strict=True
            )
        ]

        keeps_all = torch.is_grad_enabled() and not self.checkpointing
        chunk = cost.shape[1] if keeps_all else self.chunk.size
        volume = by_chunks(self._embed, cost, chunk)
        for layer in self.layers:
            spatial = layer.spatial
            volume = by_chunks(lambda x, f=spatial: self._run(f, x, appearance), volume, chunk)
            volume = self._run(layer.category, volume, text_guidance, chunk)
        return by_chunks(lambda x: self._run(self.decoder, x, *decoder_guidance), volume, chunk)

    def _run(self, layer: nn.Module, *inputs: Tensor | int) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return layer(*inputs)
        result = recomputed(layer, *inputs)
        if not result.is_cuda:
            return_freed_memory()
        return result

    def _embed(self, cost: Tensor) -> Tensor:
        """Embed the cost volume, each class alone: (B, T, P, H, W) -> (B, T, H, W, E)."""
        embedded = self.cost_embedding(cost.flatten(0, 1))
        return embedded.permute(0, 2, 3, 1).contiguous().unflatten(0, cost.shape[:2])
