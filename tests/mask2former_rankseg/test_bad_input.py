"""Edge cases of images and thresholds: the model predicts, or reports the error."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from PIL import Image

from mask2former_rankseg.inference import warn_of_no_segment
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.mappers import build_mapper

sys.path.insert(0, str(Path(__file__).parents[1]))
from mask2former_models import SWIN_T

SIDE = 64
TRAINING = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 32, "MODEL.RANKSEG.LOSS_WEIGHT": 10.0}
RANKED = {"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 5}
PANOPTIC = {
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True,
    "MODEL.MASK_FORMER.TEST.INSTANCE_ON": True,
    "DATASETS.TEST": ("twelve_classes",),
}
ALL_TASKS = PANOPTIC | {
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
}


def image(number: int = 0, **more: object) -> dict:
    """An image of noise with ``number`` objects, each a pixel larger than the previous one."""
    draw = torch.Generator().manual_seed(number)
    masks = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE) <= torch.arange(number).view(-1, 1, 1)
    objects = Instances((SIDE, SIDE), gt_classes=torch.arange(number) % 12, gt_masks=masks)
    pixels = torch.randint(0, 256, (3, SIDE, SIDE), generator=draw)
    return {"image": pixels, "instances": objects, **more}


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (500, 1)])
def test_images_without_objects_and_with_five_hundred(tiny, options, counts) -> None:
    """More objects than the nine queries; and a batch with the target "no object" alone."""
    model = tiny(TRAINING | options).train()
    losses = model([image(count) for count in counts])
    total = sum(losses.values())
    total.backward()
    assert total.isfinite() and losses["loss_ce"] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if not any(counts):
        assert losses["loss_mask"] == losses["loss_dice"] == 0


def test_an_image_whose_pixels_are_all_ignored(tiny, tmp_path: Path) -> None:
    """From the label map on."""
    for folder, pixels in (("images", 100), ("labels", 255)):
        (tmp_path / folder).mkdir()
        pixels = np.full((SIDE, SIDE, 3) if folder == "images" else (SIDE, SIDE), pixels, np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")
    folders = (tmp_path / "images", tmp_path / "labels")
    names = [f"class {number}" for number in range(12)]
    register_semantic_dataset("all_ignored", *folders, names, image_suffix=".png", ignore_label=255)
    sizes = ["INPUT.CROP.SIZE", (SIDE, SIDE), "INPUT.MIN_SIZE_TRAIN", (SIDE,)]
    sizes += ["INPUT.SIZE_DIVISIBILITY", SIDE, "DATASETS.TRAIN", ("all_ignored",)]
    (record,) = DatasetCatalog.get("all_ignored")
    item = build_mapper(load_config(SWIN_T, sizes), is_train=True)(record)
    assert len(item["instances"]) == 0 and (item["sem_seg"] == 255).all()
    losses = tiny(TRAINING | RANKED).train()([item, item])
    sum(losses.values()).backward()
    assert losses["loss_mask"] == 0 and losses["loss_ml"].isfinite()


@torch.no_grad()
@pytest.mark.parametrize("key", ["USE_GT", "ORACLE"])
def test_the_oracles_of_an_image_without_objects(tiny, key: str) -> None:
    prediction = tiny(ALL_TASKS | RANKED | {f"MODEL.RANKSEG.{key}": True})([image(0)])[0]
    assert prediction["sem_seg"].isfinite().all() and prediction["category_ids"].shape == (5,)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_a_class_that_no_query_predicts(tiny, options) -> None:
    """It gets no pixel, no segment and no instance; other classes are not affected."""
    model = tiny(ALL_TASKS | options)
    classifier = model.sem_seg_head.predictor.classifier
    classifier.bias[0] = -1e4
    prediction = model([image()])[0]
    assert prediction["sem_seg"].isfinite().all() and (prediction["sem_seg"].argmax(0) != 0).all()
    segments, info = prediction["panoptic_seg"]
    assert info and 0 not in {entry["category_id"] for entry in info}
    assert {entry["id"] for entry in info} >= set(segments.unique().tolist()) - {0}
    assert prediction["instances"].scores.isfinite().all()


@torch.no_grad()
def test_only_no_object_everywhere(tiny) -> None:
    """An untrained model: no segment, with one warning for any number of images."""
    model = tiny(PANOPTIC)
    model.sem_seg_head.predictor.classifier.bias[-1] = 100.0
    warn_of_no_segment.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictions = [model([image()])[0] for _ in range(3)]
    assert all((prediction["panoptic_seg"][0] == 0).all() for prediction in predictions)
    assert all(prediction["sem_seg"].isfinite().all() for prediction in predictions)
    (warning,) = [each for each in caught if "filters all" in str(each.message)]
    assert "OBJECT_MASK_THRESHOLD" in str(warning.message)


@torch.no_grad()
def test_an_image_of_one_pixel(tiny) -> None:
    item = {"image": torch.zeros(3, 1, 1), "height": 3, "width": 2}
    wider = {"MODEL.SEM_SEG_HEAD.CONVS_DIM": 64, "MODEL.MASK_FORMER.HIDDEN_DIM": 64}
    prediction = tiny(ALL_TASKS | RANKED | wider)([item])[0]
    assert prediction["sem_seg"].shape == (12, 3, 2) and prediction["sem_seg"].isfinite().all()
    assert prediction["panoptic_seg"][0].shape == (3, 2)
