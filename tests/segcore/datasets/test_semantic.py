"""Registration: the built-in benchmarks, custom folders, and names that are taken."""

import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.datasets import check_registered, register_semantic_dataset, semantic_metadata
from segcore.datasets.semantic import read_pairs
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table

PUBLISHED = {  # the names in the published configs: vocabulary, folder of labels, suffixes
    "coco_2017_train_stuff_all_sem_seg": ("coco", "coco-stuff/annotations_detectron2/train2017"),
    "coco_2017_test_stuff_all_sem_seg": ("coco", "coco-stuff/annotations_detectron2/val2017"),
    "ade20k_150_test_sem_seg": ("ade150", "ADEChallengeData2016/annotations_detectron2/validation"),
    "ade20k_full_sem_seg_freq_val_all": (
        "ade847",
        "ADE20K_2021_17_01/annotations_detectron2/validation",
    ),
    "context_59_test_sem_seg": ("pc59", "VOCdevkit/VOC2010/annotations_detectron2/pc59_val"),
    "pascal_context_60_val": ("pc60", "VOCdevkit/VOC2010/annotations_detectron2/pc60_val"),
    "context_459_test_sem_seg": ("pc459", "VOCdevkit/VOC2010/annotations_detectron2/pc459_val"),
    "voc_2012_test_sem_seg": ("voc20", "VOCdevkit/VOC2012/annotations_detectron2/val"),
    "voc_2012_test_background_sem_seg": (
        "voc20b",
        "VOCdevkit/VOC2012/annotations_detectron2_bg/val",
    ),
    "mapillary_vistas_sem_seg_train": ("mapillary_vistas", "mapillary_vistas/training/labels"),
    "mapillary_vistas_sem_seg_val": ("mapillary_vistas", "mapillary_vistas/validation/labels"),
    "scenes_60_train": ("scenes_60", "scenes-60/train/labels"),
    "scenes_60_test": ("scenes_60", "scenes-60/test/labels"),
}


@pytest.fixture
def name(request: pytest.FixtureRequest):
    """A free data set name, forgotten after the test."""
    name = f"test_{request.node.name}"
    yield name
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_names(dataset: str) -> None:
    alias, labels = PUBLISHED[dataset]
    vocabulary, metadata = Vocabulary.load(alias), MetadataCatalog.get(dataset)
    assert dataset in DatasetCatalog.list()
    assert metadata.vocabulary == vocabulary.name
    assert metadata.ignore_label == vocabulary.ignore_label
    assert metadata.sem_seg_root.endswith(labels)
    assert len(metadata.stuff_colors) == len(metadata.stuff_classes)
    if alias != "voc20b":
        assert list(metadata.stuff_classes) == list(vocabulary.names)
        assert metadata.evaluator_type == "sem_seg"


def test_every_built_in_dataset_is_documented(repository: Path) -> None:
    text = (repository / "datasets" / "README.md").read_text("utf-8")
    tables = [vocabulary_table(name) for name in registered_names()]
    files = {
        k: v
        for t in tables
        if t["task"] in ("semantic", "panoptic")
        for k, v in t.get("datasets", {}).items()
    }
    assert len(files) >= 60
    assert [name for name in files if f"`{name}`" not in text] == []
    assert [name for name in files if name not in DatasetCatalog.list()] == []


def test_background_protocol() -> None:
    metadata = MetadataCatalog.get("voc_2012_test_background_sem_seg")
    assert metadata.evaluator_type == "sem_seg_background"
    assert metadata.background_from == 20
    assert metadata.stuff_classes == [*Vocabulary.load("voc20").names, "background"]


def test_names_that_detectron2_may_have_registered_before_us() -> None:
    for dataset in ("ade20k_sem_seg_train", "cityscapes_fine_sem_seg_val"):
        metadata = MetadataCatalog.get(dataset)
        assert metadata.vocabulary in ("ade20k_150", "cityscapes_19")
        assert len(metadata.stuff_colors) == len(metadata.stuff_classes)
        assert metadata.ignore_label == 255


