"""The stated rules of importing, and untrusted exports."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_labels import HEIGHT, WIDTH
from PIL import Image

from catrank.imports import Plan, import_exports, read_export
from catrank.imports.label_studio import decode_brush
from catrank.imports.splitting import split_names
from catrank.imports.xml_tree import read_xml
from segcore.errors import UserError

SIZE = {"height": HEIGHT, "width": WIDTH}


def box(id: int, category: int, left: int, top: int, side: int, image: int = 0) -> dict:
    corners = [left, top, left + side, top, left + side, top + side, left, top + side]
    return {"id": id, "image_id": image, "category_id": category, "segmentation": [corners]}


def coco(images: Path, *annotations: dict, number: int = 1, **image: object) -> Path:
    """Boxes in the first of ``number`` images; categories a, b and c."""
    table = {
        "images": [{"id": i, "file_name": f"{i}.png", **SIZE, **image} for i in range(number)],
        "annotations": list(annotations),
        "categories": [{"id": i, "name": name} for i, name in enumerate("abc", 1)],
    }
    path = images.parent / "instances.json"
    path.write_text(json.dumps(table))
    return path


def labels(tmp_path: Path, name: str = "train/0") -> np.ndarray:
    return np.asarray(Image.open(tmp_path / f"new/labels/{name}.png"))


ALL = ("--val-fraction", "0")


def test_smaller_objects_of_coco_lie_on_top(images: Path, run: Callable, tmp_path: Path) -> None:
    run(coco(images, box(1, 2, 4, 4, 6), box(2, 1, 2, 2, 12)), *ALL)
    found = labels(tmp_path)
    assert (found[4:10, 4:10] == 2).all() and found[3, 3] == 1 and found[0, 0] == 0


def test_classes_choose_and_order(images: Path, run: Callable, tmp_path: Path) -> None:
    path = coco(images, box(1, 1, 0, 0, 4), box(2, 2, 5, 5, 4), box(3, 3, 10, 10, 4))
    table = run(path, "--classes", "c,a", *ALL)
    assert [row["name"] for row in table["classes"]] == ["background", "c", "a"]
    found = labels(tmp_path)
    assert (found[1, 1], found[6, 6], found[11, 11]) == (2, 0, 1)  # b is as if it were not there


def test_ignored_classes_and_no_background(images: Path, run: Callable, tmp_path: Path) -> None:
    path = coco(images, box(1, 1, 0, 0, 4), box(2, 2, 5, 5, 4))
    table = run(path, "--ignore", "b", "--no-background", *ALL)
    assert [row["name"] for row in table["classes"]] == ["a", "c"]
    found = labels(tmp_path)
    assert (found[1, 1], found[6, 6], found[20, 20]) == (0, 255, 255)


def test_a_background_of_the_export_covers(images: Path, run: Callable, tmp_path: Path) -> None:
    path = coco(images, box(1, 1, 0, 0, 4))
    path.write_text(path.read_text().replace('"c"', '"Background"'))
    table = run(path, *ALL)
    assert [row["name"] for row in table["classes"]] == ["a", "b", "Background"]
    assert table["classes"][2]["isthing"] is False and labels(tmp_path)[20, 20] == 2


def test_images_without_shapes_are_background(images: Path, run: Callable, tmp_path: Path) -> None:
    run(coco(images, box(1, 1, 0, 0, 4), number=2), *ALL)
    assert (labels(tmp_path, "train/1") == 0).all()


def test_missing_images_are_noted(images: Path, run: Callable, capsys) -> None:
    run(coco(images, box(1, 1, 0, 0, 4), number=7), *ALL)
    assert "2 images are missing and left out, such as" in capsys.readouterr().out


def test_two_exports_are_training_and_validation(images: Path, run: Callable, tmp_path) -> None:
    train = coco(images, box(1, 1, 0, 0, 4)).rename(images.parent / "train.json")
    run(train, "--val", str(coco(images, box(1, 2, 0, 0, 4))))
    assert labels(tmp_path)[0, 0] == 1 and labels(tmp_path, "val/0")[0, 0] == 2


def test_links(images: Path, run: Callable, tmp_path: Path) -> None:
    run(coco(images, box(1, 1, 0, 0, 4)), "--link", *ALL)
    link = tmp_path / "new/images/train/0.png"
    assert link.is_symlink() and link.resolve() == images / "0.png"


def test_labels_of_stored_pixels_are_turned(images: Path, run: Callable, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(images / "0.png").save(images / "0.png", exif=exif)
    run(coco(images, box(1, 1, 0, 0, 4)), *ALL)
    found = labels(tmp_path)
    assert found.shape == (WIDTH, HEIGHT) and (found[:4, -4:] == 1).all()
    (entry,) = json.loads((tmp_path / "new/instances_train.json").read_text())["annotations"]
    assert entry["bbox"] == [HEIGHT - 4, 0, 4, 4]


def test_the_split_depends_on_names_and_seed_alone() -> None:
    names = [f"{number}.png" for number in range(50)]
    first = split_names(names, 0.2, 0)
    assert list(first.values()).count("val") == 10
    assert split_names(names[::-1], 0.2, 0) == first != split_names(names, 0.2, 1)
    assert sorted(split_names(["a", "b"], 0.01, 0).values()) == ["train", "val"]
    assert split_names(["a"], 0.2, 0) == {"a": "train"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--classes", "a,z"), "has no class 'z'; it has a, b, c"),
        (("--table", "a=1"), "--table goes with masks"),
        (("--name", "../x"), "--name"),
        (("--images", "nowhere"), "no image of the export is there"),
    ],
)
def test_options(images: Path, run: Callable, capsys, options: tuple, says: str) -> None:
    with pytest.raises(SystemExit):
        run(coco(images, box(1, 1, 0, 0, 4)), *options)
    assert says in capsys.readouterr().err


def test_an_output_with_files_is_refused(images: Path, run: Callable, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a").touch()
    with pytest.raises(SystemExit):
        run(coco(images, box(1, 1, 0, 0, 4)))


class TestUntrusted:
    def refuse(self, source: Path, says: str, **options: object) -> None:
        with pytest.raises(UserError) as caught:
            plan = Plan(source.parent / "new", "new")
            import_exports([read_export(source, **options)], plan)
        assert says in str(caught.value), caught.value

    def write(self, folder: Path, name: str, text: str) -> Path:
        (folder / name).write_text(text)
        return folder / name

    def test_xml_that_stands_for_more(self, tmp_path: Path) -> None:
        bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'
        self.refuse(self.write(tmp_path, "a.xml", bomb), "has a document type")
        file = (
            '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>'
        )
        self.refuse(self.write(tmp_path, "a.xml", file), "has a document type")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("<a>" * 60 + "</a>" * 60, "nested too deep"),
            ("<annotations>", "is not valid XML"),
            ("", "is not valid XML"),
            ("<html/>", "is not of the format 'CVAT for images 1.1'"),
            ("<annotations><track/></annotations>", "is not of the format"),
            ("<annotations/>", "lists no image"),
        ],
    )
    def test_xml(self, tmp_path: Path, text: str, says: str) -> None:
        self.refuse(self.write(tmp_path, "a.xml", text), says)

    def test_xml_of_too_many_elements(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("catrank.imports.xml_tree.MAX_ELEMENTS", 3)
        with pytest.raises(UserError, match="more than 3 elements"):
            read_xml(self.write(tmp_path, "a.xml", "<a><b/><b/><b/></a>"))

    @pytest.mark.parametrize(
        ("shape", "says"),
        [
            ('<polygon label="a" points="1,2;3"/>', "'points' need to be x,y;x,y"),
            ('<polygon label="a" points="0,0;1e9,0;0,5"/>', "lies outside of its image"),
            ('<polygon label="a" points="0,0;nan,0;0,5"/>', "lies outside of its image"),
            ('<polygon points="0,0;1,0;0,5"/>', "has no 'label'"),
            ('<box label="a" xtl="x" ytl="0" xbr="1" ybr="1"/>', "'xtl' is 'x'"),
            ('<box label="a" xtl="inf" ytl="0" xbr="1" ybr="1"/>', "'xtl' is 'inf'"),
            ('<mask label="a" rle="5" left="0" top="0" width="9" height="9"/>', "does not fill"),
            ('<mask label="a" rle="-1,5" left="0" top="0" width="2" height="2"/>', "does not fill"),
            ('<mask label="a" rle="4" left="31" top="0" width="2" height="2"/>', "does not fit"),
            ('<mask label="a" rle="4" left="0" top="0" width="99999999" height="9"/>', "width"),
        ],
    )
    def test_shapes_of_cvat(self, images: Path, shape: str, says: str) -> None:
        image = f'<image name="0.png" width="{WIDTH}" height="{HEIGHT}">{shape}</image>'
        path = self.write(images.parent, "a.xml", f"<annotations>{image}</annotations>")
        self.refuse(path, says)

    def test_names_that_lead_out(self, images: Path) -> None:
        self.refuse(coco(images, file_name="../../etc/passwd"), "leads out of")
        self.refuse(coco(images, file_name="/etc/passwd"), "leads out of")
        image = '<annotations><image name="../0.png" width="3" height="3"/></annotations>'
        self.refuse(self.write(images.parent, "a.xml", image), "leads out of")
        labelme = {"shapes": [], "imagePath": "../0.png", "imageHeight": 3, "imageWidth": 3}
        path = self.write(images, "0.json", json.dumps(labelme))
        self.refuse(images, "leads out of")
        path.unlink()

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"points": [[0, 0], [1]]}, "need to be pairs of numbers"),
            ({"points": 5}, "need to be pairs of numbers"),
            ({"points": [[0, 0], [1e9, 0], [0, 1]]}, "lies outside of its image"),
            ({"label": "a\x1b[2J"}, "'label'"),
            ({"label": 5}, "'label'"),
            ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "!"}, "in base64"),
            ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "aaaa"}, "cannot read"),
            ({"shape_type": "circle", "points": [[0, 0], [1e5, 0]]}, "lies outside of its image"),
        ],
    )
    def test_shapes_of_labelme(self, images: Path, change: dict, says: str) -> None:
        shape = {"label": "a", "points": [[0, 0], [5, 0], [0, 5]], "shape_type": "polygon"}
        table = {"shapes": [shape | change], "imagePath": "0.png"}
        table |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        self.write(images, "0.json", json.dumps(table))
        self.refuse(images, says)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("5", "is of no known format"),
            ("[5]", "task"),
            ("[" * 3000 + "]" * 3000, "JSON"),
            ('[{"id": 1}]', "has no 'annotations'"),
            ('{"annotations": 5}', "images"),
            ('{"annotations": [], "images": 5}', "'images'"),
            ('{"videos": [{"file_names": {}}], "annotations": []}', "name of an image"),
            ('{"a": 1, "a": 2}', "occurs twice"),
        ],
    )
    def test_json(self, tmp_path: Path, text: str, says: str) -> None:
        self.refuse(self.write(tmp_path, "a.json", text), says)

    @pytest.mark.parametrize("rle", [None, [], [0, 0], [0, 0, 0, 16, 1], ["a"], [300], {"a": 1}])
    def test_brushes(self, rle: object) -> None:
        with pytest.raises(UserError, match="is no brush of 2 x 2 pixels"):
            decode_brush(rle, (2, 2), "it")

    def test_other_sizes(self, images: Path) -> None:
        self.refuse(coco(images, box(1, 1, 0, 0, 4), width=WIDTH + 1), "but was labelled as")

    @pytest.mark.parametrize(
        ("table", "says"),
        [
            (None, "give --table"),
            ("a", "cannot read a"),
            ("a=x", "is no entry such as"),
            ("a=0, b=0", "a and b have the same value"),
            ("a=0, b=1", "0.png holds a value that --table lacks; 0.png has"),
        ],
    )
    def test_tables(self, images: Path, table: str | None, says: str) -> None:
        self.refuse(images, says, format="masks", images=images, table=table)
