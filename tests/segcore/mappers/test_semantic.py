"""The semantic mapper: published order, exact labels, padding, and errors that name the file."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image
from torch.nn import functional as F

from segcore.config import default_config
from segcore.datasets import register_semantic_dataset
from segcore.errors import UserError
from segcore.mappers import SemanticMapper, build_mapper
from segcore.mappers.augmentations import resized_crop

NAME = "test_mappers"
HEIGHT, WIDTH, CLASSES, IGNORE = 45, 61, 9, 255


@pytest.fixture(scope="module", autouse=True)
def dataset():
    register_semantic_dataset(NAME, "none", "none", [f"class {i}" for i in range(CLASSES)])
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = default_config()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (37,)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [32, 32]
    cfg.INPUT.COLOR_AUG_SSD = True
    cfg.INPUT.SIZE_DIVISIBILITY = 32
    return cfg


@pytest.fixture
def item(tmp_path: Path) -> dict:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, (HEIGHT, WIDTH), dtype=np.uint16)
    labels[:3] = IGNORE
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return {"file_name": str(tmp_path / "a.png"), "sem_seg_file_name": str(tmp_path / "l.png")}


def seed(value: int) -> None:
    random.seed(value)
    np.random.seed(value)


@pytest.mark.parametrize("trial", range(4))
def test_training_item_equals_the_steps_one_by_one(cfg: CfgNode, item: dict, trial: int) -> None:
    seed(trial)
    output = build_mapper(cfg, is_train=True)(item)

    seed(trial)
    image = np.asarray(Image.open(item["file_name"]))
    labels = np.asarray(Image.open(item["sem_seg_file_name"])).astype(np.float64)
    for augmentation in (
        T.ResizeShortestEdge((37,), cfg.INPUT.MAX_SIZE_TRAIN, "choice"),
        T.RandomCrop_CategoryAreaConstraint("absolute", (32, 32), 1.0, IGNORE),
        ColorAugSSDTransform(img_format="RGB"),
        T.RandomFlip(),
    ):
        inputs = T.AugInput(image, sem_seg=labels)
        inputs.apply_augmentations([augmentation])
        image, labels = inputs.image, inputs.sem_seg
    np.testing.assert_array_equal(output["image"].numpy(), image.transpose(2, 0, 1))
    np.testing.assert_array_equal(output["sem_seg"].numpy(), labels)
    assert (output["image"].dtype, output["sem_seg"].dtype) == (torch.uint8, torch.int64)
    assert output["image"].shape == (3, 32, 32)
    assert (output["height"], output["width"]) == (HEIGHT, WIDTH)
    assert output["file_name"] == item["file_name"]
    assert "sem_seg_file_name" in item and "sem_seg_file_name" not in output


def test_published_order(cfg: CfgNode) -> None:
    kinds = [type(step).__name__ for step in resized_crop(cfg)]
    assert kinds == [
        "ResizeShortestEdge",
        "RandomCrop_CategoryAreaConstraint",
        "ColorAugSSDTransform",
        "RandomFlip",
    ]
    cfg.INPUT.CROP.ENABLED = cfg.INPUT.COLOR_AUG_SSD = False
    kinds = [type(step).__name__ for step in resized_crop(cfg)]
    assert kinds == ["ResizeShortestEdge", "RandomFlip"]


def test_labels_are_resized_by_torchs_nearest_rule(item: dict) -> None:
    mapper = SemanticMapper(is_train=True, augmentations=[T.Resize((30, 41))], image_format="RGB")
    labels = torch.from_numpy(np.asarray(Image.open(item["sem_seg_file_name"])).astype(np.float64))
    expected = F.interpolate(labels[None, None], size=(30, 41), mode="nearest")[0, 0]
    assert torch.equal(mapper(item)["sem_seg"].double(), expected)


@pytest.mark.parametrize(
    ("divisibility", "shape"), [(64, (64, 64)), (32, (64, 64)), (-1, (45, 61))]
)
def test_padding(item: dict, divisibility: int, shape: tuple[int, int]) -> None:
    mapper = SemanticMapper(
        is_train=True, augmentations=[], image_format="RGB", size_divisibility=divisibility
    )
    output = mapper(item)
    assert output["image"].shape == (3, *shape) and output["sem_seg"].shape == shape
    inside = output["image"][:, :HEIGHT, :WIDTH].numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(inside, np.asarray(Image.open(item["file_name"])))
    assert (output["image"][:, HEIGHT:] == 128).all() and (
        output["image"][..., WIDTH:] == 128
    ).all()
    assert (output["sem_seg"][HEIGHT:] == IGNORE).all()
    assert (output["sem_seg"][:, WIDTH:] == IGNORE).all()


def test_test_item(cfg: CfgNode, item: dict) -> None:
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 90, 100
    Path(item["sem_seg_file_name"]).unlink()
    cfg.DATASETS.TRAIN = ()
    output = build_mapper(cfg, is_train=False)(item | {"image_id": 7})
    assert output.keys() == {"file_name", "image_id", "image", "height", "width"}
    assert output["image"].shape == (3, 74, 100)
    assert (output["height"], output["width"], output["image_id"]) == (HEIGHT, WIDTH, 7)


def test_channel_order(cfg: CfgNode, item: dict) -> None:
    cfg.INPUT.MIN_SIZE_TEST = 0
    images = []
    for cfg.INPUT.FORMAT in ("RGB", "BGR"):
        images.append(build_mapper(cfg, is_train=False)(item)["image"])
    assert torch.equal(images[0], images[1].flip(0))


def test_unknown_mapper(cfg: CfgNode) -> None:
    cfg.INPUT.DATASET_MAPPER_NAME = "maskformer_semantic"
    with pytest.raises(UserError, match="use 'mask_former_semantic'"):
        build_mapper(cfg, is_train=True)


def test_faults_of_the_config(cfg: CfgNode) -> None:
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 7
    with pytest.raises(UserError, match=r"IGNORE_VALUE is 7, .* with 255"):
        build_mapper(cfg, is_train=True)
    cfg.DATASETS.TRAIN = ("test_mapper",)
    with pytest.raises(UserError, match="nearest registered one is 'test_mappers'"):
        build_mapper(cfg, is_train=True)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(UserError, match=r"DATASETS\.TRAIN is empty"):
        build_mapper(cfg, is_train=True)


def test_faults_of_files(cfg: CfgNode, item: dict) -> None:
    mapper = build_mapper(cfg, is_train=True)
    labels, image = Path(item["sem_seg_file_name"]), Path(item["file_name"])
    with pytest.raises(UserError, match=r"a\.png has no label map"):
        mapper({"file_name": str(image)})
    Image.fromarray(np.full((HEIGHT, WIDTH), CLASSES, dtype=np.uint8)).save(labels)
    with pytest.raises(UserError, match=r"l\.png holds the value 9"):
        mapper(item)
    Image.fromarray(np.zeros((WIDTH, HEIGHT), dtype=np.uint8)).save(labels)
    with pytest.raises(UserError, match=r"l\.png has \(height, width\) \(61, 45\)"):
        mapper(item)
    image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        mapper(item)
