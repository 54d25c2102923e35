"""Each format gives the label maps that were drawn, and the classes in the stated order."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from drawn_labels import COLORS, HEIGHT, NAMES, WIDTH, annotations, label_map
from PIL import Image

from catrank.exports.coco import coco_annotations, coco_categories, coco_dataset, coco_image
from catrank.exports.label_studio import label_studio_task
from catrank.exports.labelme import labelme_document
from segcore.annotations.panoptic_png import encode_ids
from segcore.datasets.checking import Source, has_errors, survey
from segcore.datasets.custom import register_custom_file

SIZE = HEIGHT, WIDTH
pytestmark = pytest.mark.usefixtures("forget_datasets")


def classes(description: dict) -> list[str]:
    return [row["name"] for row in description["classes"]]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def coco(images: Path, shapes: str = "rle") -> dict:
    entries = [coco_image(number, f"{number}.png", SIZE) for number in range(5)]
    objects = []
    for number in range(5):
        objects += coco_annotations(annotations(number), number, len(objects) + 1, shapes)
    return coco_dataset(entries, objects, [*coco_categories(["nothing", *NAMES])][1:])


def check_sound(tmp_path: Path, names: list[str]) -> None:
    """Register the description, and let the check read all of it."""
    assert register_custom_file(tmp_path / "new/new.json") == tuple(names)
    for name in names:
        known = survey(Source.registered(name, may_be_partial=False))
        assert not has_errors(known.findings), known.findings


SETS = ["new_train", "new_train_instance", "new_val", "new_val_instance"]


@pytest.mark.parametrize("shapes", ["rle", "polygons"])
def test_coco(images: Path, run: Callable, check_maps: Callable, tmp_path: Path, shapes) -> None:
    description = run(write(images.parent / "instances.json", coco(images, shapes)))
    check_maps()
    assert classes(description) == ["background", "cat", "dog"]
    assert [row["isthing"] for row in description["classes"]] == [False, True, True]
    check_sound(tmp_path, SETS)
    (record,) = DatasetCatalog.get("new_val_instance")
    assert [each["category_id"] for each in record["annotations"]] == [0, 1]


def test_coco_panoptic(images: Path, run: Callable, check_maps: Callable, tmp_path: Path) -> None:
    folder = images.parent / "panoptic"
    folder.mkdir()
    entries = []
    for number in range(5):
        ids = label_map(number).astype(np.int64) * 300
        Image.fromarray(encode_ids(ids)).save(folder / f"{number}.png")
        segments = [{"id": 300 * i, "category_id": 10 * i, "iscrowd": 0} for i in (1, 2)]
        entries.append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
        )
    categories = [
        {"id": 20, "name": "dog", "isthing": 1},
        {"id": 10, "name": "cat", "isthing": 0},
    ]
    content = coco_dataset(coco(images)["images"], entries, categories)
    description = run(write(images.parent / "panoptic.json", content))
    check_maps(lambda number: np.where(label_map(number), label_map(number) - 1, 255))
    assert classes(description) == ["cat", "dog"]  # by their ids
    assert [row["isthing"] for row in description["classes"]] == [False, True]
    check_sound(tmp_path, [name.replace("instance", "panoptic") for name in SETS])


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
def test_labelme(images: Path, run: Callable, check_maps: Callable, shapes: str) -> None:
    for number in range(5):
        content = labelme_document(annotations(number), SIZE, f"{number}.png", shapes=shapes)
        write(images / f"{number}.json", content)
    write(images / "notes.json", {"unrelated": []})
    description = run(images)
    check_maps()
    assert classes(description) == ["background", "cat", "dog"]  # by their names
    objects = json.loads((images.parents[1] / "new/instances_train.json").read_text())
    assert len(objects["annotations"]) == 8  # shapes of a group are one object


def test_labelme_circles_and_rectangles(images: Path, run: Callable, tmp_path: Path) -> None:
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[9, 8], [2, 3]]},
        {"label": "b", "shape_type": "circle", "points": [[20, 10], [20, 14]]},
        {"label": "c", "shape_type": "line", "points": [[1, 1], [5, 5]]},
    ]
    content = {"shapes": shapes, "imagePath": "0.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    write(images / "0.json", content)
    description = run(images, "--val-fraction", "0")
    labels = np.asarray(Image.open(tmp_path / "new/labels/train/0.png"))
    assert classes(description) == ["background", "a", "b"]
    assert (labels == 1).sum() == 8 * 6 and (labels[3:9, 2:10] == 1).all()
    assert 45 <= (labels == 2).sum() <= 75 and labels[10, 20] == 2
    assert list(description["datasets"]) == ["new_train", "new_train_instance"]


@pytest.mark.parametrize("shapes", ["brush", "polygons"])
def test_label_studio(images: Path, run: Callable, check_maps: Callable, shapes: str) -> None:
    tasks = []
    for number in range(5):
        address = f"/data/upload/1/0a1b2c3d-{number}.png"
        task = label_studio_task(annotations(number), SIZE, address, shapes=shapes)
        cancelled = {"result": [], "was_cancelled": True}
        tasks.append({"data": task["data"], "annotations": [cancelled, *task["predictions"]]})
    tasks.append({"data": {"image": "9.png"}, "annotations": []})  # not labelled
    description = run(write(images.parent / "studio.json", tasks))
    check_maps()
    assert classes(description) == ["background", "cat", "dog"]


def cvat(number: int) -> str:
    """An image of CVAT's XML: the cat as a mask, the dog as a polygon and a box on top."""
    rows = label_map(number)[2:12, 3 + number : 15 + number] == 1
    flat = np.concatenate(([False], rows.ravel(), [not rows.ravel()[-1]]))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate(([0], edges)))
    return f"""
    <image id="{number}" name="{number}.png" width="{WIDTH}" height="{HEIGHT}">
      <box label="dog" z_order="1" xtl="20" ytl="16" xbr="29" ybr="22" occluded="0"></box>
      <mask label="cat" rle="{", ".join(map(str, runs))}" left="{3 + number}" top="2" width="12"
        height="10" z_order="0"></mask>
      <polygon label="dog" points="4.0,14.0;10.0,14.0;10.0,20.0;4.0,20.0"></polygon>
      <polyline label="dog" points="1,1;2,2"></polyline>
    </image>"""


