"""Tar shards of image-text pairs: sound ones, damaged ones, hostile ones."""

import io
import logging
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from segcore.config import default_config
from segcore.datasets import register_custom_datasets, register_pair_dataset
from segcore.datasets.custom import register_custom_file
from segcore.datasets.pairs import PairDataset, expand_pattern, read_pairs
from segcore.datasets.shards import (
    DAMAGED,
    EMPTY,
    ENCODING,
    INCOMPLETE,
    LARGE,
    MAX_CAPTION,
    NO_IMAGE,
    index_shard,
    read_index,
)
from segcore.errors import UserError
from segcore.mappers import build_mapper
from segcore.mappers.captions import BrokenPairError

pytestmark = pytest.mark.usefixtures("forget_datasets", "private_cache")


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(value: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (value, 0, 0)).save(file, kind)
    return file.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def pairs(first: int, number: int) -> list[tuple[str, bytes]]:
    return [
        member
        for i in range(first, first + number)
        for member in (
            (f"{i:05}.png", encoded(i)),
            (f"{i:05}.json", b"{}"),
            (f"{i:05}.txt", f"image {i}".encode()),
        )
    ]


def captions(dataset: PairDataset) -> list[str]:
    return [dataset[index]["caption"] for index in range(len(dataset))]


# ---- patterns --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("a-{08..00011}.tar", ["a-00008.tar", "a-00009.tar", "a-00010.tar", "a-00011.tar"]),
        ("{a,bc}-{1..2}.tar", ["a-1.tar", "a-2.tar", "bc-1.tar", "bc-2.tar"]),
    ],
)
def test_braces_are_expanded(pattern: str, paths: list[str]) -> None:
    assert list(expand_pattern(pattern)) == paths


@pytest.mark.parametrize(
    "pattern",
    (
        "a-{0..1.tar",
        "a-0..1}.tar",
        "{}.tar",
        "{x..y}.tar",
        "{3..1}.tar",
        "{0..99999999999}.tar",
        "{0..9999}{0..9999}.tar",
        "{{0..1}}.tar",
    ),
)
def test_wrong_patterns_are_one_message(pattern: str) -> None:
    with pytest.raises(UserError, match=r"such as|no partner|over 1000000"):
        expand_pattern(pattern)


# ---- sound shards ----------------------------------------------------------------------------


def test_pairs_of_all_shards_that_exist(tmp_path: Path, caplog) -> None:
    write_shard(tmp_path / "web-0.tar", pairs(0, 3))
    write_shard(tmp_path / "web-2.tar", pairs(3, 2))
    with caplog.at_level(logging.INFO, "segcore.datasets.pairs"):
        found = read_pairs("web", f"{tmp_path}/web-{{0..3}}.tar")
    assert captions(found) == [f"image {i}" for i in range(5)] and found.lengths == [3, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "Dataset web: 5 pairs; skipped: 2 missing shards"
    ]
    mapper = build_mapper(config(), is_train=False)
    item = mapper(found[4])
    assert item["file_name"] == f"{tmp_path}/web-2.tar/00004.png"
    assert item["image"].shape == (3, 8, 8) and (item["image"][0] == 4).all()
    assert (item["height"], item["width"], item["words"]) == (4, 6, [])
    assert "archive" not in item
    with pytest.raises(IndexError):
        found[5]


