"""The vocabulary that a state dict carries, with each checkpointer."""

import logging

import pytest
import safetensors.torch
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from segcore.checkpoint import Checkpointer, convert_for_detectron2, read_checkpoint
from segcore.checkpoint.vocabulary import (
    KEY,
    carry_vocabulary,
    vocabulary_from_text,
    vocabulary_text,
    vocabulary_to_text,
)
from segcore.errors import UserError
from segcore.vocabulary import Background, Vocabulary

PETS = Vocabulary.from_class_names(["grass", "cat, kitten", "Käfer"], "pets")


class Model(nn.Module):
    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.vocabulary = vocabulary
        carry_vocabulary(self)

    def take_vocabulary(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=[".pth", ".safetensors", "of Detectron2"])
def checkpoint(request, tmp_path) -> str:
    """A file with the weights of a model that has a vocabulary."""
    model = Model(PETS)
    if request.param == ".pth":
        Checkpointer(model, str(tmp_path)).save("model")
        return str(tmp_path / "model.pth")
    if request.param == ".safetensors":
        path = tmp_path / "model.safetensors"
        text = vocabulary_text(model.state_dict())
        safetensors.torch.save_file(model.state_dict(), path, {KEY: text})
        return str(path)
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    return str(tmp_path / "model.pth")


@pytest.mark.parametrize("everything", range(3))
def test_a_vocabulary_is_the_same_after_its_text(everything) -> None:
    vocabulary = (
        PETS,
        Vocabulary.registered("ade20k_panoptic_150"),
        Vocabulary.registered("voc20b"),
    )[everything]
    text = vocabulary_to_text(vocabulary)
    assert "\n" not in text
    assert vocabulary_from_text(text) == vocabulary
    assert (everything == 2) == isinstance(vocabulary.background, Background)


def test_our_checkpointer_brings_it(checkpoint) -> None:
    model = Model()
    Checkpointer(model).load_for_use(checkpoint)
    assert model.vocabulary == PETS


def test_detectron2_brings_it(checkpoint) -> None:
    """As its DefaultPredictor does, with what ``load_config`` makes of ``MODEL.WEIGHTS``."""
    model = Model().eval()
    DetectionCheckpointer(model).load(convert_for_detectron2(checkpoint))
    assert model.vocabulary == PETS


def test_pytorch_alone_brings_it(tmp_path) -> None:
    torch.save(Model(PETS).state_dict(), tmp_path / "a.pth")
    model = Model().eval()
    model.load_state_dict(torch.load(tmp_path / "a.pth", weights_only=True))
    assert model.vocabulary == PETS
    assert vocabulary_text(read_checkpoint(tmp_path / "a.pth")["model"])


def test_weights_to_start_training_from_do_not(checkpoint) -> None:
    own = Vocabulary.from_class_names(["sky"])
    model = Model(own)
    Checkpointer(model).resume_or_load(checkpoint, resume=False)
    assert model.vocabulary == own


def test_weights_behind_wrappers_carry_it_too(tmp_path) -> None:
    torch.save(nn.DataParallel(Model(PETS)).state_dict(), tmp_path / "a.pth")
    ours, theirs = Model(), Model().eval()
    Checkpointer(ours).load_for_use(str(tmp_path / "a.pth"))
    DetectionCheckpointer(theirs).load(str(tmp_path / "a.pth"))
    assert ours.vocabulary == theirs.vocabulary == PETS


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"classes": 3}', '{"classes": ["a", "a"]}'])
def test_a_text_that_is_none_is_left_out_with_a_warning(tmp_path, caplog, text) -> None:
    safetensors.torch.save_file(Model().state_dict(), tmp_path / "a.safetensors", {KEY: text})
    model = Model(PETS)
    with caplog.at_level(logging.WARNING):
        Checkpointer(model).load_for_use(str(tmp_path / "a.safetensors"))
    assert model.vocabulary == PETS and "are left out" in caplog.text
    with pytest.raises(UserError):
        vocabulary_from_text(text)


@pytest.mark.parametrize("metadata", [1, {"": 1}, {"": {"version": "two"}}])
def test_odd_versions_of_modules_are_damage(tmp_path, metadata) -> None:
    state = Model().state_dict()
    state._metadata = metadata
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="the versions of modules"):
        read_checkpoint(tmp_path / "a.pth")
