"""Configs: they build, keys out of range are user errors, and training is as published."""

import math
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from groupvit_models import MIXED, build, small_config

from groupvit_mixreorg.config import zero_shot_from_config
from groupvit_mixreorg.inference import ZeroShot
from segcore.config import load_config
from segcore.engine import Trainer
from segcore.engine.schedule import build_lr_scheduler
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

FOLDER = "groupvit_mixreorg"


def on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(load_config(f"{FOLDER}/{name}.yaml", ["MODEL.DEVICE", "meta"]))


def count(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_sizes() -> None:
    groupvit, mixreorg = on_meta("gcc_yfcc"), on_meta("mixreorg")
    assert round(count(groupvit.model.image_encoder), 2) == 28.84
    assert round(count(groupvit), 2) == 55.73
    assert 1.7 < count(mixreorg) - count(groupvit) < 1.9
    names = {name for name, _ in mixreorg.named_parameters() if not name.startswith("mixreorg.")}
    assert names == {name for name, _ in groupvit.named_parameters()}
    assert round(count(on_meta("gcc_redcap")), 2) == 55.73


ZERO_SHOT = {"voc": 0.95, "pascal_context": 0.35, "coco_object": 0.95, "ade20k": 0.0}


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_protocols(name: str) -> None:
    cfg = load_config(f"{FOLDER}/zero_shot_{name}.yaml")
    assert zero_shot_from_config(cfg) == ZeroShot(ZERO_SHOT[name], 5, 448, 224)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (448, 2048)
    vocabulary = Vocabulary.load(cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON)
    assert (vocabulary.names[0] == "background") is (ZERO_SHOT[name] > 0)
    metadata = MetadataCatalog.get(*cfg.DATASETS.TEST)
    assert metadata.vocabulary == vocabulary.name
    assert metadata.get("background_threshold", 0.0) == ZERO_SHOT[name]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD", 1.5, "a score from 0 to 1"),
        ("MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD", -0.1, "a score from 0 to 1"),
        ("MODEL.ZERO_SHOT.KEEP_CLASSES", -1, "a number of classes"),
        ("MODEL.ZERO_SHOT.WINDOW", 0, "a number of pixels"),
        ("MODEL.ZERO_SHOT.STRIDE", 200, "at most the WINDOW, 32"),
        ("MODEL.GROUPVIT.PATCH_SIZE", 7, "a divisor of IMAGE_SIZE, 32"),
        ("MODEL.GROUPVIT.NUM_HEADS", 5, "a divisor of WIDTH, 32"),
        ("MODEL.GROUPVIT.DEPTHS", [3], "two or more numbers"),
        ("MODEL.GROUPVIT.GROUP_TOKENS", [6, 3, 2], "the last one 0"),
        ("MODEL.GROUPVIT.GROUP_TOKENS", [6, 0], "3 numbers"),
        ("MODEL.GROUPVIT.OUTPUT_GROUPS", [6], "2 numbers from 1 to 255"),
        ("MODEL.GROUPVIT.DROP_PATH_RATE", 1.0, "a probability below 1"),
        ("MODEL.GROUPVIT.MULTI_LABEL", -1, "a number of prompts"),
        ("MODEL.GROUPVIT.TEXT.NUM_HEADS", 3, "a divisor of WIDTH, 16"),
        ("MODEL.GROUPVIT.TEXT.CONTEXT_LENGTH", 2, "3 or more tokens"),
        ("MODEL.MIXREORG.GROUP_SIZE", 1, "2 or more images"),
        ("MODEL.MIXREORG.LAYER", 3, "below the 3 blocks"),
        ("MODEL.MIXREORG.LAYER", -1, "below the 3 blocks"),
        ("MODEL.MIXREORG.CELL", 0, "1 or more"),
        ("MODEL.MIXREORG.PROGRESSIVE", "some", "one of attention, block, none"),
        ("MODEL.MIXREORG.NEGATIVES", "all", "one of group, batch"),
        ("MODEL.MIXREORG.MIX_WEIGHT", -1, "0 or more"),
    ],
)
def test_keys_out_of_range(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"{key} is .*it has to be .*{message}"):
        build_model(small_config(MIXED, **{key: value}))


def test_mixreorg_without_losses() -> None:
    weights = {"MODEL.MIXREORG.MIX_WEIGHT": 0, "MODEL.MIXREORG.RESTORE_WEIGHT": 0}
    with pytest.raises(UserError, match=r"MIXREORG\.FLAG is True.*that is GroupViT"):
        build_model(small_config(MIXED, **weights))


# ---- optimizer and schedule ------------------------------------------------------------------


def test_groups_of_the_optimizer() -> None:
    """Biases and vectors have no weight decay; the two scales have it."""
    model = build(MIXED)
    cfg = load_config(f"{FOLDER}/mixreorg.yaml")
    groups = Trainer.build_optimizer(cfg, model).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {names[group["params"][0]]: group["weight_decay"] for group in groups}
    assert decays.keys() == set(names.values())
    for name, parameter in model.named_parameters():
        free = parameter.ndim == 1 or name.endswith("bias")
        assert decays[name] == (0.0 if free else 0.05), name
    assert decays["model.logit_scale"] == decays["model.multi_label_logit_scale"] == 0.05
    assert {group["lr"] for group in groups} == {1.6e-3}
    assert {group["betas"] for group in groups} == {(0.9, 0.999)}


@pytest.mark.parametrize(
    ("name", "warmup", "length", "epochs"),
    [("gcc_yfcc", 2, 6997, 30), ("gcc_redcap", 2, 6326, 30), ("mixreorg", 5, 6997, 30)],
)
def test_schedule(name: str, warmup: int, length: int, epochs: int) -> None:
    cfg = load_config(f"{FOLDER}/{name}.yaml")
    total = length * epochs
    assert total == cfg.SOLVER.MAX_ITER
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    schedule = build_lr_scheduler(cfg, optimizer)

    def rate(iteration: int) -> float:
        schedule.last_epoch = iteration
        return schedule.get_lr()[0]

    steps = warmup * length
    assert rate(0) == pytest.approx(4e-6)
    assert rate(steps // 2) == pytest.approx((4e-6 + 1.6e-3) / 2, rel=1e-3)
    for iteration in (steps, total // 2, total - 1, total):
        cosine = (1 + math.cos(math.pi * iteration / total)) / 2
        assert rate(iteration) == pytest.approx(4e-5 + (1.6e-3 - 4e-5) * cosine)
    assert rate(total) == pytest.approx(4e-5)


def test_fewer_processes_scale_batch_and_rates() -> None:
    cfg = Trainer.auto_scale_workers(load_config(f"{FOLDER}/gcc_yfcc.yaml"), 4)
    assert cfg.SOLVER.IMS_PER_BATCH == 1024 and pytest.approx(4e-4) == cfg.SOLVER.BASE_LR
    assert cfg.SOLVER.MAX_ITER == 4 * 209910
