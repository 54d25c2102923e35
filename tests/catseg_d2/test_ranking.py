"""The ranking head on plain tensors: any number of classes, in any order, in any chunks."""

import pytest
import torch
import torch.nn.functional as F
from largest_tensor import LargestTensor
from torch import Tensor

from catseg_d2.ranking import ClassRanker, HeadShape, Ranking, pooled_cost
from segcore.errors import UserError
from segcore.rankseg.dial import ClassesKept
from segcore.rankseg.scores import TemperatureScores

C = 12  # width of the embeddings
SHAPE = HeadShape(width=16, num_heads=2)


def make_head(shape: HeadShape = SHAPE, **options: object) -> ClassRanker:
    torch.manual_seed(0)
    head = ClassRanker(C, shape, **options).eval()
    for parameter in head.parameters():  # none is zero, as some are at the start
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def make_inputs(classes: int = 11, prompts: int = 2, crops: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(crops, C, 4, 3, generator=generator)
    text = F.normalize(torch.randn(classes, prompts, C, generator=generator), dim=-1)
    return features, text


@pytest.mark.parametrize("shape", [SHAPE, HeadShape(16, 2, pool=2, pooled_cost=False)])
def test_the_order_of_classes_does_not_matter(shape: HeadShape) -> None:
    head, (features, text) = make_head(shape), make_inputs()
    order = torch.randperm(len(text), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = head(features, text)
        torch.testing.assert_close(head(features, text[order]), logits[:, order])
    assert logits.shape == (2, 11)
    assert logits.std(dim=1).min() > 0.01


def test_the_number_of_classes_is_free() -> None:
    head = make_head()
    shapes = {name: value.shape for name, value in head.state_dict().items()}
    for classes in (1, 3, 50):
        features, text = make_inputs(classes)
        assert head(features, text).shape == (2, classes)
    assert {name: value.shape for name, value in head.state_dict().items()} == shapes


@pytest.mark.parametrize("floats", [1, 1000, 2500])
def test_chunks_of_classes_do_not_change_the_result(floats: int) -> None:
    head, (features, text) = make_head(), make_inputs(classes=23)
    with torch.no_grad():
        whole = head(features, text)
        head.floats.size = floats
        torch.testing.assert_close(head(features, text), whole)
    torch.testing.assert_close(head(features, text), whole)  # with gradients there are no chunks


def test_each_crop_may_have_its_own_candidates() -> None:
    head, (features, text) = make_head(), make_inputs()
    classes = torch.tensor([[0, 4, 5], [10, 1, 2]])
    logits = head(features, text[classes])
    for i in range(2):
        alone = head(features[i : i + 1], text[classes[i]])
        torch.testing.assert_close(logits[i : i + 1], alone)


def test_pooled_cost_measures_presence_and_extent() -> None:
    cost = torch.tensor([[[0.9, 0.1, 0.1, 0.1], [0.2, 0.8, 0.8, 0.8], [0.2, 0.2, 0.2, 0.2]]])
    best, scale = cost.amax(dim=1), torch.tensor(20.0)
    peak, mean, distance, extent = pooled_cost(cost, best, scale)[0].unbind(-1)
    torch.testing.assert_close(peak, torch.tensor([0.9, 0.8, 0.2]))
    torch.testing.assert_close(mean, torch.tensor([0.3, 0.65, 0.2]))
    torch.testing.assert_close(distance, torch.tensor([0.0, 0.0, -1.0]))
    share = torch.tensor([0.25, 0.75])
    torch.testing.assert_close((10 * extent[:2]).exp(), share, atol=1e-3, rtol=0)


@pytest.mark.parametrize("pooled", [True, False])
def test_of_many_classes_those_with_the_highest_cosine_are_ranked(pooled: bool) -> None:
    shape = HeadShape(16, 2, pooled_cost=pooled)
    (features, text), order = make_inputs(30), torch.randperm(30)
    head, limited = make_head(shape), make_head(shape, limit=8)
    with torch.no_grad():
        logits, some = head(features, text), limited(features, text)
        torch.testing.assert_close(limited(features, text[order]), some[:, order])
    cells = F.normalize(features.flatten(2), dim=1)
    peaks = (F.normalize(text.mean(dim=1), dim=-1) @ cells).amax(dim=2)
    for crop in range(2):
        kept = peaks[crop].topk(8).indices
        torch.testing.assert_close(some[crop, kept], logits[crop, kept])
        assert (some[crop].sigmoid() > 0).sum() == 8


def test_memory_of_twenty_thousand_classes() -> None:
    """The largest tensor holds a chunk of classes, not all."""
    features, text = make_inputs(20_000, prompts=1, crops=1)
    head = make_head(chunk_memory=1 << 20)
    with torch.no_grad(), LargestTensor() as largest:
        head(features, text)
    assert largest.elements <= 20_000 * C  # the embeddings themselves


def test_start_from_prior() -> None:
    head, (features, text) = make_head(), make_inputs()
    head.start_from_prior(0.01)
    torch.testing.assert_close(head(features, text).sigmoid(), torch.full((2, 11), 0.01))


def ranking(scale: str, **options: object) -> Ranking:
    scores = TemperatureScores(3, no_object=False) if scale else None
    if scores is not None:
        scores.inverse_temperature.data = torch.tensor([4.0, 2.0, 1.0])
    return Ranking(make_head(), scores, scale=scale, kappa=3, kept=ClassesKept(3), **options)


@pytest.mark.parametrize("what", ["cost", "logits"])
def test_scale_of_the_ranks(what: str) -> None:
    values, ranks = torch.ones(1, 5, 2, 2), torch.tensor([[4, 0, 2, 1, 3]])
    scaled = ranking(what).scaled(what, values, ranks)
    assert scaled[0, :, 0, 0].tolist() == [1, 4, 1, 2, 1]  # the last scale is repeated
    other = {"cost": "logits", "logits": "cost"}[what]
    assert ranking(what).scaled(other, values, ranks) is values
    assert ranking("").scaled(what, values, None) is values


def test_loss_is_low_for_the_right_classes() -> None:
    present = torch.tensor([[True, False, False]])
    losses = [ranking("").loss(sign * 5 * (2.0 * present - 1), present) for sign in (1, -1)]
    assert losses[0] < 0.01 < 1 < losses[1]
    assert ranking("", loss_weight=3.0).loss(-5 * (2.0 * present - 1), present) == 3 * losses[1]


def test_learns_which_names_match_whatever_they_are() -> None:
    """From names of half the space the head learns presence of names that it never saw."""
    torch.manual_seed(0)
    names = F.normalize(torch.randn(60, C), dim=-1)
    head = ClassRanker(C, HeadShape(width=16, num_heads=2), dropout=0.0)
    head.start_from_prior(0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)

    def batch(low: int, high: int) -> tuple[Tensor, Tensor]:
        """Images of three of the names low ... high - 1, a row each, with noise."""
        shown = torch.stack([torch.randperm(high - low)[:3] for _ in range(16)])
        rows = names[low + shown].repeat_interleave(3, dim=1) + 0.15 * torch.randn(16, 9, C)
        present = torch.zeros(16, high - low, dtype=torch.bool).scatter_(1, shown, True)
        return rows.transpose(1, 2).unflatten(2, (3, 3)), present

    rank = Ranking(head, None, kappa=0, kept=ClassesKept(), loss_weight=10.0)
    for _ in range(60):
        features, present = batch(0, 40)
        loss = rank.loss(head(features, names[:40, None]), present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, present = batch(40, 60)
    top = head(features, names[40:, None]).topk(3).indices
    assert present.gather(1, top).float().mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "num_heads": 4}, "HIDDEN_DIM is 30; it has to be a multiple of NUM_HEADS"),
        ({"width": 0}, "HIDDEN_DIM is 0"),
        ({"num_layers": 1000}, "NUM_LAYERS is 1000"),
        ({"pool": True}, "POOL is True"),
        ({"width": "128"}, "HIDDEN_DIM is 128"),
    ],
)
def test_other_sizes_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeadShape(**options)