def test_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    code = (
        "import segcore.datasets; from detectron2.data import MetadataCatalog as M; "
        "print(M.get('voc_2012_test_sem_seg').image_root, end='')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == str(tmp_path / "VOCdevkit/VOC2012/JPEGImages")


def test_pairs_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = touch(tmp_path / "images", "b_rgb.jpg", "a_rgb.jpg", "city/c_rgb.jpg", "d_rgb.png")
    labels = touch(
        tmp_path / "labels", "a_gt.png", "city/c_gt.png", "b_gt.png", "c.png", "z_gt.png"
    )
    pairs = read_pairs("pairs", images, labels, "_rgb.jpg", "_gt.png")
    assert pairs == [
        {
            "file_name": str(images / f"{x}_rgb.jpg"),
            "sem_seg_file_name": str(labels / f"{x}_gt.png"),
        }
        for x in ("a", "b", "city/c")
    ]
    assert "1 of 4 label maps have no image" in caplog.text


def test_custom_folder(tmp_path: Path, name: str) -> None:
    register_semantic_dataset(
        name,
        touch(tmp_path / "images", "1.png"),
        touch(tmp_path / "labels", "1.tif"),
        ["sky", "tree, bush"],
        image_suffix=".png",
        label_suffix=".tif",
        ignore_label=99,
        source="my camera",
    )
    assert [Path(d["sem_seg_file_name"]).name for d in DatasetCatalog.get(name)] == ["1.tif"]
    metadata = semantic_metadata(name)
    assert (metadata.stuff_classes, metadata.ignore_label) == (["sky", "tree, bush"], 99)
    assert metadata.source == "my camera"
    assert Vocabulary.load(metadata.vocabulary).prompts == ("sky", "tree")


def test_nothing_is_read_at_registration(name: str) -> None:
    register_semantic_dataset(name, "/nowhere/images", "/nowhere/labels", "voc20")
    with pytest.raises(UserError) as caught:
        DatasetCatalog.get(name)
    for part in (name, "/nowhere/images", "DETECTRON2_DATASETS"):
        assert part in str(caught.value)


def test_folders_without_pairs(tmp_path: Path, name: str) -> None:
    images, labels = touch(tmp_path / "images", "a.jpg"), touch(tmp_path / "labels", "b.png")
    register_semantic_dataset(name, images, labels, "voc20")
    with pytest.raises(UserError, match="has a label map of the same name"):
        DatasetCatalog.get(name)


def test_taken_name_with_the_same_classes_is_kept_and_filled_up(name: str) -> None:
    def read() -> list[dict]:
        return [{"file_name": "theirs"}]

    names = ["wall", "road, route", "window ", *Vocabulary.load("ade150").names[3:]]
    names[1] = Vocabulary.load("ade150").names[1].upper()
    names[2] = f"{Vocabulary.load('ade150').names[2]} , something else"
    DatasetCatalog.register(name, read)
    MetadataCatalog.get(name).set(stuff_classes=names, ignore_label=255, image_root="theirs")
    register_semantic_dataset(name, "ours", "ours", "ade150")
    assert DatasetCatalog.get(name) == [{"file_name": "theirs"}]
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes is names
    assert (metadata.image_root, metadata.sem_seg_root) == ("theirs", "ours")
    assert metadata.vocabulary == "ade20k_150"


@pytest.mark.parametrize(
    ("vocabulary", "ignore_label", "says"),
    [
        ("cityscapes", 255, "other classes"),
        (["sky", "grass"], 255, "other classes"),
        (["tree", "sky"], 255, "other classes"),
        (["sky", "tree"], 0, "ignore label 255 instead of 0"),
    ],
)
def test_taken_name_with_other_content(
    name: str, vocabulary: object, ignore_label: int, says: str
) -> None:
    register_semantic_dataset(name, "a", "b", ["sky", "tree"])
    with pytest.raises(UserError, match=says):
        register_semantic_dataset(name, "a", "b", vocabulary, ignore_label=ignore_label)


def test_unknown_dataset() -> None:
    check_registered(["ade20k_150_test_sem_seg", "scenes_60_test"])
    with pytest.raises(UserError, match="nearest registered one is 'ade20k_150_test_sem_seg'"):
        check_registered(["ade20k_150_sem_seg_test"])
    with pytest.raises(UserError, match="no dataset named"):
        semantic_metadata("nothing_of_this_name")


def test_dataset_of_another_kind(name: str) -> None:
    DatasetCatalog.register(name, list)
    with pytest.raises(UserError, match="is no semantic one"):
        semantic_metadata(name)


def test_any_image_by_its_stem(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.JPG", "b.jpeg", ".c.jpg", "notes.txt", "d.png")
    labels = touch(tmp_path / "labels", "a.png", "b.tif", ".c.png", "notes.txt")
    pairs = read_pairs("any", images, labels, None, None)
    assert [Path(pair["file_name"]).name for pair in pairs] == ["a.JPG", "b.jpeg"]
    assert [Path(pair["sem_seg_file_name"]).name for pair in pairs] == ["a.png", "b.tif"]
    touch(labels, "a.bmp")
    with pytest.raises(UserError, match=r"a\.bmp and .*a\.png differ in their endings"):
        read_pairs("any", images, labels, None, None)
    assert len(read_pairs("one", images, labels, None, ".png")) == 1
