"""Classes embedded with all their synonyms and several prompt templates."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from catseg_d2.prompt_ensembles import use_ensemble
from segcore.config import load_config
from segcore.errors import UserError
from segcore.text import embed_prompts
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_class_names(["sofa, couch, settee", "cat", "tree, tree"])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(load_config("catseg_d2/scenes_60.yaml", ["MODEL.DEVICE", "cpu"])).eval()


def embeddings(model):
    return model.text_cache.get(model.clip, VOCABULARY, model.templates)


def test_all_synonyms_of_a_class(model):
    use_ensemble(model, "single", "all")
    found = embeddings(model)
    with torch.no_grad():
        text = embed_prompts(model.clip, ["sofa", "couch", "settee", "cat", "tree"], "single")
    expected = torch.stack([text[:3, 0].mean(0), text[3, 0], text[4, 0]])
    torch.testing.assert_close(found, F.normalize(expected, dim=-1)[:, None])


def test_many_templates_for_a_model_trained_with_one(model):
    use_ensemble(model, "imagenet", "first")
    found = embeddings(model)
    with torch.no_grad():
        text = embed_prompts(model.clip, ["sofa", "cat", "tree"], "imagenet")
    assert text.shape[1] == 80 and found.shape == (3, 1, text.shape[2])
    torch.testing.assert_close(found, F.normalize(text.mean(1, keepdim=True), dim=-1))


def test_the_default_prompts_change_nothing(model):
    expected = embeddings(model)
    use_ensemble(model, "single", "first")
    torch.testing.assert_close(embeddings(model), expected)


def test_predictions_change_with_the_prompts_and_with_the_weights(model):
    image = {
        "image": torch.randint(0, 256, (3, 96, 96), generator=torch.Generator().manual_seed(0))
    }
    baseline = model.set_vocabulary(VOCABULARY) and model([image])[0]["sem_seg"]
    use_ensemble(model, "single", "all")
    model.set_vocabulary(VOCABULARY)
    found = model([image])[0]["sem_seg"]
    assert not torch.equal(found[0], baseline[0])
    assert torch.equal(model([image])[0]["sem_seg"], found), "the second time from the cache"
    before = embeddings(model)
    with torch.no_grad():
        model.clip.text_projection.mul_(torch.randn_like(model.clip.text_projection))
    assert not torch.allclose(embeddings(model), before), "a mean is never outdated"


def test_a_copy_has_the_same_embeddings(model):
    use_ensemble(model, "imagenet", "all")
    torch.testing.assert_close(embeddings(copy.deepcopy(model)), embeddings(model))


def test_errors(model):
    with pytest.raises(UserError, match="synonyms are 'some': use first or all"):
        use_ensemble(model, "single", "some")
    with pytest.raises(UserError, match="use one of single, imagenet"):
        use_ensemble(model, "vild", "all")
    model.templates = "imagenet"
    with pytest.raises(UserError, match="trained with the templates 'imagenet'"):
        use_ensemble(model, "single", "first")
