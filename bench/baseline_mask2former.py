"""A baseline of Mask2Former, written as in its paper, with the weights of one of our models.

The benchmarks compare with it: deformable attention that samples map by map, predictions at full
size after every layer even if only the last one is needed, attention with all weights in memory,
masks of every query at the size of the image before any selection, segments that are merged one by
one. Sources: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation",
CVPR 2022; Zhu et al., "Deformable DETR", ICLR 2021. The losses are
in bench/baseline_losses.py.

Shapes: B images, Q queries, C classes, D the width, S tokens of all L levels, M heads,
P points, (h, w) the map of the masks, (H, W) the image.
"""

import torch
import torch.nn.functional as F
from baseline_losses import BaselineCriterion
from torch import Tensor, nn

from mask2former_rankseg import MaskFormer
from mask2former_rankseg.masked_decoder import MaskedDecoder, resize
from mask2former_rankseg.pixel_decoder import PixelDecoder
from mask2former_rankseg.queries import Attention, Decoded
from mask2former_rankseg.targets import padded_masks
from segcore.backbones.swin import (
    MASKED,
    SwinBlock,
    SwinTransformer,
    from_windows,
    shift_mask,
    to_windows,
)
from segcore.deformable import DeformableAttention, pixel_centres
from segcore.rankseg.layers import sine_positions
from segcore.rankseg.scores import scatter_columns
from segcore.rankseg.selection import with_no_object


class BaselineMaskFormer(nn.Module):
    """The published computation, for images of one size, which is also that of the predictions."""

    def __init__(self, model: MaskFormer) -> None:
        super().__init__()
        self.model = model
        self.backbone = model.backbone
        if isinstance(model.backbone, SwinTransformer):
            self.backbone = BaselineSwin(model.backbone)
        self.pixel_decoder = BaselinePixelDecoder(model.sem_seg_head.pixel_decoder)
        self.decoder = BaselineDecoder(model.sem_seg_head.predictor)
        self.criterion = BaselineCriterion(model.criterion)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Return the output of :class:`MaskFormer`: losses, or "sem_seg" and "panoptic_seg"."""
        if self.training:
            return self._losses(batched_inputs)
        with torch.no_grad():
            return self._segment(batched_inputs)

    def _decode(self, batched_inputs: list[dict]) -> tuple[list[tuple], object]:
        images = self.model.to_batch(batched_inputs).tensor
        decoded = self.decoder(*self.pixel_decoder(self.backbone(images)))
        classes, masks = zip(*decoded.predictions, strict=True)
        ranked = self.model.rank(decoded, classes, batched_inputs)
        if ranked is not None:
            classes = ranked.logits
        return list(zip(classes, masks, strict=True)), ranked

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        predictions, ranked = self._decode(batched_inputs)
        assert ranked is None, "the baseline's losses are those of Mask2Former alone"
        labels = [item["instances"].gt_classes for item in batched_inputs]
        size = batched_inputs[0]["image"].shape[-2:]
        masks = padded_masks(batched_inputs, size, self.model.device)
        return self.criterion(predictions, labels, masks)

    def _segment(self, batched_inputs: list[dict]) -> list[dict]:
        predictions, ranked = self._decode(batched_inputs)
        classes, masks = predictions[-1]
        if ranked is not None:
            number = self.model.num_classes
            classes = scatter_columns(classes, with_no_object(ranked.selected, number), number + 1)
        size = batched_inputs[0]["image"].shape[-2:]
        masks = resize(resize(masks, size), size)  # to the batch, then to the prediction
        results = []
        for class_logits, mask_logits in zip(classes, masks, strict=True):
            prediction = {}
            if self.model.tasks.semantic:
                prediction["sem_seg"] = semantic(class_logits, mask_logits)
            if self.model.tasks.panoptic:
                prediction["panoptic_seg"] = panoptic(class_logits, mask_logits, self.model)
            results.append(prediction)
        return results


class BaselineSwin(nn.Module):
    """Window attention with all scores in memory."""

    def __init__(self, swin: SwinTransformer) -> None:
        super().__init__()
        self.swin = swin

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> maps by name."""
        x, maps = self.swin.patch_embed(images), {}
        for stage, layer in enumerate(self.swin.layers):
            for block in layer.blocks:
                x = x + block.drop_path(window_attention(block, block.norm1(x)))
                x = x + block.drop_path(block.mlp(block.norm2(x)))
            norm = getattr(self.swin, f"norm{stage}")
            maps[f"res{stage + 2}"] = norm(x).permute(0, 3, 1, 2).contiguous()
            x = x if layer.downsample is None else layer.downsample(x)
        return maps


