"""Scenes' segments and instances in COCO's formats, read back by the libraries that read COCO."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.datasets import load_coco_json

from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.scenes import SCENES_1K, SCENES_60, Settings, plan_scene, render, write_scenes
from segcore.scenes.coco import DIVISOR, panoptic_image, segment_ids

pytest.importorskip("pycocotools", reason="pycocotools writes and reads the masks")

SETTINGS = Settings(num_train=3, num_test=8, size=48)
CATALOGUES = {"scenes-60": SCENES_60, "scenes-1k": SCENES_1K}


@pytest.fixture(scope="module", params=CATALOGUES)
def split(request, tmp_path_factory) -> tuple[Path, tuple]:
    """A rendered split with all files, and its classes."""
    root = tmp_path_factory.mktemp("scenes")
    catalogue = CATALOGUES[request.param]
    write_scenes(root, catalogue, SETTINGS, panoptic=True)
    return root / catalogue.name / "test", catalogue.classes


def content(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text("utf-8"))


class TestPanoptic:
    def test_ids_use_three_bytes_and_come_back(self):
        scene = plan_scene(SCENES_1K, 0, "test", 3)
        image = render(scene, 64)
        ids = segment_ids(panoptic_image(image))
        assert (ids // DIVISOR == image.labels).all()
        assert (ids % DIVISOR == image.instances).all()
        assert ids.max() > 65535

    def test_segments_are_those_of_the_images(self, split):
        """The invariants of COCO panoptic, checked pixel by pixel."""
        folder, _ = split
        document = content(folder, "panoptic.json")
        assert len(document["images"]) == len(document["annotations"]) == SETTINGS.num_test
        for image, annotation in zip(document["images"], document["annotations"], strict=True):
            assert annotation["image_id"] == image["id"]
            red, green, blue = (
                read_image(folder / "panoptic" / annotation["file_name"])
                .astype(np.int64)
                .transpose(2, 0, 1)
            )
            ids = red + 256 * green + 65536 * blue
            assert ids.shape == (image["height"], image["width"])
            infos = annotation["segments_info"]
            assert sorted(info["id"] for info in infos) == np.unique(ids).tolist()
            for info in infos:
                rows, columns = np.nonzero(ids == info["id"])
                left, top, width, height = info["bbox"]
                assert info["area"] == len(rows)
                assert (left, top) == (columns.min(), rows.min())
                assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
                assert info["iscrowd"] == 0

    def test_categories_of_segments_are_the_semantic_labels(self, split):
        folder, classes = split
        document = content(folder, "panoptic.json")
        for annotation in document["annotations"]:
            ids = segment_ids(read_image(folder / "panoptic" / annotation["file_name"]))
            painted = np.full(ids.shape, -1)
            for info in annotation["segments_info"]:
                painted[ids == info["id"]] = info["category_id"]
            assert (painted == read_labels(folder / "labels" / annotation["file_name"])).all()
        things = {entry["id"]: entry["isthing"] for entry in document["categories"]}
        assert things == {entry.id: int(entry.is_object) for entry in classes}
        assert [entry["name"] for entry in document["categories"]] == [e.name for e in classes]

    def test_a_ground_is_one_segment(self, split):
        folder, classes = split
        for annotation in content(folder, "panoptic.json")["annotations"]:
            grounds = [
                info["category_id"]
                for info in annotation["segments_info"]
                if not classes[info["category_id"]].is_object
            ]
            assert len(grounds) == len(set(grounds)) in (1, 2)


class TestInstances:
    def test_pycocotools_reads_them(self, split):
        """The masks of instances are the thing segments of the panoptic map."""
        from pycocotools.coco import COCO

        folder, classes = split
        dataset = COCO(str(folder / "instances.json"))
        assert dataset.getCatIds() == [entry.id for entry in classes if entry.is_object]
        assert 0 not in dataset.anns
        for image in dataset.loadImgs(dataset.getImgIds()):
            labels = read_labels(folder / "labels" / image["file_name"])
            ids = segment_ids(read_image(folder / "panoptic" / image["file_name"]))
            covered = np.zeros(ids.shape, dtype=bool)
            for annotation in dataset.loadAnns(dataset.getAnnIds(image["id"])):
                mask = dataset.annToMask(annotation).astype(bool)
                assert set(labels[mask]) == {annotation["category_id"]}
                segment = ids[mask][0]
                assert (mask == (ids == segment)).all() and segment % DIVISOR > 0
                assert mask.sum() == annotation["area"]
                assert not (covered & mask).any()
                covered |= mask
            assert (covered == (ids % DIVISOR > 0)).all()

    def test_pycocotools_scores_the_ground_truth_with_one(self, split, tmp_path):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        folder, _ = split
        ground_truth = COCO(str(folder / "instances.json"))
        found = [
            {key: annotation[key] for key in ("image_id", "category_id", "segmentation")}
            | {"score": 1.0}
            for annotation in ground_truth.dataset["annotations"]
        ]
        ground_truth.dataset["info"] = {}  # loadRes copies what COCO's files have
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        assert (precision > -1).any()
        assert precision[precision > -1] == pytest.approx(1)


class TestDetectron2:
    """Detectron2's readers of COCO's files."""

    def test_reads_instances(self, split):
        folder, _ = split
        rows = load_coco_json(str(folder / "instances.json"), str(folder / "images"))
        ground_truth = content(folder, "instances.json")["annotations"]
        assert [(row["image_id"], len(row["annotations"])) for row in rows] == [
            (index, sum(entry["image_id"] == index for entry in ground_truth))
            for index in range(SETTINGS.num_test)
        ]
        assert all(Path(row["file_name"]).is_file() for row in rows)

    def test_reads_segments(self, split, tmp_path):
        folder, classes = split
        try:
            from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json
        except ImportError:
            pytest.skip("d2lite has no reader of COCO files")
        for path in (folder / "images").iterdir():  # this reader expects .jpg files
            (tmp_path / path.name).with_suffix(".jpg").symlink_to(path)
        things, stuff = (
            {entry.id: entry.id for entry in classes if entry.is_object is kind}
            for kind in (True, False)
        )
        meta = {
            "thing_dataset_id_to_contiguous_id": things,
            "stuff_dataset_id_to_contiguous_id": stuff,
        }
        rows = load_coco_panoptic_json(
            str(folder / "panoptic.json"), str(tmp_path), str(folder / "panoptic"), meta
        )
        assert [row["image_id"] for row in rows] == list(range(SETTINGS.num_test))
        for row in rows:
            ids = segment_ids(read_image(row["pan_seg_file_name"]))
            assert sorted(info["id"] for info in row["segments_info"]) == np.unique(ids).tolist()
            for info in row["segments_info"]:
                assert info["isthing"] == (info["category_id"] in things)


class TestWriting:
    def test_existing_images_get_segments_later(self, tmp_path):
        settings = Settings(num_train=0, num_test=5, size=48)
        first, later = tmp_path / "first", tmp_path / "later"
        hashes = write_scenes(first, SCENES_60, settings, panoptic=True)
        write_scenes(later, SCENES_60, settings)
        image = later / "scenes-60/test/images/000002.png"
        before = image.stat().st_mtime_ns
        assert write_scenes(later, SCENES_60, settings, panoptic=True, workers=2) == hashes
        assert image.stat().st_mtime_ns == before
        for path in first.rglob("*.*"):
            assert path.read_bytes() == (later / path.relative_to(first)).read_bytes()

    def test_a_missing_library_is_reported(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycocotools", None)
        with pytest.raises(UserError, match="pip install pycocotools"):
            write_scenes(tmp_path, SCENES_60, SETTINGS, panoptic=True)
