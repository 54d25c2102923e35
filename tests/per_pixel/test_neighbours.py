"""ESSNet's loss: against reference outputs, and properties: exact search, bounded memory."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1]))
from deterministic import noise
from largest_tensor import LargestTensor

from per_pixel import search
from per_pixel.neighbours import (
    distances_to,
    margin_loss,
    neighbour_cross_entropy,
    own_and_nearest,
    random_classes,
)
from per_pixel.search import nearest_classes
from segcore.errors import UserError

K = 7


def case(golden: Path) -> dict[str, Tensor]:
    arrays = np.load(golden / "per_pixel" / "essnet_nn_cross_entropy.npz")
    found = {name: torch.from_numpy(arrays[name]) for name in arrays}
    assert torch.equal(found["raw_pixels"], noise("pp/ess_pixels", (2, 12, 6, 6)))
    return {n: t.long() if t.dtype == torch.int32 else t for n, t in found.items()}


def flat(maps: Tensor) -> Tensor:
    """(B, n, h, w) -> (pixels, n), or (B, h, w) -> (pixels,)."""
    return maps.movedim(1, -1).flatten(0, 2) if maps.dim() == 4 else maps.flatten()


def close(found: Tensor, expected: Tensor, rtol: float, atol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=rtol, atol=atol)


def test_search_and_compared_classes_equal_the_reference(golden) -> None:
    ref = case(golden)
    pixels = flat(F.normalize(ref["raw_pixels"], dim=1))
    classes = F.normalize(ref["raw_classes"], dim=1)
    assert torch.equal(nearest_classes(pixels, classes, K), flat(ref["neighbours"]))
    assert torch.equal(nearest_classes(pixels, classes, 1)[:, 0], flat(ref["nearest_class"]))
    targets = flat(ref["targets"])
    valid = targets >= 0
    for form in ("released", "strict"):
        expected = flat(ref[f"compared_classes_{form}"])[valid]
        found = own_and_nearest(
            lambda n: nearest_classes(pixels[valid], classes, n), targets[valid], K, form
        )
        assert torch.equal(found, expected), form
    released = flat(ref["compared_classes_released"])[valid]
    close(distances_to(pixels[valid], classes, released), flat(ref["distances"])[valid], 0, 1e-5)


@pytest.mark.parametrize("crowded", [False, True])
def test_losses_and_gradients_equal_the_reference(golden, crowded: bool) -> None:
    """Of the raw embeddings; crowded: two pairs of classes are within the margin."""
    ref, start = case(golden), "crowded_" if crowded else ""
    raw_pixels = ref["raw_pixels"].requires_grad_()
    raw_classes = ref[f"{start}raw_classes"].requires_grad_()
    pixels = flat(F.normalize(raw_pixels, dim=1))
    classes, targets = F.normalize(raw_classes, dim=1), flat(ref["targets"])
    margin = margin_loss(classes, 0.2)
    loss = neighbour_cross_entropy(pixels, classes, targets, k=K) + margin
    loss.backward()
    close(margin, ref[f"{start}loss_reg"], 1e-4, 1e-7)
    close(loss, ref[f"{start}loss_total"], 1e-4)
    close(raw_classes.grad, ref[f"{start}grad_raw_classes"], 1e-3, 1e-6)
    if not crowded:
        close(raw_pixels.grad, ref["grad_raw_pixels"], 1e-3, 1e-6)
        warm = neighbour_cross_entropy(pixels, classes, targets, k=K, scale=1.0) + margin
        close(warm, ref["loss_total_temp1"], 1e-4)
        strict = neighbour_cross_entropy(pixels, classes, targets, k=K, own_class="strict")
        close(strict, ref["loss_ce_strict"], 1e-4)


def embeddings(number: int, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(number, width, generator=generator, dtype=torch.float64), dim=1)


def test_the_loss_in_parts_is_that_of_all_pixels(monkeypatch) -> None:
    targets = torch.arange(200) % 31 - 1  # -1 is ignored
    results = []
    for block in (2**24, 500):
        monkeypatch.setattr(search, "BLOCK", block)
        pixels, classes = embeddings(200).requires_grad_(), embeddings(30, seed=1).requires_grad_()
        loss = neighbour_cross_entropy(pixels, classes, targets, k=5)
        results.append((loss, *torch.autograd.grad(loss, (pixels, classes))))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts)
    assert results[0][1][targets < 0].abs().max() == 0


def test_all_other_classes_give_the_softmax_cross_entropy() -> None:
    pixels, classes = embeddings(40), embeddings(9, seed=1)
    targets = torch.arange(40) % 9
    logits = -20 * torch.cdist(pixels, classes)
    found = neighbour_cross_entropy(pixels, classes, targets, k=8, own_class="strict")
    torch.testing.assert_close(found, F.cross_entropy(logits, targets))
    random = random_classes(targets, 9, 8)
    assert torch.equal(random[:, 0], targets) and (random[:, 1:] != targets[:, None]).all()
    assert random.min() == 0 and random.max() == 8


@pytest.mark.parametrize("own_class", ["released", "strict"])
def test_memory_does_not_grow_with_the_classes(monkeypatch, own_class: str) -> None:
    """The largest tensor of loss and gradients is a block; all distances are 500 of them."""
    monkeypatch.setattr(search, "BLOCK", 2**14)
    monkeypatch.setattr(search, "CLASSES_AT_ONCE", 1000)
    pixels, classes = embeddings(2000, 4).requires_grad_(), embeddings(4000, 4, 1)
    with LargestTensor() as largest:
        loss = neighbour_cross_entropy(
            pixels, classes.requires_grad_(), torch.arange(2000), k=3, own_class=own_class
        )
        (loss + margin_loss(classes)).backward()
    assert largest.elements <= 2**14
    assert pixels.grad.abs().max() > 0 and classes.grad.abs().max() > 0


def test_losses_of_a_raw_table_equal_the_plain_formulation() -> None:
    """Rows are gathered before they are normalised, and the losses have matrices of all classes."""
    pixels, table = embeddings(90).requires_grad_(), (3 * embeddings(40, seed=1)).requires_grad_()
    targets = torch.arange(90) % 11
    rows = F.normalize(table, dim=1)
    distances = torch.cdist(rows, rows) + torch.eye(40)
    plain = (0.9 - distances.amin(dim=1)).clamp(min=0).mean()
    plain = plain + F.cross_entropy(-20 * torch.cdist(pixels, rows), targets)
    found = margin_loss(table, 0.9, normalise=True) + neighbour_cross_entropy(
        pixels, table, targets, k=39, own_class="strict", normalise=True
    )
    torch.testing.assert_close(found, plain)
    gradients = [torch.autograd.grad(loss, (pixels, table)) for loss in (found, plain)]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)
    assert (margin_loss(table, 0.9, normalise=True) > 0) and (distances < 0.9).any(dim=1).sum() > 3


def test_neighbouring_pixels_share_their_negatives() -> None:
    """A quarter of the pixels is searched for; each keeps its own class."""
    pixels, classes = embeddings(40), embeddings(30, seed=1)
    targets = torch.arange(40) % 31 - 1  # -1 is ignored
    searched = []

    def nearest(found: Tensor, k: int) -> Tensor:
        searched.append(found)
        return nearest_classes(found, classes, k)

    options = {"k": 5, "own_class": "strict"}
    loss = neighbour_cross_entropy(pixels, classes, targets, share=4, nearest=nearest, **options)
    valid = targets >= 0
    assert torch.equal(searched[0], pixels[valid][::4]) and len(searched) == 1
    first = pixels[valid][torch.arange(int(valid.sum())) // 4 * 4]
    ids = own_and_nearest(lambda n: nearest_classes(first, classes, n), targets[valid], 5, "strict")
    logits = -20 * distances_to(pixels[valid], classes, ids)
    torch.testing.assert_close(loss, -logits.log_softmax(dim=1)[:, 0].mean())
    # All classes are shared by all pixels.
    options["k"] = 29
    every = [neighbour_cross_entropy(pixels, classes, targets, share=n, **options) for n in (1, 8)]
    torch.testing.assert_close(*every)


def test_no_tensor_but_few_has_the_size_of_the_table(tmp_path) -> None:
    """Beside the gradient: what is held at once grows with the classes like a few tables."""

    def peak(number: int) -> int:
        pixels, table = embeddings(100, 4).float().requires_grad_(), torch.rand(number, 4)
        table.requires_grad_()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            options = {"normalise": True}
            loss = neighbour_cross_entropy(pixels, table, torch.arange(100) % 9, k=3, **options)
            (loss + margin_loss(table, 0.0, **options)).backward()
        file = tmp_path / f"{number}.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
        held = [e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]"]
        return max(held) - held[0]

    small, large = 5000, 20_000
    assert peak(large) - peak(small) < 4 * (large - small) * 4 * 4


def test_nothing_but_ignored_pixels() -> None:
    pixels, classes = embeddings(4).requires_grad_(), embeddings(5, seed=1).requires_grad_()
    loss = neighbour_cross_entropy(pixels, classes, torch.full((4,), -1), k=2)
    loss.backward()
    assert loss == 0 and not pixels.grad.any() and not classes.grad.any()
    assert margin_loss(classes[:1]) == 0


def test_a_pixel_at_its_class_has_a_finite_gradient() -> None:
    classes = embeddings(5, seed=1)
    pixels = classes.clone().requires_grad_()
    neighbour_cross_entropy(pixels, classes, torch.arange(5), k=2).backward()
    assert pixels.grad.isfinite().all()


def test_bad_values_are_one_error_message() -> None:
    pixels, classes, targets = embeddings(4), embeddings(5, seed=1), torch.arange(4)
    for options, message in (
        ({"k": 5}, "NEIGHBOURS is 5, but 5 classes leave 4"),
        ({"k": 0}, "NEIGHBOURS is 0"),
        ({"k": 2, "own_class": "strictly"}, "OWN_CLASS is 'strictly': use released or strict"),
        ({"k": 2, "negatives": "hard"}, "NEGATIVES is 'hard': use nearest or random"),
    ):
        with pytest.raises(UserError, match=message):
            neighbour_cross_entropy(pixels, classes, targets, **options)
