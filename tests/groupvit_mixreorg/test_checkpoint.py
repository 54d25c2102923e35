"""Checkpoints load: those of the release, transformers' form, and models of the other kind."""

import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from groupvit_models import MIXED, build, photographs

from groupvit_mixreorg import GroupViT
from groupvit_mixreorg.checkpoint import from_published, to_published
from groupvit_mixreorg.names import transformers
from segcore.checkpoint import Checkpointer
from segcore.checkpoint.renaming import Renaming
from segcore.text.token_rows import keep_token_rows


def published(model: GroupViT) -> dict[str, Tensor]:
    """Return a model's state as the release holds it: 1x1 convolutions instead of linear layers."""
    state = {}
    for name, value in model.state_dict().items():
        released = to_published(name)
        assert from_published(released) == name
        is_convolution = "projector" in name and value.ndim == 2
        state[released] = value[..., None] if is_convolution else value
    return state


def of_transformers(model: GroupViT) -> dict[str, Tensor]:
    """Return a model's state in transformers' form, query, key and value apart."""
    names, state = Renaming(transformers.PAIRS), {}
    for name, value in model.state_dict().items():
        theirs = names.to_published(name.removeprefix("model."))
        if theirs == "multi_label_logit_scale":
            continue
        if "qkv_proj" not in theirs:
            state[theirs] = value
            continue
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            state[theirs.replace("qkv_proj", f"{letter}_proj")] = part.clone()
    return state


def assert_equal(one: GroupViT, other: GroupViT) -> None:
    expected = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("form", [published, of_transformers])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_published_files(tmp_path, form, suffix: str) -> None:
    source, model = build(), build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
        model.model.multi_label_logit_scale.copy_(source.model.multi_label_logit_scale)
    file, state = tmp_path / f"model.{suffix}", form(source)
    if suffix == "pth":
        torch.save({"model": state, "epoch": 29, "max_accuracy": 43.7}, file)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, file)
    Checkpointer(model).load_for_use(str(file))
    assert_equal(model, source)
    assert len(model(photographs(1))[0]["sem_seg"]) == 60


def test_all_names_are_used() -> None:
    """No name of the release stays as it is but those that are ours, too."""
    model = build()
    same = {name for name in published(model) if f"model.{name}" in model.state_dict()}
    assert all(name.startswith("text_encoder.") or name.endswith("logit_scale") for name in same)


def test_a_release_without_multi_label_loss() -> None:
    state = published(build(MODEL__GROUPVIT__MULTI_LABEL=0))
    assert "multi_label_logit_scale" not in state
    model = build().eval()
    model.load_state_dict(dict(state))
    plain = build(MODEL__GROUPVIT__MULTI_LABEL=0).eval()
    plain.load_state_dict(published(build()))
    assert torch.equal(model(photographs(1))[0]["sem_seg"], plain(photographs(1))[0]["sem_seg"])


def test_a_file_with_the_trained_token_rows_alone() -> None:
    source, model = build().eval(), build().eval()
    prompts = [f"a photo of a {name}." for name in source.vocabulary.prompts]
    small = keep_token_rows(source.state_dict(), prompts)
    assert sum(value.numel() for value in small.values()) < 200_000
    torch.nn.init.zeros_(model.model.text_encoder.token_embedding.weight)
    model.load_state_dict(small)
    assert torch.equal(model(photographs(1))[0]["sem_seg"], source(photographs(1))[0]["sem_seg"])


def test_groupvit_and_mixreorg_load_each_other(caplog) -> None:
    mixed, plain = build(MIXED).eval(), build().eval()
    added = mixed.state_dict().keys() - plain.state_dict().keys()
    assert added and all(name.startswith("mixreorg.") for name in added)
    plain.load_state_dict(mixed.state_dict())
    with caplog.at_level(logging.WARNING):
        mixed.load_state_dict(plain.state_dict())
        assert not caplog.records
        mixed.train().load_state_dict(published(plain))
    assert f"lacks {len(added)} parameters, which start anew" in caplog.text


def test_other_missing_and_unknown_parameters_are_reported() -> None:
    state = published(build())
    del state["img_encoder.norm.weight"]
    state["img_encoder.other"] = torch.zeros(1)
    found = build().train().load_state_dict(state, strict=False)
    assert found.missing_keys == ["model.image_encoder.norm.weight"]
    assert found.unexpected_keys == ["model.img_encoder.other"]
