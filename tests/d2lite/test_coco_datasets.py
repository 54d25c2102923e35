"""Data sets in COCO's formats, registered as with Detectron2; the values are those of the real one.

The tests also pass with the real Detectron2 instead of d2lite.
"""

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import (
    load_coco_json,
    register_coco_instances,
    register_coco_panoptic,
    register_coco_panoptic_separated,
)
from detectron2.structures import BoxMode

pytestmark = pytest.mark.usefixtures("forget_datasets")
TRIANGLE = [0, 0, 4, 0, 4, 4]
OBJECTS = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": 8, "width": 9},
        {"id": 3, "file_name": "a.png", "height": 8, "width": 9},
    ],
    "categories": [{"id": 5, "name": "x"}, {"id": 2, "name": "y"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [0, 0, 4, 4], "area": 8, "iscrowd": 0,
         "segmentation": [TRIANGLE, [1, 2]]},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 1,
         "segmentation": {"size": [8, 9], "counts": [0, 2, 70]}},
        {"id": 3, "image_id": 3, "category_id": 2, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
         "segmentation": [[1, 2]]},
    ],
}  # fmt: skip


@pytest.fixture
def objects(tmp_path: Path) -> str:
    (tmp_path / "i.json").write_text(json.dumps(OBJECTS))
    return str(tmp_path / "i.json")


def test_objects(objects: str) -> None:
    register_coco_instances("lite_objects", {"k": 1}, objects, "im")
    metadata = MetadataCatalog.get("lite_objects")
    assert (metadata.json_file, metadata.image_root, metadata.k) == (objects, "im", 1)
    assert metadata.evaluator_type == "coco" and not hasattr(metadata, "thing_classes")
    first, second = DatasetCatalog.get("lite_objects")
    assert metadata.thing_classes == ["y", "x"]
    assert metadata.thing_dataset_id_to_contiguous_id == {2: 0, 5: 1}
    assert first == {
        "file_name": "im/a.png", "height": 8, "width": 9, "image_id": 3, "annotations": []
    }  # fmt: skip
    polygons, crowd = second["annotations"]
    assert polygons == {
        "iscrowd": 0, "bbox": [0, 0, 4, 4], "category_id": 1, "segmentation": [TRIANGLE],
        "bbox_mode": BoxMode.XYWH_ABS,
    }  # fmt: skip
    assert crowd["segmentation"] == {"size": [8, 9], "counts": b"02V2"} and crowd["iscrowd"] == 1


def test_without_a_name_categories_stay(objects: str) -> None:
    records = load_coco_json(objects, "im", extra_annotation_keys=["area", "score"])
    assert [each["category_id"] for each in records[1]["annotations"]] == [5, 2]
    assert [each["area"] for each in records[1]["annotations"]] == [8, 4]


def test_ids_of_annotations_are_unique(tmp_path: Path) -> None:
    twice = [entry | {"id": 1} for entry in OBJECTS["annotations"]]
    (tmp_path / "i.json").write_text(json.dumps(OBJECTS | {"annotations": twice}))
    with pytest.raises(AssertionError, match="not unique"):
        load_coco_json(str(tmp_path / "i.json"), "im")


def test_segments(tmp_path: Path) -> None:
    segments = [
        {"id": 9, "category_id": 2, "iscrowd": 0, "area": 4, "bbox": [0, 0, 1, 1]},
        {"id": 8, "category_id": 4, "iscrowd": 0},
    ]
    entry = {"image_id": "3", "file_name": "a.png", "segments_info": segments}
    (tmp_path / "p.json").write_text(json.dumps({"annotations": [entry]}))
    ids = {
        "thing_dataset_id_to_contiguous_id": {2: 0},
        "stuff_dataset_id_to_contiguous_id": {4: 1},
    }
    folder, file = str(tmp_path), str(tmp_path / "p.json")
    register_coco_panoptic("lite_segments", ids, folder, folder, file)
    metadata = MetadataCatalog.get("lite_segments")
    assert metadata.evaluator_type == "coco_panoptic_seg" and metadata.json_file is None
    assert (metadata.ignore_label, metadata.label_divisor) == (255, 1000)
    with pytest.raises(AssertionError, match=r"a\.jpg"):
        DatasetCatalog.get("lite_segments")
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    (record,) = DatasetCatalog.get("lite_segments")
    assert record == {
        "file_name": f"{folder}/a.jpg", "image_id": 3, "pan_seg_file_name": f"{folder}/a.png",
        "segments_info": [
            segments[0] | {"category_id": 0, "isthing": True},
            segments[1] | {"category_id": 1, "isthing": False},
        ],
    }  # fmt: skip


def test_objects_and_label_maps(tmp_path: Path) -> None:
    images = [entry | {"file_name": f"{entry['id']}.jpg"} for entry in OBJECTS["images"]]
    (tmp_path / "i.json").write_text(json.dumps(OBJECTS | {"images": images}))
    images, labels, file = (str(tmp_path / name) for name in ("im", "sem", "i.json"))
    for folder, suffix in ((images, "jpg"), (labels, "png")):
        Path(folder).mkdir()
        for stem in (3, 7):
            (Path(folder) / f"{stem}.{suffix}").touch()
    about = {"stuff_classes": ["u", "v"]}
    register_coco_panoptic_separated("lite", about, images, "pan", "p.json", labels, file)
    common = about | {"sem_seg_root": labels, "image_root": images, "ignore_label": 255}
    assert MetadataCatalog.get("lite_stuffonly").as_dict() == common | {
        "name": "lite_stuffonly", "evaluator_type": "sem_seg"
    }  # fmt: skip
    assert MetadataCatalog.get("lite_separated").as_dict() == common | {
        "name": "lite_separated", "evaluator_type": "coco_panoptic_seg", "json_file": file,
        "panoptic_root": "pan", "panoptic_json": "p.json",
    }  # fmt: skip
    pairs = [
        {"file_name": f"{images}/{stem}.jpg", "sem_seg_file_name": f"{labels}/{stem}.png"}
        for stem in (3, 7)
    ]
    assert DatasetCatalog.get("lite_stuffonly") == pairs
    records = DatasetCatalog.get("lite_separated")
    assert [{key: record[key] for key in pairs[0]} for record in records] == pairs
    assert [len(record["annotations"]) for record in records] == [0, 2]
    assert MetadataCatalog.get("lite_separated").thing_classes == ["y", "x"]
    for folder, suffix in ((images, "jpg"), (labels, "png")):
        (Path(folder) / f"3.{suffix}").unlink()
    with pytest.raises(KeyError, match=r"3\.jpg"):
        DatasetCatalog.get("lite_separated")
