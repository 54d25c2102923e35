"""MESS: every set, from a miniature of its download to the data set that is registered."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segcore.datasets import data_root
from segcore.datasets.mess import RECIPES, download_folder, prepare
from segcore.datasets.mess.images import false_colours, num_tiles, stored_pixels, tiles
from segcore.datasets.mess.labels import colours_to_ids
from segcore.datasets.table import register_table
from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table

sys.path.insert(0, str(Path(__file__).parent))
from mess_downloads import DOWNLOADS, GREY, TILE, WIDE, save


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], list[dict]]]:
    """Reads a registered set, with the data sets below ``tmp_path``."""
    moved = []

    def move(name: str, root: Path) -> str:
        table = vocabulary_table(f"mess_{name}")
        (dataset,) = table["datasets"]
        DatasetCatalog.remove(dataset)
        MetadataCatalog.remove(dataset)
        register_table(table, Vocabulary.registered(f"mess_{name}"), root)
        return dataset

    def read(name: str) -> list[dict]:
        moved.append(name)
        return DatasetCatalog.get(move(name, tmp_path))

    yield read
    for name in moved:
        move(name, data_root())


def download(name: str, root: Path) -> dict[str, np.ndarray]:
    folder = download_folder(name, root)
    folder.mkdir(parents=True)
    return DOWNLOADS[name](folder)


def written(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_every_set_has_a_recipe_and_a_miniature() -> None:
    names = {name.removeprefix("mess_") for name in registered_names() if name[:5] == "mess_"}
    assert set(RECIPES) == set(DOWNLOADS) == names and len(names) == 25


@pytest.mark.parametrize("name", RECIPES)
def test_from_download_to_data_set(name: str, tmp_path: Path, load) -> None:
    expected = download(name, tmp_path)
    summary = prepare(name, tmp_path, workers=1)
    records = load(name)
    suffix = MetadataCatalog.get(summary.maps.name).label_suffix
    found = {
        Path(record["sem_seg_file_name"]).name.removesuffix(suffix): record for record in records
    }
    assert found.keys() == expected.keys() and summary.num_images == len(expected)
    classes = set()
    for stem, record in found.items():
        labels, image = read_labels(record["sem_seg_file_name"]), read_image(record["file_name"])
        np.testing.assert_array_equal(labels, expected[stem])
        assert image.shape[:2] == labels.shape
        classes |= set(np.unique(labels).tolist())
    assert summary.classes == classes - {255}


@pytest.mark.parametrize("name", RECIPES)
def test_a_second_run_writes_nothing(name: str, tmp_path: Path) -> None:
    download(name, tmp_path)
    first, before = prepare(name, tmp_path, workers=1), written(tmp_path)
    assert prepare(name, tmp_path, workers=1) == first
    assert written(tmp_path) == before


def test_what_is_missing_is_written_again(tmp_path: Path) -> None:
    download("floodnet", tmp_path)
    maps = prepare("floodnet", tmp_path, workers=1).maps
    before = written(tmp_path)
    maps.path("6300_1").unlink()
    (maps.image_folder / "6300_0.jpg").unlink()
    prepare("floodnet", tmp_path, workers=2)
    assert written(tmp_path).keys() == before.keys()


def test_a_complete_set_needs_no_download(tmp_path: Path, monkeypatch) -> None:
    """One that the toolkit prepared, for instance: it deletes the masks of PAXRay."""
    download("paxray_lungs", tmp_path)
    maps = prepare("paxray_lungs", tmp_path, workers=1).maps
    for path in (tmp_path / "paxray_dataset/labels").iterdir():
        path.unlink()
    for number in range(maps.published - 1):
        save(maps.image_folder / f"{number}.png", GREY)
        save(maps.path(f"{number}"), [[0, 1, 0]] * 2)
    assert prepare("paxray_lungs", tmp_path, workers=1).num_images == maps.published
    maps.path("0").unlink()
    with pytest.raises(UserError, match=r"no file at .*labels/a\.npy|holds|no file at"):
        maps.path("a").unlink()
        prepare("paxray_lungs", tmp_path, workers=1)


class TestImages:
    def test_tiles(self) -> None:
        pixels = np.arange(15).reshape(3, 5)
        found = list(tiles(pixels, -1, size=2))
        assert len(found) == num_tiles(3, 5, size=2) == 6
        assert found[1].tolist() == [[2, 3], [7, 8]]
        assert found[2].tolist() == [[4, -1], [9, -1]]
        assert found[3].tolist() == [[10, 11], [-1, -1]]

    def test_images_are_padded_with_black(self, tmp_path: Path) -> None:
        download("uavid", tmp_path)
        maps = prepare("uavid", tmp_path, workers=1).maps
        image = read_image(maps.image_folder / "seq16_000000_1.png")
        assert image.shape == (TILE, TILE, 3)
        assert (image[:2, : WIDE - TILE] == 100).all() and image.sum() == 2 * 6 * 300

    def test_bands_become_colours(self, tmp_path: Path) -> None:
        download("worldfloods", tmp_path)
        maps = prepare("worldfloods", tmp_path, workers=1).maps
        image = read_image(maps.image_folder / "EMSR_1_0.png")
        # 60000 is beyond the mean and a deviation; 3115 is half of 3418.9 + 2811.8.
        assert image[0, 0].tolist() == [255, 127, 0] and not image[2:].any()

    def test_bands_may_be_stored_one_after_the_other(self, tmp_path: Path) -> None:
        tifffile = pytest.importorskip("tifffile")
        bands = np.random.default_rng(0).integers(0, 9000, (13, 3, 4)).astype(np.uint16)
        paths = [tmp_path / "planes.tif", tmp_path / "pixels.tif"]
        options = {"photometric": "minisblack"}
        tifffile.imwrite(paths[0], bands, planarconfig="separate", **options)
        tifffile.imwrite(paths[1], np.moveaxis(bands, 0, -1), planarconfig="contig", **options)
        np.testing.assert_array_equal(*map(false_colours, paths))

    @pytest.mark.parametrize("bands", [np.zeros((2, 3)), np.zeros((2, 3, 12))])
    def test_other_bands(self, bands: np.ndarray, tmp_path: Path) -> None:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(tmp_path / "a.tif", bands.astype(np.uint16), photometric="minisblack")
        with pytest.raises(UserError, match=r"a\.tif has the axes .*needs 13 bands"):
            false_colours(tmp_path / "a.tif")

    def test_no_tiff(self, tmp_path: Path, monkeypatch) -> None:
        pytest.importorskip("tifffile")
        with pytest.raises(UserError, match=r"no file at .*a\.tif"):
            false_colours(tmp_path / "a.tif")
        (tmp_path / "a.tif").write_bytes(b"II*\0nothing")
        with pytest.raises(UserError, match=r"cannot read .*a\.tif"):
            false_colours(tmp_path / "a.tif")
        monkeypatch.setitem(sys.modules, "tifffile", None)
        with pytest.raises(UserError, match=r"needs tifffile and imagecodecs: pip install"):
            false_colours(tmp_path / "a.tif")

    def test_a_camera_held_upright_turns_nothing(self, tmp_path: Path) -> None:
        """Label maps fit the pixels as they are stored."""
        exif = Image.Exif()
        exif[0x0112] = 6
        save(tmp_path / "a.jpg", GREY, exif=exif)
        assert read_image(tmp_path / "a.jpg").shape == (3, 2, 3)
        assert stored_pixels(tmp_path / "a.jpg").shape == (2, 3, 3)

    def test_bands_beyond_colour_are_left_out(self, tmp_path: Path, caplog) -> None:
        tifffile = pytest.importorskip("tifffile")
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
        assert (stored_pixels(tmp_path / "a.tif") == pixels[..., :3]).all()
        assert "1 band(s) beyond colour are left out" in caplog.text

    def test_cut_off(self, tmp_path: Path) -> None:
        """The pixels that are missing are not black ones."""
        save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
        content = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=r"a\.png"):
            stored_pixels(tmp_path / "a.png", "L")


def test_colours() -> None:
    pixels = np.array([[[1, 2, 3], [3, 2, 1], [0, 0, 0]]], dtype=np.uint8)
    assert colours_to_ids(pixels, [(3, 2, 1), (1, 2, 3)]).tolist() == [[1, 0, 255]]


FAULTS = {
    "no labels": ("deepcrack", "test_lab/11125-1.png", None, r"no file at .*11125-1\.png"),
    "no list": ("kvasir_instrument", "test.txt", None, r"test\.txt cannot be read as a list"),
    "a way out": ("kvasir_instrument", "test.txt", "../a\n", r"test\.txt: \.\./a leads out"),
    "a way out 2": ("cub_200", "images.txt", "2 ../200.B/b.jpg\n", r"images\.txt: \.\. leads out"),
    "no pair": ("cub_200", "images.txt", "2\n", r"images\.txt has the line '2': it needs"),
    "damaged": ("suim", "TEST/masks/d_r_1_.bmp", "BM", r"cannot read .*d_r_1_\.bmp"),
    "no stack": ("paxray_bones", "labels/a.npy", "\x93NUMPY", r"cannot read .*a\.npy"),
    "no table": ("paxray_bones", "paxray.json", "[]", r"paxray\.json holds a list instead"),
    "no entries": ("paxray_bones", "paxray.json", '{"test": [3]}', r'paxray\.json lists no "test"'),
    "out of it": (
        "paxray_bones",
        "paxray.json",
        '{"test": [{"image": "/etc/a.png", "target": "a"}]}',
        r"paxray\.json: a file name is empty",
    ),
    "no person": ("mhp_v1", "test_list.txt", "2.jpg\n", r"2\.jpg has no .*/annotations/2_\*\.png"),
}


@pytest.mark.parametrize(("name", "file", "text", "message"), FAULTS.values(), ids=FAULTS)
def test_faults(name: str, file: str, text: str | None, message: str, tmp_path: Path) -> None:
    download(name, tmp_path)
    path = download_folder(name, tmp_path) / file
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        prepare(name, tmp_path, workers=1)


def test_no_download(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*SUIM: unpack the download of suim"):
        prepare("suim", tmp_path, workers=1)
    (tmp_path / "SUIM").mkdir()
    with pytest.raises(UserError, match=r"there is no .*TEST/images/\*\.jpg: unpack"):
        prepare("suim", tmp_path, workers=1)
    (tmp_path / "zerowaste-f").mkdir()
    with pytest.raises(UserError, match=r"test/data has no image \*\.PNG with a label map"):
        prepare("zerowaste", tmp_path, workers=1)


def test_what_does_not_fit(tmp_path: Path) -> None:
    download("foodseg103", tmp_path)
    path = tmp_path / "FoodSeg103/Images/ann_dir/test/00000048.png"
    save(path, [[104, 0, 0]] * 2)
    with pytest.raises(UserError, match=r"00000048\.png holds the value 104"):
        prepare("foodseg103", tmp_path, workers=1)
    save(path, [[0, 0]] * 2)
    with pytest.raises(UserError, match=r"\(2, 2\), but .*00000048\.jpg has \(2, 3\)"):
        prepare("foodseg103", tmp_path, workers=1)
    save(path, [[255] * 3] * 2)
    with pytest.raises(UserError, match="has a class: take the right download"):
        prepare("foodseg103", tmp_path, workers=1)


def test_sizes_and_names_must_agree(tmp_path: Path) -> None:
    download("uavid", tmp_path)
    save(tmp_path / "uavid_v1.5/uavid_val/seq16/Images/000000.png", GREY)
    with pytest.raises(UserError, match="and its labels have different sizes"):
        prepare("uavid", tmp_path, workers=1)
    download("mhp_v1", tmp_path)
    save(tmp_path / "LV-MHP-v1/annotations/1_02_02.png", [[0, 0]])
    with pytest.raises(UserError, match=r"1_02_02\.png has \(height, width\) \(1, 2\)"):
        prepare("mhp_v1", tmp_path, workers=1)
    download("atlantis", tmp_path)
    save(tmp_path / "atlantis/images/test/cliff/a.jpg", GREY)
    with pytest.raises(UserError, match=r"boat/a\.jpg and .*cliff/a\.jpg have one name"):
        prepare("atlantis", tmp_path, workers=1)


def test_pickles_are_refused(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "touched"),)

    download("paxray_lungs", tmp_path)
    np.save(tmp_path / "paxray_dataset/labels/a.npy", np.array([Touch()]), allow_pickle=True)
    with pytest.raises(UserError, match=r"cannot read .*a\.npy"):
        prepare("paxray_lungs", tmp_path, workers=1)
    assert not (tmp_path / "touched").exists()


def test_command_line(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, repository / "datasets/prepare_mess.py", "--workers", "2"]
    command += ["--root", tmp_path]

    def start(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *more], capture_output=True, text=True, cwd=repository)

    run = start()
    assert run.returncode == 2 and "holds no download of MESS" in run.stderr
    download("suim", tmp_path)
    download("mhp_v1", tmp_path)
    run = start()
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "mhp_v1_sem_seg_test: 1 images, 3 of 19 classes occur",
        "suim_sem_seg_test: 1 images, 3 of 8 classes occur",
    ]
    assert "warning: suim_sem_seg_test: the benchmark has 110 images" in run.stderr
    run = start("suim", "cub")
    assert run.returncode == 2 and "MESS has no set 'cub': choose from atlantis" in run.stderr
