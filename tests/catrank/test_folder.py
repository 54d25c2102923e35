"""Written results can be read back, and never replace those of an earlier run."""

import json

import numpy as np
import pytest
from PIL import Image

from catrank import Result
from catrank.exports.folder import ResultFolder, segment_table
from segcore.drawing.segments import Segment
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.outlines import decode_mask
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_class_names(["sky", "sofa, couch"])


def image_of(labels: np.ndarray) -> np.ndarray:
    return np.zeros((*labels.shape, 3), dtype=np.uint8)


def semantic(labels: np.ndarray, vocabulary: Vocabulary = VOCABULARY) -> Result:
    return Result.semantic("cat", image_of(labels), vocabulary, labels)


def test_results_are_written_and_read_back(tmp_path):
    folder = ResultFolder(tmp_path / "new" / "out", VOCABULARY)
    folder.prepare(["cat"])
    labels = np.zeros((20, 30), dtype=np.int64)
    labels[:, 15:] = 1
    folder.write("cat", semantic(labels), alpha=0.5)
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


def test_results_of_an_earlier_run_are_kept(tmp_path):
    folder = ResultFolder(tmp_path, VOCABULARY)
    folder.prepare(["cat"])
    folder.prepare(["cat"])  # only the same vocabulary exists
    folder.path("cat", "labels.png").write_text("precious")
    with pytest.raises(UserError, match=r"cat_labels\.png is there already"):
        folder.prepare(["dog", "cat"])
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        ResultFolder(tmp_path, Vocabulary.from_class_names(["sea"])).prepare(["dog"])
    assert folder.path("cat", "labels.png").read_text() == "precious"
    ResultFolder(tmp_path, VOCABULARY, overwrite=True).prepare(["cat"])


def test_an_unreadable_vocabulary_is_not_replaced(tmp_path):
    table = tmp_path / "vocabulary.json"
    table.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        ResultFolder(tmp_path, VOCABULARY).prepare(["cat"])
    table.unlink()
    table.mkdir()
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        ResultFolder(tmp_path, VOCABULARY).prepare(["cat"])
    with pytest.raises(UserError, match=r"cannot write .*vocabulary\.json"):
        ResultFolder(tmp_path, VOCABULARY, overwrite=True).prepare(["cat"])


def test_a_folder_that_cannot_be_made_is_one_error_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        ResultFolder(tmp_path / "file" / "out", VOCABULARY).prepare(["cat"])


def test_many_classes_fit_the_label_map(tmp_path):
    vocabulary = Vocabulary.from_class_names([f"word {i}" for i in range(400)])
    folder = ResultFolder(tmp_path, vocabulary)
    folder.prepare(["cat"])
    labels = np.arange(400).reshape(20, 20)
    folder.write("cat", semantic(labels, vocabulary), alpha=0.5)
    with Image.open(folder.path("cat", "labels.png")) as image:
        assert (np.asarray(image) == labels).all()
    assert len(json.loads((tmp_path / "vocabulary.json").read_text())["classes"]) == 400


def test_label_maps_are_read_like_those_of_data_sets(tmp_path):
    """Every value of 16 bits, by the reader of training and evaluation."""
    labels = np.random.default_rng(0).integers(0, 65536, (20, 30))
    labels[0, :2] = 0, 65535
    segments = tuple(Segment(int(n), 0) for n in np.unique(labels))
    result = Result("cat", image_of(labels), VOCABULARY, "panoptic", labels, segments)
    folder = ResultFolder(tmp_path, VOCABULARY)
    folder.write_frame("cat", result, alpha=0.5)
    back = read_labels(folder.path("cat", "labels.png"))
    assert (back == labels).all()
    table = json.loads(folder.path("cat", "segments.json").read_text())
    assert {entry["id"]: entry["area"] for entry in table} == dict(
        zip(*(values.tolist() for values in np.unique(back, return_counts=True)), strict=True)
    )


def test_objects_are_listed_with_their_whole_masks(tmp_path):
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[0, :10], masks[1, 5:, :10] = True, True
    labels = np.where(masks[0], 1, 2 * masks[1])
    segments = (Segment(1, 1, score=0.875), Segment(2, 1, score=0.5))
    folder = ResultFolder(tmp_path, VOCABULARY)
    folder.prepare(["cat"])
    result = Result(
        "cat", image_of(labels), VOCABULARY, "instance", labels, segments, object_masks=masks
    )
    folder.write("cat", result, alpha=0.5)
    with Image.open(folder.path("cat", "labels.png")) as image:
        assert (np.asarray(image) == labels).all()
    first, second = json.loads(folder.path("cat", "segments.json").read_text())
    assert first["name"] == "sofa, couch" and first["score"] == 0.875 and first["area"] == 300
    assert second["id"] == 2 and second["area"] == 150  # 50 of them behind the first one
    assert (decode_mask(second["segmentation"], (20, 30), "it") == masks[1]).all()


def test_segments_of_a_panoptic_model_have_no_score():
    labels = np.zeros((4, 5), dtype=np.int64)
    labels[:2] = 1
    segments = (Segment(1, 0, is_object=False),)
    result = Result("cat", image_of(labels), VOCABULARY, "panoptic", labels, segments)
    (entry,) = segment_table(result)
    assert entry == {"id": 1, "category_id": 0, "name": "sky", "isthing": False, "area": 10}
