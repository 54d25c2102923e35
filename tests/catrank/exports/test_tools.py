"""Exports come back through the package of the tool that they are for, or its documented format."""

import base64
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from catrank.exports.label_studio import brush_rle, label_studio_config
from segcore.errors import UserError


def labelme_mask(shape: dict, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a shape as LabelMe's documentation describes them."""
    mask = Image.new("1", size[::-1])
    if shape["shape_type"] == "polygon":
        ImageDraw.Draw(mask).polygon([*map(tuple, shape["points"])], outline=1, fill=1)
        return np.asarray(mask)
    (left, top), (right, bottom) = np.array(shape["points"]).astype(int)
    found = np.zeros(size, dtype=bool)
    png = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
    found[top : bottom + 1, left : right + 1] = np.asarray(png)
    return found


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
def test_labelme(result, shapes, tmp_path):
    path = tmp_path / "photo.json"
    document = result.to_labelme(path, shapes=shapes)
    assert json.loads(path.read_text("utf-8")) == document
    assert {"version", "flags", "shapes", "imagePath", "imageData"} <= document.keys()
    assert (document["imageHeight"], document["imageWidth"]) == result.size
    embedded = Image.open(io.BytesIO(base64.b64decode(document["imageData"])))
    assert (np.asarray(embedded) == result.image).all()
    for index, segment in enumerate(result.segments):
        mask = np.zeros(result.size, dtype=bool)
        for shape in document["shapes"]:
            if shape["group_id"] == segment.number:
                assert shape["label"] == result.class_names[segment.class_id]
                mask |= labelme_mask(shape, result.size)
        assert (mask == result.mask(index)).all()


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
def test_labelme_reads_it(semantic, shapes, tmp_path):
    pytest.importorskip("labelme", reason="it needs Qt: pip install labelme")
    from labelme import utils
    from labelme._label_file import LabelFile

    semantic.to_labelme(tmp_path / "photo.json", shapes=shapes)
    read = LabelFile(str(tmp_path / "photo.json"))
    ids = {name: number for number, name in enumerate(semantic.class_names)}
    classes, _ = utils.shapes_to_label(semantic.image.shape, read.shapes, ids)
    assert (classes == semantic.labels).all()


def test_labelme_finds_the_image(semantic, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "labels").mkdir()
    photo = tmp_path / "photos" / "a b.png"
    Image.fromarray(semantic.image).save(photo)
    named = type(semantic).semantic(
        str(photo), semantic.image, semantic.vocabulary, semantic.labels
    )
    document = named.to_labelme(tmp_path / "labels" / "a b.json")
    assert document["imageData"] is None
    assert (tmp_path / "labels" / document["imagePath"]).resolve() == photo.resolve()


def read_rle(data: list[int]) -> np.ndarray:
    """The values of thi.ng/rle-pack, as its documentation describes them."""
    bits = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def read(size: int) -> int:
        nonlocal position
        position += size
        return int(bits[position - size : position], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values)


def test_label_studio_brush(result):
    task = result.to_label_studio()
    (prediction,) = task["predictions"]
    assert len(prediction["result"]) == len(result)
    for region, mask, class_id in zip(
        prediction["result"], result.masks, result.class_ids, strict=True
    ):
        assert region["type"] == "brushlabels" and region["value"]["format"] == "rle"
        assert (region["original_height"], region["original_width"]) == result.size
        assert region["value"]["brushlabels"] == [result.class_names[class_id]]
        pixels = read_rle(region["value"]["rle"]).reshape(*result.size, 4)
        assert (pixels == 255 * mask[..., None]).all()


def test_label_studio_reads_it(instance):
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush",
        reason="it needs NumPy < 2.3: pip install label-studio-sdk",
    )
    for region, mask in zip(
        instance.to_label_studio()["predictions"][0]["result"], instance.masks, strict=True
    ):
        read = brush.decode_rle(region["value"]["rle"]).reshape(*instance.size, 4)
        assert (read[..., 3] == 255 * mask).all()


@pytest.mark.parametrize("shape", [(1, 1), (300, 400), (1, 70_000)])
def test_long_runs(shape):
    for fill in (False, True):
        mask = np.full(shape, fill)
        mask[-1, -1] = True
        assert (read_rle(brush_rle(mask)).reshape(*shape, 4)[..., 3] == 255 * mask).all()


