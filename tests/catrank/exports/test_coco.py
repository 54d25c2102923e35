"""COCO's formats come back through pycocotools and through the readers of training."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from catrank.exports.coco import coco_annotations
from catrank.exports.datasets import coco_of, write_coco, write_coco_panoptic
from segcore.annotations import read_panoptic_json
from segcore.annotations.instances import read_instance_file
from segcore.annotations.panoptic_png import PanopticFile, read_segment_ids
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.outlines import draw_outline


@pytest.mark.parametrize("shapes", ["rle", "polygons"])
def test_objects(result, shapes, tmp_path):
    path = tmp_path / "coco.json"
    content = result.to_coco(path, shapes=shapes)
    assert json.loads(path.read_text("utf-8")) == content
    coco = COCO(str(path))
    assert [coco.cats[id + 1]["name"] for id in range(4)] == [*result.class_names]
    entries = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert len(entries) == len(result) > 0
    for index, entry in enumerate(entries):
        mask = result.mask(index)
        assert (coco.annToMask(entry) == mask).all()
        assert entry["area"] == mask.sum() and entry["category_id"] == result.class_ids[index] + 1
        left, top, width, height = entry["bbox"]
        assert [left, top, left + width, top + height] == result.boxes[index].tolist()
        if result.scores is not None:
            assert entry["score"] == pytest.approx(result.scores[index], abs=1e-6)
    if result.tracked:
        assert [entry["track_id"] for entry in entries] == result.track_ids.tolist()
    names, (read,) = read_instance_file(path)
    assert names[1] == result.class_names[0] and len(read.objects) == len(result)
    first = draw_outline(read.objects[0].outline, result.size, "it")
    assert (first == result.mask(0)).all()


def test_many_images_in_one_file(semantic, instance, tmp_path):
    write_coco(iter([semantic, instance]), tmp_path / "all.json")
    coco = COCO(str(tmp_path / "all.json"))
    assert [coco.imgs[id]["file_name"] for id in (1, 2)] == ["photo.jpg", "clip_000007.png"]
    assert len(coco.anns) == len(semantic) + len(instance)
    assert len(coco.getAnnIds(imgIds=2)) == len(instance)


def test_wrong_calls(semantic, panoptic):
    with pytest.raises(UserError, match="shapes is 'box'"):
        coco_annotations([], 1, 1, "box")
    with pytest.raises(UserError, match="no result"):
        coco_of([])
    other = type(semantic).semantic("b.jpg", semantic.image, panoptic.vocabulary, semantic.labels)
    assert len(coco_of([semantic, other])["images"]) == 2


def test_panoptic(result, tmp_path):
    path = tmp_path / "panoptic.json"
    content = result.to_coco_panoptic(path)
    assert json.loads(path.read_text("utf-8")) == content
    (entry,) = content["annotations"]
    ids = read_segment_ids(tmp_path / "panoptic" / entry["file_name"])
    assert (ids == result.segment_ids).all()
    categories, _, (listed,) = read_panoptic_json(path, tmp_path / "panoptic")
    visible = [s for s in result.segments if (result.segment_ids == s.number).any()]
    assert [(s.id, s.category_id - 1) for s in listed.segments] == [
        (s.number, s.class_id) for s in visible
    ]
    assert all(s.area == (ids == s.id).sum() for s in listed.segments)
    things = [isthing for _, isthing in categories.values()]
    expected = {"semantic": [0, 0, 0, 0], "panoptic": [0, 0, 1, 0], "instance": [1, 1, 1, 1]}
    assert things == expected[result.task]
    assert len(PanopticFile(path, tmp_path / "panoptic")) == 1


def test_two_images_of_one_name_are_refused(semantic, tmp_path):
    with pytest.raises(UserError, match=r"two images are named photo\.png"):
        write_coco_panoptic([semantic, semantic], tmp_path / "a.json")


def test_label_png(result, tmp_path):
    result.to_label_png(tmp_path / "labels.png")
    back = read_labels(tmp_path / "labels.png").astype(np.int64)
    assert (np.where(back == 65535, -1, back) == result.labels).all()
    result.to_label_png(tmp_path / "segments.png", segments=True)
    assert (read_labels(tmp_path / "segments.png") == result.segment_ids).all()


def test_labels_that_do_not_fit(semantic, tmp_path):
    wide = type(semantic)(
        "a", semantic.image, semantic.vocabulary, "panoptic", semantic.segment_ids + 70_000, ()
    )
    with pytest.raises(UserError, match="do not fit 16 bits"):
        wide.to_label_png(tmp_path / "a.png", segments=True)
    assert not [*tmp_path.iterdir()]


def test_rle_is_that_of_pycocotools(instance):
    for entry, mask in zip(instance.to_coco()["annotations"], instance.masks, strict=True):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert entry["segmentation"]["counts"] == encoded["counts"].decode()
