"""The colour baseline: means, composition for unseen classes, scores."""

import importlib.util

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.scenes import SCENES_60, Settings, write_scenes


@pytest.fixture(scope="module")
def tool(repository):
    spec = importlib.util.spec_from_file_location(
        "nearest_colour", repository / "tools/nearest_colour.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def register():
    """Registers a data set for one test."""
    names = []

    def add(name, folder, vocabulary):
        register_semantic_dataset(
            name, folder / "images", folder / "labels", vocabulary, image_suffix=".png"
        )
        names.append(name)

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def flat(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([colours], dtype=np.uint8)


RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)


def test_a_pixel_takes_the_nearest_mean(tool):
    images = [(flat(RED, RED, BLUE), np.array([[0, 0, 2]])), (flat(GREEN), np.array([[255]]))]
    means = tool.mean_colours(images, 3)
    assert np.isnan(means[1]).all()
    similar = flat((190, 45, 40), (50, 20, 180))
    assert tool.classify(similar, means).tolist() == [[0, 2]]


def test_an_unseen_class_is_composed_of_classes_that_share_its_colour_word(tool):
    names = [
        "red plain square",
        "red dotted circle",
        "blue plain circle",
        "red plain circle",
        "sky",
    ]
    nan = (np.nan,) * 3
    means = np.array([(10, 0, 0), (40, 0, 0), (90, 9, 9), nan, nan])
    composed = tool.compose_unseen(means, names)
    assert composed[3].tolist() == [25, 0, 0]  # two words shared with each of the two red ones
    assert np.isnan(composed[4]).all()
    assert (composed[:3] == means[:3]).all()


def test_a_class_without_a_mean_is_never_chosen(tool):
    means = np.full((3, 3), np.nan)
    means[1] = 50
    assert (tool.classify(flat(RED, GREEN), means) == 1).all()


def test_scores_of_drawn_scenes(tool, tmp_path, register):
    write_scenes(tmp_path, SCENES_60, Settings(num_train=80, num_test=40, size=32))
    for split in ("train", "test"):
        register(f"baseline_{split}", tmp_path / "scenes-60" / split, "scenes_60")
    scores = tool.nearest_colour_scores("baseline_train", "baseline_test")
    seen, unseen, harmonic = (scores[k] for k in ("mIoU-seen", "mIoU-unseen", "hIoU"))
    # Better than chance, and far from solving it.
    assert 0 < tool.chance_scores("baseline_test")["mIoU"] < 2
    assert 5 < seen < 25
    assert 0 < unseen < harmonic < seen


def test_a_vocabulary_without_seen_flags_is_told(tool, tmp_path, register):
    register("baseline_words", tmp_path, ["sky", "tree"])
    with pytest.raises(UserError, match="does not say which classes are seen"):
        tool.nearest_colour_scores("baseline_words", "baseline_words")
