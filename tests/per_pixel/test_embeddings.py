"""ESSNet's head: its losses, and probabilities in memory that does not grow with the classes."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from largest_tensor import LargestTensor

from per_pixel import search
from per_pixel.config import build_decode_head
from per_pixel.embeddings import Comparison, EmbeddingHead
from segcore.config import default_config
from segcore.errors import UserError


class FirstMap(nn.Module):
    """A decoder that returns the first map."""

    channels = 5

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0]


def head(num_classes: int = 6, **options: object) -> EmbeddingHead:
    torch.manual_seed(0)
    comparison = Comparison(**{"neighbours": 3, **options.pop("comparison", {})})
    return EmbeddingHead(*(FirstMap(), num_classes, 4, comparison), in_features=["res2"], **options)


@pytest.fixture
def features() -> dict[str, Tensor]:
    return {"res2": torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1))}


def labels(num_classes: int = 6) -> Tensor:
    return torch.randint(-1, num_classes, (2, 24, 28), generator=torch.Generator().manual_seed(2))


def test_pixels_are_normalised_before_they_are_resized(features) -> None:
    model = head()
    found = model(features).scores
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 6, 7))
    target = labels()
    losses, scores = model.losses(features, target, torch.ones(2, 6, dtype=torch.bool))
    assert torch.equal(scores.scores, found) and {*losses} == {"loss_ce", "loss_margin"}
    large = F.interpolate(found, (24, 28), mode="bilinear").movedim(1, -1)
    assert large.norm(dim=-1).min() < 0.99
    model = head(comparison={"neighbours": 5, "own_class": "strict"})
    logits = -20 * torch.cdist(large.flatten(0, 2), model.classes())
    expected = F.cross_entropy(logits, target.flatten(), ignore_index=-1)
    losses, _ = model.losses(features, target, torch.ones(2, 6, dtype=torch.bool))
    torch.testing.assert_close(losses["loss_ce"], expected)


def test_all_parameters_have_gradients(features) -> None:
    model = head(comparison={"margin": 3.0, "negatives": "random"})
    losses, _ = model.losses(features, labels(), torch.ones(2, 6, dtype=torch.bool))
    sum(losses.values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_without_normalisation_and_without_margin(features) -> None:
    model = head(normalise=False, comparison={"margin_weight": 0.0})
    assert torch.equal(model.classes(), model.embedding_table.weight)
    assert torch.equal(model(features).scores, model.pixel_proj(features["res2"]))
    losses, _ = model.losses(features, labels(), torch.ones(2, 6, dtype=torch.bool))
    assert {*losses} == {"loss_ce"}


@torch.no_grad()
def test_probabilities_need_little_memory_with_many_classes(monkeypatch) -> None:
    monkeypatch.setattr(search, "BLOCK", 2**18)
    model, columns = head(num_classes=100_000), F.normalize(torch.randn(4, 64), dim=0)
    with LargestTensor() as largest:
        scores = model.class_scores(columns, torch.arange(4))
        found = scores(torch.tensor([5, 99_999, 7]))
    assert largest.elements <= 100_000 * 4
    expected = F.softmax(-20 * torch.cdist(model.classes(), columns.T), dim=0)[[5, 99_999, 7]]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)
    every = torch.cat([scores(ids) for ids in torch.arange(100_000).split(30_000)])
    torch.testing.assert_close(every.sum(dim=0), torch.ones(64), rtol=1e-4, atol=0)


def test_a_prediction_is_the_same_in_parts(monkeypatch, features) -> None:
    model = head()
    columns = model(features).scores[0].flatten(1).detach()
    whole = model.class_scores(columns, torch.arange(4))(torch.arange(6))
    monkeypatch.setattr(search, "BLOCK", 50)
    torch.testing.assert_close(model.class_scores(columns, torch.arange(4))(torch.arange(6)), whole)
    assert torch.equal(whole.argmax(dim=0), model.nearest(columns.T))


def test_bad_configs_are_one_error_message() -> None:
    shapes = {"res2": ShapeSpec(channels=3), "res5": ShapeSpec(channels=4)}
    for options, message in (
        ({"MODEL.PER_PIXEL.IN_FEATURES": ["res2"]}, "reads a finer and a coarser one"),
        ({"MODEL.ESSNET.NEIGHBOURS": 54}, "NEIGHBOURS is 54, but 54 classes leave 53"),
        ({"MODEL.ESSNET.OWN_CLASS": "kept"}, "OWN_CLASS is 'kept': use released or strict"),
        ({"MODEL.ESSNET.NEGATIVES": "far"}, "NEGATIVES is 'far': use nearest or random"),
        ({"MODEL.ESSNET.SEARCH_FRACTION": 0.3}, "SEARCH_FRACTION is 0.3: use 1.0, or 1 divided"),
        ({"MODEL.ESSNET.SEARCH_FRACTION": 2.0}, "SEARCH_FRACTION is 2: use 1.0, or 1 divided"),
        (
            {"MODEL.ESSNET.SEARCH": "all"},
            "ESSNET.SEARCH is 'all': use exact, faiss, clus",
        ),
        ({"MODEL.ESSNET.TEST_SEARCH": "all"}, "MODEL.ESSNET.TEST_SEARCH is 'all'"),
        ({"MODEL.ESSNET.CLUSTERS": 55}, "CLUSTERS is 55, but there are 54 classes"),
        ({"MODEL.ESSNET.FLAG": False, "MODEL.ENCNET.FLAG": True}, "has no context encoding"),
    ):
        cfg = default_config()
        cfg.MODEL.PER_PIXEL.DECODER = "deeplabv3plus"
        cfg.MODEL.PER_PIXEL.IN_FEATURES = ["res2", "res5"]
        cfg.MODEL.ESSNET.FLAG = True
        cfg.merge_from_list([item for pair in options.items() for item in pair])
        with pytest.raises(UserError, match=message):
            build_decode_head(cfg, shapes)


@pytest.mark.parametrize("chosen", [None, "RANKSEG", "ESSNET"])
@pytest.mark.parametrize("decoder", ["aspp", "upernet", "deeplabv3plus"])
def test_every_decoder_takes_every_classifier(decoder: str, chosen: str | None) -> None:
    cfg = default_config()
    node, rankseg = cfg.MODEL.PER_PIXEL, cfg.MODEL.RANKSEG
    node.DECODER, node.NORM, node.CHANNELS = decoder, "BN", 8
    node.DILATIONS = [1, 2]
    node.IN_FEATURES = ["res5"] if decoder == "aspp" else ["res2", "res5"]
    rankseg.TOPK, rankseg.HIDDEN_DIM, rankseg.NUM_HEADS, rankseg.FEEDFORWARD_DIM = 3, 8, 2, 8
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 9
    if chosen:
        cfg.MODEL[chosen].FLAG = True
    shapes = {"res2": ShapeSpec(channels=3), "res5": ShapeSpec(channels=4)}
    built = build_decode_head(cfg, shapes).eval()
    maps = {"res2": torch.randn(1, 3, 12, 16), "res5": torch.randn(1, 4, 6, 8)}
    scores = built(maps).scores
    columns = {None: 9, "RANKSEG": 3, "ESSNET": 12}[chosen]
    assert scores.shape == (1, columns, *maps[node.IN_FEATURES[0]].shape[-2:])
    assert built.scores_classes == (chosen != "ESSNET")
