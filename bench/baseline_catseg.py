"""A baseline of CAT-Seg, written as in its paper, with the weights of one of our models.

The benchmarks compare with it: every class in one batch through every layer, guidance repeated for
every class and position, classes padded to their full number, text at its full length, the loss
with a one-hot target. Source: Cho et al., "CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic
Segmentation", CVPR 2024.

Shapes: B crops, T classes, P prompts per class, (H, W) the feature grid, N = H*W, C joint width, E
width of the cost volume, G of the guidance.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from catseg_d2 import CATSeg
from catseg_d2.aggregator import CostAggregator
from catseg_d2.category import ClassAggregation
from catseg_d2.decoder import UpStage
from catseg_d2.encoders import DenseCLIP
from catseg_d2.encoders.text import run_block
from catseg_d2.spatial import SwinBlock
from segcore.text import prompt_templates
from segcore.vocabulary import Vocabulary


class BaselineCATSeg:
    """The published computation and geometry: four tiles of 384 and a global view."""

    side, tile, starts = 640, 384, (0, 256)

    def __init__(self, model: CATSeg) -> None:
        self.model = model

    def set_vocabulary(self, vocabulary: Vocabulary | str | list[str]) -> None:
        """Embed all prompts at once."""
        with torch.no_grad():
            self.text = embed(self.model, Vocabulary.load(vocabulary))

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """image (3, h, w), RGB, 0..255 -> scores (T, h, w)."""
        resized = resize(image[None].float(), self.side)
        corners = [(y, x) for y in self.starts for x in self.starts]
        crops = [resized[:, :, y : y + self.tile, x : x + self.tile] for y, x in corners]
        crops.append(resize(image[None].float(), self.tile))
        scores = resize(self.logits(torch.cat(crops), self.text), self.tile).sigmoid()
        total = scores.new_zeros(scores.shape[1], self.side, self.side)
        count = scores.new_zeros(self.side, self.side)
        for (y, x), score in zip(corners, scores, strict=False):
            total[:, y : y + self.tile, x : x + self.tile] += score
            count[y : y + self.tile, x : x + self.tile] += 1
        merged = (total / count + resize(scores[-1:], self.side)[0]) / 2
        return F.interpolate(merged[None], image.shape[1:], mode="bilinear")[0]

    def loss(self, image: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy: image (3, h, w), labels (h, w) of the training vocabulary."""
        text = embed(self.model, self.model.train_vocabulary)
        logits = self.logits(image[None].float(), text)
        logits = F.interpolate(logits, labels.shape, mode="bilinear").permute(0, 2, 3, 1)
        target = F.one_hot(labels[None], len(text)).float()
        return F.binary_cross_entropy_with_logits(logits, target)

    def logits(self, crops: Tensor, text: Tensor) -> Tensor:
        """crops (B, 3, h, w), text (T, P, C) -> (B, T, 4H, 4W), -100 where a class was dropped."""
        model = self.model
        crops = (crops - model.pixel_mean) / model.pixel_std
        features, guidance = model.clip.encode_image(resize(crops, model.side))
        text = text.expand(len(crops), *text.shape)
        cost = torch.einsum("bchw,btpc->btphw", F.normalize(features, dim=1), text)
        classes, limit = cost.shape[1], model.max_classes
        if not limit or classes <= limit:
            return aggregate(model.aggregator, features, guidance, cost, text)
        kept = cost.flatten(2).amax(dim=2).topk(limit, dim=1).indices
        crop = torch.arange(len(crops))[:, None]
        logits = aggregate(model.aggregator, features, guidance, cost[crop, kept], text[crop, kept])
        full = logits.new_full((len(crops), classes, *logits.shape[2:]), -100.0)
        full[crop, kept] = logits
        return full


def embed(model: CATSeg, vocabulary: Vocabulary) -> Tensor:
    """Return text embeddings (T, P, C): every prompt at the full context length."""
    templates = prompt_templates(model.templates)
    prompts = [template(name) for name in vocabulary.prompts for template in templates]
    clip: DenseCLIP = model.clip
    tokens = clip.tokenizer(prompts).to(model.device)
    x = clip.token_embedding(tokens) + clip.positional_embedding
    for block in clip.transformer.resblocks:
        x = run_block(block, x, is_causal=True)
    x = clip.ln_final(x)[torch.arange(len(x)), tokens.argmax(dim=-1)]
    return F.normalize(x @ clip.text_projection, dim=-1).unflatten(0, (-1, len(templates)))


