"""Descriptions of custom datasets with objects, segments, videos and label maps of colours."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.config import load_config
from segcore.datasets import register_custom_datasets
from segcore.datasets.checking import Source, has_errors, survey
from segcore.datasets.custom import register_custom_file
from segcore.errors import UserError
from segcore.images import record_class_ids
from segcore.scenes import SCENES_60, Settings, VideoSettings, write_scenes, write_videos

pytestmark = pytest.mark.usefixtures("forget_datasets")
INSTANCE = {"images": "images", "instance_json": "instances.json"}
PANOPTIC = {"images": "images", "panoptic_json": "panoptic.json", "labels": "panoptic"}
TRACKS = {"images": "data", "track_json": "test.json"}
VIDEOS = {"images": "data/<video>/origin", "labels": "data/<video>/mask", "video_list": "test.txt"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, SCENES_60, Settings(num_train=0, num_test=2, size=32), panoptic=True)
    write_videos(folder, SCENES_60, VideoSettings(num_train=0, num_test=1, num_frames=2, size=32))
    return folder / "scenes-60"


def describe(folder: Path, datasets: dict, **table: object) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps({**table, "datasets": datasets}))
    return path


def categories(path: Path) -> list[dict]:
    return sorted(json.loads(path.read_text())["categories"], key=lambda each: each["id"])


def test_objects_with_the_categories_of_their_file(scenes: Path) -> None:
    path = describe(scenes / "test", {"own_objects": INSTANCE})
    assert register_custom_file(path) == register_custom_file(path) == ("own_objects",)
    listed = categories(scenes / "test/instances.json")
    assert MetadataCatalog.get("own_objects").thing_classes == [each["name"] for each in listed]
    assert len(DatasetCatalog.get("own_objects")) == 2
    assert not has_errors(survey(Source.registered("own_objects")).findings)


def test_the_order_of_categories_is_that_of_their_ids(tmp_path: Path, scenes: Path) -> None:
    content = json.loads((scenes / "test/instances.json").read_text())
    content["categories"].reverse()
    (tmp_path / "i.json").write_text(json.dumps(content))
    entry = {"images": str(scenes / "test/images"), "instance_json": "i.json"}
    register_custom_file(describe(tmp_path, {"own_order": entry}))
    listed = categories(tmp_path / "i.json")
    assert MetadataCatalog.get("own_order").thing_classes == [each["name"] for each in listed]


def test_segments(scenes: Path) -> None:
    register_custom_file(describe(scenes / "test", {"own_segments": PANOPTIC}))
    metadata = MetadataCatalog.get("own_segments")
    assert len(metadata.stuff_classes) == 60
    assert len(metadata.thing_dataset_id_to_contiguous_id) == 54
    assert metadata.evaluator_type == "coco_panoptic_seg"
    assert not has_errors(survey(Source.registered("own_segments")).findings)


@pytest.mark.parametrize("entry", [TRACKS, VIDEOS], ids=["tracks", "vspw"])
def test_videos(scenes: Path, entry: dict) -> None:
    more = {} if "track_json" in entry else {"classes": [each.name for each in SCENES_60.classes]}
    register_custom_file(describe(scenes / "videos", {"own_videos": entry}, **more))
    (record,) = DatasetCatalog.get("own_videos")
    assert record["length"] == 2
    known = survey(Source.registered("own_videos"))
    assert not has_errors(known.findings) and known.num_images == 2


def test_classes_find_their_categories_by_name(scenes: Path) -> None:
    names = [each["name"] for each in categories(scenes / "test/instances.json")]
    classes = ["nothing", *(f"thing {n}, {name}" for n, name in enumerate(names))]
    datasets = {"own_named": INSTANCE, "own_maps": {"images": "images", "labels": "labels"}}
    register_custom_file(describe(scenes / "test", datasets, classes=classes))
    things = MetadataCatalog.get("own_named").thing_classes
    assert things == classes[1:]  # "nothing" has no category: it is stuff
    assert MetadataCatalog.get("own_maps").stuff_classes == classes
    path = describe(scenes / "test", {"own_other": INSTANCE}, classes=classes[:-1])
    with pytest.raises(UserError, match="is none of the classes"):
        register_custom_file(path)


def test_both_keys_of_the_config(scenes: Path, tmp_path: Path) -> None:
    one = describe(scenes / "test", {"own_one": INSTANCE})
    other = describe(
        tmp_path, {"own_two": INSTANCE | {"images": str(tmp_path)}}, classes=[{"name": "a"}]
    )
    other.write_text(other.read_text().replace('"instances.json"', f'"{one.parent}/i.json"'))
    (one.parent / "i.json").write_text(json.dumps({"categories": [{"id": 3, "name": "A"}]}))
    (tmp_path / "c.yaml").write_text("")
    cfg = load_config(
        tmp_path / "c.yaml", ["DATASETS.CUSTOM", (str(one),), "DATASETS.OWN", (str(other),)]
    )
    register_custom_datasets(cfg)
    assert {"own_one", "own_two"} <= {*DatasetCatalog.list()}


class TestColours:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("images", "labels"):
            (tmp_path / name).mkdir()
        pixels = np.zeros((4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images/a.png")
        pixels[:2] = (250, 50, 83)
        Image.fromarray(pixels).save(tmp_path / "labels/a.png")
        return tmp_path

    CLASSES = (
        {"name": "background", "color": [0, 0, 0]},
        {"name": "cat", "color": [250, 50, 83]},
    )

    def register(self, folder: Path, classes: tuple) -> None:
        datasets = {"own_colours": {"images": "images", "labels": "labels"}}
        register_custom_file(describe(folder, datasets, classes=classes))

    def test_they_are_read(self, folder: Path) -> None:
        self.register(folder, self.CLASSES)
        (record,) = DatasetCatalog.get("own_colours")
        labels = record_class_ids(record, 2, 255)
        assert (labels[:2] == 1).all() and (labels[2:] == 0).all()
        known = survey(Source.registered("own_colours", may_be_partial=False))
        assert not has_errors(known.findings) and known.class_pixels.tolist() == [12, 12]

    def test_without_colours_they_are_refused(self, folder: Path) -> None:
        self.register(folder, (self.CLASSES[0], "cat"))
        (finding,) = [
            each for each in survey(Source.registered("own_colours")).findings if each.is_error
        ]
        assert finding.kind == "colours" and "give every class its colour" in finding.text

    def test_an_unknown_colour(self, folder: Path) -> None:
        self.register(folder, (self.CLASSES[0], {"name": "cat", "color": [250, 50, 84]}))
        texts = [each.text for each in survey(Source.registered("own_colours")).findings]
        assert any("has the colour [250, 50, 83] in 12 pixels" in text for text in texts)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"instance_json": "a.json"}, "with 'instance_json' needs 'images' too"),
        ({"panoptic_json": "a.json", "images": "a"}, "needs 'images' and 'labels' too"),
        (INSTANCE | {"label_suffix": ".png"}, "has the entry 'label_suffix'"),
        (VIDEOS | {"piece_frames": 0}, "'piece_frames' of data set"),
        (TRACKS | {"track_json": 5}, "'track_json' of data set"),
        (INSTANCE | {"instance_json": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_errors(tmp_path: Path, entry: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        register_custom_file(describe(tmp_path, {"own_wrong": entry}))
    assert says in str(caught.value)


def test_label_maps_alone_need_classes(tmp_path: Path) -> None:
    path = describe(tmp_path, {"own_maps": {"images": "a", "labels": "b"}})
    with pytest.raises(UserError, match="list them in 'classes'"):
        register_custom_file(path)