def test_cvat(images: Path, run: Callable, check_maps: Callable, tmp_path: Path) -> None:
    colors = ("#33ddff", "#fa3253")
    labels = "".join(
        f"<label><name>{name}</name><color>{color}</color></label>"
        for name, color in zip(NAMES[::-1], colors, strict=True)
    )
    body = "".join(map(cvat, range(5)))
    path = images.parent / "annotations.xml"
    path.write_text(
        "<annotations><version>1.1</version><meta><task><labels>"
        f"{labels}</labels></task></meta>{body}</annotations>"
    )
    description = run(path, "--classes", "cat,dog")
    check_maps()
    rows = description["classes"][1:]
    assert [row["color"] for row in rows] == [[250, 50, 83], [51, 221, 255]]
    check_sound(tmp_path, SETS)


def test_cvat_masks(images: Path, run: Callable, check_maps: Callable, tmp_path: Path) -> None:
    root = images.parent
    images.rename(root / "JPEGImages")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n"
    )
    (root / "SegmentationClass").mkdir()
    for number in range(5):
        Image.fromarray(COLORS[label_map(number)]).save(root / f"SegmentationClass/{number}.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("0\n1\n3\n4\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2\n")
    description = run(root)
    check_maps()
    assert classes(description) == ["background", "cat", "dog"]
    assert (tmp_path / "new/labels/val/2.png").is_file()
    check_sound(tmp_path, ["new_train", "new_val"])


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_masks_of_integers(images: Path, run: Callable, check_maps: Callable, mode: str) -> None:
    masks = images.parent / "masks"
    masks.mkdir()
    for number in range(5):
        values = np.array([0, 255, 7], dtype=np.uint8)[label_map(number)]
        Image.fromarray(values).convert(mode).save(masks / f"{number}.png")
    table = "background=0, cat=255, dog=7"
    description = run(masks, "--images", str(images), "--table", table)
    check_maps()
    assert classes(description) == ["background", "cat", "dog"]


def test_masks_of_typed_colours(images: Path, run: Callable, check_maps: Callable) -> None:
    masks = images.parent / "masks"
    masks.mkdir()
    for number in range(5):
        Image.fromarray(COLORS[label_map(number)]).save(masks / f"{number}.png")
    table = "none=#000000, cat=#fa3253, dog=#33ddff"
    run(masks, "--images", str(images), "--table", table, "--ignore", "none")
    check_maps(lambda number: np.where(label_map(number), label_map(number) - 1, 255))


def test_youtube_vis(images: Path, run: Callable, tmp_path: Path) -> None:
    objects = coco(images)["annotations"]
    videos = [
        {"id": v, "file_names": [f"{v}.png", "4.png"], "height": HEIGHT, "width": WIDTH}
        for v in range(4)
    ]
    tracks = [
        {
            "id": v + 1,
            "video_id": v,
            "category_id": 5,
            "segmentations": [objects[2 * v]["segmentation"], None],
            "bboxes": [objects[2 * v]["bbox"], None],
        }
        for v in range(4)
    ]
    categories = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"videos": videos, "annotations": tracks, "categories": categories}
    description = run(write(images.parent / "tracks.json", content))
    assert classes(description) == ["dog", "cat"]
    assert [row["dataset_id"] for row in description["classes"]] == [2, 5]
    check_sound(tmp_path, ["new_train", "new_val"])
    assert len(DatasetCatalog.get("new_train")) == 3
