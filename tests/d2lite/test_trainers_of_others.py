"""Trainers, hooks and evaluators of other projects."""

import logging
import math
import re

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer, HookBase, SimpleTrainer, TrainerBase, hooks
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import EventStorage
from fvcore.common.param_scheduler import LinearParamScheduler


class Net(torch.nn.Linear):
    def forward(self, x):
        return {"loss": super().forward(x).sum()}


def parts(number=4, rate=0.1):
    net = Net(2, 2)
    return net, [torch.ones(1, 2)] * number, torch.optim.SGD(net.parameters(), rate)


class OwnStep(SimpleTrainer):
    """Overrides ``run_step`` as many projects do."""

    def run_step(self):
        losses = self.model(next(self._data_loader_iter))
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self._write_metrics(losses, 0.5)
        self.optimizer.step()


def test_own_step():
    trainer = OwnStep(*parts())
    trainer.train(0, 3)
    assert len(trainer.storage.history("total_loss").values()) == 3
    assert trainer.storage.latest()["data_time"] == (0.5, 2)


def test_own_metrics():
    """``run_step`` calls the method that a subclass may override."""
    seen = []

    class Trainer(SimpleTrainer):
        def _write_metrics(self, loss_dict, data_time, prefix="", iter=None):
            seen.append((sorted(loss_dict), prefix, iter))

    Trainer(*parts()).train(0, 2)
    assert seen == [(["loss"], "", None)] * 2


def test_metrics_of_every_other_iteration():
    trainer = SimpleTrainer(*parts(), gather_metric_period=2)
    trainer.train(0, 4)
    assert [i for _, i in trainer.storage.history("total_loss").values()] == [1, 3]
    with EventStorage(), torch.no_grad():
        trainer._write_metrics({"loss": torch.tensor(1.0)}, 0.1, prefix="a/", iter=4)
        trainer._write_metrics({"loss": torch.tensor(1.0)}, 0.1, prefix="a/", iter=5)
        from detectron2.utils.events import get_event_storage

        assert get_event_storage().latest()["a/total_loss"] == (1.0, 5)


def test_iterations_are_counted_by_the_loop():
    """A hook that changes ``iter`` skips nothing; nothing to do counts as one step more."""

    seen = []

    class Hook(HookBase):
        def after_step(self):
            seen.append(self.trainer.iter)
            self.trainer.iter = 50

    trainer = SimpleTrainer(*parts())
    trainer.register_hooks([Hook(), None])
    trainer.train(0, 3)
    assert seen == [0, 1, 2]
    trainer = SimpleTrainer(*parts())
    trainer.train(3, 3)
    assert trainer.iter == trainer.storage.iter == 4


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    name = "TrainersOfOthers"
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, name, lambda cfg: Net(2, 2))
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = name, "cpu"
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER = str(tmp_path), 2
    return cfg


