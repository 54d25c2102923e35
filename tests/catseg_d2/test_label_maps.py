"""Label maps and top-k classes of every pixel, without a tensor of all scores."""

import sys
from pathlib import Path

import pytest
import torch

from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

PATCHES = "TEST.PATCH_INFERENCE"
WINDOWS = ("TEST.SLIDING_WINDOW", "True", f"{PATCHES}.OUTPUT_SIZE", 160, f"{PATCHES}.TILE", 96)
NATIVE = ("TEST.SLIDING_WINDOW", "True", f"{PATCHES}.OUTPUT_SIZE", 0, f"{PATCHES}.TILE", 70)

VOCABULARIES = {"voc20": 20, "scenes_60": 60, "scenes_1k": 1120}  # the last above the 256 kept
MODES = {"whole": (), "windows": WINDOWS, "native tiles": NATIVE}


def image(height: int, width: int) -> dict:
    return {"image": deterministic.image("label maps", height, width)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_labels_are_the_arg_max_at_every_pixel(tiny, vocabulary: str, mode: str) -> None:
    model, items = tiny(*MODES[mode]), [image(70, 110)]
    model.set_vocabulary(vocabulary)
    scores = [prediction["sem_seg"] for prediction in model(items)]
    assert scores[0].shape == (VOCABULARIES[vocabulary], 70, 110)
    model.prediction_kind = PredictionKind("labels")
    for prediction, expected in zip(model(items), scores, strict=True):
        assert prediction.keys() == {"sem_seg_labels"}
        assert prediction["sem_seg_labels"].dtype == torch.int64
        assert torch.equal(prediction["sem_seg_labels"], expected.argmax(dim=0))


@pytest.mark.parametrize("output", ["scores", "labels"])
@pytest.mark.parametrize(
    ("vocabulary", "max_classes", "k"), [("voc20", 2, 4), ("scenes_1k", 256, 3)]
)
def test_top_k(tiny, vocabulary: str, max_classes: int, k: int, output: str) -> None:
    """With two classes kept, dropped ones are among the best four: the lowest ids of score 0."""
    model, item = tiny("MODEL.SEM_SEG_HEAD.MAX_CLASSES", max_classes, *WINDOWS), image(70, 110)
    model.set_vocabulary(vocabulary)
    scores = model([item])[0]["sem_seg"]
    values, labels = scores.sort(dim=0, descending=True, stable=True)
    assert (values[k:] == 0).any()
    model.prediction_kind = PredictionKind(output, k)
    prediction = model([item])[0]
    assert torch.equal(prediction["top_k_scores"], values[:k])
    assert torch.equal(prediction["top_k_labels"], labels[:k])
    assert ("sem_seg" in prediction) == (output == "scores")
    assert ("sem_seg_labels" in prediction) == (output == "labels")


def test_one_class_and_more_ranks_than_classes(tiny) -> None:
    model = tiny("TEST.SEM_SEG_OUTPUT", "labels", "TEST.TOP_K", 5)
    model.set_vocabulary(["grass"])
    prediction = model([image(40, 50)])[0]
    assert (prediction["sem_seg_labels"] == 0).all()
    assert prediction["top_k_scores"].shape == prediction["top_k_labels"].shape == (1, 40, 50)


@pytest.mark.parametrize(("setting", "key"), [(("names", 0), "OUTPUT"), (("labels", -1), "TOP_K")])
def test_invalid_kinds_are_one_message(setting, key: str) -> None:
    with pytest.raises(UserError, match=f"TEST.*{key}"):
        PredictionKind(*setting)
