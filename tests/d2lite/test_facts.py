"""A small committed table of facts about Detectron2, for clones without the reference outputs."""

import importlib
import inspect
import itertools
import json
from pathlib import Path

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import DefaultTrainer
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

FACTS = json.loads(Path(__file__).with_name("facts.json").read_text())


@pytest.mark.parametrize("name", FACTS["signatures"])
def test_signature(name):
    module, _, attribute = name.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), attribute))
    parameters = [
        p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()
    ]
    assert str(inspect.Signature(parameters)) == FACTS["signatures"][name]


def test_defaults():
    for path, expected in FACTS["defaults"].items():
        value = get_cfg()
        for key in path.split("."):
            value = value[key]
        expected = tuple(expected["tuple"]) if isinstance(expected, dict) else expected
        assert value == expected and type(value) is type(expected), path


def test_shortest_edge():
    augmentation = T.ResizeShortestEdge([int(x * 0.1 * 512) for x in range(5, 21)], 2048, "choice")
    np.random.seed(0)
    sizes = []
    for height, width in FACTS["shortest_edge_input"]:
        transform = augmentation.get_transform(np.zeros((height, width), np.uint8))
        sizes.append([transform.new_h, transform.new_w])
    assert sizes == FACTS["shortest_edge_choice"]


def test_flip():
    np.random.seed(2)
    image, augmentation = np.zeros((2, 2, 3), np.uint8), T.RandomFlip()
    names = [type(augmentation.get_transform(image)).__name__ for _ in FACTS["flip_seed_2"]]
    assert names == FACTS["flip_seed_2"]


@pytest.mark.parametrize("case", FACTS["crop_seed_3"])
def test_crop(case):
    kind, *size = case.rsplit("_", 2)
    convert = float if "relative" in kind else int
    augmentation = T.RandomCrop(kind, tuple(map(convert, size)))
    np.random.seed(3)
    for expected in FACTS["crop_seed_3"][case]:
        crop = augmentation.get_transform(np.zeros((20, 30, 3), np.uint8))
        assert [crop.x0, crop.y0, crop.w, crop.h] == expected


def test_sampler(monkeypatch):
    for case in FACTS["training_samplers"]:
        monkeypatch.setattr(comm, "get_rank", lambda case=case: case["rank"])
        monkeypatch.setattr(comm, "get_world_size", lambda case=case: case["world"])
        sampler = TrainingSampler(case["size"], case["shuffle"], case["seed"])
        assert list(itertools.islice(sampler, len(case["first"]))) == case["first"]


def test_loader():
    loader = build_detection_train_loader(
        [{"i": i} for i in range(7)],
        mapper=None,
        sampler=TrainingSampler(7, seed=3),
        total_batch_size=2,
        aspect_ratio_grouping=False,
        num_workers=2,
    )
    expected = FACTS["loader_with_2_workers"]
    batches = itertools.islice(loader, len(expected))
    assert [[record["i"] for record in batch] for batch in batches] == expected


@pytest.mark.parametrize("name", FACTS["schedules"])
def test_schedule(name):
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 0.0002, 80000, (60000,)
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR = 0, 1.0
    cfg.SOLVER.LR_SCHEDULER_NAME = name
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = zip(FACTS["schedule_iterations"], FACTS["schedules"][name], strict=True)
    for scheduler.last_epoch, expected in rates:
        assert scheduler.get_lr()[0] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_scaling():
    cfg = get_cfg()
    solver = cfg.SOLVER
    given = FACTS["scaled"]["given_for_8"]
    solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS = given[:4]
    solver.REFERENCE_WORLD_SIZE = 8
    for workers, expected in FACTS["scaled"]["result_for"].items():
        scaled = DefaultTrainer.auto_scale_workers(cfg, int(workers)).SOLVER
        values = [scaled.IMS_PER_BATCH, scaled.BASE_LR, scaled.MAX_ITER, scaled.WARMUP_ITERS]
        assert values == expected[:4]