class Default(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return [torch.ones(1, 2)] * 50


def test_parts_of_a_default_trainer_can_be_set(cfg):
    trainer = Default(cfg)
    for name in ("model", "optimizer", "data_loader"):
        assert getattr(trainer, name) is getattr(trainer._trainer, name)
        replacement = object()
        setattr(trainer, name, replacement)
        assert getattr(trainer._trainer, name) is replacement


def test_hooks_of_a_default_trainer(cfg):
    """The third is None, for precise batch norm: projects insert hooks by index."""
    built = Default(cfg).build_hooks()
    assert [type(hook).__name__ for hook in built] == [
        "IterationTimer",
        "LRScheduler",
        "NoneType",
        "PeriodicCheckpointer",
        "EvalHook",
        "PeriodicWriter",
    ]


class Scripted(TrainerBase):
    """Puts one metric an iteration."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def run_step(self):
        self.storage.put_scalar("m", self.values[self.iter], smoothing_hint=False)


class Saver:
    def __init__(self):
        self.saved = []

    def save(self, name, **kwargs):
        self.saved.append((name, kwargs["iteration"]))


@pytest.mark.parametrize(
    "mode, values, saved",
    [
        ("max", [1.0, 3.0, 2.0, 4.0], [0, 1, 3]),
        ("min", [1.0, 3.0, 0.5, 4.0], [0, 2]),
        ("max", [math.nan, 1.0, math.inf, 2.0], [1, 2, 3]),
    ],
)
def test_best_checkpointer(mode, values, saved):
    """Infinite values are saved, but later values are not compared with them."""
    saver, trainer = Saver(), Scripted(values)
    trainer.register_hooks([hooks.BestCheckpointer(1, saver, "m", mode, "best")])
    trainer.train(0, len(values))
    assert saver.saved == [("best", iteration) for iteration in saved]


def test_best_checkpointer_without_its_metric():
    saver, trainer = Saver(), Scripted([1.0])
    trainer.register_hooks([hooks.BestCheckpointer(1, saver, "other")])
    trainer.train(0, 1)
    assert saver.saved == []
    with pytest.raises(AssertionError):
        hooks.BestCheckpointer(1, saver, "m", mode="best")


def test_callback_hook():
    calls = []
    names = ("before_train", "before_step", "after_step", "after_train")
    functions = {
        name: lambda trainer, name=name: calls.append((name, trainer.iter)) for name in names
    }
    trainer = Scripted([1.0])
    trainer.register_hooks([hooks.CallbackHook(**functions), hooks.CallbackHook()])
    trainer.train(0, 1)
    assert calls == [
        ("before_train", 0),
        ("before_step", 0),
        ("after_step", 0),
        ("after_train", 1),
    ]


def test_schedule_of_fvcore():
    """A ParamScheduler multiplies the learning rates."""
    trainer = SimpleTrainer(*parts())
    trainer.register_hooks([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
    trainer.train(0, 4)
    rates = [rate for rate, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_timer(log_lines):
    lines = log_lines("detectron2.engine.hooks")
    trainer = Scripted([1.0] * 6)
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=3)])
    trainer.train(0, 6)
    assert [i for _, i in trainer.storage.history("time").values()] == [2, 3, 4, 5]
    duration = r"\d+:\d\d:\d\d"
    assert re.match(rf"Overall training speed: 4 iterations in {duration} \(", lines[-2])
    assert re.match(rf"Total training time: {duration} \({duration} on hooks\)", lines[-1])


class Duck:
    """An evaluator that is none by its class."""

    def reset(self):
        self.inputs = []

    def process(self, inputs, outputs):
        self.inputs += inputs

    def evaluate(self):
        return {"t": {"n": len(self.inputs)}}


def test_evaluators_by_their_methods():
    assert inference_on_dataset(lambda x: x, [[1], [2]], Duck()) == {"t": {"n": 2}}
    assert inference_on_dataset(lambda x: x, [[1], [2]], [Duck()]) == {"t": {"n": 2}}
    assert inference_on_dataset(lambda x: x, [[1], [2]], None) == {}


def test_results_are_returned_as_they_are():
    """Only None becomes an empty dict."""
    results = {}

    class Evaluator(DatasetEvaluator):
        def evaluate(self):
            return results

    assert inference_on_dataset(lambda x: x, [[1]], Evaluator()) is results


def test_evaluators_with_one_task():
    assert DatasetEvaluators([]).evaluate() == {}
    both = DatasetEvaluators([Duck(), Duck()])
    both.reset()
    with pytest.raises(AssertionError):
        both.evaluate()


def test_flat_results():
    nested = {"a": {"b": {"c": 1}, "d": 2}, "e": 3}
    assert flatten_results_dict(nested) == {"a/b/c": 1, "a/d": 2, "e": 3}


def test_printed_results(caplog, log_lines):
    lines = log_lines("detectron2.evaluation.testing")
    logging.getLogger("detectron2.evaluation.testing").setLevel(logging.INFO)
    print_csv_format({"t": {"AP": 1.0, "AP-cat": 2.0, "AR": 3.0}, "n": 5})
    assert lines == [
        "copypaste: Task: t",
        "copypaste: AP,AR",
        "copypaste: 1.0000,3.0000",
        "copypaste: n=5",
    ]
