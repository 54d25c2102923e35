"""The mapper of per-pixel models: random ratio, crop, colours, padding with the mean."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from segcore.config import default_config
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.mappers import build_mapper
from segcore.mappers.augmentations import RandomRatio, resized_crop

NAME = "test_per_pixel"
IGNORE, CLASSES = 65535, 1284
MEAN = [123.675, 116.28, 103.53]


@pytest.fixture(autouse=True)
def dataset() -> Iterator[None]:
    names = [f"class {i}" for i in range(CLASSES)]
    register_semantic_dataset(NAME, "none", "none", names, ignore_label=IGNORE)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = default_config()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = IGNORE
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES
    cfg.MODEL.PIXEL_MEAN = MEAN
    cfg.INPUT.DATASET_MAPPER_NAME = "per_pixel_semantic"
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64,), 256
    cfg.INPUT.SCALE_RATIO = [0.5, 2.0]
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", [64, 64]
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    cfg.INPUT.SIZE_DIVISIBILITY = 64
    return cfg


@pytest.fixture
def item(tmp_path: Path) -> dict:
    """An image of 50 x 80 pixels, red = stored label // 10, half of it class 1283, some void."""
    stored = np.zeros((50, 80), dtype=np.uint16)
    stored[:, :40], stored[:, 40:70] = 1284, 301
    image = np.zeros((50, 80, 3), dtype=np.uint8)
    image[..., 0] = stored // 10
    Image.fromarray(image).save(tmp_path / "i.png")
    Image.fromarray(stored).save(tmp_path / "l.png")
    paths = {"file_name": tmp_path / "i.png", "sem_seg_file_name": tmp_path / "l.png"}
    return {key: str(path) for key, path in paths.items()} | {"first_label": 1}


def seed(value: int) -> None:
    random.seed(value), np.random.seed(value)


class TestItem:
    def test_labels_of_16_bits_begin_with_0_and_void_is_ignored(
        self, cfg: CfgNode, item: dict
    ) -> None:
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.SCALE_RATIO = False, [1.0, 1.0]
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.SIZE_DIVISIBILITY = (50,), -1
        output = build_mapper(cfg, True)(item)
        assert set(output) == {"file_name", "first_label", "height", "width", "image", "sem_seg"}
        assert output["sem_seg"].unique().tolist() == [300, 1283, IGNORE]
        assert (output["sem_seg"] == IGNORE).sum() == 50 * 10

    @pytest.mark.parametrize("trial", range(6))
    def test_padding_normalises_to_zero(self, cfg: CfgNode, item: dict, trial: int) -> None:
        cfg.INPUT.SCALE_RATIO = [0.5, 0.9]
        seed(trial)
        output = build_mapper(cfg, True)(item)
        image, labels = output["image"], output["sem_seg"]
        assert image.shape == (3, 64, 64) and labels.shape == (64, 64)
        assert image.dtype == torch.float32 and labels.dtype == torch.int64
        mean = torch.tensor(MEAN)[:, None, None]
        height = int((image != mean).any(0).any(1).sum())
        width = int((image != mean).any(0).any(0).sum())
        assert 32 <= height < 64 and 32 <= width <= 64
        assert torch.equal(image[:, height:], mean.expand(3, 64 - height, 64))
        assert torch.equal(image[:, :, width:], mean.expand(3, 64, 64 - width))
        assert (labels[height:] == IGNORE).all() and (labels[:, width:] == IGNORE).all()

    def test_image_and_labels_move_together(self, cfg: CfgNode, item: dict) -> None:
        for trial in range(8):
            seed(trial)
            output = build_mapper(cfg, True)(item)
            inside = output["sem_seg"] != IGNORE
            expected = torch.where(output["sem_seg"] == 1283, 128, 30)
            difference = (output["image"][0] - expected).abs()[inside]
            assert (difference > 1).float().mean() < 0.1  # interpolated at the borders alone

    def test_no_class_fills_more_than_three_quarters(self, cfg: CfgNode, item: dict) -> None:
        cfg.INPUT.SCALE_RATIO, cfg.INPUT.CROP.SIZE = [1.0, 1.0], [40, 40]
        cfg.INPUT.SIZE_DIVISIBILITY = 40
        mapper, shares = build_mapper(cfg, True), []
        for trial in range(40):
            seed(trial)
            labels = mapper(item)["sem_seg"]
            counts = labels[labels != IGNORE].unique(return_counts=True)[1]
            shares.append(float(counts.max() / counts.sum()))
        # Ten tries fail seldom: more than a third of all windows is mixed enough.
        assert sum(share < 0.75 for share in shares) >= 36

    def test_test_item_is_only_resized(self, cfg: CfgNode, item: dict) -> None:
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 100, 2048
        output = build_mapper(cfg, False)(item)
        assert output["image"].shape == (3, 100, 160) and output["image"].dtype == torch.uint8
        assert "sem_seg" not in output


