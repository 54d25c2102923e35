"""A GPU answers, learns and counts as the CPU does: a very small CAT-Seg on Scenes."""

import copy

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import catseg_d2  # noqa: F401  (adds its model and its config keys)
from segcore.config import load_config
from segcore.datasets import register_semantic_dataset
from segcore.engine import AutocastTrainer, build_optimizer
from segcore.engine.step import autocast_dtype
from segcore.evaluation import SemanticEvaluator
from segcore.scenes import SCENES_60, Settings, write_scenes

pytestmark = pytest.mark.gpu

CONFIG = "catseg_d2/scenes_60.yaml"
DEVICES = ("cpu", "cuda")


def build(device: str, *options: str) -> tuple:
    """A config and the model of it; the weights do not depend on the device."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu", *options])
    torch.manual_seed(0)
    weights = build_model(cfg).state_dict()
    cfg.MODEL.DEVICE = device
    model = build_model(cfg)
    model.load_state_dict(weights)
    return cfg, model


def batch(size: int = 2) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 3, 96, 96, generator=generator) * 255
    labels = torch.randint(0, 60, (size, 12, 12), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return [{"image": x, "sem_seg": y} for x, y in zip(images, labels, strict=True)]


@pytest.mark.parametrize("windows", ["False", "True"])
def test_scores(windows: str) -> None:
    options = ["TEST.SLIDING_WINDOW", windows, "TEST.PATCH_INFERENCE.OUTPUT_SIZE", "160"]
    options += ["TEST.PATCH_INFERENCE.TILE", "96"]
    scores = []
    for device in DEVICES:
        _, model = build(device, *options)
        (answer,) = model.eval()([{"image": batch()[0]["image"], "height": 80, "width": 120}])
        assert answer["sem_seg"].device.type == device
        scores.append(answer["sem_seg"].detach().cpu())
    assert scores[0].shape == (60, 80, 120)
    assert scores[0].std() > 1e-3, "something to compare"
    # Convolutions may multiply in TF32, which keeps ten bits.
    torch.testing.assert_close(*scores, atol=1e-2, rtol=0)


def test_a_training_step_under_autocast() -> None:
    losses = []
    for device in DEVICES:
        cfg, model = build(device)
        model.train()
        before = copy.deepcopy(model.state_dict())
        # The CPU in float32, as the yardstick.
        dtype = None if device == "cpu" else autocast_dtype(torch.device(device))
        step = AutocastTrainer(model, [batch()], build_optimizer(cfg, model), dtype=dtype)
        with EventStorage() as storage:
            step.run_step()
        losses.append(storage.latest()["total_loss"][0])
        after = model.state_dict()
        assert all(torch.isfinite(value).all() for value in after.values())
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(moved) > len(before) / 2
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_evaluator_counts_alike(tmp_path) -> None:
    write_scenes(tmp_path, SCENES_60, Settings(num_train=0, num_test=4, size=32), workers=1)
    folder = tmp_path / "scenes-60" / "test"
    name = "scenes_for_the_gpu"
    register_semantic_dataset(
        name, folder / "images", folder / "labels", "scenes_60", image_suffix=".png"
    )
    try:
        generator = torch.Generator().manual_seed(2)
        records = DatasetCatalog.get(name)
        scores = [torch.rand(60, 32, 32, generator=generator) for _ in records]
        results = []
        for device in DEVICES:
            evaluator = SemanticEvaluator(name, distributed=False)
            evaluator.reset()
            for record, score in zip(records, scores, strict=True):
                evaluator.process([record], [{"sem_seg": score.to(device)}])
            results.append(evaluator.evaluate()["sem_seg"])
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert len(records) == 4
    torch.testing.assert_close(*results, atol=0, rtol=0, equal_nan=True)
