"""Panoptic and instance data sets: published names, records, perfect predictions and errors."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from segcore.annotations.panoptic_png import encode_ids, segments_of_record
from segcore.config import default_config
from segcore.datasets import (
    data_root,
    register_instance_dataset,
    register_panoptic_dataset,
)
from segcore.datasets.instance import read_instance_records
from segcore.datasets.panoptic import read_panoptic_records
from segcore.errors import UserError
from segcore.evaluation import build_evaluator
from segcore.images import read_labels
from segcore.outlines import decode_mask
from segcore.scenes import SCENES_60, Settings, write_scenes
from segcore.vocabulary import Vocabulary

PUBLISHED = {  # name: evaluator, classes, things, and a path
    "ade20k_panoptic_train": ("ade20k_panoptic_seg", 150, 100, "ade20k_panoptic_train.json"),
    "ade20k_panoptic_val": ("ade20k_panoptic_seg", 150, 100, "ade20k_panoptic_val.json"),
    "coco_2017_train_panoptic": ("coco_panoptic_seg", 133, 80, "panoptic_train2017.json"),
    "coco_2017_val_panoptic": ("coco_panoptic_seg", 133, 80, "panoptic_val2017.json"),
    "coco_2017_val_panoptic_with_sem_seg": (
        "coco_panoptic_seg",
        133,
        80,
        "panoptic_val2017.json",
    ),
    "mapillary_vistas_panoptic_train": (
        *("mapillary_vistas_panoptic_seg", 65, 37, "training/panoptic/panoptic_2018.json"),
    ),
    "mapillary_vistas_panoptic_val": (
        *("mapillary_vistas_panoptic_seg", 65, 37, "validation/panoptic/panoptic_2018.json"),
    ),
    "scenes_60_train_panoptic": ("coco_panoptic_seg", 60, 54, "train/panoptic.json"),
    "scenes_1k_test_panoptic": ("coco_panoptic_seg", 1120, 1080, "test/panoptic.json"),
    "ade20k_instance_train": ("coco", None, 100, "ade20k_instance_train.json"),
    "ade20k_instance_val": ("coco", None, 100, "ade20k_instance_val.json"),
    "coco_2017_train": ("coco", None, 80, "instances_train2017.json"),
    "coco_2017_val": ("coco", None, 80, "instances_val2017.json"),
    "scenes_60_test_instance": ("coco", None, 54, "test/instances.json"),
    "scenes_1k_train_instance": ("coco", None, 1080, "train/instances.json"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names(name: str) -> None:
    """Detectron2 itself registers some of these."""
    evaluator, classes, things, path = PUBLISHED[name]
    assert name in DatasetCatalog.list()
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == evaluator
    ids = metadata.thing_dataset_id_to_contiguous_id
    assert len(ids) == things == len(set(ids.values()))
    assert len(metadata.thing_classes) == len(metadata.thing_colors) == (classes or things)
    assert (metadata.get("panoptic_json") or metadata.json_file).endswith(path)
    assert metadata.image_root.startswith(str(data_root()))
    if classes is None:
        assert sorted(ids.values()) == list(range(things))
        return
    assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == classes
    every = [*ids.values(), *metadata.stuff_dataset_id_to_contiguous_id.values()]
    assert sorted(every) == list(range(classes))
    assert metadata.label_divisor == 1000
    assert metadata.vocabulary in (
        "ade20k_panoptic_150",
        "coco_panoptic_133",
        "mapillary_vistas_65",
        "scenes_60",
        "scenes_1k",
    )


def test_semantic_scores_need_label_maps() -> None:
    has = {name: MetadataCatalog.get(name).get("sem_seg_root") for name in PUBLISHED}
    assert has["coco_2017_val_panoptic"] is None
    assert has["coco_2017_val_panoptic_with_sem_seg"].endswith("panoptic_semseg_val2017")
    assert has["ade20k_panoptic_val"].endswith("annotations_detectron2/validation")


def test_ids_of_ade20k_instances_are_packed() -> None:
    panoptic = MetadataCatalog.get("ade20k_panoptic_val").thing_dataset_id_to_contiguous_id
    assert panoptic == {id: id for id in panoptic} and 7 in panoptic and 149 in panoptic
    ids = MetadataCatalog.get("ade20k_instance_val").thing_dataset_id_to_contiguous_id
    assert ids == {theirs: ours for ours, theirs in enumerate(panoptic)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, SCENES_60, Settings(num_train=1, num_test=4, size=48), panoptic=True)
    return root / "scenes-60" / "test"


@pytest.fixture
def name(dataset_name: str) -> str:
    return dataset_name


def register_drawn(name: str, folder: Path) -> list[dict]:
    register_panoptic_dataset(
        name,
        folder / "images",
        folder / "panoptic.json",
        folder / "panoptic",
        "scenes_60",
        semantic_dir=folder / "labels",
        instance_json=folder / "instances.json",
    )
    return DatasetCatalog.get(name)


def every_task(output_dir: Path) -> CfgNode:
    cfg = default_config()
    cfg.OUTPUT_DIR = str(output_dir)
    switches = {"SEMANTIC_ON": True, "PANOPTIC_ON": True, "INSTANCE_ON": True}
    cfg.MODEL.MASK_FORMER = CfgNode({"TEST": switches})
    return cfg


def right_prediction(record: dict) -> dict:
    """Return the ground truth of an image as a model's prediction."""
    segments = segments_of_record(record)
    listed = [
        {key: segment[key] for key in ("id", "category_id", "isthing")}
        for segment in record["segments_info"]
    ]
    things = [segment for segment in listed if segment["isthing"]]
    masks = [torch.from_numpy(segments.ids == segment["id"]) for segment in things]
    prediction = {
        "panoptic_seg": (torch.from_numpy(segments.ids), listed),
        "instances": SimpleNamespace(
            pred_masks=torch.stack(masks),
            scores=torch.ones(len(masks)),
            pred_classes=torch.tensor([segment["category_id"] for segment in things]),
        ),
    }
    if "sem_seg_file_name" in record:
        labels = read_labels(record["sem_seg_file_name"]).astype(np.int64)
        prediction["sem_seg_labels"] = torch.from_numpy(labels)
    return prediction


