"""MixReorg: the invariants of mixing, its branches, and what it adds to GroupViT."""

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import groupvit_models

from groupvit_mixreorg.losses import mixed_segmentation_loss, patch_probabilities
from groupvit_mixreorg.mixing import draw_sources, mix, restore
from groupvit_mixreorg.mixreorg import MixReorg
from segcore.errors import UserError
from segcore.text import contrastive_loss

GRID = (4, 4)


def draw(num_groups: int = 2, group_size: int = 2, cell: int = 1, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return draw_sources(num_groups, group_size, GRID, cell)


# ---- mixing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("group_size", "cell"), [(1, 1), (2, 1), (3, 1), (4, 2), (3, 3)])
def test_mixing_is_undone(group_size: int, cell: int) -> None:
    sources = draw(3, group_size, cell)
    tokens = torch.randn(3, group_size, 16, 5)
    assert torch.equal(restore(mix(tokens, sources), sources), tokens)


@pytest.mark.parametrize("group_size", [2, 3])
def test_every_token_is_used_once(group_size: int) -> None:
    sources = draw(2, group_size)
    assert sources.shape == (2, group_size, 16)  # a mask counts all patches
    every = torch.arange(group_size)[None, :, None].expand_as(sources)
    assert torch.equal(sources.sort(dim=1).values, every)
    counts = F.one_hot(sources.flatten(1)).sum(dim=1)
    assert (counts == 16).all()


def test_permutations_are_random_by_position_and_group() -> None:
    sources = draw(4, 2)
    assert len({tuple(x.tolist()) for x in sources[:, 0]}) == 4
    assert 0 < sources[:, 0].float().mean() < 1


def test_cells_are_mixed_as_a_whole() -> None:
    sources = draw(2, 2, cell=2)[:, 0].unflatten(1, GRID)
    blocks = sources.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
    assert (blocks == blocks[..., :1]).all() and len(blocks.unique()) == 2
    torch.manual_seed(0)
    assert draw_sources(1, 2, (5, 3), 2).shape == (1, 2, 15)


# ---- the loss of mixed images ------------------------------------------------------------------


def test_perfect_segments_have_no_loss() -> None:
    sources = draw(2, 2)
    texts = torch.eye(2).expand(2, 2, 2)
    segments = torch.eye(2).expand(2, 2, 2, 2)  # segment s of every mixed image is source s
    shares = F.one_hot(sources).float().transpose(-1, -2)
    losses = [
        mixed_segmentation_loss(patch_probabilities(segments, texts, shares, scale), sources)
        for scale in (1.0, 10.0, 100.0)
    ]
    assert losses[0] > losses[1] > losses[2] and losses[2] < 1e-6
    wrong = patch_probabilities(segments.flip(2), texts, shares, 100.0)
    assert mixed_segmentation_loss(wrong, sources).item() == pytest.approx(-math.log(1e-6))


def test_more_negatives() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(4, 8, generator=generator), dim=-1)
    segments = F.normalize(torch.randn(2, 2, 3, 8, generator=generator), dim=-1)
    shares = torch.rand(2, 2, 3, 16, generator=generator).softmax(dim=2)
    texts = rows.unflatten(0, (2, 2))
    found = patch_probabilities(segments, texts, shares, 5.0, rows)
    every = (5.0 * segments @ rows.T).softmax(dim=-1)
    for group in range(2):
        expected = shares[group].mT @ every[group][..., 2 * group : 2 * group + 2]
        torch.testing.assert_close(found[group], expected)
    within = patch_probabilities(segments, texts, shares, 5.0)
    torch.testing.assert_close(within.sum(dim=-1), torch.ones(2, 2, 16))
    assert (found < within).all()


# ---- the branches ------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", ["attention", "block", "none"])
@pytest.mark.parametrize("layer", [0, 1, 3])
@torch.no_grad()
def test_the_original_branch_is_groupvit(progressive: str, layer: int) -> None:
    encoder = groupvit_models.image_encoder().eval()
    mixreorg = groupvit_models.mixreorg(progressive=progressive, layer=layer).eval()
    images = groupvit_models.images(4)
    found = mixreorg(encoder, images)
    expected = encoder(images)
    torch.testing.assert_close(found.original.segments, expected.segments)
    torch.testing.assert_close(found.original.shares, expected.shares)
    assert not torch.allclose(found.mixed.segments, expected.segments, atol=1e-2)


