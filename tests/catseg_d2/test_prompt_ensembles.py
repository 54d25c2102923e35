"""Classes by all their words and in many sentences."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from catseg_d2.prompt_ensembles import reword
from catseg_d2.text import embed_prompts
from segcore.config import load_config
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.from_words(["sofa, couch, settee", "cat", "tree, tree"])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(load_config("catseg_d2/scenes_60.yaml", ["MODEL.DEVICE", "cpu"])).eval()


def embeddings(model):
    return model.text_cache.get(model.clip, WORDS, model.templates)


def test_all_words_of_a_class(model):
    reword(model, "single", "all")
    found = embeddings(model)
    with torch.no_grad():
        words = embed_prompts(model.clip, ["sofa", "couch", "settee", "cat", "tree"], "single")[
            :, 0
        ]
    expected = torch.stack([words[:3].mean(0), words[3], words[4]])
    torch.testing.assert_close(found, F.normalize(expected, dim=-1)[:, None])


def test_many_sentences_for_a_model_that_learned_one(model):
    reword(model, "imagenet", "first")
    found = embeddings(model)
    with torch.no_grad():
        words = embed_prompts(model.clip, ["sofa", "cat", "tree"], "imagenet")
    assert words.shape[1] == 80 and found.shape == (3, 1, words.shape[2])
    torch.testing.assert_close(found, F.normalize(words.mean(1, keepdim=True), dim=-1))


def test_its_own_words_change_nothing(model):
    own = embeddings(model)
    reword(model, "single", "first")
    torch.testing.assert_close(embeddings(model), own)


def test_predictions_change_with_the_words_and_with_the_weights(model):
    image = {
        "image": torch.randint(0, 256, (3, 96, 96), generator=torch.Generator().manual_seed(0))
    }
    plain = model.set_vocabulary(WORDS) and model([image])[0]["sem_seg"]
    reword(model, "single", "all")
    model.set_vocabulary(WORDS)
    found = model([image])[0]["sem_seg"]
    assert not torch.equal(found[0], plain[0])
    assert torch.equal(model([image])[0]["sem_seg"], found), "the second time from the cache"
    before = embeddings(model)
    with torch.no_grad():
        model.clip.text_projection.mul_(torch.randn_like(model.clip.text_projection))
    assert not torch.allclose(embeddings(model), before), "an average is never stale"


def test_a_copy_predictions_alike(model):
    reword(model, "imagenet", "all")
    torch.testing.assert_close(embeddings(copy.deepcopy(model)), embeddings(model))


def test_errors(model):
    with pytest.raises(UserError, match="synonyms are 'some': use first or all"):
        reword(model, "single", "some")
    with pytest.raises(UserError, match="use one of single, imagenet"):
        reword(model, "vild", "all")
    model.templates = "imagenet"
    with pytest.raises(UserError, match="trained with the templates 'imagenet'"):
        reword(model, "single", "first")