def test_perfect_predictions_have_full_scores(drawn: Path, name: str, tmp_path: Path) -> None:
    """Records, metadata and evaluators agree in all three tasks."""
    records = register_drawn(name, drawn)
    assert len(records) == 4
    evaluator = build_evaluator(every_task(tmp_path), name)
    evaluator.process(records, [right_prediction(record) for record in records])
    results = evaluator.evaluate()
    assert results["panoptic_seg"]["PQ"] == results["sem_seg"]["mIoU"] == 100
    assert results["segm"]["AP"] == pytest.approx(100)
    assert {path.name for path in (tmp_path / "inference" / name).iterdir()} == {
        "panoptic_evaluation.json",
        "sem_seg_evaluation.json",
        "instances_evaluation.json",
    }


def test_records(drawn: Path, name: str) -> None:
    record = register_drawn(name, drawn)[2]
    assert record["image_id"] == 2 and (record["height"], record["width"]) == (48, 48)
    for key, folder in (
        ("file_name", "images"),
        ("pan_seg_file_name", "panoptic"),
        ("sem_seg_file_name", "labels"),
    ):
        assert record[key] == str(drawn / folder / "000002.png")
    for segment in record["segments_info"]:
        assert segment["isthing"] is (segment["id"] % 1000 > 0)
        assert segment["category_id"] == segment["id"] // 1000


def test_records_of_instances(drawn: Path, name: str) -> None:
    register_instance_dataset(name, drawn / "images", drawn / "instances.json", "scenes_60")
    labels = drawn / "labels"
    for record in DatasetCatalog.get(name):
        assert record["annotations"]
        shown = read_labels(labels / Path(record["file_name"]).name)
        for entry in record["annotations"]:
            mask = decode_mask(entry["segmentation"], shown.shape, "it")
            assert (shown[mask] == entry["category_id"]).all()


def test_detectron2_reads_records_of_instances(drawn: Path, name: str) -> None:
    """Detectron2's mapper needs the mode of a box."""
    register_instance_dataset(name, drawn / "images", drawn / "instances.json", "scenes_60")
    for record in DatasetCatalog.get(name):
        size = record["height"], record["width"]
        for entry in record["annotations"]:
            box = BoxMode.convert(entry["bbox"], entry["bbox_mode"], BoxMode.XYXY_ABS)
            rows, columns = np.nonzero(decode_mask(entry["segmentation"], size, "it"))
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_of_objects_that_have_none(tmp_path: Path) -> None:
    outlines = [[[1, 2, 4, 2, 4, 6]], {"size": [9, 9], "counts": [12, 2, 67]}]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "segmentation": outline} for outline in outlines
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (record,) = read_instance_records("it", tmp_path, tmp_path / "gt.json", {3: 0})
    assert [entry["bbox"] for entry in record["annotations"]] == [[1, 2, 3, 4], [1, 3, 1, 2]]
    assert {entry["bbox_mode"] for entry in record["annotations"]} == {BoxMode.XYWH_ABS}


