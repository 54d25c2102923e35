"""A data set with every fault that datasets/check.py knows, and one without any."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from catrank.cli import ROOT
from catrank.cli.parsing import Parser, parse
from segcore.datasets import register_semantic_dataset
from segcore.datasets.checking import Source, survey
from segcore.datasets.checking.sample import choose_pairs
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.load(["grass", "cat, kitten", "dog"])


class Folder:
    """A folder of images and one of label maps."""

    def __init__(self, root: Path) -> None:
        self.images, self.labels = root / "images", root / "labels"
        for folder in (self.images, self.labels):
            folder.mkdir(parents=True)
        self.random = np.random.default_rng(0)

    def image(self, name: str = "a.png", height: int = 12, width: int = 20, **options) -> Path:
        pixels = self.random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.images / name, **options)
        return self.images / name

    def label(self, name: str = "a.png", height: int = 12, width: int = 20) -> Path:
        """Three stripes: grass, cat, dog."""
        rows = np.arange(height) * 3 // height
        return self.save(name, np.repeat(rows[:, None], width, axis=1))

    def save(self, name: str, labels: np.ndarray, dtype: type = np.uint8) -> Path:
        Image.fromarray(np.asarray(labels, dtype)).save(self.labels / name)
        return self.labels / name

    def pair(self, name: str, labels: np.ndarray | None = None) -> None:
        self.image(name)
        self.label(name) if labels is None else self.save(name, labels)

    def kinds(self, words: Vocabulary = WORDS, **options) -> dict[str, list[str]]:
        """The kinds that are found, each with its texts."""
        found = survey(Source.from_folders(self.images, self.labels, words), **options).findings
        return {kind: [f.text for f in found if f.kind == kind] for kind in {f.kind for f in found}}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# ---- faults ----------------------------------------------------------------------------------


def test_nothing_is_wrong_with_what_is_right(folder: Folder) -> None:
    folder.pair("a.png")
    folder.pair("b.tif")
    folder.image("c.jpg", quality=90)
    folder.label("c.png")
    assert folder.kinds() == {}


def test_missing_partners(folder: Folder) -> None:
    folder.pair("a.png")
    image, label = folder.image("b.png"), folder.label("c.png")
    assert folder.kinds() == {"no_label_map": [str(image)], "no_picture": [str(label)]}


def test_a_benchmark_may_leave_images_out(folder: Folder) -> None:
    folder.pair("a.png")
    folder.image("b.png")
    register_semantic_dataset(
        "check_partial", folder.images, folder.labels, WORDS, image_suffix=".png"
    )
    try:
        found = survey(Source.registered("check_partial")).findings
    finally:
        DatasetCatalog.remove("check_partial")
        MetadataCatalog.remove("check_partial")
    assert [(f.kind, f.is_error) for f in found] == [("unlabelled", False)]


def test_no_pairs_at_all(folder: Folder) -> None:
    folder.image("a_rgb.png")
    folder.label("a_mask.png")
    assert "give these as suffixes" in folder.kinds()["no_pairs"][0]
    source = Source.from_folders(
        folder.images, folder.labels, WORDS, image_suffix="_rgb.png", label_suffix="_mask.png"
    )
    assert survey(source).findings == []


def test_several_files_of_one_name(folder: Folder) -> None:
    folder.pair("a.png")
    folder.image("a.jpg")
    assert list(folder.kinds()) == ["ambiguous"]


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("keep", [0, 10, 0.6])
def test_damaged_files(folder: Folder, kind: str, keep: float) -> None:
    folder.pair("a.png")
    folder.pair("b.png", folder.random.integers(0, 3, (12, 20)))
    path = getattr(folder, kind) / "b.png"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    (text,) = folder.kinds()["unreadable"]
    assert str(path) in text


def test_lossy_label_map(folder: Folder) -> None:
    folder.pair("a.png")
    folder.image("b.png")
    folder.label("b.jpg")
    assert "b.jpg is JPEG" in folder.kinds()["lossy"][0]


@pytest.mark.parametrize(("grey", "hint"), [(True, True), (False, False)])
def test_label_map_of_colours(folder: Folder, grey: bool, hint: bool) -> None:
    folder.pair("a.png")
    folder.image("b.png")
    colours = folder.random.integers(0, 3, (12, 20, 1 if grey else 3), dtype=np.uint8)
    Image.fromarray(np.broadcast_to(colours, (12, 20, 3)).copy()).save(folder.labels / "b.png")
    (text,) = folder.kinds()["colours"]
    assert "mode RGB" in text and ("keep one of them" in text) == hint


def test_a_palette_is_no_colour(folder: Folder) -> None:
    folder.image("a.png")
    labels = Image.open(folder.label("a.png")).convert("L").convert("P")
    labels.save(folder.labels / "a.png")
    assert "colours" not in folder.kinds()


def test_sizes(folder: Folder) -> None:
    folder.image("a.png", 12, 20)
    folder.label("a.png", 12, 21)
    (text,) = folder.kinds()["size"]
    assert "21 x 12" in text and "20 x 12" in text


def test_an_image_that_exif_turns(folder: Folder) -> None:
    folder.image("a.jpg", 12, 20, exif=turned(6))
    folder.label("a.png", 12, 20)
    folder.image("b.jpg", 12, 20, exif=turned(6))
    folder.label("b.png", 20, 12)  # turned together: right
    (text,) = folder.kinds()["rotation"]
    assert "a.jpg" in text
    assert "size" not in folder.kinds() and "orientation" not in folder.kinds()


@pytest.mark.parametrize(("height", "orientation"), [(12, 3), (12, 2), (20, 6)])
def test_a_turn_that_no_size_shows(folder: Folder, height: int, orientation: int) -> None:
    folder.image("a.jpg", height, 20, exif=turned(orientation))
    folder.label("a.png", height, 20)
    assert list(folder.kinds()) == ["orientation"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values(folder: Folder, dtype: type) -> None:
    labels = np.zeros((12, 20), int)
    labels[0], labels[1], labels[2, :5], labels[3] = 1, 2, 7, 255
    folder.image("a.tif")
    folder.save("a.tif", labels, dtype)
    (text,) = folder.kinds()["values"]
    assert "holds 7 (5 pixels): classes are 0..2, 255 is ignored" in text


def test_many_wrong_values_stay_one_line(folder: Folder) -> None:
    folder.image("a.tif")
    folder.save("a.tif", np.arange(-100, 140).reshape(12, 20), np.int32)
    (text,) = folder.kinds()["values"]
    assert len(text) < 400 and "and 232 other values" in text


def test_ids_that_count_from_one(folder: Folder) -> None:
    folder.pair("a.png", np.repeat([1, 2, 3], 4)[:, None].repeat(20, axis=1))
    assert folder.kinds()["numbering"] == [
        "values are 1..3, but class ids count from 0: subtract 1"
    ]


def test_masks_of_0_and_255(folder: Folder) -> None:
    folder.pair("a.png", np.repeat([0, 255], 6)[:, None].repeat(20, axis=1))
    assert "write 1" in folder.kinds(Vocabulary.load(["grass", "cat"]))["numbering"][0]


def test_nearly_empty(folder: Folder) -> None:
    labels = np.full((12, 20), 255)
    labels[0, :2] = 0
    folder.pair("a.png")
    folder.pair("b.png", labels)
    assert "0.83%" in folder.kinds()["nearly_empty"][0]


def test_classes_that_hardly_or_never_occur(folder: Folder) -> None:
    labels = np.zeros((12, 20), int)
    labels[0, 0] = 1
    folder.pair("a.png", labels)
    assert folder.kinds(rare=0.01) == {
        "absent": ["2 dog"],
        "rare": ["1 cat, kitten: 0.417% of the pixels, 1 images"],
    }
    assert "rare" not in folder.kinds(rare=0.001)


def test_duplicates(folder: Folder) -> None:
    folder.pair("a.png")
    folder.pair("b.png")
    Image.open(folder.images / "a.png").save(folder.images / "c.tif")
    folder.label("c.png")
    (text,) = folder.kinds()["duplicate"]
    assert "a.png" in text and "c.tif" in text and "b.png" not in text


def test_processes_find_the_same(folder: Folder) -> None:
    for index in range(5):
        folder.pair(f"{index}.png", np.full((12, 20), index))
    assert folder.kinds(workers=2) == folder.kinds()


def test_the_sample_shows_rare_classes_and_no_faulty_pair(folder: Folder) -> None:
    for index in range(9):
        folder.pair(f"{index}.png", np.full((12, 20), 1 if index == 7 else 0))
    folder.pair("9.png", np.full((12, 20), 9))
    known = survey(Source.from_folders(folder.images, folder.labels, WORDS))
    assert known.class_pixels.tolist() == [8 * 240, 240, 0]
    assert known.class_images.tolist() == [8, 1, 0]
    chosen = [Path(pair.pair.image).stem for pair in choose_pairs(known, 3)]
    assert chosen[0] == "7" and len(set(chosen)) == 3 and "9" not in chosen
    assert len(choose_pairs(known, 50)) == 9


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Folder, Folder]:
    """Training and test data without a fault."""
    folders = Folder(tmp_path / "train"), Folder(tmp_path / "test")
    folders[1].random = np.random.default_rng(1)
    for folder in folders:
        for name in ("1.png", "2.png"):
            folder.pair(name)
    return folders


def run(*words: object) -> bool:
    """Whether ``catrank data check`` finds nothing to fix."""
    line = ["data", "check", "--workers", "1", *map(str, words)]
    word, args = parse(Parser(ROOT, "catrank"), line)
    return word.run(args) == 0


def arguments(*folders: Folder) -> list[object]:
    images, labels = [f.images for f in folders], [f.labels for f in folders]
    return ["--images", *images, "--labels", *labels, "--vocabulary", "grass, cat, dog"]


def test_two_folders(two: tuple[Folder, Folder], capsys) -> None:
    assert run(*arguments(*two))
    assert "0 errors to fix, 0 notes" in capsys.readouterr().out
    two[1].save("1.png", np.full((12, 20), 77))
    two[1].save("2.png", np.repeat([0, 1, 77], 4)[:, None].repeat(20, axis=1))
    assert not run(*arguments(*two))
    assert "in all: 77 (320 pixels, 2 label maps)" in capsys.readouterr().out
    for name in ("1.png", "2.png"):
        two[1].label(name)
    Image.open(two[0].images / "1.png").save(two[1].images / "2.png")
    assert not run(*arguments(*two))
    out = capsys.readouterr().out
    assert "ERROR: images that training and test have in common: 1" in out


def test_page_and_report(two: tuple[Folder, Folder], tmp_path: Path) -> None:
    two[0].save("1.png", np.full((12, 20), 77))
    out = tmp_path / "out"
    assert not run(*arguments(*two), "--output", out, "--ignore-label", 9)
    page = (out / "index.html").read_text("utf-8")
    for part in ("There are errors to fix", "holds 77", "grass", "20 x 12"):
        assert part in page
    assert len(list((out / "images").iterdir())) == 2 * 3
    report = json.loads((out / "report.json").read_text("utf-8"))
    train, test = report["datasets"]
    assert train["num_pairs"] == 2 and train["ignore_label"] == 9
    assert train["classes"][0] == {"id": 0, "name": "grass", "pixels": 80, "pictures": 1}
    assert train["wrong_values"] == [{"value": 77, "pixels": 240, "label_maps": 1}]
    (finding,) = train["findings"]
    assert (finding["kind"], finding["severity"]) == ("values", "error")
    assert test["sizes"] == [{"width": 20, "height": 12, "pictures": 2}]
    assert test["findings"] == report["between"] == []


def test_custom_file(two: tuple[Folder, Folder], tmp_path: Path, capsys) -> None:
    table = {
        "classes": list(WORDS.names),
        "datasets": {
            f"check_{split}": {"images": f"{split}/images", "labels": f"{split}/labels"}
            for split in ("train", "test")
        },
    }
    (tmp_path / "pets.json").write_text(json.dumps(table))
    try:
        assert run("--own", tmp_path / "pets.json")
        assert "check_train" in capsys.readouterr().out
        two[0].image("3.png")
        assert not run("--own", tmp_path / "pets.json")
        assert run("--dataset", "check_train", "check_test")  # may leave images out
    finally:
        for name in table["datasets"]:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--images", "a"], "as many folders of --labels"),
        (["--images", "a", "b", "--labels", "c", "--vocabulary", "x,y"], "as many folders"),
        (["--images", "a", "--labels", "b"], "a --vocabulary"),
        (["--images", "/nowhere", "--labels", "b", "--vocabulary", "x,y"], "no folder /nowhere"),
        (["--dataset", "nothing_like_it"], "no dataset named"),
        (["--dataset", "scenes_60_test", "--vocabulary", "x"], "goes with --images only"),
        (["--own", "nowhere.json"], "nowhere.json"),
    ],
)
def test_errors(words: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        run(*words)
    assert says in str(caught.value)


def test_exit_codes(repository: Path, folder: Folder) -> None:
    def code(*more: object) -> int:
        command = [sys.executable, repository / "datasets/check.py", *arguments(folder), *more]
        environment = os.environ | {"PYTHONPATH": str(repository)}
        return subprocess.run([*map(str, command)], env=environment, capture_output=True).returncode

    folder.pair("a.png")
    assert code() == 0
    assert code("--output", folder.images / "a.png") == 2
    folder.image("b.png")
    assert code() == 1
