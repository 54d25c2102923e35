"""Written results can be read back, and never replace those of an earlier run."""

import importlib
import json

import numpy as np
import pytest
from PIL import Image

from segcore.drawing.segments import Segment
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.outlines import decode_mask
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_words(["sky", "sofa, couch"])


@pytest.fixture
def results():
    return importlib.import_module("results")


def test_results_are_written_and_read_back(results, tmp_path):
    folder = results.ResultFolder(tmp_path / "new" / "out", VOCABULARY)
    folder.prepare(["cat"])
    labels = np.zeros((20, 30), dtype=np.int64)
    labels[:, 15:] = 1
    folder.write(
        "cat", np.zeros((20, 30, 3), dtype=np.uint8), results.Prediction(labels), alpha=0.5
    )
    with Image.open(folder.path("cat", "labels.png")) as image:
        assert image.mode == "I;16"
        assert (np.asarray(image) == labels).all()
    with Image.open(folder.path("cat", "overlay.png")) as image:
        assert image.size == (30, 20)
    back = Vocabulary.load(folder.folder / "vocabulary.json")
    assert (back.names, back.colors, back.hash) == (
        VOCABULARY.names,
        VOCABULARY.colors,
        VOCABULARY.hash,
    )


def test_results_of_an_earlier_run_are_kept(results, tmp_path):
    folder = results.ResultFolder(tmp_path, VOCABULARY)
    folder.prepare(["cat"])
    folder.prepare(["cat"])  # only the same vocabulary exists
    folder.path("cat", "labels.png").write_text("precious")
    with pytest.raises(UserError, match=r"cat_labels\.png is there already"):
        folder.prepare(["dog", "cat"])
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        results.ResultFolder(tmp_path, Vocabulary.from_words(["sea"])).prepare(["dog"])
    assert folder.path("cat", "labels.png").read_text() == "precious"
    results.ResultFolder(tmp_path, VOCABULARY, overwrite=True).prepare(["cat"])


def test_an_unreadable_vocabulary_is_not_replaced(results, tmp_path):
    table = tmp_path / "vocabulary.json"
    table.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        results.ResultFolder(tmp_path, VOCABULARY).prepare(["cat"])
    table.unlink()
    table.mkdir()
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        results.ResultFolder(tmp_path, VOCABULARY).prepare(["cat"])
    with pytest.raises(UserError, match=r"cannot write .*vocabulary\.json"):
        results.ResultFolder(tmp_path, VOCABULARY, overwrite=True).prepare(["cat"])


def test_a_folder_that_cannot_be_made_is_one_error_message(results, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        results.ResultFolder(tmp_path / "file" / "out", VOCABULARY).prepare(["cat"])


def test_many_classes_fit_the_label_map(results, tmp_path):
    vocabulary = Vocabulary.from_words([f"word {i}" for i in range(400)])
    folder = results.ResultFolder(tmp_path, vocabulary)
    folder.prepare(["cat"])
    labels = np.arange(400).reshape(20, 20)
    folder.write(
        "cat", np.zeros((20, 20, 3), dtype=np.uint8), results.Prediction(labels), alpha=0.5
    )
    with Image.open(folder.path("cat", "labels.png")) as image:
        assert (np.asarray(image) == labels).all()
    assert len(json.loads((tmp_path / "vocabulary.json").read_text())["classes"]) == 400


def test_label_maps_are_read_like_those_of_data_sets(results, tmp_path):
    """Every value of 16 bits, by the reader of training and evaluation."""
    labels = np.random.default_rng(0).integers(0, 65536, (20, 30))
    labels[0, :2] = 0, 65535
    prediction = results.Prediction(labels, tuple(Segment(int(n), 0) for n in np.unique(labels)))
    folder = results.ResultFolder(tmp_path, VOCABULARY)
    folder.write_frame("cat", np.zeros((20, 30, 3), dtype=np.uint8), prediction, alpha=0.5)
    back = read_labels(folder.path("cat", "labels.png"))
    assert (back == labels).all()
    table = json.loads(folder.path("cat", "segments.json").read_text())
    assert {entry["id"]: entry["area"] for entry in table} == dict(
        zip(*(values.tolist() for values in np.unique(back, return_counts=True)), strict=True)
    )


def test_objects_are_listed_with_their_whole_masks(results, tmp_path):
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[0, :10], masks[1, 5:, :10] = True, True
    labels = np.where(masks[0], 1, 2 * masks[1])
    segments = (Segment(1, 1, score=0.875), Segment(2, 1, score=0.5))
    folder = results.ResultFolder(tmp_path, VOCABULARY)
    folder.prepare(["cat"])
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    folder.write("cat", pixels, results.Prediction(labels, segments, masks), alpha=0.5)
    with Image.open(folder.path("cat", "labels.png")) as image:
        assert (np.asarray(image) == labels).all()
    first, second = json.loads(folder.path("cat", "segments.json").read_text())
    assert first["name"] == "sofa, couch" and first["score"] == 0.875 and first["area"] == 300
    assert second["id"] == 2 and second["area"] == 150  # 50 of them behind the first one
    assert (decode_mask(second["segmentation"], (20, 30), "it") == masks[1]).all()


def test_segments_of_a_panoptic_model_have_no_score(results):
    labels = np.zeros((4, 5), dtype=np.int64)
    labels[:2] = 1
    prediction = results.Prediction(labels, (Segment(1, 0, is_object=False),))
    (entry,) = results.segment_table(prediction, VOCABULARY)
    assert entry == {"id": 1, "category_id": 0, "name": "sky", "isthing": False, "area": 10}