def test_a_taken_name(drawn: Path, name: str) -> None:
    DatasetCatalog.register(name, lambda: [{"file_name": "theirs"}])
    MetadataCatalog.get(name).set(thing_classes=["sky"])
    with pytest.raises(UserError, match="registered already with other classes"):
        register_instance_dataset(name, drawn, drawn / "instances.json", "scenes_60")
    with pytest.raises(UserError, match="registered already with other classes"):
        register_drawn(name, drawn)


def test_a_taken_name_with_the_same_classes(drawn: Path, name: str) -> None:
    DatasetCatalog.register(name, lambda: [{"file_name": "theirs"}])
    names = Vocabulary.registered("scenes_60").names
    MetadataCatalog.get(name).set(stuff_classes=list(names), ignore_label=65535)
    assert register_drawn(name, drawn) == [{"file_name": "theirs"}]
    assert MetadataCatalog.get(name).panoptic_json == str(drawn / "panoptic.json")


def test_a_taken_name_that_cannot_be_read(drawn: Path, name: str) -> None:
    def read() -> list[dict]:
        return json.loads(Path("/nowhere/gt.json").read_text())

    DatasetCatalog.register(name, read)
    names = Vocabulary.registered("scenes_60").names
    MetadataCatalog.get(name).set(stuff_classes=list(names), ignore_label=65535)
    with pytest.raises(UserError, match=rf"{name}' cannot be read .*gt\.json.*: prepare it as"):
        register_drawn(name, drawn)


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_data_sets(name: str) -> None:
    """Every reader raises one message that names the data set and a remedy."""
    if Path(MetadataCatalog.get(name).image_root).is_dir():
        pytest.skip("this data set is there")
    with pytest.raises(UserError, match=rf"'{name}' .*: prepare it as datasets/README\.md says"):
        DatasetCatalog.get(name)


