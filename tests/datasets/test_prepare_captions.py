"""Tar shards from a table, COCO's captions or a folder; what is wrong is left out with one line."""

import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from catrank.cli import main
from segcore.datasets.pairs import read_pairs
from segcore.datasets.preparation.captions import prepare
from segcore.errors import UserError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for (name, colour), suffix in zip(COLOURS.items(), (".jpg", ".png", ".bmp"), strict=True):
        Image.new("RGB", (8, 6), colour).save(folder / f"{name}{suffix}")
    return folder


def run(root: Path, source: Path, **options: object) -> list[dict]:
    settings = {"name": "few", "images": None, "per_shard": 2, "workers": 1} | options
    prepare(root, source=str(source), **settings)
    last = max(path.stem for path in (root / "few").glob("few-*.tar")).removeprefix("few-")
    pairs = read_pairs("few", f"{root}/few/few-{{000000..{last}}}.tar")
    return [pairs[index] for index in range(len(pairs))]


def captions(records: list[dict]) -> list[str]:
    return [record["caption"] for record in records]


def table(images: Path) -> Path:
    rows = [f"{path.name}\tit is {path.stem}" for path in sorted(images.iterdir())]
    path = images / "pairs.tsv"
    path.write_text("\n".join(["file\tcaption", *rows]))
    return path


def test_a_table(tmp_path: Path, images: Path, capsys) -> None:
    found = run(tmp_path, table(images))
    assert captions(found) == ["it is blue", "it is green", "it is red"]
    assert [Path(record["file_name"]).name for record in found] == [
        *("000000000.png", "000000001.png", "000000002.jpg")
    ]
    assert [Path(record["archive"]).name for record in found] == [
        *("few-000000.tar", "few-000000.tar", "few-000001.tar")
    ]
    with tarfile.open(found[2]["archive"]) as archive:  # copied as it is
        data = archive.extractfile("000000002.jpg").read()
    assert data == (images / "red.jpg").read_bytes()
    printed = capsys.readouterr()
    assert "few: 3 pairs in 2 shards" in printed.out and "{000000..000001}.tar" in printed.out
    assert "warning" not in printed.err


def test_captions_of_coco(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "captions.json"
    entries = [{"id": 7, "file_name": "red.jpg"}, {"id": 9, "file_name": "green.png"}]
    texts = [(9, "grass"), (7, "a\nrose "), (9, "a leaf")]
    annotations = [{"image_id": image, "caption": text} for image, text in texts]
    path.write_text(json.dumps({"images": entries, "annotations": annotations}))
    assert captions(run(tmp_path, path, images=str(images))) == ["grass", "a rose", "a leaf"]


def test_a_folder(tmp_path: Path, images: Path) -> None:
    for name in COLOURS:
        (images / f"{name}.txt").write_text(f"{name}, größer")
    found = run(tmp_path, images, workers=2)
    assert captions(found) == ["blue, größer", "green, größer", "red, größer"]


def test_what_is_wrong_is_left_out_with_one_line(tmp_path: Path, images: Path, capsys) -> None:
    for name in ("red", "green"):
        (images / f"{name}.txt").write_text(name)
    (images / "green.png").write_bytes((images / "green.png").read_bytes()[:40])
    wrong = {"empty": b" ", "long": b"a" * 9000, "latin": b"caf\xe9"}
    for name, text in wrong.items():
        Image.new("RGB", (8, 6)).save(images / f"{name}.png")
        (images / f"{name}.txt").write_bytes(text)
    assert captions(run(tmp_path, images)) == ["red"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    expected = ("no caption beside it", "empty caption", "damaged", "UTF-8", "over 8192 bytes")
    assert len(lines) == 5
    assert all(any(part in line for line in lines) for part in expected)


def test_the_same_command_continues(tmp_path: Path, images: Path) -> None:
    source = table(images)
    before = run(tmp_path, source)
    first, second = sorted((tmp_path / "few").glob("*.tar"))
    content, changed = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    assert run(tmp_path, source) == before
    assert second.read_bytes() == content and first.stat().st_mtime_ns == changed


def test_shards_of_other_pairs_are_not_mixed(tmp_path: Path, images: Path) -> None:
    source = table(images)
    run(tmp_path, source)
    for options in ({"per_shard": 3}, {"source": images}):
        with pytest.raises(UserError, match=r"few holds shards of other pairs .*remove it"):
            run(tmp_path, **({"source": source} | options))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": []}, "no image with a caption"),
        ({"images": [{"id": 1, "file_name": "../a.png"}], "annotations": []}, "leads out of"),
        ({"images": [], "annotations": [{"image_id": 3, "caption": "a"}]}, "no image has the id 3"),
        ({"images": [{"id": [], "file_name": "a.png"}], "annotations": []}, "'id' has to be"),
        (
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "annotations": [{"image_id": 1, "bbox": []}],
            },
            "captions_",
        ),
    ],
    ids=range(5),
)
def test_wrong_files_of_coco(tmp_path: Path, content: dict, message: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        run(tmp_path, tmp_path / "c.json", images=str(tmp_path))


def test_wrong_sources(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UserError, match="name the folder of its images with --images"):
        run(tmp_path, tmp_path / "c.json")
    with pytest.raises(UserError, match=r"no folder, no \.tsv file and no \.json file"):
        run(tmp_path, tmp_path / "nothing")
    with pytest.raises(UserError, match="--per-shard 0"):
        run(tmp_path, images, per_shard=0)


def test_the_script(tmp_path: Path, images: Path, capsys) -> None:
    arguments = ["data", "prepare", "captions", str(table(images)), "--root", str(tmp_path)]
    assert main([*arguments, "--workers", "1"]) == 0
    assert "pairs: 3 pairs in 1 shards" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "pairs").glob("*.tar")] == ["pairs-000000.tar"]
