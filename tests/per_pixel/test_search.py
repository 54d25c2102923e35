"""The searches of nearest classes: equal to the plain one where exact, close to it in clusters."""

import ast
import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from per_pixel_models import model

from per_pixel import faiss_index, search
from per_pixel.inference import LABELS
from per_pixel.neighbours import margin_loss, neighbour_cross_entropy
from per_pixel.search import Search, nearest_classes
from segcore.errors import UserError


@pytest.fixture
def faiss() -> None:
    pytest.importorskip("faiss", reason="faiss is not installed: extra `faiss`")


def embeddings(number: int, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(number, width, generator=generator, dtype=torch.float64), dim=1)


def test_the_search_in_parts_is_exact(monkeypatch) -> None:
    pixels, classes = embeddings(301), embeddings(53, seed=1)
    expected = torch.cdist(pixels, classes).argsort(dim=1)
    for classes_at_once, block in ((4096, 2**24), (10, 64), (7, 7)):
        monkeypatch.setattr(search, "CLASSES_AT_ONCE", classes_at_once)
        monkeypatch.setattr(search, "BLOCK", block)
        for k in (1, 9, 53):
            assert torch.equal(nearest_classes(pixels, classes, k), expected[:, :k])
    assert nearest_classes(pixels[:0], classes, 3).shape == (0, 3)


@pytest.mark.parametrize("options", [{"kind": "faiss"}, {"kind": "clusters", "probes": 500}])
def test_an_index_is_exact(faiss, options: dict) -> None:
    """Flat, or with a visit of all clusters."""
    pixels, classes = embeddings(300).float(), embeddings(400, seed=1).float()
    nearest = Search(**options).among(classes)
    for k in (1, 9):
        assert torch.equal(nearest(pixels, k), nearest_classes(pixels, classes, k))


def test_clusters_find_most_of_the_nearest_classes(faiss) -> None:
    """The more clusters are visited, the more."""
    pixels, classes = embeddings(500).float(), embeddings(2000, seed=1).float()
    expected = nearest_classes(pixels, classes, 5)
    recall = {}
    for probes in (1, 4, 20):
        found = Search("clusters", probes=probes).among(classes)(pixels, 5)
        recall[probes] = (found[:, :, None] == expected[:, None]).any(dim=1).float().mean().item()
    assert 0.1 < recall[1] < recall[4] < recall[20] and recall[4] > 0.4 and recall[20] > 0.9


def test_clusters_with_too_few_classes_are_no_obstacle(faiss) -> None:
    """Then the search among all classes is exact."""
    pixels, classes = embeddings(50).float(), embeddings(30, seed=1).float()
    found = Search("clusters", clusters=30, probes=1).among(classes)(pixels, 4)
    assert torch.equal(found, nearest_classes(pixels, classes, 4))


def test_losses_and_gradients_by_an_index(faiss) -> None:
    results = []
    for kind in ("exact", "faiss"):
        pixels = embeddings(200).float().requires_grad_()
        table = (3 * embeddings(60, seed=1)).float().requires_grad_()
        options = {
            "normalise": True,
            "nearest": Search(kind).among(F.normalize(table.detach(), dim=1)),
        }
        targets = torch.arange(200) % 60
        loss = neighbour_cross_entropy(pixels, table, targets, k=5, **options)
        loss = loss + margin_loss(table, 0.9, **options)
        results.append((loss, *torch.autograd.grad(loss, (pixels, table))))
    for exact, by_index in zip(*results, strict=True):
        assert torch.equal(exact, by_index)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"window": (24, 32), "stride": (17, 20)}])
def test_label_maps_by_an_index(faiss, options: dict) -> None:
    """They are those of the exact search, and follow the table."""
    exact, by_index = (model("embeddings", prediction_kind=LABELS, **options) for _ in range(2))
    by_index.decode_head.test_search = Search("faiss")
    inputs = [{"image": 255 * torch.rand(3, 40, 57), "height": 31, "width": 44}]
    for table in (torch.randn(7, 7), torch.randn(7, 7)):
        for of in (exact, by_index):
            of.decode_head.embedding_table.weight.data.copy_(table)
        labels = exact(inputs)[0]["sem_seg_labels"]
        assert torch.equal(by_index(inputs)[0]["sem_seg_labels"], labels)
    index = by_index.decode_head._searched
    by_index(inputs)
    assert by_index.decode_head._searched is index
    for again in (copy.deepcopy(by_index), pickle.loads(pickle.dumps(by_index))):
        assert torch.equal(again(inputs)[0]["sem_seg_labels"], labels)


def test_bad_values_are_one_error_message(monkeypatch) -> None:
    monkeypatch.setattr(faiss_index, "find_spec", lambda name: None)
    for options, message in (
        ({"kind": "flat"}, "SEARCH is 'flat': use exact, faiss, clusters"),
        ({"kind": "faiss"}, r"SEARCH is 'faiss', which needs .* pip install 'catrank\[faiss\]'"),
        ({"kind": "clusters", "key": "MODEL.ESSNET.TEST_SEARCH"}, "TEST_SEARCH is 'clusters', whi"),
        ({"clusters": -1}, "CLUSTERS is -1: use a number of clusters"),
        ({"probes": 0}, "PROBES is 0: visit 1 cluster or more"),
    ):
        with pytest.raises(UserError, match=message):
            Search(**options)
    with pytest.raises(UserError, match="CLUSTERS is 9, but there are 8 classes"):
        Search(clusters=9).check_classes(8)


def test_the_family_does_without_faiss(repository) -> None:
    """It is imported by a search with an index alone, not at the top of a file."""
    for path in (repository / "per_pixel").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert not (isinstance(node, ast.Import) and node.names[0].name == "faiss"), path