class TestFaults:
    """An image of a cat on grass."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "images").mkdir()
        (tmp_path / "png").mkdir()
        ids = np.array([[1, 1, 2], [1, 1, 2]])
        Image.fromarray(encode_ids(ids)).save(tmp_path / "png/a.png")
        image = {"id": "a", "file_name": "a.jpg", "height": 2, "width": 3}
        listed = [{"id": 1, "category_id": 5}, {"id": 2, "category_id": 8}]
        categories = [
            {"id": 5, "name": "cat", "isthing": 1},
            {"id": 8, "name": "grass", "isthing": 0},
        ]
        self.write(
            tmp_path / "panoptic.json",
            images=[image],
            annotations=[{"image_id": "a", "file_name": "a.png", "segments_info": listed}],
            categories=categories,
        )
        box = [0, 0, 2, 0, 2, 2, 0, 2]
        cat = {"id": 1, "image_id": "a", "category_id": 5, "segmentation": [box], "area": 4}
        self.write(
            tmp_path / "instances.json",
            images=[image],
            annotations=[cat],
            categories=categories[:1],
        )
        return tmp_path

    @staticmethod
    def write(path: Path, **content: object) -> None:
        path.write_text(json.dumps(content))

    @staticmethod
    def change(path: Path, edit: Callable[[dict], object]) -> None:
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    @staticmethod
    def read(folder: Path, **paths: Path) -> list[dict]:
        return read_panoptic_records(
            "pets",
            folder / "images",
            folder / "panoptic.json",
            folder / "png",
            {5: 0},
            {8: 1},
            **paths,
        )

    @staticmethod
    def read_instances(folder: Path) -> list[dict]:
        return read_instance_records("pets", folder / "images", folder / "instances.json", {5: 0})

    def test_without_a_fault(self, folder: Path) -> None:
        (record,) = self.read(folder)
        assert [each["category_id"] for each in record["segments_info"]] == [0, 1]
        (record,) = self.read_instances(folder)
        assert record["image_id"] == "a" and record["annotations"][0]["category_id"] == 0

    def test_perfect_predictions_of_images_whose_ids_are_text(
        self, folder: Path, tmp_path: Path
    ) -> None:
        """As in ADE20K; class ids are those of the panoptic file, instances have them too."""
        classes = [
            {"name": "grass", "isthing": False, "dataset_id": 8},
            {"name": "cat", "isthing": True, "dataset_id": 5},
        ]
        self.write(folder / "classes.json", name="classes", classes=classes)
        paths = (folder / "images", folder / "panoptic.json", folder / "png")
        name = "test_text_ids"
        register_panoptic_dataset(
            name, *paths, folder / "classes.json", instance_json=folder / "instances.json"
        )
        try:
            evaluator = build_evaluator(every_task(tmp_path), name)
            (record,) = DatasetCatalog.get(name)
            assert [each["category_id"] for each in record["segments_info"]] == [1, 0]
            evaluator.process([record], [right_prediction(record)])
            results = evaluator.evaluate()
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        assert results["panoptic_seg"]["PQ"] == 100
        assert results["segm"]["AP-cat"] == pytest.approx(100)

    @pytest.mark.parametrize("path", ["images", "png", "panoptic.json"])
    def test_missing_paths(self, folder: Path, path: str) -> None:
        (folder / path).rename(folder / "elsewhere")
        with pytest.raises(UserError, match=rf"'pets' has no (file|folder) .*{path}: prepare it"):
            self.read(folder)

    def test_missing_label_maps(self, folder: Path) -> None:
        with pytest.raises(UserError, match=r"'pets' has no folder .*labels: prepare it"):
            self.read(folder, semantic_dir=folder / "labels")

    def test_missing_objects(self, folder: Path) -> None:
        (folder / "instances.json").unlink()
        with pytest.raises(UserError, match=r"'pets' has no file .*instances\.json: prepare it"):
            self.read_instances(folder)

    def test_a_category_outside_of_the_table(self, folder: Path) -> None:
        def add(content: dict) -> None:
            content["categories"].append({"id": 9, "name": "dog", "isthing": 1})
            for entry in content["annotations"]:
                for segment in entry.get("segments_info", [entry])[:1]:
                    segment["category_id"] = 9

        for path, read in (("panoptic", self.read), ("instances", self.read_instances)):
            self.change(folder / f"{path}.json", add)
            with pytest.raises(
                UserError, match=rf"{path}\.json has the category id 9, which is none"
            ):
                read(folder)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"file_name": "../../a.jpg"}, r"images\[0\]: 'file_name': \.\./\.\./a\.jpg leads out"),
            ({"file_name": "/etc/a.jpg"}, r"images\[0\]: 'file_name': /etc/a\.jpg leads out of"),
            ({"file_name": 7}, r"images\[0\]: 'file_name': 7 is no file name"),
            ({"file_name": "a" * 300}, r"images\[0\]: 'file_name': the file name a+\.\.\. is long"),
            ({"height": "tall"}, r"images\[0\]: 'height' is 'tall', but has to be a whole number"),
            ({"id": None}, r"images\[0\]: 'id' is null, but has to be a whole number"),
            ({"id": "b"}, r"has no segments of the image 'b'"),
        ],
    )
    def test_images(self, folder: Path, entry: dict, message: str) -> None:
        self.change(folder / "panoptic.json", lambda content: content["images"][0].update(entry))
        with pytest.raises(UserError, match=message):
            self.read(folder)

    def test_vocabularies(self, folder: Path, name: str) -> None:
        paths = (folder / "images", folder / "panoptic.json", folder / "png")
        with pytest.raises(UserError, match="needs 'isthing' and 'dataset_id'"):
            register_panoptic_dataset(name, *paths, ["cat", "grass"])
        classes = [{"name": n, "isthing": True, "dataset_id": 5} for n in ("cat", "dog")]
        self.write(folder / "classes.json", name="classes", classes=classes)
        with pytest.raises(UserError, match="gives one dataset_id to several classes"):
            register_panoptic_dataset(name, *paths, folder / "classes.json")
        assert name not in DatasetCatalog.list()

    def test_records_do_not_share_what_a_mapper_may_change(self, folder: Path) -> None:
        first = self.read(folder)
        copied = copy.deepcopy(first)
        first[0]["segments_info"].clear()
        assert self.read(folder) == copied
