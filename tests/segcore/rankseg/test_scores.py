"""Rank-adaptive scores: their formulas, another kappa, ranks that are not kept."""

import pytest
import torch
import torch.nn.functional as F

from segcore.errors import UserError
from segcore.rankseg.scores import (
    DROPPED,
    FORMS,
    NormScores,
    TemperatureScores,
    build_rank_scores,
    gather_columns,
    scatter_columns,
    standardize,
)


def filled(form: str, kappa: int, no_object: bool = True) -> torch.nn.Module:
    module = build_rank_scores(form, kappa, no_object)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module


def test_the_published_form_is_a_layer_norm() -> None:
    module, scores = filled("norm", 4), torch.randn(2, 3, 5)
    expected = F.layer_norm(scores, (5,), module.weight, module.bias)
    torch.testing.assert_close(module(scores), expected)


def test_equation_3() -> None:
    module, scores = filled("temperature", 4, no_object=False), torch.randn(2, 3, 4)
    powers = (scores * module.inverse_temperature).exp()
    torch.testing.assert_close(module(scores).softmax(-1), powers / powers.sum(-1, keepdim=True))
    assert torch.equal(TemperatureScores(4)(torch.ones(1, 5)), torch.ones(1, 5))


def test_the_norm_without_bias_is_equation_3_with_a_factor_per_query() -> None:
    """Of scores with mean 0, which the centring leaves alone."""
    norm, scores = NormScores(3), torch.tensor([[[2.0, 1.0, -1.0, -2.0]]])
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.4, 1.2, 0.9, 1.1]))
    sd = (scores.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(scores), scores * norm.weight / sd)


@pytest.mark.parametrize("form", FORMS)
def test_fewer_ranks_use_the_first_factors_and_that_of_no_object(form: str) -> None:
    module, fewer = filled(form, 6), build_rank_scores(form, 2)
    for ours, theirs in zip(fewer.parameters(), module.parameters(), strict=True):
        ours.data = theirs.data if form == "shared" else theirs.data[[0, 1, 6]]
    scores = torch.randn(2, 4, 3)
    torch.testing.assert_close(module(scores), fewer(scores))


@pytest.mark.parametrize("no_object", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_further_ranks_repeat_the_last_factor(form: str, no_object: bool) -> None:
    module, more = filled(form, 2, no_object), build_rank_scores(form, 4, no_object)
    order = [0, 1, 1, 1, *[2] * no_object]
    for ours, theirs in zip(more.parameters(), module.parameters(), strict=True):
        ours.data = theirs.data if form == "shared" else theirs.data[order]
    scores = torch.randn(2, 4, 4 + no_object)
    torch.testing.assert_close(module(scores), more(scores))


@pytest.mark.parametrize("no_object", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_ranks_that_are_not_kept_change_nothing(form: str, no_object: bool) -> None:
    """Each image of a batch equals a batch of one with its kappa."""
    module, scores = filled(form, 5, no_object), torch.randn(2, 3, 5 + no_object)
    lengths = (2, 4)
    kept = torch.arange(5) < torch.tensor(lengths)[:, None]
    result = module(scores, kept)
    for image, (length, got) in enumerate(zip(lengths, result, strict=True)):
        columns = [*range(length), *[5] * no_object]
        alone = module(scores[image : image + 1][..., columns])[0]
        torch.testing.assert_close(got[:, columns], alone)
        assert (got[:, length:5] == DROPPED).all()


def test_all_ranks_kept_is_none_given() -> None:
    module, scores = filled("norm", 5), torch.randn(2, 3, 6)
    torch.testing.assert_close(module(scores, torch.ones(2, 5, dtype=torch.bool)), module(scores))


def test_a_single_rank_has_no_deviation() -> None:
    scores = torch.tensor([[3.0], [7.0]])
    for unbiased in (False, True):
        assert torch.equal(standardize(scores, unbiased=unbiased), torch.zeros(2, 1))
    assert NormScores(1, no_object=False)(scores).isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_gradients_reach_scores_and_factors(form: str) -> None:
    module, scores = filled(form, 4), torch.randn(2, 3, 5, requires_grad=True)
    kept = torch.tensor([[True, False, False, False], [True, True, True, False]])
    module(scores, kept).softmax(-1)[..., 0].sum().backward()
    assert scores.grad.isfinite().all() and scores.grad.abs().sum() > 0
    assert not scores.grad[0, :, 1:4].any()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_a_form_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="no rank-adaptive scores 'tau': use norm, temperature"):
        build_rank_scores("tau", 4)


def test_columns_and_back() -> None:
    scores, columns = torch.randn(2, 3, 6), torch.tensor([[4, 0, 5], [1, 2, 5]])
    chosen = gather_columns(scores, columns)
    assert torch.equal(chosen[1, 2], scores[1, 2, [1, 2, 5]])
    full = scatter_columns(chosen, columns, 6)
    assert torch.equal(full[0][:, [0, 4, 5]], scores[0][:, [0, 4, 5]])
    assert (full[0][:, [1, 2, 3]] == DROPPED).all()
