"""Averaged weights, the best weights, early stop, and the one-cycle schedule."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from segcore.config import load_config
from segcore.engine.averaging import WeightAverage
from segcore.engine.schedule import build_lr_scheduler
from segcore.engine.selecting import stops
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

CONFIG = """
MODEL: {META_ARCHITECTURE: TinySegmenter, DEVICE: cpu}
DATASETS: {TRAIN: [tiny], TEST: [tiny]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {DATASET_MAPPER_NAME: tiny}
SOLVER:
  {IMS_PER_BATCH: 2, BASE_LR: 0.1, MAX_ITER: 8, CHECKPOINT_PERIOD: 3, LR_SCHEDULER_NAME: OneCycleLR,
   EMA_DECAY: 0.7, BEST_METRIC: sem_seg/pACC}
TEST: {EVAL_PERIOD: 3, SAVE_SECONDS: 0.0}
SEED: 3
"""


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    return load_config(tmp_path / "tiny.yaml", ["OUTPUT_DIR", str(tmp_path / "out")])


def run(cfg: CfgNode, *, resume: bool = False, until: int | None = None) -> tiny_run.TinyTrainer:
    """Train; ``until`` raises there, as if the run were killed."""
    torch.manual_seed(0)
    trainer = tiny_run.TinyTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if until is not None:
        step = trainer.run_step

        def run_step() -> None:
            if trainer.iter == until:
                raise RuntimeError("killed")
            step()

        trainer.run_step = run_step
        with pytest.raises(RuntimeError, match="killed"):
            trainer.train()
    else:
        trainer.train()
    return trainer


def hook(trainer: tiny_run.TinyTrainer, name: str) -> object:
    return next(hook for hook in trainer._hooks if type(hook).__name__ == name)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_the_average_follows_the_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = WeightAverage(model, 0.9)
    average.before_train()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += step + 1
            model[1].running_mean += 1
            model[1].num_batches_tracked += 1
        average.update()
        for name, value in model.state_dict().items():
            mean = 0.9 * expected[name] + 0.1 * value if value.is_floating_point() else value
            expected[name] = mean.clone()
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied():
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, expected[name])
    assert all(value.equal(plain[name]) for name, value in model.state_dict().items())
    assert model[1].num_batches_tracked == 3


def test_training_evaluates_both_and_keeps_the_better(cfg: CfgNode) -> None:
    trainer = run(cfg)
    out, evaluations = Path(cfg.OUTPUT_DIR), hook(trainer, "Evaluations")
    plain, average = evaluations.scores
    assert len(plain) == len(average) == 3  # after 3, 6 and 8 iterations
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert lines[-1]["sem_seg/pACC"] == plain[-1]
    assert lines[-1]["average/sem_seg/pACC"] == average[-1]
    model = tiny_run.TinyTrainer.build_model(cfg)
    model.load_state_dict(weights(out / "model_best.pth"))
    cfg.OUTPUT_DIR = str(out / "again")
    best = tiny_run.TinyTrainer.test(cfg, model)["sem_seg"]["pACC"]
    assert best == max(*plain, *average)
    assert (out / "last_checkpoint").read_text() == "model_final.pth"


def test_a_resumed_run_equals_an_unbroken_one(cfg: CfgNode, tmp_path: Path) -> None:
    """Average, schedule and scores included."""
    unbroken = run(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "broken")
    Path(cfg.OUTPUT_DIR).mkdir()
    run(cfg, until=7)
    resumed = run(cfg, resume=True)
    assert resumed.start_iter == 6
    assert hook(resumed, "Evaluations").scores == hook(unbroken, "Evaluations").scores
    pairs = [(hook(t, "WeightAverage").average, t.model.state_dict()) for t in (unbroken, resumed)]
    for one, two in zip(*pairs, strict=True):
        assert all(value.equal(two[name]) for name, value in one.items())
    (one, two) = (t.optimizer.param_groups[0] for t in (unbroken, resumed))
    assert (one["lr"], one["betas"]) == (two["lr"], two["betas"])


def test_training_stops_early_and_stays_so(cfg: CfgNode) -> None:
    cfg.SOLVER.EARLY_STOP, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_ITER = 2, 1, 60
    cfg.SOLVER.BASE_LR = 0.0  # so that the scores stay as they are
    cfg.SOLVER.EMA_DECAY = 0.0
    trainer = run(cfg)
    assert trainer.stopped_early and trainer.iter == 3
    final = torch.load(Path(cfg.OUTPUT_DIR, "model_final.pth"), weights_only=True)
    assert final["iteration"] == 3
    assert run(cfg, resume=True).iter == 4


@pytest.mark.parametrize(
    ("plain", "average", "expected"),
    [
        ([], [], False),
        ([5, 4, 4], [], False),
        ([5, 4, 4, 4], [], True),
        ([5, 4, 4, 4], [1, 2, 3, 4], False),  # the average still rises
        ([5, 4, 4, 4], [6, 2, 3, 4], True),
        ([5, 4, 4, 4], [1, 9, 3, 4], False),  # the best of both is only two evaluations ago
        ([1, 9, 4, 4], [6, 2, 3, 4], False),  # and so is the model's
    ],
)
def test_rule_of_query2label(plain: list, average: list, expected: bool) -> None:
    assert stops(plain, average, patience=2) is expected


def test_one_cycle_has_the_published_values(cfg: CfgNode) -> None:
    """The learning rate rises from a 25th to the peak, beta 1 falls meanwhile; then both return."""
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 100, 1e-4
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = build_lr_scheduler(cfg, optimizer)
    values = []
    for _ in range(100):
        group = optimizer.param_groups[0]
        values.append((group["lr"], group["betas"][0]))
        optimizer.step()
        scheduler.step()
    for iteration, rate, beta in ((0, 4e-6, 0.95), (19, 1e-4, 0.85), (99, 4e-10, 0.95)):
        assert math.isclose(values[iteration][0], rate, rel_tol=1e-6)
        assert math.isclose(values[iteration][1], beta, rel_tol=1e-6)
    middle = 4e-6 + (1e-4 - 4e-6) * (1 - math.cos(math.pi * 10 / 19)) / 2
    assert math.isclose(values[10][0], middle, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ONE_CYCLE_RISE": 0.1}, "SOLVER.ONE_CYCLE_RISE is 0.1; of 8 iterations"),
        ({"EMA_DECAY": 1.0}, "SOLVER.EMA_DECAY is 1.0"),
        ({"EARLY_STOP": 3, "BEST_METRIC": ""}, "SOLVER.EARLY_STOP needs scores"),
        ({"BEST_METRIC": "multilabel/mAP"}, "an evaluation returns sem_seg/pACC"),
    ],
)
def test_wrong_keys_are_one_message(cfg: CfgNode, changes: dict, message: str) -> None:
    for name, value in changes.items():
        cfg.SOLVER[name] = value
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        run(cfg)