class TestRandomRatio:
    @pytest.mark.parametrize(
        ("size", "ratio", "expected"),
        [
            ((480, 640), 1.0, (512, 683)),
            ((480, 640), 0.5, (256, 341)),
            ((333, 500), 1.37, (701, 1053)),  # limits 701 and 2805
            ((100, 900), 1.0, (228, 2048)),  # the long side's limit
            ((100, 900), 2.0, (455, 4096)),
            ((900, 100), 0.5, (1024, 114)),
        ],
    )
    def test_sizes(self, size: tuple[int, int], ratio: float, expected: tuple[int, int]) -> None:
        transform = RandomRatio((512,), 2048, (ratio, ratio)).get_transform(np.zeros((*size, 3)))
        assert (transform.new_h, transform.new_w) == expected

    def test_own_size(self) -> None:
        transform = RandomRatio((0,), 1, (1.5, 1.5)).get_transform(np.zeros((101, 60, 3)))
        assert (transform.new_h, transform.new_w) == (152, 90)

    def test_ratios_cover_the_range(self) -> None:
        scale, sides = RandomRatio((100,), 1000, (0.5, 2.0)), []
        seed(0)
        for _ in range(400):
            sides.append(scale.get_transform(np.zeros((100, 100, 3))).new_h)
        assert min(sides) < 55 and max(sides) > 195 and abs(np.mean(sides) - 125) < 5


class TestColours:
    def test_jitter_keeps_to_its_range(self, cfg: CfgNode) -> None:
        cfg.INPUT.COLOR_JITTER = 0.5
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.RANDOM_FLIP = False, "none"
        cfg.INPUT.SCALE_RATIO, cfg.INPUT.MIN_SIZE_TRAIN = [1.0, 1.0], (8,)
        image = np.full((8, 8, 3), 100, dtype=np.uint8)
        means = []
        for trial in range(50):
            seed(trial)
            inputs = T.AugInput(image)
            T.AugmentationList(resized_crop(cfg))(inputs)
            means.append(inputs.image.mean())
        # Contrast and saturation leave a uniform grey; brightness times 0.5 ... 1.5 remains.
        assert 49 <= min(means) < 65 and 135 < max(means) <= 151


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SCALE_RATIO", [2.0, 0.5], "SCALE_RATIO is .* smallest and the largest"),
        ("SCALE_RATIO", [0.0, 1.0], "SCALE_RATIO"),
        ("SCALE_RATIO", [0.5], "SCALE_RATIO"),
        ("COLOR_JITTER", 1.5, "COLOR_JITTER is 1.5; it has to be from 0 to 1"),
    ],
)
def test_user_errors(cfg: CfgNode, key: str, value: object, message: str) -> None:
    cfg.INPUT[key] = value
    with pytest.raises(UserError, match=message):
        build_mapper(cfg, True)
