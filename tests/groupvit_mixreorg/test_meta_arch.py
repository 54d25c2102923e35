"""Predictions of the model: vocabularies, windows, background, segments, errors."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from groupvit_models import MIXED, build, items, photographs, small_config

from groupvit_mixreorg import GroupViT
from groupvit_mixreorg.zero_shot import segment_scores, segments_of_pixels, with_background
from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind

WORDS = "red circle, grass, a dog, stone, blue square, tree, sky"


@pytest.fixture(scope="module")
def shared() -> GroupViT:
    return build().eval()


@pytest.fixture
def model(shared: GroupViT) -> GroupViT:
    shared.set_vocabulary(WORDS)
    shared.prediction_kind = PredictionKind()
    return shared


def test_scores_are_those_of_the_segments(model) -> None:
    (image,) = photographs(1)
    (found,) = model([image | {"height": 50, "width": 70}])
    assert found["sem_seg"].shape == (7, 50, 70)
    pixels = (image["image"].float() - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        embedded = model.model.embed_images(pixels[None])
        texts = F.normalize(model.text_cache.get(model.model, model.vocabulary, "photo")[:, 0])
        scores = segment_scores(embedded.vector, embedded.segments, texts, model.model.scale, 5)
    segments = segments_of_pixels(embedded.features.shares, (4, 4), (32, 32))[0].long()
    expected = F.interpolate(scores[0].T[:, segments][None], (50, 70), mode="bilinear")[0]
    torch.testing.assert_close(found["sem_seg"], expected)
    assert (scores[0] > 0).sum(dim=1).tolist() == [5, 5, 5]
    assert len(segments.unique()) > 1


def test_labels_are_the_best_classes(model) -> None:
    image = photographs(1, size=(40, 56))[0] | {"height": 61, "width": 47}
    (scores,) = model([image])
    model.prediction_kind = PredictionKind("labels", 2)
    (labels,) = model([image])
    assert torch.equal(labels["sem_seg_labels"], scores["sem_seg"].argmax(dim=0))
    best = scores["sem_seg"].topk(2, dim=0).values
    torch.testing.assert_close(labels["top_k_scores"], best)


def test_a_batch_equals_its_images(model) -> None:
    batch = photographs(3) + photographs(1, size=(40, 24))
    batch[1] = batch[1] | {"vocabulary": "sand, water"}
    together = model(batch)
    for item, found in zip(batch, together, strict=True):
        torch.testing.assert_close(found["sem_seg"], model([item])[0]["sem_seg"])
    assert len(together[1]["sem_seg"]) == 2


def test_the_order_of_the_class_names(model) -> None:
    (found,) = model(photographs(1))
    model.set_vocabulary(", ".join(reversed(WORDS.split(", "))))
    torch.testing.assert_close(model(photographs(1))[0]["sem_seg"], found["sem_seg"].flip(0))


def test_sliding_windows_are_averaged() -> None:
    model = build(MODEL__ZERO_SHOT__STRIDE=16, MODEL__GROUPVIT__MULTI_LABEL=0).eval()
    model.set_vocabulary(WORDS)
    image = photographs(1, size=(32, 56))[0]["image"]
    (found,) = model([{"image": image}])
    parts = [slice(0, 32), slice(16, 48), slice(24, 56)]
    total, count = torch.zeros(7, 32, 56), torch.zeros(56)
    for part in parts:
        total[..., part] += model([{"image": image[..., part]}])[0]["sem_seg"]
        count[part] += 1
    torch.testing.assert_close(found["sem_seg"], total / count)


def test_windows_that_are_no_whole_patches() -> None:
    model = build(MODEL__ZERO_SHOT__STRIDE=16).eval()
    model.set_vocabulary(WORDS)
    (found,) = model(photographs(1, size=(21, 50)))
    assert found["sem_seg"].shape == (7, 21, 50) and found["sem_seg"].isfinite().all()


def test_background() -> None:
    model = build(MODEL__ZERO_SHOT__BACKGROUND_THRESHOLD=0.95).eval()
    model.set_vocabulary("background, " + WORDS)
    (found,) = model(photographs(1))
    assert len(found["sem_seg"]) == 8
    plain = build().eval()
    plain.set_vocabulary(WORDS)
    torch.testing.assert_close(found["sem_seg"][1:], plain(photographs(1))[0]["sem_seg"])
    labels = found["sem_seg"].argmax(dim=0)
    assert 0 < (labels == 0).float().mean() < 1  # the best segment has a class
    assert (found["sem_seg"][0][labels == 0] > 0.5).all()


def test_the_threshold() -> None:
    scores = torch.tensor([[[0.1, 0.5], [0.4, 0.2], [0.3, 0.3]]])
    assert with_background(scores, 0.45)[0, :, 0].tolist() == [0, 1, 1]
    assert with_background(scores, 0.35)[0, :, 0].tolist() == [0, 0, 1]
    assert with_background(scores, 0.95)[0, :, 0].tolist() == [0, 1, 1]


def test_segments_can_be_predicted() -> None:
    model = build(MODEL__ZERO_SHOT__SEGMENTS=True, MODEL__ZERO_SHOT__STRIDE=16).eval()
    assert model.vocabulary.names == ("segment 1", "segment 2", "segment 3")
    (image,) = photographs(1)
    (found,) = model([image])
    pixels = (image["image"].float() - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        features = model.model.image_encoder(pixels[None])
    expected = segments_of_pixels(features.shares, (4, 4), (32, 32))[0]
    assert torch.equal(found["sem_seg"].argmax(dim=0), expected.long())
    with pytest.raises(UserError, match=r"ZERO_SHOT\.SEGMENTS is True.*leave these out"):
        model.set_vocabulary("a, b")


@torch.no_grad()
def test_classification(model) -> None:
    found = model.classify(photographs(2))
    assert [len(each["category_scores"]) for each in found] == [7, 7]
    assert found[0]["category_scores"].sum().item() == pytest.approx(1)


def test_images_with_captions_are_embedded(model) -> None:
    outputs = model(items(3))
    for name in ("image_embedding", "text_embedding"):
        rows = torch.stack([output[name] for output in outputs])
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
        assert not torch.allclose(rows[0], rows[1])


def test_a_new_text_encoder_renews_the_embeddings(model) -> None:
    before = model(photographs(1))[0]["sem_seg"]
    layer = model.model.text_projector.output
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.copy_(kept.flip(0))
    assert not torch.equal(model(photographs(1))[0]["sem_seg"], before)
    with torch.no_grad():
        layer.weight.copy_(kept)
    assert torch.equal(model(photographs(1))[0]["sem_seg"], before)


def test_default_predictor(tmp_path) -> None:
    torch.save({"model": build().state_dict()}, tmp_path / "model.pth")
    cfg = small_config(MODEL__WEIGHTS=str(tmp_path / "model.pth"))
    predictor = DefaultPredictor(cfg)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert predictor(image)["sem_seg"].shape == (60, 40, 60)
    predictor.model.set_vocabulary(["cat, kitten", "sky"])
    assert predictor(image)["sem_seg"].shape == (2, 40, 60)


def test_a_model_without_weights_does_not_predict(untrained_refuse) -> None:
    model = build_model(small_config()).eval()
    with pytest.raises(UserError, match="the model has no weights"):
        model(photographs(1))


def test_mixreorg_does_nothing_at_test_time() -> None:
    mixed, plain = build(MIXED).eval(), build().eval()
    plain.load_state_dict(mixed.state_dict())
    with torch.no_grad():
        for parameter in mixed.mixreorg.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(mixed(photographs(1))[0]["sem_seg"], plain(photographs(1))[0]["sem_seg"])


# ---- errors ----------------------------------------------------------------------------------


def test_the_background_is_needed() -> None:
    model = build(
        MODEL__ZERO_SHOT__BACKGROUND_THRESHOLD=0.5, MODEL__SEM_SEG_HEAD__TEST_CLASS_JSON="voc21"
    ).eval()
    assert len(model(photographs(1))[0]["sem_seg"]) == 21
    for words in ("cat, dog", "cat, background", "background"):
        with pytest.raises(UserError, match=r'BACKGROUND_THRESHOLD is 0\.5.*first class is "back'):
            model.set_vocabulary(words)
    assert model.vocabulary.name == "voc21"


def test_no_vocabulary() -> None:
    model = build(MODEL__SEM_SEG_HEAD__TEST_CLASS_JSON="").eval()
    with pytest.raises(UserError, match="the model has no vocabulary: call set_vocabulary"):
        model(photographs(1))


def test_a_class_name_is_too_long(model) -> None:
    with pytest.raises(UserError, match="64: use a shorter name"):
        model.set_vocabulary(["\u72ac" * 60])
    assert len(model.vocabulary) == 7


@pytest.mark.parametrize("key", ["caption", "words"])
def test_training_items_without_texts(key: str) -> None:
    model = build().train()
    batch = items(2)
    del batch[1][key]
    with pytest.raises(UserError, match=f'"{key}": set INPUT.DATASET_MAPPER_NAME image_caption'):
        model(batch)


def test_training_images_of_different_size() -> None:
    with pytest.raises(UserError, match="differ in size"):
        build().train()(items(1) + items(1, size=(32, 40)))
    with pytest.raises(UserError, match="patches of 8 pixels"):
        build().train()(items(2, size=(30, 30)))


def test_a_batch_smaller_than_the_mixing_group() -> None:
    model = build(MIXED, MODEL__MIXREORG__GROUP_SIZE=4).train()
    with pytest.raises(UserError, match=r"batch of 2 images.*groups of 4.*MIXREORG.GROUP_SIZE"):
        model(items(2))
