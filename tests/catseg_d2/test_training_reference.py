"""Loss, gradients and optimizer, compared with the reference implementation."""

import json
import sys
from pathlib import Path

import pytest
import torch
from detectron2.solver import build_lr_scheduler
from torch import Tensor

from catseg_d2.checkpoint import from_published, to_published
from segcore.config import load_config
from segcore.engine import build_optimizer

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic


def training_images(classes: int, size: int = 384) -> list[dict[str, Tensor]]:
    """The reference's two images, with blocks of all classes and of ignored pixels."""
    y, x = torch.arange(size)[:, None], torch.arange(size)[None, :]
    items = []
    for b in range(2):
        labels = (7 * (y // 16) + 13 * (x // 16) + 31 * b) % classes
        labels[(y // 32 + x // 48 + b) % 7 == 0] = 255
        image = deterministic.image(f"catseg/train{b}", size, size)
        items.append({"image": image, "sem_seg": labels})
    return items


@pytest.mark.slow
def test_loss_and_gradients(golden, build_vitb) -> None:
    """171 classes, two images; activation checkpointing saves memory."""
    expected = json.loads((golden / "catseg" / "vitb_train_coco.json").read_text())
    model = build_vitb("MODEL.SEM_SEG_HEAD.ACTIVATION_CHECKPOINTING", "True").train()
    loss = model(training_images(expected["T"]))["loss_sem_seg"]
    assert abs(loss.item() - expected["loss"]) <= 2e-6
    loss.backward()

    parameters = dict(model.named_parameters())
    zero = set(expected["trainable_with_zero_grad"])
    for name, norm in expected["grad_norms"].items():
        gradient = parameters[from_published(name)].grad.double()
        if name in zero:
            assert gradient.norm() < 1e-8
            continue
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3), name
        probe = deterministic.noise("probe/" + name, tuple(gradient.shape)).double()
        found = (gradient * probe).sum().item()
        assert abs(found - expected["grad_probe_dots"][name]) <= 1e-3 * norm, name
    trainable = [p for p in parameters.values() if p.requires_grad]
    assert all(p.grad is not None for p in trainable)
    total = torch.stack([p.grad.double().norm() for p in trainable]).norm().item()
    assert total == pytest.approx(expected["total_grad_norm"], rel=1e-3)


def test_optimizer_and_schedule(golden, published_vitb) -> None:
    expected = json.loads((golden / "catseg" / "optimizer_vitb.json").read_text())
    cfg = load_config("catseg_d2/vitb_384.yaml", ["MODEL.CLIP_WEIGHTS", ""])
    optimizer = build_optimizer(cfg, published_vitb)
    names = {p: to_published(name) for name, p in published_vitb.named_parameters()}
    groups = {names[p]: group for group in optimizer.param_groups for p in group["params"]}
    assert set(groups) == set(expected["order"])
    for name, group in _expected_groups(expected).items():
        assert groups[name]["lr"] == pytest.approx(group["lr"]), name
        assert groups[name]["weight_decay"] == pytest.approx(group["weight_decay"]), name
    for key in ("betas", "eps", "amsgrad"):
        found = optimizer.defaults[key]
        assert (list(found) if key == "betas" else found) == expected["defaults"][key]

    scheduler = build_lr_scheduler(cfg, optimizer)
    optimizer.step()  # without gradients; torch requires a step before the first of the schedule
    last = groups[expected["lr_schedule_last_group_name"]]
    rates = {int(k): v for k, v in expected["lr_schedule_last_group"].items()}
    for iteration in sorted(rates)[:50]:
        scheduler.last_epoch = iteration - 1
        scheduler.step()
        assert last["lr"] == pytest.approx(rates[iteration], rel=1e-9, abs=1e-15), iteration


def _expected_groups(expected: dict) -> dict[str, dict]:
    groups = expected["groups"]
    if isinstance(groups, dict):
        return groups
    return dict(zip(expected["order"], groups, strict=True))
