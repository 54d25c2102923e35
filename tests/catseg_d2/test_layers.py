"""Each exact optimisation equals a direct implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catseg_d2.aggregator import scatter_logits, select_classes, strongest_classes
from catseg_d2.category import ClassAggregation
from catseg_d2.decoder import UpStage
from catseg_d2.spatial import GuidedLinear, SwinBlock, shift_mask

torch.manual_seed(0)


def filled(module: nn.Module) -> nn.Module:
    """Fill all parameters with random numbers, so that no symmetry hides an error."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.requires_grad_(False)


def test_guided_linear_is_a_linear_over_the_concatenation() -> None:
    layer = filled(GuidedLinear(6, 4, 5))
    x, guidance = torch.randn(2, 3, 7, 6), torch.randn(2, 1, 7, 4)
    expected = F.linear(torch.cat([x, guidance.expand(2, 3, 7, 4)], -1), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, guidance), expected)


def direct_class_aggregation(
    layer: ClassAggregation, volume: Tensor, guidance: Tensor, attention: str
) -> Tensor:
    """As described in the paper: with every padding token, and every guidance repeated."""
    batch, classes, height, width, _ = volume.shape
    maps = volume.flatten(0, 1).permute(0, 3, 1, 2)
    pooled = F.avg_pool2d(maps, layer.pooling)
    h, w = pooled.shape[-2:]
    tokens = pooled.unflatten(0, (batch, classes)).permute(0, 3, 4, 1, 2)  # (B, h, w, T, C)
    padding = max(layer.padded_classes - classes, 0)
    pad = layer.padding_token.view(1, 1, 1, 1, -1).expand(batch, h, w, padding, -1)
    tokens = torch.cat([tokens, pad], dim=3)
    pad_guidance = layer.padding_guidance.expand(batch, padding, -1)
    guidance = torch.cat([guidance, pad_guidance], dim=1)[:, None, None].expand(-1, h, w, -1, -1)
    normed = layer.norm1(tokens)
    both = torch.cat([normed, guidance], dim=-1)
    query = F.linear(both, layer.query.weight, layer.query.bias)
    key = F.linear(both, layer.key.weight, layer.key.bias)
    query, key, value = (
        x.unflatten(-1, (layer.num_heads, -1)).transpose(-2, -3)
        for x in (query, key, layer.value(normed))
    )  # (B, h, w, heads, S, d)
    if attention == "full":
        weight = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    else:
        weight = (F.elu(query) + 1) @ (F.elu(key) + 1).transpose(-1, -2)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-6)
    tokens = tokens + (weight @ value).transpose(-2, -3).flatten(-2)
    tokens = tokens + layer.mlp(layer.norm2(tokens))
    maps = tokens[:, :, :, :classes].permute(0, 3, 4, 1, 2).flatten(0, 1)
    maps = F.interpolate(maps, (height, width), mode="bilinear", align_corners=True)
    return volume + maps.unflatten(0, (batch, classes)).permute(0, 1, 3, 4, 2)


@pytest.mark.parametrize("attention", ["linear", "full"])
@pytest.mark.parametrize("pooling", [(1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize(("classes", "chunk"), [(5, 5), (5, 2), (12, 4), (15, 4)])
def test_weighted_padding_equals_repeated_padding(attention, pooling, classes, chunk) -> None:
    layer = filled(ClassAggregation(8, 6, 2, pooling, attention, padded_classes=12)).double()
    volume, guidance = (
        torch.randn(2, classes, 6, 6, 8).double(),
        torch.randn(2, classes, 6).double(),
    )
    expected = direct_class_aggregation(layer, volume, guidance, attention)
    torch.testing.assert_close(layer(volume, guidance, chunk), expected)


@pytest.mark.parametrize("attention", ["linear", "full"])
def test_permuted_classes_permute_the_result(attention: str) -> None:
    layer = filled(ClassAggregation(8, 6, 2, (1, 1), attention, padded_classes=12))
    volume, guidance = torch.randn(1, 5, 4, 4, 8), torch.randn(1, 5, 6)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        layer(volume[:, order], guidance[:, order], 5), layer(volume, guidance, 5)[:, order]
    )


def direct_swin_block(block: SwinBlock, x: Tensor, guidance: Tensor) -> Tensor:
    """Attention over all positions, with a mask of other windows or regions."""
    _, classes, height, width, _ = x.shape
    attention, window, shift = block.attention, block.window, block.shift
    y, z = torch.arange(height)[:, None], torch.arange(width)[None, :]
    rolled_y, rolled_z = (y - shift) % height, (z - shift) % width
    cell = (rolled_y // window) * width + rolled_z // window
    # After the shift, positions that crossed a border are in the same window but another region.
    crossed = (y < shift).long() * 2 + (z < shift).long() if shift else torch.zeros(1, 1).long()
    tag = (cell * 4 + crossed).expand(height, width).flatten()
    allowed = tag[:, None] == tag[None, :]
    normed = block.norm1(x)
    both = torch.cat([normed, guidance[:, None].expand(-1, classes, -1, -1, -1)], -1)
    query, key, value = (
        t.flatten(2, 3).unflatten(-1, (attention.num_heads, -1)).transpose(2, 3)
        for t in (
            F.linear(both, attention.query.weight, attention.query.bias),
            F.linear(both, attention.key.weight, attention.key.bias),
            attention.value(normed),
        )
    )
    score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weight = score.masked_fill(~allowed, -torch.inf).softmax(-1)
    attended = (weight @ value).transpose(2, 3).flatten(3)
    x = x + attention.output(attended).view(x.shape)
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_equals_masked_attention(shift: int) -> None:
    block = filled(SwinBlock(8, 6, (8, 12), 2, 4, shift)).double()
    x, guidance = torch.randn(2, 3, 8, 12, 8).double(), torch.randn(2, 8, 12, 6).double()
    torch.testing.assert_close(block(x, guidance), direct_swin_block(block, x, guidance))


def test_shift_mask_of_the_published_geometry() -> None:
    mask = shift_mask((24, 24), 12, 6)
    assert mask.shape == (4, 144, 144)
    assert mask[0].all()  # the first window contains neighbours only
    assert mask[1].float().mean() == 0.5  # two halves
    assert mask[3].float().mean() == 0.25  # four quarters


def test_decoder_guidance_convolved_once() -> None:
    stage = filled(UpStage(8, 3, 16))
    x, guidance = torch.randn(2 * 4, 8, 5, 5), torch.randn(2, 3, 10, 10)
    expected = torch.cat([stage.up(x), guidance.repeat_interleave(4, dim=0)], dim=1)
    expected = F.relu(stage.norm1(stage.conv1(expected)))
    expected = F.relu(stage.norm2(stage.conv2(expected)))
    torch.testing.assert_close(stage(x, guidance), expected, rtol=1e-4, atol=1e-5)


def test_truncation_keeps_and_scatters_the_strongest() -> None:
    cost = torch.zeros(2, 5, 1, 2, 2)
    cost[0, [1, 4], 0, 0, 1] = torch.tensor([0.5, 0.9])
    cost[1, [0, 3], 0, 1, 1] = torch.tensor([0.2, 0.1])
    kept = strongest_classes(cost, 2)
    assert kept.tolist() == [[1, 4], [0, 3]]
    chosen = select_classes(cost, kept)[:, :, 0]
    full = scatter_logits(chosen, kept, 5)
    assert full[0, 4, 0, 1] == 0.9
    assert (full[0, [0, 2, 3]] == -100).all()