def window_attention(block: SwinBlock, x: Tensor) -> Tensor:
    """(B, H, W, D) -> the same shape."""
    height, width = x.shape[1:3]
    window, shift, attn = block.window, block.shift, block.attn
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    size = x.shape[1:3]
    windows = to_windows(x.roll((-shift, -shift), dims=(1, 2)), window)
    q, k, v = attn.qkv(windows).unflatten(-1, (3, attn.num_heads, -1)).unbind(3)
    q, k, v = (t.transpose(2, 3) for t in (q, k, v))  # (B, nW, heads, N, d)
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    scores = scores + attn.relative_position_bias_table[attn.offsets].permute(2, 0, 1)
    if shift:
        mask = shift_mask(*size, window, shift, x.device)
        scores = scores + MASKED * mask[:, None].to(scores.dtype)
    x = attn.proj((scores.softmax(dim=-1) @ v).transpose(2, 3).flatten(3))
    x = from_windows(x, size, window).roll((shift, shift), dims=(1, 2))
    return x[:, :height, :width]


class BaselinePixelDecoder(nn.Module):
    """Multi-scale deformable attention by bilinear sampling of every map."""

    def __init__(self, decoder: PixelDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Maps by name -> those of the levels, coarsest first, and features for masks."""
        decoder = self.decoder
        levels = [features[name] for name in decoder.levels]
        levels = [proj(x) for proj, x in zip(decoder.input_proj, levels, strict=True)]
        sizes = [tuple(level.shape[-2:]) for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        with x.device:
            encodings = [sine_positions(*size, x.shape[-1]) for size in sizes]
            references = torch.cat([pixel_centres(*size) for size in sizes])
        positions = [p + e for p, e in zip(encodings, decoder.level_embed, strict=True)]
        positions = torch.cat(positions)
        for layer in decoder.layers:
            attended = deformable_attention(layer.attention, x + positions, references, x, sizes)
            x = layer.norm1(x + layer.dropout(attended))
            change = layer.linear2(layer.dropout(F.relu(layer.linear1(x))))
            x = layer.norm2(x + layer.dropout(change))
        parts = x.split([height * width for height, width in sizes], dim=1)
        maps = [p.transpose(1, 2).unflatten(-1, s) for p, s in zip(parts, sizes, strict=True)]
        top = decoder.lateral(features[decoder.fine])
        top = F.relu(decoder.smooth(top + resize(maps[-1], top.shape[-2:])))
        return maps, decoder.mask_features(top)


def deformable_attention(
    attention: DeformableAttention, query: Tensor, references: Tensor, tokens: Tensor, sizes: list
) -> Tensor:
    """query and tokens (B, S, D), references (S, 2) -> (B, S, D)."""
    heads, levels, points = attention.num_heads, attention.num_levels, attention.num_points
    value = attention.value_proj(tokens).unflatten(-1, (heads, -1))
    offsets = attention.sampling_offsets(query).unflatten(-1, (heads, levels, points, 2))
    weights = attention.attention_weights(query).unflatten(-1, (heads, -1)).softmax(dim=-1)
    extent = references.new_tensor([(width, height) for height, width in sizes])
    locations = references[:, None, None, None] + offsets / extent[:, None]
    maps = value.split([height * width for height, width in sizes], dim=1)
    samples = []
    for level, (map_, size) in enumerate(zip(maps, sizes, strict=True)):
        map_ = map_.flatten(2).transpose(1, 2).reshape(len(map_) * heads, -1, *size)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        samples.append(F.grid_sample(map_, grid, align_corners=False))  # (B M, d, S, P)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B M, 1, S, L P)
    total = (torch.cat(samples, dim=-1) * weights).sum(dim=-1)
    total = total.view(len(query), -1, query.shape[1]).transpose(1, 2)
    return attention.output_proj(total)


class BaselineDecoder(nn.Module):
    """Class and mask after every layer; the resized mask of a layer masks the next attention."""

    def __init__(self, decoder: MaskedDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, levels: list[Tensor], mask_features: Tensor) -> Decoded:
        """Maps of the levels (B, D, h_i, w_i), coarsest first, mask_features (B, D', h, w)."""
        decoder, keys, values = self.decoder, [], []
        for level, embed in zip(levels, decoder.level_embed.weight, strict=True):
            values.append(level.flatten(2).transpose(1, 2) + embed)
            with level.device:
                keys.append(values[-1] + sine_positions(*level.shape[-2:], level.shape[1]))
        query_positions = decoder.query_embed.weight
        x = decoder.query_feat.weight.expand(len(mask_features), -1, -1)
        predictions, states = [self._predict(x, mask_features)], []
        for i, layer in enumerate(decoder.layers):
            level = i % len(levels)
            blocked = blocked_positions(predictions[-1][1], levels[level].shape[-2:], layer)
            attended = attention(
                layer.cross_attention, x + query_positions, keys[level], values[level], blocked
            )
            x = layer.cross_norm(x + attended)
            query = x + query_positions
            x = layer.self_norm(x + attention(layer.self_attention, query, query, x))
            x = layer.norm(x + layer.linear2(F.relu(layer.linear1(x))))
            states.append(x)
            predictions.append(self._predict(x, mask_features))
        return Decoded(predictions, states, mask_features)

    def _predict(self, x: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor]:
        y = self.decoder.norm(x)
        embedding = self.decoder.mask_embed(y)
        masks = torch.einsum("bqc,bchw->bqhw", embedding, mask_features)
        return self.decoder.class_logits(y), masks


def blocked_positions(masks: Tensor, size: tuple[int, int], layer: nn.Module) -> Tensor:
    """Mask logits (B, Q, h, w) -> positions that attention must skip, (B, heads, Q, S) bool."""
    inside = resize(masks.detach(), size).sigmoid().flatten(2)
    blocked = (inside < 0.5)[:, None].repeat(1, layer.cross_attention.num_heads, 1, 1)
    blocked[blocked.all(dim=-1)] = False
    return blocked


def attention(
    layer: Attention, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None
) -> Tensor:
    """query (B, Q, D), key and value (B, S, D), blocked (B, heads, Q, S) -> (B, Q, D)."""
    weights, biases = layer.in_proj.weight.chunk(3), layer.in_proj.bias.chunk(3)
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    if blocked is not None:
        scores = scores.masked_fill(blocked, -torch.inf)
    return layer.out_proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def semantic(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """(Q, C + 1), (Q, H, W) -> scores (C, H, W)."""
    weights = class_logits.softmax(dim=-1)[:, :-1]
    return torch.einsum("qc,qhw->chw", weights, mask_logits.sigmoid())


def panoptic(
    class_logits: Tensor, mask_logits: Tensor, model: MaskFormer
) -> tuple[Tensor, list[dict]]:
    """(Q, C + 1), (Q, H, W) -> segments (H, W), and their descriptions."""
    scores, labels = class_logits.softmax(dim=-1).max(dim=-1)
    masks = mask_logits.sigmoid()
    kept = (labels != model.num_classes) & (scores > model.tasks.score_threshold)
    scores, labels, masks = scores[kept], labels[kept], masks[kept]
    segments = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    info, stuff = [], {}
    if not len(masks):
        return segments, info
    owner = (scores[:, None, None] * masks).argmax(dim=0)
    for query, label in enumerate(labels.tolist()):
        inside = masks[query] >= 0.5
        won = (owner == query).sum().item()
        size = inside.sum().item()
        mine = (owner == query) & inside
        if not (won and size and mine.sum().item()):
            continue
        if won / size < model.tasks.overlap_threshold:
            continue
        is_thing = label in model.classes.things
        if label in stuff:
            segments[mine] = stuff[label]
            continue
        number = len(info) + 1
        if not is_thing:
            stuff[label] = number
        segments[mine] = number
        info.append({"id": number, "isthing": is_thing, "category_id": label})
    return segments, info
