"""The script for Mapillary Vistas, on releases of one small image in each split."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from downloads import load, registered_labels, save

from segcore.annotations.panoptic_png import encode_ids
from segcore.config import default_config
from segcore.datasets import register_panoptic_dataset
from segcore.datasets.status import all_statuses
from segcore.errors import UserError
from segcore.evaluation import build_evaluator

LABELS = np.array([[13, 13, 55], [65, 19, 55]])  # road, road, car; unlabelled, person, car
IDS = np.array([[3584, 3584, 14337], [0, 5121, 14337]])
CATEGORIES = {3584: 14, 14337: 56, 5121: 20}
NAME = "mapillary_vistas_panoptic_val"


@pytest.fixture
def module() -> ModuleType:
    return load("mapillary_vistas")


@pytest.fixture(params=["", "v1.2/"], ids=["archive of v1.2", "archive of v2.0"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Both archives have the images outside of the folder of their version."""
    listing = {
        "images": [{"id": "aX_1", "file_name": "aX_1.jpg", "height": 2, "width": 3}],
        "annotations": [
            {
                "image_id": "aX_1",
                "file_name": "aX_1.png",
                "segments_info": [
                    {"id": id, "category_id": category, "iscrowd": 0, "area": 1}
                    for id, category in CATEGORIES.items()
                ],
            }
        ],
        "categories": [
            {"id": 14, "name": "Road", "isthing": 0},
            {"id": 20, "name": "Person", "isthing": 1},
            {"id": 56, "name": "Car", "isthing": 1},
        ],
    }
    for split in ("training", "validation"):
        folder = tmp_path / "mapillary_vistas" / split
        save(folder / "images/aX_1.jpg", np.zeros((2, 3, 3)))
        save(folder / f"{request.param}labels/aX_1.png", LABELS)
        save(folder / f"{request.param}panoptic/aX_1.png", encode_ids(IDS))
        (folder / f"{request.param}panoptic/panoptic_2018.json").write_text(json.dumps(listing))
    return tmp_path


def test_what_is_there_is_linked_and_checked(module: ModuleType, root: Path, capsys) -> None:
    for _ in range(2):
        module.prepare(root, workers=1)
    printed = capsys.readouterr()
    for split, number in (("train", 18000), ("val", 2000)):
        name = f"mapillary_vistas_sem_seg_{split}"
        assert registered_labels(name, root)["aX_1"].tolist() == LABELS.tolist()
        assert f"{name}: 1 label maps in {root}" in printed.out
        assert f"mapillary_vistas_panoptic_{split}: segments of 1 images in {root}" in printed.out
        assert f"{name}: the benchmark has {number} images, but there are 1:" in printed.err
    found = [each for each in all_statuses(root) if each.group == "mapillary_vistas_65"]
    assert [(each.state, each.found) for each in found] == [("other", 1)] * 4


def test_perfect_predictions_have_full_scores(
    module: ModuleType, root: Path, dataset_name: str, tmp_path: Path
) -> None:
    """Of the classes in the label maps and of the segments alike; unlabelled pixels count not."""
    module.prepare(root, workers=1)
    entry = module.ENTRIES[NAME]
    paths = (root / entry[key] for key in ("images", "panoptic_json", "labels"))
    register_panoptic_dataset(
        dataset_name,
        *paths,
        "mapillary_vistas",
        semantic_dir=root / entry["semantic_labels"],
        evaluator_type=entry["evaluator_type"],
    )
    cfg = default_config()
    cfg.OUTPUT_DIR = str(tmp_path)
    switches = {"SEMANTIC_ON": True, "PANOPTIC_ON": True, "INSTANCE_ON": False}
    cfg.MODEL.MASK_FORMER = CfgNode({"TEST": switches})
    (record,) = DatasetCatalog.get(dataset_name)
    assert [each["category_id"] for each in record["segments_info"]] == [13, 55, 19]
    assert [each["isthing"] for each in record["segments_info"]] == [False, True, True]
    prediction = {
        "panoptic_seg": (torch.from_numpy(IDS), record["segments_info"]),
        "sem_seg_labels": torch.from_numpy(np.where(LABELS == 65, 0, LABELS)),
    }
    evaluator = build_evaluator(cfg, dataset_name)
    evaluator.process([record], [prediction])
    results = evaluator.evaluate()
    assert results["panoptic_seg"]["PQ"] == results["sem_seg"]["mIoU"] == 100


def test_a_split_and_segments_may_be_missing(module: ModuleType, root: Path, capsys) -> None:
    (root / "mapillary_vistas/training").rename(root / "elsewhere")
    for folder in (root / "mapillary_vistas/validation").rglob("panoptic"):
        folder.rename(root / "segments")
    module.prepare(root, workers=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "mapillary_vistas_sem_seg_val: 1 label maps"
    ]


def test_nothing_is_there(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no .*mapillary_vistas/validation: unpack"):
        module.prepare(tmp_path, workers=1)
    save(tmp_path / "mapillary_vistas/validation/images/1.jpg", LABELS)
    with pytest.raises(UserError, match=r"validation/labels holds no file \*\.png: unpack"):
        module.prepare(tmp_path, workers=1)


@pytest.mark.parametrize(
    ("kind", "pixels", "message"),
    [
        ("labels", LABELS + 60, r"aX_1\.png"),
        ("labels", None, r"aX_1\.png"),
        ("panoptic", encode_ids(IDS + 1), r"aX_1\.png holds the segment id 3585, which the JSON"),
        ("panoptic", encode_ids(IDS[:, 1:]), r"aX_1\.png has \(height, width\) \(2, 2\), but its"),
        ("panoptic", None, r"aX_1\.png"),
    ],
)
def test_a_wrong_file_is_one_error_message(
    module: ModuleType, root: Path, kind: str, pixels: np.ndarray | None, message: str
) -> None:
    (path,) = (root / "mapillary_vistas/validation").rglob(f"{kind}/aX_1.png")
    if pixels is None:
        path.write_bytes(path.read_bytes()[:30])
    else:
        save(path, pixels)
    with pytest.raises(UserError, match=message) as error:
        module.prepare(root, workers=1)
    assert "\n" not in str(error.value)
