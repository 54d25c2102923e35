"""Keys and bytes of images in folders, patterns, lists, Parquet, archives and behind addresses."""

import io
import os
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from catrank.labelling.plan import Settings, make_plan
from catrank.labelling.sources import Item, list_items, read_item
from segcore.errors import UserError
from segcore.images import read_image

SETTINGS = Settings("m", "v", 0.5, batch_size=2, shard_size=4, threads=1, label_png=False)
SORTED = ["0.png", "1.png", "2.png", "2b.jpg", "3.png", "4.png", "5.png", "6.png", "empty.png"]
SORTED += ["more/7.png", "more/8.png"]


def keys(*inputs: object, column: str = "path") -> list[str]:
    return [item.key for item in list_items([*map(str, inputs)], column)]


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_a_folder_with_all_below_it(photos: Path) -> None:
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "x.png").touch()
    (photos / "notes.txt").touch()
    assert keys(photos) == SORTED
    assert keys(f"{photos}/") == SORTED
    assert keys(photos / "more", photos / "0.png") == [
        f"{photos}/more/7.png",
        f"{photos}/more/8.png",
        f"{photos}/0.png",
    ]


def test_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    assert keys(photos / "[01].png") == [f"{photos}/0.png", f"{photos}/1.png"]
    (photos / "list.txt").write_bytes(b"more/8.png\r\n\n0.png\n" + os.fsencode(photos / "1.png"))
    assert keys(photos / "list.txt") == ["more/8.png", "0.png", f"{photos}/1.png"]
    for item in list_items([str(photos / "list.txt")]):
        assert (read_item(item) == read_image(photos / item.key)).all()
    pq.write_table(pa.table({"n": [1, 2], "file": ["1.png", "0.png"]}), photos / "p.parquet")
    assert keys(photos / "p.parquet", column="file") == ["1.png", "0.png"]
    with pytest.raises(UserError, match=r"no column path: name one of n, file"):
        keys(photos / "p.parquet")
    (tmp_path / "x.parquet").write_bytes(b"none")
    with pytest.raises(UserError, match="no Parquet file"):
        keys(tmp_path / "x.parquet")


def test_archives_of_hostile_names(photos: Path, tmp_path: Path) -> None:
    image = (photos / "0.png").read_bytes()
    names = ["a.png", "a.txt", "../../up.png", "/etc/abs.png", "n\udcff.png", "bomb.webp"]
    write_tar(tmp_path / "w.tar", dict.fromkeys(names, image))
    before = {*tmp_path.parent.rglob("*")}
    items = [*list_items([str(tmp_path / "w.tar")])]
    key = str(tmp_path / "w.tar")
    assert [item.key for item in items] == [
        f"{key}/{name}" for name in ("a.png", "../../up.png", "/etc/abs.png", r"n\xff.png",
                                     "bomb.webp")
    ]  # fmt: skip
    assert all((read_item(item) == read_image(photos / "0.png")).all() for item in items)
    assert {*tmp_path.parent.rglob("*")} == before
    # In a folder an archive is one of its files.
    assert keys(tmp_path)[0] == "w.tar/a.png"


def test_a_truncated_archive_is_an_item_with_a_problem(photos: Path, tmp_path: Path) -> None:
    image = (photos / "0.png").read_bytes()
    path = tmp_path / "w.tar"
    write_tar(path, {"a.png": image, "b.png": image})
    path.write_bytes(path.read_bytes()[: 512 + len(image) // 512 * 512 + 512 + 700])
    good, bad = list_items([str(path)])
    assert (good.key, bad.key) == (f"{path}/a.png", str(path))
    with pytest.raises(UserError, match=r"w\.tar is damaged or cut short"):
        read_item(bad)


def test_addresses(photos: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(photos), "/album", recursive=True)
    try:
        assert keys("memory://album") == SORTED
        assert len(keys("memory://album/*.png")) == 8
        first = next(list_items(["memory://album"]))
        assert (read_item(first) == read_image(photos / "0.png")).all()
        write_tar(photos / "w.tar", {"a.png": (photos / "1.png").read_bytes()})
        system.put(str(photos / "w.tar"), "/album/w.tar")
        (member,) = list_items(["memory://album/w.tar"])
        assert (read_item(member) == read_image(photos / "1.png")).all()
        with pytest.raises(UserError, match=r"gone\.png cannot be read"):
            read_item(Item("gone.png", b"memory://album/gone.png"))
    finally:
        system.rm("/album", recursive=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "is no file, folder or pattern"),
        ("w.tar.gz", "is compressed"),
        ("nothing://x", "cannot be listed"),
        ("hollow", "holds no image"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "w.tar.gz").touch()
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match=message):
        keys(name if "://" in name else tmp_path / name)


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.png has 8001 x 8001 pixels, more than the limit"):
        Image.new("1", (8001, 8001)).save(tmp_path / "x.png")
        read_item(Item("x.png", os.fsencode(tmp_path / "x.png")))
    with pytest.raises(UserError, match="no file at a"):
        read_item(Item("a", b"/a\0b.png"))
    with pytest.raises(UserError, match=r"no file at a\.png"):
        read_item(Item("a.png", b"/there/is/none/a.png"))


def test_a_plan_is_the_same_for_a_second_call_and_refuses_another(photos, tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    items = [*list_items([str(photos)])]
    plan = make_plan(folder, items, SETTINGS)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {*before} == {"plan.json", "plan.parquet"}
    assert (plan.images, plan.shards, plan.size(2)) == (11, 3, 3)
    assert [item for number in range(3) for item in plan.items(number)] == items
    # A key that is listed again is labelled once.
    assert make_plan(folder, [*items, *items[3:5]], SETTINGS) == plan
    for changed, message in (
        ({"vocabulary": "w"}, "with another vocabulary"),
        ({"label_png": True}, "and without --png"),
    ):
        other = Settings(**{**SETTINGS.__dict__, **changed})
        with pytest.raises(UserError, match=message):
            make_plan(folder, items, other)
    with pytest.raises(UserError, match="labels of other images \\(11 then, 10 now"):
        make_plan(folder, items[:-1], SETTINGS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_non_utf8_file_names_are_keys(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(
        (tmp_path / "a.png").read_bytes()
    )
    (item,) = list_items([str(folder)])
    assert item.key == r"\xff.png" and read_item(item).shape == (4, 4, 3)