@torch.no_grad()
def test_an_identical_mix_without_progressive_modules_is_groupvit() -> None:
    encoder = groupvit_models.image_encoder().eval()
    mixreorg = groupvit_models.mixreorg(progressive="none").eval()
    images = groupvit_models.images(4)
    own = torch.arange(2)[None, :, None].expand(2, 2, 16)
    found = mixreorg(encoder, images, own)
    torch.testing.assert_close(found.mixed.segments, found.original.segments)
    torch.testing.assert_close(found.restored.segments, found.original.segments)
    half = mixreorg(encoder, images, draw())
    assert not torch.allclose(half.restored.segments, found.original.segments, atol=1e-3)


@torch.no_grad()
def test_progressive_modules_read_the_original_images() -> None:
    """Images that take no token of another still learn of it."""
    encoder = groupvit_models.image_encoder().eval()
    mixreorg = groupvit_models.mixreorg().eval()
    own = torch.arange(2)[None, :, None].expand(1, 2, 16)
    first, second = groupvit_models.images(2), groupvit_models.images(2)
    second[1] = groupvit_models.images(1, seed=5)[0]
    found, other = (mixreorg(encoder, images, own) for images in (first, second))
    torch.testing.assert_close(found.original.segments[0], other.original.segments[0])
    assert not torch.allclose(found.mixed.segments[0], other.mixed.segments[0], atol=1e-4)


@pytest.mark.parametrize("group_size", [2, 3])
def test_images_may_change_places_with_their_texts(group_size: int) -> None:
    """The sources of the same mixed patches are then named by the new indices."""
    encoder = groupvit_models.image_encoder().eval()
    mixreorg = groupvit_models.mixreorg(group_size=group_size).eval()
    images = groupvit_models.images(2 * group_size)
    texts = F.normalize(torch.randn(2 * group_size, 32), dim=-1)
    sources = draw(2, group_size)
    order = torch.tensor([1, 0, *range(2, group_size)])  # within each group
    every = torch.cat([order, order + group_size])
    swapped = order[sources[:, order]]
    if group_size == 2:  # then the names of the sources stay as they are
        assert torch.equal(swapped, sources)
    found = [
        losses(mixreorg(encoder, *batch), rows, group_size)
        for *batch, rows in (
            (images, sources, texts),
            (images[every], swapped, texts[every]),
        )
    ]
    torch.testing.assert_close(*found)


def losses(found, texts: Tensor, group_size: int) -> Tensor:
    vectors = [F.normalize(x.vector, dim=-1) for x in (found.original, found.restored)]
    segments = F.normalize(found.mixed.segments, dim=-1).unflatten(0, (-1, group_size))
    probabilities = patch_probabilities(
        segments,
        texts.unflatten(0, (-1, group_size)),
        found.mixed.shares.unflatten(0, (-1, group_size)),
        10.0,
    )
    return torch.stack(
        [
            *(contrastive_loss(x, texts[:, None], torch.tensor(10.0)) for x in vectors),
            mixed_segmentation_loss(probabilities, found.sources),
        ]
    )


def test_only_the_needed_branches_run() -> None:
    encoder, images = groupvit_models.image_encoder(), groupvit_models.images(2)
    found = groupvit_models.mixreorg(with_mixed=False)(encoder, images)
    assert found.mixed is None and found.restored is not None
    found = groupvit_models.mixreorg(with_restored=False)(encoder, images)
    assert found.restored is None and found.mixed is not None


@pytest.mark.parametrize("needed", ["with_mixed", "with_restored"])
def test_gradients_flow_into_all_parameters_from_each_branch(needed: str) -> None:
    encoder = groupvit_models.image_encoder()
    others = {"with_mixed": False, "with_restored": False} | {needed: True}
    mixreorg = groupvit_models.mixreorg(**others)
    found = mixreorg(encoder, groupvit_models.images(2))
    (found.mixed or found.restored).segments.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in mixreorg.parameters())
    assert all(p.grad is not None for p in encoder.parameters())


def test_parameters_that_it_adds() -> None:
    with torch.device("meta"):
        counts = {
            kind: sum(p.numel() for p in MixReorg(384, 6, 6, progressive=kind).parameters())
            for kind in ("attention", "block", "none")
        }
    assert 1.7e6 < counts["attention"] < 1.9e6 and 1.7e6 < counts["block"] < 1.9e6
    assert counts["none"] == 0
    assert [*groupvit_models.mixreorg().progressive] == ["1", "2", "3"]
    assert [*groupvit_models.mixreorg(layer=2).progressive] == ["2", "3"]
    assert [*groupvit_models.mixreorg(progressive="block").progressive] == ["1"]


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(UserError, match=r"batch of 3 images.*groups of 2.*IMS_PER_BATCH"):
        groupvit_models.mixreorg()(groupvit_models.image_encoder(), groupvit_models.images(3))