def config(*options: object):
    cfg = default_config()
    changes = ("INPUT.DATASET_MAPPER_NAME", "image_caption", "INPUT.MIN_SIZE_TEST", 8)
    cfg.merge_from_list([*changes, "INPUT.CAPTION.WORDS", "vocabulary", *options])
    cfg.merge_from_list(["INPUT.CAPTION.VOCABULARY", "cat, dog", "INPUT.FORMAT", "RGB"])
    return cfg


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", ["a/b.c", "./x", "long/" + 60 * "name" + "/x"])
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats(tmp_path: Path, kind: str, name: str, layout: int) -> None:
    if layout == tarfile.USTAR_FORMAT and len(name) > 100:
        return
    with tarfile.open(tmp_path / "a.tar", "w", format=layout) as archive:
        extension = {"JPEG": "jpg", "PNG": "PNG", "WEBP": "webp"}[kind]
        for end, data in ((extension, encoded(200, kind)), ("text", "größe 犬\nx".encode())):
            member = tarfile.TarInfo(f"{name}.{end}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    item = read_pairs("a", str(tmp_path / "a.tar"))[0]
    assert item["caption"] == "größe 犬 x"
    mapped = build_mapper(config(), is_train=False)(item)
    assert abs(int(mapped["image"][0, 0, 0]) - 200) < 5


def test_the_index_is_kept(tmp_path: Path, private_cache: Path, monkeypatch) -> None:
    path = write_shard(tmp_path / "a.tar", [*pairs(0, 2), ("x.txt", b"alone")])
    first = read_index(path)
    with monkeypatch.context() as patch:
        patch.setattr("segcore.datasets.shards.index_shard", None)
        again = read_index(path)
    assert (again.pairs == first.pairs).all() and again.problems == first.problems
    (cached,) = (private_cache / "shards").iterdir()
    cached.write_bytes(b"PK\3\4 damaged")
    assert (read_index(path).pairs == first.pairs).all()
    write_shard(path, pairs(0, 3))
    assert len(read_index(path).pairs) == 3


# ---- what is skipped -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("x.png", encoded(1))], INCOMPLETE),
        ([("x.txt", b"a cat")], INCOMPLETE),
        ([("x.png", b"<html>"), ("x.txt", b"a cat")], NO_IMAGE),
        ([("x.png", b""), ("x.txt", b"a cat")], NO_IMAGE),
        ([("x.png", encoded(1)), ("x.txt", b"")], EMPTY),
        ([("x.png", encoded(1)), ("x.txt", b" \n\t")], EMPTY),
        ([("x.png", encoded(1)), ("x.txt", b"caf\xe9")], ENCODING),
    ],
)
def test_unusable_pairs_are_counted(tmp_path: Path, members: list, problem: int) -> None:
    shard = write_shard(tmp_path / "a.tar", [*pairs(0, 1), *members, *pairs(7, 1)])
    index = index_shard(shard)
    assert len(index.pairs) == 2 and index.problems == {problem: 1}


