"""Data sets that a JSON file describes."""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from segcore.config import load_config
from segcore.datasets import register_custom_datasets, semantic_metadata
from segcore.datasets.custom import register_custom_file
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

TABLE = {
    "name": "pets",
    "classes": ["grass", "cat, kitten", {"name": "dog", "color": [1, 2, 3]}],
    "ignore_label": 99,
    "datasets": {
        "own_pets_train": {"images": "train/images", "labels": "train/labels"},
        "own_pets_test": {
            "images": "test",
            "labels": "test",
            "image_suffix": "_rgb.jpg",
            "label_suffix": "_mask.png",
        },
    },
}


pytestmark = pytest.mark.usefixtures("forget_datasets")


@pytest.fixture
def write(tmp_path: Path):
    def write(table: object, name: str = "pets.json") -> Path:
        (tmp_path / name).write_text(json.dumps(table))
        return tmp_path / name

    return write


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_relative_to_the_file(write, tmp_path: Path) -> None:
    touch(tmp_path / "train", "images/1.JPG", "images/2.png", "labels/1.png", "labels/2.tif")
    touch(tmp_path / "test", "1_rgb.jpg", "1_mask.png", "2.jpg", "2.png")
    assert register_custom_file(write(TABLE)) == ("own_pets_train", "own_pets_test")
    pairs = DatasetCatalog.get("own_pets_train")
    names = [(Path(d["file_name"]).name, Path(d["sem_seg_file_name"]).name) for d in pairs]
    assert names == [("1.JPG", "1.png"), ("2.png", "2.tif")]
    (pair,) = DatasetCatalog.get("own_pets_test")
    assert pair["sem_seg_file_name"] == str(tmp_path / "test/1_mask.png")
    metadata = semantic_metadata("own_pets_test")
    assert metadata.stuff_classes == ["grass", "cat, kitten", "dog"]
    assert metadata.stuff_colors[2] == (1, 2, 3)
    assert (metadata.ignore_label, metadata.evaluator_type) == (99, "sem_seg")
    assert Vocabulary.load(metadata.vocabulary).prompts == ("grass", "cat", "dog")


def test_by_the_config(write) -> None:
    cfg = load_config(write({}, "c.yaml"), ["DATASETS.OWN", (str(write(TABLE)),)])
    register_custom_datasets(cfg)
    register_custom_datasets(cfg)
    assert "own_pets_train" in DatasetCatalog.list()


def test_a_vocabulary_of_other_classes_is_refused_in_training(write) -> None:
    cfg = load_config(write({"MODEL": {"META_ARCHITECTURE": "CATSeg"}}, "c.yaml"))
    path = str(write(TABLE))
    cfg.DATASETS.OWN, cfg.DATASETS.TRAIN = (path,), ("own_pets_train",)
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = "ade20k_150"
    with pytest.raises(UserError, match=r"TRAIN_CLASS_JSON ade20k_150 has 150 .* has 3: set it to"):
        register_custom_datasets(cfg)
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = path
    register_custom_datasets(cfg)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"datasets": None}, "names no data set"),
        ({"datasets": {}}, "names no data set"),
        ({"datasets": {"x": "images"}}, "'x' needs two folders"),
        ({"datasets": {"x": {"images": "a"}}}, "'x' needs two folders"),
        ({"datasets": {"x": {"images": "a", "labels": 3}}}, "'labels' of data set 'x'"),
        ({"datasets": {"x": {"images": "a", "labels": "b", "suffix": "c"}}}, "entry 'suffix'"),
        ({"ignore_label": None}, "'ignore_label'"),
        ({"classes": []}, "no classes"),
    ],
)
def test_errors(write, change: dict, says: str) -> None:
    path = write(TABLE | change)
    with pytest.raises(UserError) as caught:
        register_custom_file(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../../../ESCAPED", "leads out of"),
        ("/tmp/x", "leads out of"),
        ("a/b", "cannot be the name of one"),
        ("a\\b", "cannot be the name of one"),
        (" pets", "cannot be the name of one"),
        ("", "is empty"),
        ("x" * 256, "is longer than"),
        ("a\x1b[2J\nb", r"a\\x1b[2J\\nb holds control characters"),
        ("\ud800", "holds control characters"),
    ],
)
def test_names_that_cannot_be_those_of_folders(write, name: str, says: str) -> None:
    """The folder of results has the data set's name."""
    path = write(TABLE | {"datasets": {name: {"images": "a", "labels": "b"}}})
    with pytest.raises(UserError) as caught:
        register_custom_file(path)
    assert says.replace("\\\\", "\\") in str(caught.value) and str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_folders_of_a_home(write, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "photos", "1.jpg", "1.png", ".thumbnails/2.jpg", ".thumbnails/2.png")
    folders = {"images": "~/photos", "labels": "~/photos", "image_suffix": ".jpg"}
    path = write(TABLE | {"datasets": {"own_home": folders | {"label_suffix": ".png"}}})
    assert register_custom_file(path) == ("own_home",)
    (pair,) = DatasetCatalog.get("own_home")
    assert pair["file_name"] == str(tmp_path / "photos/1.jpg")


def test_suffixes_are_no_patterns(write, tmp_path: Path) -> None:
    touch(tmp_path / "a", "1[x].jpg", "1y.jpg", "2x.jpg")
    folders = {"images": "a", "labels": "a", "image_suffix": "[x].jpg", "label_suffix": "y.jpg"}
    register_custom_file(write(TABLE | {"datasets": {"own_suffixes": folders}}))
    (pair,) = DatasetCatalog.get("own_suffixes")
    assert pair["file_name"].endswith("1[x].jpg")


def test_a_list_of_names_is_no_data_set(write) -> None:
    with pytest.raises(UserError, match="names no data set"):
        register_custom_file(write(["grass", "cat"]))
    with pytest.raises(UserError, match=r"nowhere\.json"):
        register_custom_file("nowhere.json")


def test_a_name_that_stands_for_other_folders(write, tmp_path: Path) -> None:
    register_custom_file(write(TABLE))
    moved = {"own_pets_train": {"images": "elsewhere", "labels": "train/labels"}}
    with pytest.raises(UserError, match="another data set named 'own_pets_train'"):
        register_custom_file(write(TABLE | {"datasets": moved}))
