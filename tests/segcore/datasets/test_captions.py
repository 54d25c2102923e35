"""Tables of captions: valid and invalid ones, their names, and the inputs of a model."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from segcore.config import default_config
from segcore.datasets import register_caption_dataset, register_custom_datasets
from segcore.datasets.captions import read_captions
from segcore.datasets.custom import register_custom_file
from segcore.errors import UserError
from segcore.mappers import build_mapper
from segcore.scenes import SCENES_60, Settings, caption, plan_scene, write_scenes

pytestmark = pytest.mark.usefixtures("forget_datasets")


@pytest.fixture
def read(tmp_path: Path):
    """Read a table with this content, of images in the folder of the test."""

    def read(content: bytes) -> list[dict]:
        (tmp_path / "table.tsv").write_bytes(content)
        return read_captions("pairs", tmp_path / "table.tsv", tmp_path)

    return read


def cells(records: list[dict]) -> list[tuple[str, str]]:
    return [(Path(record["file_name"]).name, record["caption"]) for record in records]


# ---- tables ----------------------------------------------------------------------------------


def test_the_tables_of_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path, SCENES_60, Settings(num_train=3, num_test=1, size=32))
    folder = tmp_path / "scenes-60" / "train"
    records = read_captions("scenes", folder / "captions.tsv", folder / "images")
    assert [record["caption"] for record in records] == [
        caption(plan_scene(SCENES_60, 0, "train", index)) for index in range(3)
    ]
    assert all(Path(record["file_name"]).is_file() for record in records)


@pytest.mark.parametrize(
    "content",
    [
        b"file\tcaption\na.png\ta cat\nb/c.png\ttwo dogs\n",
        b"filepath\ttitle\na.png\ta cat\nb/c.png\ttwo dogs",
        b"\xef\xbb\xbffile\tcaption\r\na.png\ta cat\r\n\r\nb/c.png\ttwo dogs\r\n",
        b'id\tcaption\tfile\n7\t"a cat"\ta.png\n\n8\ttwo dogs\tb/c.png\n',
    ],
    ids=["ours", "open_clip", "of a spreadsheet", "more columns"],
)
def test_forms_of_a_table(read, tmp_path: Path, content: bytes) -> None:
    assert read(content) == [
        {"file_name": str(tmp_path / "a.png"), "caption": "a cat"},
        {"file_name": str(tmp_path / "b/c.png"), "caption": "two dogs"},
    ]


def test_what_python_writes_is_read(read, tmp_path: Path) -> None:
    rows = [
        ("a.png", 'the word "cat"'),
        ("b.png", '"cat", it says'),
        ("c.png", "left\tand right"),
        ("d.png", "one line\nand another"),
        ("e.png", "größer, 犬"),
        ("/elsewhere/f.png", " as it stands "),
    ]
    with (tmp_path / "made.tsv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("file", "caption"), *rows])
    records = read((tmp_path / "made.tsv").read_bytes())
    assert [record["caption"] for record in records] == [text for _, text in rows]
    assert records[-1]["file_name"] == "/elsewhere/f.png"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "names 0 columns, but not 'file' and 'caption' or 'filepath' and 'title'"),
        (b"file,caption\na.png,a cat\n", "names 1 columns"),
        (b"file\ttitle\na.png\ta cat\n", "names 2 columns"),
        (b"file\tcaption\n", "no caption below"),
        (b"file\tcaption\na.png\ta cat\nb.png\n", "line 3 has 1 columns instead of 2"),
        (b"file\tcaption\na.png\ta\tcat\n", "line 2 has 3 columns instead of 2"),
        (b"file\tcaption\na.png\ta cat\nb.png\t  \n", "line 3 has no caption"),
        (b"file\tcaption\n\ta cat\n", "line 2 has no image"),
        (b'file\tcaption\na.png\t"a cat\nb.png\tdogs\n', "line 2: unexpected end of data"),
        (b'file\tcaption\na.png\t"a" cat\n', "line 2: "),
        (b'file\tcaption\na.png\t"a\nb"\nb.png\t"x" y\n', "line 4: "),
        (b"file\tcaption\na.png\ta cat\rb.png\tdogs\n", "line 2: "),
        (b"file\tcaption\na.png\tcaf\xe9\n", "line 2 cannot be decoded: store the table as UTF-8"),
        (b"file\tcaption\na.png\ta\0cat\n", "line 2 holds a NUL"),
        (b"file\tcaption\na.png\t" + b"x" * (1 << 17) + b"\n", "line 2 has over 131072 bytes"),
        (b'file\tcaption\na.png\t"' + b"x" * 999 + b"\n" * (1 << 18), "line 2: field larger"),
    ],
)
def test_wrong_tables(read, tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(content)
    message = str(caught.value)
    assert says in message and str(tmp_path / "table.tsv") in message and "\n" not in message


def test_a_line_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    """A file of 64 GB, of which only the first bytes exist."""
    table = tmp_path / "table.tsv"
    with table.open("wb") as file:
        file.write(b"file\tcaption\n")
        file.truncate(1 << 36)
    with pytest.raises(UserError, match="line 2 has over"):
        read_captions("pairs", table, tmp_path)


def test_missing_table_or_folder(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("file\tcaption\na\tb\n")
    for table, folder, missing in (
        (tmp_path / "other.tsv", tmp_path, "other.tsv"),
        (tmp_path, tmp_path, str(tmp_path)),
        (tmp_path / "table.tsv", tmp_path / "images", "images"),
    ):
        with pytest.raises(UserError, match=f"'pairs': there is no .*{missing}.*DETECTRON2"):
            read_captions("pairs", table, folder)


# ---- names -----------------------------------------------------------------------------------


def test_built_in_tables() -> None:
    for catalogue in ("60", "1k"):
        for split in ("train", "test"):
            metadata = MetadataCatalog.get(f"scenes_{catalogue}_{split}_captions")
            assert metadata.evaluator_type == "retrieval"
            assert metadata.caption_table.endswith(f"scenes-{catalogue}/{split}/captions.tsv")
            assert metadata.image_root.endswith(f"scenes-{catalogue}/{split}/images")


def test_registration_reads_nothing_and_keeps_names_apart(tmp_path: Path) -> None:
    register_caption_dataset("test_pairs", tmp_path / "a.tsv", tmp_path, source="the web")
    register_caption_dataset("test_pairs", tmp_path / "a.tsv", tmp_path, source="the web")
    assert MetadataCatalog.get("test_pairs").source == "the web"
    for other in ((tmp_path / "b.tsv", tmp_path), (tmp_path / "a.tsv", tmp_path / "images")):
        with pytest.raises(UserError, match="another data set named 'test_pairs'"):
            register_caption_dataset("test_pairs", *other)
    with pytest.raises(UserError, match=r"there is no .*a\.tsv"):
        DatasetCatalog.get("test_pairs")


def test_a_custom_table(tmp_path: Path) -> None:
    (tmp_path / "test_holiday.tsv").write_text("filepath\ttitle\nbeach/1.jpg\tthe sea\n")
    cfg = default_config()
    cfg.DATASETS.OWN = (str(tmp_path / "test_holiday.tsv"),)
    cfg.DATASETS.TRAIN = ("test_holiday",)
    register_custom_datasets(cfg)
    register_custom_datasets(cfg)
    assert DatasetCatalog.get("test_holiday") == [
        {"file_name": str(tmp_path / "beach/1.jpg"), "caption": "the sea"}
    ]


def test_errors_of_a_custom_table(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"DATASETS\.CUSTOM names .*none\.tsv, but there is no such"
    ):
        register_custom_file(tmp_path / "none.tsv")
    (tmp_path / "scenes_60_train.tsv").write_text("file\tcaption\na\tb\n")
    with pytest.raises(UserError, match=r"tsv: .*another data set named 'scenes_60_train'"):
        register_custom_file(tmp_path / "scenes_60_train.tsv")


# ---- the mapper ------------------------------------------------------------------------------


@pytest.fixture
def cfg() -> CfgNode:
    cfg = default_config()
    cfg.INPUT.DATASET_MAPPER_NAME = "image_caption"
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (32,), 24
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "relative_range", [0.7, 0.7]
    return cfg


@pytest.fixture
def item(tmp_path: Path) -> dict:
    pixels = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return {"file_name": str(tmp_path / "a.png"), "caption": "noise on the left"}


def seed(value: int) -> None:
    random.seed(value)
    np.random.seed(value)


@pytest.mark.parametrize("trial", range(3))
def test_training_item_equals_the_steps_one_by_one(cfg: CfgNode, item: dict, trial: int) -> None:
    seed(trial)
    output = build_mapper(cfg, is_train=True)(item)
    seed(trial)
    image = np.asarray(Image.open(item["file_name"]))
    crop = T.RandomCrop("relative_range", (0.7, 0.7)).get_transform(image)
    image = crop.apply_image(image)
    assert image.shape != (45, 61, 3)
    image = T.Resize((32, 32)).get_transform(image).apply_image(image)
    np.testing.assert_array_equal(output.pop("image").numpy(), image.transpose(2, 0, 1))
    assert output == item | {"height": 45, "width": 61, "words": []}


def test_left_stays_left_and_red_stays_red(cfg: CfgNode, tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, :20, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "red.png")
    mapper = build_mapper(cfg, is_train=True)
    for trial in range(8):
        seed(trial)
        image = mapper({"file_name": str(tmp_path / "red.png"), "caption": "red on the left"})
        assert image["image"][:, :, :4].unique().tolist() == [0, 200]
        assert (image["image"][0, :, :4] == 200).all() and (image["image"][:, :, -4:] == 0).all()


def test_testing_item(cfg: CfgNode, item: dict) -> None:
    output = build_mapper(cfg, is_train=False)(item)
    expected = Image.open(item["file_name"]).resize((24, 24), Image.BILINEAR)
    np.testing.assert_array_equal(output["image"].numpy(), np.asarray(expected).transpose(2, 0, 1))
    assert output["image"].dtype == torch.uint8
    assert (output["height"], output["width"], output["caption"]) == (45, 61, item["caption"])
    cfg.INPUT.FORMAT = "BGR"
    assert torch.equal(build_mapper(cfg, False)(item)["image"], output["image"].flip(0))


def test_faults_of_items(cfg: CfgNode, item: dict) -> None:
    mapper = build_mapper(cfg, is_train=True)
    with pytest.raises(UserError, match=r"a\.png has no caption: .*scenes_60_train_captions"):
        mapper({"file_name": item["file_name"]})
    Path(item["file_name"]).write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        mapper(item)
