"""Templates and background words of a vocabulary."""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.datasets.table import register_table
from segcore.errors import UserError
from segcore.vocabulary import Background, Vocabulary

PETS = {"classes": ["cat", {"name": "dog", "color": [1, 2, 3]}]}


def load(folder: Path, **keys: object) -> Vocabulary:
    path = folder / "pets.json"
    path.write_text(json.dumps(PETS | keys))
    return Vocabulary.load(path)


def test_templates_are_read_and_change_the_hash(tmp_path: Path) -> None:
    plain, own = load(tmp_path), load(tmp_path, templates=["a {}.", "a drawing of a {}."])
    assert plain.templates == () and own.templates == ("a {}.", "a drawing of a {}.")
    assert plain.hash != own.hash != load(tmp_path, templates=["a {}."]).hash
    assert plain.hash == Vocabulary.load(["cat", "dog"]).hash


NO_TEMPLATES = (["a photo"], ["{} and {}"], ["{0}"], ["{x}"], [3], "a {}", ["a {}"] * 2, ["}{"])


@pytest.mark.parametrize("templates", NO_TEMPLATES)
def test_templates_without_one_position_for_the_class_name_are_refused(tmp_path, templates) -> None:
    with pytest.raises(UserError, match="template"):
        load(tmp_path, templates=templates)


def test_background_names_are_classes_after_the_others(tmp_path: Path) -> None:
    vocabulary = load(tmp_path, background={"words": ["sky", "wall"]})
    assert vocabulary.names == ("cat", "dog", "sky", "wall")
    assert vocabulary.background == Background(2)
    rest = load(tmp_path, background={"first": 1, "name": "rest", "color": [9, 9, 9]})
    assert rest.names == ("cat", "dog")
    assert rest.background == Background(1, "rest", (9, 9, 9))


def test_classes_of_the_background_are_no_things_and_never_seen(tmp_path: Path) -> None:
    classes = [{"name": "cat", "seen": True, "isthing": True}]
    vocabulary = load(tmp_path, classes=classes, background={"words": ["sky"]})
    assert vocabulary.seen == (True, False) and vocabulary.isthing == (True, False)


NO_BACKGROUNDS = (
    3,
    {},
    {"words": "sky"},
    {"words": []},
    {"words": ["cat"]},
    {"words": [""]},
    {"first": 0},
    {"first": 2},
    {"first": True},
    {"first": 1, "color": [1]},
    {"first": 1, "name": 2},
)


@pytest.mark.parametrize("background", NO_BACKGROUNDS)
def test_backgrounds_that_are_none_are_refused(tmp_path: Path, background: object) -> None:
    with pytest.raises(UserError, match="pets"):
        load(tmp_path, background=background)


def test_published_background_protocol() -> None:
    assert Vocabulary.load("voc20b").background == Background(20)
    assert Vocabulary.load("voc20").background is None


def test_data_sets_score_the_background_as_one_class(tmp_path: Path) -> None:
    vocabulary = load(tmp_path, background={"words": ["sky", "wall"], "color": [7, 7, 7]})
    files = {"images": "images", "labels": "labels", "split": "val"}
    register_table({"datasets": {"pets_with_background": files}}, vocabulary, tmp_path)
    metadata = MetadataCatalog.get("pets_with_background")
    DatasetCatalog.remove("pets_with_background")
    assert metadata.stuff_classes == ["cat", "dog", "background"]
    assert metadata.stuff_colors[2] == (7, 7, 7)
    assert metadata.background_from == 2
