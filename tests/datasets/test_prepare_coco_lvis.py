"""Preparing COCO+LVIS, on a miniature of its downloads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from downloads import load, registered_labels, save
from pycocotools import mask as run_lengths

from segcore.datasets import register_semantic_dataset
from segcore.datasets.checking import Source, survey
from segcore.datasets.presence import shown_classes
from segcore.errors import UserError
from segcore.evaluation import SemanticEvaluator
from segcore.images import read_labels
from segcore.vocabulary import vocabulary_table

CLASSES = [entry["name"] for entry in vocabulary_table("coco_lvis_1284")["classes"]]
SHARED = [
    "banner",
    "blanket",
    "cabinet",
    "cupboard",
    "curtain",
    "napkin",
    "pillow",
    "salad",
    "table",
    "towel",
]
SIZE = (2, 14)
IMAGE = "000000000009"


def runs(columns: range) -> dict:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[:, list(columns)] = 1
    encoded = run_lengths.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def box(left: int, right: int) -> list[list[int]]:
    return [[left, 0, right, 0, right, 2, left, 2]]


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """An image of COCO's train and one of its val, both of LVIS's val; a third has nothing.

    The first one shows every class that LVIS and COCO's stuff share, as stuff, a column each; then
    branch, other stuff (183), an object (aerosol_can) over stuff, and a second object below it.
    """
    folder = tmp_path / "lvis/annotations"
    folder.mkdir(parents=True)
    images = [
        {"id": number, "coco_url": f"http://coco/{split}/{number:012d}.jpg"}
        | {"height": SIZE[0], "width": SIZE[1]}
        for number, split in ((9, "train2017"), (10, "val2017"), (11, "val2017"))
    ]
    lvis = [
        {"image_id": 9, "category_id": 1, "segmentation": box(12, 13)},
        {"image_id": 9, "category_id": 1203, "segmentation": box(12, 14)},
    ]
    shared = [92, 93, 98, 108, 109, 137, 141, 153, 165, 168]
    stuff = [
        {"image_id": 9, "category_id": category, "segmentation": runs(range(i, i + 1))}
        for i, category in enumerate(shared)
    ]
    stuff += [
        {"image_id": 9, "category_id": 94, "segmentation": runs(range(9, 11))},  # 9 is taken
        {"image_id": 9, "category_id": 183, "segmentation": runs(range(11, 13))},
    ]
    other = [{"image_id": 10, "category_id": 182, "segmentation": runs(range(14))}]
    for name, content in (
        ("lvis_v1_val", {"images": images, "annotations": lvis}),
        ("stuff_train2017", {"annotations": stuff}),
        ("stuff_val2017", {"annotations": other}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    for image in images:
        path = tmp_path / "coco" / image["coco_url"].removeprefix("http://coco/")
        save(path, np.full((*SIZE, 3), 90))
    return tmp_path


def test_names_are_those_of_the_facts(download: Path) -> None:
    load("coco_lvis").prepare(download, published=False, workers=1)
    found = registered_labels("coco_lvis_val", download)
    assert set(found) == {IMAGE, "000000000010"} and found[IMAGE].dtype == np.uint16
    row = found[IMAGE][1]
    names = [CLASSES[value - 1] if value else None for value in row]
    assert names == [*SHARED, "branch", None, "aerosol_can", CLASSES[1202]]
    assert all(value <= 1203 for value in row[:10])
    assert (found["000000000010"] == 1284).all()
    image = download / f"lvis/images/val2017/{IMAGE}.jpg"
    assert image.resolve() == (download / f"coco/train2017/{IMAGE}.jpg").resolve()


def test_the_published_fault(download: Path) -> None:
    module = load("coco_lvis")
    module.prepare(download, published=True, workers=1)
    row = registered_labels("coco_lvis_val_published", download)[IMAGE][0]
    names = [CLASSES[value - 1] for value in row[:10]]
    expected = [{"blanket": "desk-stuff", "cabinet": "window-other"}.get(n, n) for n in SHARED]
    assert names == expected
    assert not (download / "lvis/lvis_mask").exists()


def test_renaming_in_place(download: Path) -> None:
    """The table of the fault against what it stands for."""
    module = load("coco_lvis")
    ids = np.arange(92, 183)
    renamed = ids.copy()
    for id in ids:
        renamed[renamed == id] = module.STUFF[id]
    assert module.renamed_twice(module.STUFF) == dict(
        zip(ids.tolist(), renamed.tolist(), strict=True)
    )


def test_what_is_read_are_class_ids(download: Path) -> None:
    load("coco_lvis").prepare(download, published=False, workers=1)
    name = "test_coco_lvis"
    metadata = MetadataCatalog.get("coco_lvis_val")
    assert (metadata.first_label, metadata.ignore_label) == (1, 65535)
    register_semantic_dataset(
        name,
        download / "lvis/images/val2017",
        download / "lvis/lvis_mask/val2017",
        metadata.vocabulary,
        first_label=metadata.first_label,
    )
    try:
        record = DatasetCatalog.get(name)[0]
        assert shown_classes(record, 1284, 65535).max() == CLASSES.index("branch")
        evaluator = SemanticEvaluator(name, distributed=False)
        prediction = torch.from_numpy(read_labels(record["sem_seg_file_name"]).astype(np.int64)) - 1
        evaluator.process([record], [{"sem_seg_labels": prediction.clamp(min=0)}])
        assert evaluator.evaluate()["sem_seg"]["mIoU"] == 100
        found = survey(Source.registered(name), workers=1)
        assert not [each for each in found.findings if each.kind == "values"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_a_second_run_does_nothing(download: Path) -> None:
    module = load("coco_lvis")
    module.prepare(download, published=False, workers=1)
    before = {p: p.lstat().st_mtime_ns for p in (download / "lvis").rglob("*")}
    module.prepare(download, published=False, workers=1)
    assert {p: p.lstat().st_mtime_ns for p in (download / "lvis").rglob("*")} == before


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("lvis_v1_val", '"category_id": 1,', '"category_id": 1204,', "category 1204, none of LVIS"),
        (
            "lvis_v1_val",
            "/train2017/000",
            "/train2017/..\\\\000",
            "leads out of",
        ),
        ("lvis_v1_val", "/train2017/", "/../", "is no annotation file of LVIS v1"),
        ("lvis_v1_val", '"annotations"', '"objects"', "is no annotation file of LVIS v1"),
        (
            "lvis_v1_val",
            '"height": ',
            '"height": 1e999, "was": ',
            "is no annotation file of LVIS v1",
        ),
        ("stuff_val2017", '"annotations"', '"objects"', "is no annotation file of COCO"),
        (
            "stuff_val2017",
            '"category_id": ',
            '"category_id": "x", "was": ',
            "is no annotation file",
        ),
        ("stuff_val2017", '"category_id": ', '"category_id": 1e999, "was": ', "is no annotation"),
        ("stuff_val2017", '"counts": "', '"counts": "~', r"an annotation of .*: the RLE is"),
    ],
)
def test_faults(download: Path, file: str, old: str, new: str, message: str) -> None:
    path = download / f"lvis/annotations/{file}.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        load("coco_lvis").prepare(download, published=False, workers=1)


def test_missing_files(download: Path) -> None:
    module = load("coco_lvis")
    (download / "lvis/annotations/stuff_train2017.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*stuff_train2017\.json"):
        module.prepare(download, published=False, workers=1)
    with pytest.raises(UserError, match=r"there is no .*lvis_v1_val\.json"):
        module.prepare(download / "elsewhere", published=False, workers=1)
