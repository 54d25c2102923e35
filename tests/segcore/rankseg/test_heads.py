"""Multi-label heads against the published ones, and what they must not depend on."""

import math

import pytest
import torch

from segcore.errors import UserError
from segcore.rankseg.heads import build_multilabel_head, start_from_prior
from segcore.rankseg.layers import EncoderBlock

KINDS = ("encoder", "decoder", "gap")


def head(kind: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_multilabel_head(kind, 12, 7, hidden_dim=16, **options).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_any_number_become_a_logit_per_class(kind: str) -> None:
    model = head(kind)
    for length in (1, 5):
        assert model(torch.randn(2, length, 12)).shape == (2, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_features_does_not_matter(kind: str) -> None:
    model, features = head(kind), torch.randn(2, 6, 12)
    torch.testing.assert_close(model(features), model(features.flip(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_are_independent(kind: str) -> None:
    model, features = head(kind), torch.randn(3, 6, 12)
    torch.testing.assert_close(model(features)[1:2], model(features[1:2]))


def test_cells_of_a_grid_have_positions() -> None:
    model, features = head("decoder", grid=(2, 3)), torch.randn(1, 6, 12)
    assert not torch.allclose(model(features), model(features.flip(1)), atol=1e-4)
    assert "positions" not in model.state_dict()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_class_embeddings_of_the_model_are_shared(kind: str) -> None:
    own, shared = head(kind), head(kind, shared_width=16)
    embeddings = own.class_embeddings.detach().clone()
    assert shared.load_state_dict(own.state_dict(), strict=False).unexpected_keys == [
        "class_embeddings"
    ]
    features = torch.randn(2, 5, 12)
    torch.testing.assert_close(own(features), shared(features, embeddings[0]))
    shared(features, embeddings.requires_grad_()).sum().backward()
    assert embeddings.grad.abs().amax(dim=-1).gt(0).all()
    with pytest.raises(TypeError, match="either from the head or from its caller"):
        shared(features)
    with pytest.raises(TypeError, match="either from the head or from its caller"):
        own(features, embeddings)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_class_embeddings_of_each_image(kind: str) -> None:
    model, features = head(kind, shared_width=16), torch.randn(2, 5, 12)
    embeddings = torch.randn(2, 7, 16)
    for i in range(2):
        alone = model(features[i : i + 1], embeddings[i])
        torch.testing.assert_close(model(features, embeddings)[i : i + 1], alone)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_projected_features_are_not_projected_again(kind: str) -> None:
    model, features = head(kind), torch.randn(2, 5, 12)
    bare = build_multilabel_head(kind, 16, 7, hidden_dim=16, projection="none").eval()
    state = model.state_dict()
    projected = model.input_proj(features)
    for name in ("input_proj.weight", "input_proj.bias"):
        del state[name]
    bare.load_state_dict(state)
    torch.testing.assert_close(bare(projected), model(features))


def test_a_model_goes_on_with_the_features_of_the_encoder() -> None:
    model, features = head("encoder"), torch.randn(2, 5, 12)
    encoded, refined = model.encode(features)
    tokens = torch.cat([model.input_proj(features), model.class_embeddings.expand(2, -1, -1)], 1)
    torch.testing.assert_close(encoded, model.block(tokens)[:, :5])
    torch.testing.assert_close(refined, model.refine(features))


def test_a_block_without_some_tokens_equals_one_of_the_others_alone() -> None:
    torch.manual_seed(0)
    block, x = EncoderBlock(8, 2, 16, 0.1).eval(), torch.randn(2, 5, 8)
    kept = torch.tensor([[True, False, True, True, False], [False, True, True, True, True]])
    for row in range(2):
        alone = block(x[row][kept[row]][None])[0]
        torch.testing.assert_close(block(x, kept)[row][kept[row]], alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("projection", ["linear", "separable"])
def test_every_parameter_has_a_gradient(kind: str, projection: str) -> None:
    model = head(kind, projection=projection, project_tokens=kind != "gap")
    model(torch.randn(2, 5, 12)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mlp"}, "there is no multi-label head 'mlp'"),
        ({"kind": "encoder", "shared_width": 256}, "MODEL.RANKSEG.HIDDEN_DIM 256"),
        ({"kind": "encoder", "hidden_dim": 200}, "a multiple of 3"),
        ({"kind": "gap", "shared_width": 512}, "no class embeddings .*SHARE_EMBEDDING False"),
        ({"kind": "gap", "project_tokens": True}, "or to project: .*CLASS_TOKEN_PROJECTION False"),
    ],
)
def test_what_does_not_fit_is_one_message(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_multilabel_head(width=256, num_classes=10, **options)


def test_class_tokens_pass_their_projection() -> None:
    """An identity changes nothing, and zero makes all tokens equal before the classifier."""
    features = torch.randn(2, 5, 12)
    plain, projected = head("encoder"), head("encoder", project_tokens=True)
    projected.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        projected.token_proj.weight.copy_(torch.eye(16))
        projected.token_proj.bias.zero_()
        torch.testing.assert_close(projected(features), plain(features))
        projected.token_proj.weight.zero_()
        tokens = projected.refine(features)
    torch.testing.assert_close(tokens, tokens[:, :1].expand_as(tokens))


def test_the_published_shapes() -> None:
    """Mask2Former's head with 150 classes: 19 tensors, 18 where the classes are shared."""
    with torch.device("meta"):
        own = build_multilabel_head("encoder", 256, 150).state_dict()
        shared = build_multilabel_head("encoder", 256, 150, hidden_dim=256, shared_width=256)
    assert len(own) == 19 and len(shared.state_dict()) == 18
    assert own["class_embeddings"].shape == own["classifier.weight"].shape == (1, 150, 512)
    assert own["classifier.bias"].shape == (1, 150)
    assert own["block.mlp.fc1.weight"].shape == (2048, 512)


def test_the_default_number_of_heads_is_the_published_one() -> None:
    assert build_multilabel_head("encoder", 8, 3, hidden_dim=128).block.attn.num_heads == 2
    assert build_multilabel_head("decoder", 8, 3, hidden_dim=64).layers[0].cross_attn.num_heads == 8


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_may_start_from_the_frequency_of_classes(kind: str) -> None:
    model = head(kind)
    features = torch.randn(64, 5, 12)
    assert model(features).mean().abs() < 1
    start_from_prior(model, 0.01)
    assert model(features).mean() == pytest.approx(math.log(0.01 / 0.99), abs=1)
