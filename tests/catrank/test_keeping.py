"""How many classes are kept: from the library, for each family of models."""

import numpy as np
import pytest

import catrank
from catrank.keeping import keep_classes
from catrank.results import Result
from catrank.runs.images import top_categories
from segcore.errors import UserError
from segcore.rankseg.dial import MOST, ClassesKept
from segcore.vocabulary import Vocabulary

CATSEG = "catseg_d2/scenes_60.yaml"
MASK2FORMER = "mask2former_rankseg/scenes_60_panoptic.yaml"
RANKED = "mask2former_rankseg/scenes_60_rankseg.yaml"
HEAD = ("MODEL.RANKSEG.FLAG", True)


@pytest.mark.parametrize(
    ("config", "opts", "kept", "keys"),
    [
        (CATSEG, (), ClassesKept(32), (32, 0, 0.0)),
        (CATSEG, (), ClassesKept(), (0, 0, 0.0)),
        (CATSEG, HEAD, ClassesKept(32, 0.05), (256, 32, 0.05)),
        (CATSEG, HEAD, ClassesKept(0, 0.05), (256, MOST, 0.05)),
        (RANKED, (), ClassesKept(32), (None, 32, 0.0)),
        (RANKED, (), ClassesKept(100, 0.05), (None, 60, 0.05)),
        (RANKED, (), ClassesKept(), (None, 60, 0.0)),
    ],
)
def test_keys_of_each_family(config: str, opts: tuple, kept: ClassesKept, keys: tuple) -> None:
    cfg = catrank.load_config(config, opts)
    keep_classes(cfg, kept)
    limit = cfg.MODEL.SEM_SEG_HEAD.MAX_CLASSES if config == CATSEG else None
    assert (limit, cfg.MODEL.RANKSEG.TEST_TOPK, cfg.MODEL.RANKSEG.CONFIDENCE) == keys


@pytest.mark.parametrize(
    ("config", "kept", "message"),
    [
        (CATSEG, ClassesKept(0, 0.05), "no probabilities of classes"),
        (MASK2FORMER, ClassesKept(4), "predicts all its classes in every image"),
    ],
)
def test_models_that_cannot(config: str, kept: ClassesKept, message: str) -> None:
    with pytest.raises(UserError, match=message):
        keep_classes(catrank.load_config(config), kept)


def test_a_call_of_an_open_vocabulary_model() -> None:
    model = catrank.load("scenes-60", device="cpu", classes_kept=2)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert len(model.segment(image).class_ids) <= 2
    assert len(model.segment(image, classes_kept=1).class_ids) == 1
    assert len(model.segment(image, classes_kept="all").class_ids) > 2
    with pytest.raises(UserError, match="classes_kept is 0: use a number of classes from 1"):
        model.segment(image, classes_kept=0)


def test_result_says_how_many_are_kept() -> None:
    vocabulary = Vocabulary.from_class_names(["sky", "tree", "dog"])
    image, labels = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.int32)
    scores, ids = np.array([0.9, 0.015, 0.2], np.float32), np.array([0, 2])
    more = {"category_scores": scores, "category_ids": ids}
    result = Result.semantic("a", image, vocabulary, labels, **more)
    assert (result.classes_kept, round(result.last_probability, 2)) == (2, 0.2)
    expected = "RankSeg ranks sky 90%; 2 of 3 classes kept, the last one has 20.00%"
    assert top_categories(result) == expected
    plain = Result.semantic("a", image, vocabulary, labels)
    assert plain.classes_kept is plain.last_probability is None