def test_label_studio_polygons(result, tmp_path):
    task = result.to_label_studio(tmp_path / "tasks.json", shapes="polygons")
    assert json.loads((tmp_path / "tasks.json").read_text("utf-8")) == [task]
    height, width = result.size
    masks = {segment.number: np.zeros(result.size, dtype=int) for segment in result.segments}
    area = dict.fromkeys(masks, 0.0)
    for region in task["predictions"][0]["result"]:
        points = np.array(region["value"]["points"]) * (width, height) / 100
        assert np.allclose(points, points.round())
        x, y = points.round().T
        number = int(region["id"].partition("-")[0])
        area[number] += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    for index, segment in enumerate(result.segments):
        assert area[segment.number] == result.mask(index).sum()


@pytest.mark.parametrize("shapes", ["brush", "polygons"])
def test_the_interface_of_a_label_studio_project(semantic, shapes):
    vocabulary = semantic.vocabulary
    xml = label_studio_config(vocabulary.names, vocabulary.colors, shapes=shapes)
    labels = [label.attrib for label in ElementTree.fromstring(xml).iter("Label")]
    assert [label["value"] for label in labels] == [*vocabulary.names]
    assert all(len(label["background"]) == 7 for label in labels)


def test_geojson(result, tmp_path):
    geojson = pytest.importorskip("geojson", reason="it reads GeoJSON: pip install geojson")
    shapely = pytest.importorskip("shapely", reason="it reads GeoJSON: pip install shapely")
    result.to_geojson(tmp_path / "a.geojson")
    read = geojson.loads((tmp_path / "a.geojson").read_text("utf-8"))
    assert read.is_valid, read.errors()
    rows, columns = np.indices(result.size)
    assert len(read.features) == len(result)
    for index, feature in enumerate(read.features):
        shape = shapely.geometry.shape(feature.geometry)
        mask = result.mask(index)
        assert shape.is_valid and shape.area == mask.sum()
        assert (shapely.contains_xy(shape, columns + 0.5, rows + 0.5) == mask).all()
        assert feature.properties["name"] == result.class_names[result.class_ids[index]]
        polygons = getattr(shape, "geoms", [shape])
        assert all(polygon.exterior.is_ccw for polygon in polygons)


@pytest.mark.filterwarnings("ignore")  # of a package that it can do without
def test_supervision(result):
    pytest.importorskip("supervision", reason="it brings matplotlib: pip install supervision")
    detections = result.to_supervision()
    assert len(detections) == len(result) and (detections.mask == result.masks).all()
    assert (detections.class_id == result.class_ids).all()
    assert (detections.area == result.masks.sum(axis=(1, 2))).all()
    names = detections.data["class_name"]
    assert [*names] == [result.class_names[class_id] for class_id in result.class_ids]
    assert (detections.tracker_id is None) != result.tracked
    assert (detections.confidence is None) == (result.scores is None)
    assert len(detections[detections.class_id == 3]) == (result.class_ids == 3).sum()


def test_save(result, tmp_path):
    formats = ["overlay", "legend", "labels", "coco", "coco-panoptic", "labelme", "label-studio"]
    paths = result.save(tmp_path / "new" / "out", [*formats, "geojson"])
    assert all(path.stat().st_size > 50 for path in paths) and len({*paths}) == 8
    stem = "clip_000007" if result.frame is not None else "photo"
    assert paths[0].name == f"{stem}_overlay.png" and paths[-1].name == f"{stem}.geojson"
    assert not list(paths[0].parent.rglob(".part-*"))


def test_what_cannot_be_saved(semantic, tmp_path):
    with pytest.raises(UserError, match="no format 'pdf': there are overlay, legend"):
        semantic.save(tmp_path, ["pdf"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        semantic.save(tmp_path / "file" / "out")
    for call in (semantic.to_coco, semantic.to_labelme, semantic.to_geojson):
        with pytest.raises(UserError, match="cannot write"):
            call(tmp_path / "absent" / "a.json")


def test_names_that_utf_8_cannot_hold(semantic, tmp_path):
    odd = type(semantic).semantic(
        "a\udcff.jpg", semantic.image, semantic.vocabulary, semantic.labels
    )
    for call in (odd.to_coco, odd.to_labelme, odd.to_label_studio, odd.to_geojson):
        call(tmp_path / "a.json")
        json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert odd.to_coco()["images"][0]["file_name"] == "a�.jpg"
