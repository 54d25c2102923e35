"""datasets/check.py on segments and objects: sound ones, and each of their faults."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.annotations.panoptic_png import encode_ids, read_segment_ids
from segcore.datasets import register_instance_dataset, register_panoptic_dataset
from segcore.datasets.checking import Source, Survey, survey, write_check_page
from segcore.images import read_labels
from segcore.scenes import SCENES_60, Settings, write_scenes

PANOPTIC, INSTANCE = "test_check_panoptic", "test_check_instance"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scenes(tmp_path, SCENES_60, Settings(num_train=0, num_test=3, size=48), panoptic=True)
    folder = tmp_path / "scenes-60/test"
    images = folder / "images"
    register_panoptic_dataset(
        PANOPTIC, images, folder / "panoptic.json", folder / "panoptic", "scenes_60"
    )
    register_instance_dataset(INSTANCE, images, folder / "instances.json", "scenes_60")
    yield folder
    for name in (PANOPTIC, INSTANCE):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def errors(known: Survey) -> dict[str, str]:
    return {finding.kind: finding.text for finding in known.findings if finding.is_error}


def test_sound_ones(folder: Path) -> None:
    counts = np.zeros(60, dtype=np.int64)
    for path in (folder / "labels").iterdir():
        counts += np.bincount(read_labels(path).ravel(), minlength=60)
    known = survey(Source.registered(PANOPTIC))
    assert errors(known) == {} and known.num_images == 3
    np.testing.assert_array_equal(known.class_pixels, counts)
    objects = survey(Source.registered(INSTANCE))
    assert errors(objects) == {}
    np.testing.assert_array_equal(objects.class_pixels, counts[:54])
    page = write_check_page([known, objects], [], folder / "page", samples=2)
    assert page.is_file()


def test_faults_of_segments(folder: Path) -> None:
    path = folder / "panoptic/000000.png"
    ids = read_segment_ids(path)
    ids[0, 0] = 7
    Image.fromarray(encode_ids(ids)).save(path)
    assert "holds the segment id 7, which" in errors(survey(Source.registered(PANOPTIC)))["objects"]
    Image.fromarray(encode_ids(read_segment_ids(folder / "panoptic/000001.png"))).save(path)
    assert "objects" in errors(survey(Source.registered(PANOPTIC)))
    path.unlink()
    assert "no file at" in errors(survey(Source.registered(PANOPTIC)))["objects"]


def test_faults_of_objects(folder: Path) -> None:
    path = folder / "instances.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = {"size": [48, 48], "counts": [5]}
    path.write_text(json.dumps(content))
    assert "it does not fill 48 x 48" in errors(survey(Source.registered(INSTANCE)))["objects"]


@pytest.mark.parametrize("name", [PANOPTIC, INSTANCE])
def test_images(folder: Path, name: str) -> None:
    path = folder / "images/000002.png"
    Image.open(path).resize((40, 48)).save(path)
    assert "size" in errors(survey(Source.registered(name)))
    path.write_bytes(path.read_bytes()[:99])
    assert "000002.png" in errors(survey(Source.registered(name)))["unreadable"]