def aggregate(
    model: CostAggregator, features: Tensor, guidance: list[Tensor], cost: Tensor, text: Tensor
) -> Tensor:
    """cost (B, T, P, H, W), text (B, T, P, C) -> logits (B, T, 4H, 4W)."""
    batch, classes = cost.shape[:2]
    grid = tuple(cost.shape[-2:])
    appearance = F.relu(model.appearance_projection(features)).flatten(2).transpose(1, 2)
    appearance = appearance.repeat_interleave(classes, dim=0)  # (B*T, N, G)
    classes_guidance = F.relu(model.text_projection(F.normalize(text.mean(dim=2), dim=-1)))
    images = [
        F.relu(project(upsample(x))).repeat_interleave(classes, dim=0)
        for project, upsample, x in zip(
            model.decoder_projections, model.upsample, guidance, strict=True
        )
    ]
    volume = model.cost_embedding(cost.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B*T, N, E)
    for layer in model.layers:
        steer = layer.spatial.guidance_norm(appearance)
        for block in layer.spatial.blocks:
            volume = swin_block(block, volume, steer, grid)
        volume = volume.unflatten(0, (batch, classes))
        volume = class_aggregation(layer.category, volume, classes_guidance, grid).flatten(0, 1)
    x = volume.transpose(1, 2).unflatten(2, grid)
    for stage, image in zip(model.decoder.stages, images, strict=True):
        x = up_stage(stage, x, image)
    return model.decoder.logit(x).unflatten(0, (batch, classes))[:, :, 0]


def swin_block(block: SwinBlock, x: Tensor, guidance: Tensor, grid: tuple[int, int]) -> Tensor:
    """x (B*T, N, E), guidance (B*T, N, G) -> (B*T, N, E)."""
    attention, shift, window = block.attention, block.shift, block.window

    def windows(tokens: Tensor) -> Tensor:
        maps = tokens.unflatten(1, grid).roll((-shift, -shift), dims=(1, 2))
        maps = maps.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
        return maps.flatten(3, 4).flatten(1, 2)  # (B*T, n, window**2, channels)

    normed = block.norm1(x)
    both = windows(torch.cat([normed, guidance], dim=-1))
    query, key, value = (
        t.unflatten(-1, (attention.num_heads, -1)).transpose(2, 3)
        for t in (
            F.linear(both, attention.query.weight, attention.query.bias),
            F.linear(both, attention.key.weight, attention.key.bias),
            attention.value(windows(normed)),
        )
    )  # (B*T, n, heads, window**2, d)
    score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if block.mask is not None:
        score = score + torch.where(block.mask, 0.0, -100.0)[:, None]
    attended = (score.softmax(dim=-1) @ value).transpose(2, 3).flatten(3)
    attended = attention.output(attended).unflatten(2, (window, window))
    attended = attended.unflatten(1, (grid[0] // window, -1)).transpose(2, 3)
    attended = attended.flatten(3, 4).flatten(1, 2).roll((shift, shift), dims=(1, 2))
    x = x + attended.flatten(1, 2)
    return x + block.mlp(block.norm2(x))


def class_aggregation(
    layer: ClassAggregation, volume: Tensor, guidance: Tensor, grid: tuple[int, int]
) -> Tensor:
    """volume (B, T, N, E), guidance (B, T, G) -> (B, T, N, E)."""
    batch, classes = volume.shape[:2]
    maps = F.avg_pool2d(volume.flatten(0, 1).transpose(1, 2).unflatten(2, grid), layer.pooling)
    pooled = tuple(maps.shape[-2:])
    tokens = maps.flatten(2).unflatten(0, (batch, classes)).permute(0, 3, 1, 2)  # (B, n, T, E)
    padding = max(layer.padded_classes - classes, 0)
    tokens = torch.cat([tokens, layer.padding_token.expand(*tokens.shape[:2], padding, -1)], dim=2)
    guidance = torch.cat([guidance, layer.padding_guidance.expand(batch, padding, -1)], dim=1)
    normed = layer.norm1(tokens)
    both = torch.cat([normed, guidance[:, None].expand(-1, tokens.shape[1], -1, -1)], dim=-1)
    query, key, value = (
        t.unflatten(-1, (layer.num_heads, -1)).transpose(2, 3)
        for t in (
            F.linear(both, layer.query.weight, layer.query.bias),
            F.linear(both, layer.key.weight, layer.key.bias),
            layer.value(normed),
        )
    )  # (B, n, heads, S, d)
    query, key = F.elu(query) + 1, F.elu(key) + 1
    memory = key.transpose(-1, -2) @ value
    mass = query @ key.sum(dim=-2)[..., None] + 1e-6
    tokens = tokens + (query @ memory / mass).transpose(2, 3).flatten(3)
    tokens = tokens + layer.mlp(layer.norm2(tokens))
    maps = tokens.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, pooled)
    maps = F.interpolate(maps, grid, mode="bilinear", align_corners=True)
    maps = maps.unflatten(0, (batch, -1))[:, :classes]
    return volume + maps.flatten(3).transpose(2, 3)


def up_stage(stage: UpStage, x: Tensor, guidance: Tensor) -> Tensor:
    """x (B*T, E, H, W), guidance (B*T, G, 2H, 2W) -> (B*T, E', 2H, 2W)."""
    x = stage.conv1(torch.cat([stage.up(x), guidance], dim=1))
    return F.relu(stage.norm2(stage.conv2(F.relu(stage.norm1(x)))))


def resize(maps: Tensor, side: int | tuple[int, int]) -> Tensor:
    """Bilinear: (B, C, h, w) -> (B, C, side, side)."""
    return F.interpolate(maps, side, mode="bilinear", align_corners=False)