def test_links_and_folders_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("x.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    index = index_shard(tmp_path / "a.tar")
    assert len(index.pairs) == 0 and not index.problems


def test_large_images_are_skipped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("segcore.datasets.shards.MAX_IMAGE", 50)
    index = index_shard(write_shard(tmp_path / "a.tar", pairs(0, 1)))
    assert len(index.pairs) == 0 and index.problems == {LARGE: 1}


def test_a_caption_of_ten_megabytes_is_cut(tmp_path: Path) -> None:
    text = ("é" * (10 << 19)).encode()  # of two bytes each
    write_shard(tmp_path / "a.tar", [("x.png", encoded(1)), ("x.txt", b"a" + text)])
    (caption,) = captions(read_pairs("a", str(tmp_path / "a.tar")))
    assert caption == "a" + "é" * (MAX_CAPTION // 2 - 1)


@pytest.mark.parametrize("removed", [100, 700, 1024, 1600, 2600])
def test_a_truncated_shard_keeps_its_complete_pairs(tmp_path: Path, removed: int) -> None:
    path = write_shard(tmp_path / "a.tar", [(n, d) for n, d in pairs(0, 2) if n[-1] != "n"])
    data = path.read_bytes().rstrip(b"\0")
    padded = -(-len(data) // 512) * 512  # without the two empty blocks that end it
    path.write_bytes(path.read_bytes()[: padded + 1024 - removed])
    index = index_shard(path)
    if removed == 100:
        assert len(index.pairs) == 2 and not index.problems
    else:
        assert index.problems[DAMAGED] == 1 and len(index.pairs) == (2 if removed <= 1024 else 1)


def test_damage_in_the_middle_ends_a_shard(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [(n, d) for n, d in pairs(0, 3) if n[-1] != "n"])
    data = bytearray(path.read_bytes())
    index = index_shard(path)
    header = (int(index.pairs[1, 0]) - 1) * 512
    data[header : header + 512] = b"\xff" * 512
    path.write_bytes(data)
    found = index_shard(path)
    assert len(found.pairs) == 1 and found.problems == {DAMAGED: 1}


@pytest.mark.parametrize(
    "content", [b"", b"no archive" * 100, b"\x1f\x8b" + bytes(600), bytes(300)], ids=range(4)
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert index_shard(tmp_path / "a.tar").problems == {DAMAGED: 1}
    with pytest.raises(UserError, match=r"holds no pair .*1 damaged or truncated shards"):
        read_pairs("a", str(tmp_path / "a.tar"))


def test_hostile_headers_take_no_memory(tmp_path: Path) -> None:
    """A long name of 8 GB, a size below zero, and names of names without end."""
    for number, (kind, size) in enumerate(
        [(tarfile.GNUTYPE_LONGNAME, 8 << 30), (tarfile.XHDTYPE, 8 << 30), (tarfile.REGTYPE, -1)]
    ):
        member = tarfile.TarInfo("x.png")
        member.type, member.size = kind, size
        path = tmp_path / f"{number}.tar"
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        assert index_shard(path).problems[DAMAGED] == 1
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 512
    path.write_bytes((member.tobuf(tarfile.GNU_FORMAT) + b"n" * 512) * 5000)
    assert index_shard(path).problems[DAMAGED] == 1


def test_an_image_that_is_damaged_is_a_broken_pair(tmp_path: Path) -> None:
    broken = encoded(1)[:40]
    write_shard(tmp_path / "a.tar", [("x.png", broken), ("x.txt", b"a cat")])
    record = read_pairs("a", str(tmp_path / "a.tar"))[0]
    with pytest.raises(BrokenPairError, match=r"cannot read .*a\.tar/x\.png: it is damaged"):
        build_mapper(config(), is_train=True)(record)


def test_no_shard_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset 'web': there is no .*web-00\.tar: download"):
        read_pairs("web", str(tmp_path / "web-{00..03}.tar"))


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("web-{0..1}.tar", "web"), ("few.tar", "few"), ("gcc/{0..1}.tar", "gcc")],
)
def test_own_shards_have_the_name_before_the_brace(tmp_path, pattern: str, name: str) -> None:
    cfg = default_config()
    (tmp_path / pattern).parent.mkdir(exist_ok=True)
    for path in expand_pattern(str(tmp_path / pattern)):
        write_shard(Path(path), pairs(0, 1))
    cfg.DATASETS.OWN = (str(tmp_path / pattern),)
    register_custom_datasets(cfg)
    register_custom_datasets(cfg)
    assert len(DatasetCatalog.get(name)) in (1, 2)


def test_a_name_is_registered_once(tmp_path: Path) -> None:
    register_pair_dataset("test_web", tmp_path / "a.tar")
    with pytest.raises(UserError, match="another data set named 'test_web'"):
        register_pair_dataset("test_web", tmp_path / "b.tar")
    with pytest.raises(UserError, match=r"DATASETS\.CUSTOM: .*no partner"):
        register_custom_file(str(tmp_path / "a-{0..1.tar"))


# ---- augmentation and words ------------------------------------------------------------------


def test_words_of_a_vocabulary(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("x.png", encoded(1)), ("x.txt", b"Two dogs and a CAT")])
    record = read_pairs("a", str(tmp_path / "a.tar"))[0]
    assert build_mapper(config(), is_train=True)(record)["words"] == ["dog", "cat"]


DEIT = ("INPUT.CAPTION.AUGMENTATION", "deit", "INPUT.MIN_SIZE_TRAIN", (16,))


@pytest.mark.parametrize("options", [(), ("INPUT.CAPTION.RAND_AUGMENT", "")])
def test_deit_augmentation(tmp_path: Path, options: tuple) -> None:

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mapper = build_mapper(config(*DEIT, *options), is_train=True)
    record = {"file_name": str(tmp_path / "a.png"), "caption": "a dog"}

    def run(seed: int) -> torch.Tensor:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return mapper(record)["image"]

    images = [run(seed) for seed in range(6)]
    assert all(image.shape == (3, 16, 16) and image.dtype == torch.uint8 for image in images)
    assert torch.equal(run(3), images[3])
    assert len({image.numpy().tobytes() for image in images}) == 6


def test_deit_augmentation_may_only_crop(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (10, 200, 30)).save(tmp_path / "a.png")
    keys = ("FLIP", 0.0, "RAND_AUGMENT", "", "COLOR_JITTER", 0.0, "ERASING", 0.0)
    options = [f"INPUT.CAPTION.{key}" if isinstance(key, str) and key else key for key in keys]
    mapper = build_mapper(config(*DEIT, *options), is_train=True)
    image = mapper({"file_name": str(tmp_path / "a.png"), "caption": "green"})["image"]
    assert image.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("AUGMENTATION", "cutmix", "use crop or deit"),
        ("SCALE", (0.5, 2.0), "fractions of the area"),
        ("FLIP", 1.5, "a probability"),
        ("ERASING", -0.1, "a probability"),
        ("COLOR_JITTER", 2.0, "from 0 to 1"),
        ("RAND_AUGMENT", "augmix-x", "as timm does"),
        ("WORDS", "verbs", "use one of"),
    ],
)
def test_wrong_keys_are_one_message(key: str, value: object, message: str) -> None:
    cfg = config(*DEIT, f"INPUT.CAPTION.{key}", value)
    with pytest.raises(UserError, match=rf"INPUT\.CAPTION\.{key} is .*{message}"):
        build_mapper(cfg, is_train=True)
