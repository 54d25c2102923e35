"""Trainers, hooks, arguments, set-up: the order of calls, the files, the numbers."""

import gc
import json
import logging
import random
import re
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import (
    DefaultTrainer,
    EvalHook,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    default_argument_parser,
    default_setup,
    hooks,
    launch,
)
from detectron2.evaluation import DatasetEvaluator
from torch import nn


@pytest.fixture
def facts(behaviour):
    return behaviour["training"]


def test_arguments(facts):
    facts, parser = facts["default_argument_parser"], default_argument_parser()
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    assert list(actions) == [flag["dest"] for flag in facts["flags"]]
    for flag in facts["flags"]:
        action = actions[flag["dest"]]
        names = action.option_strings or [action.dest]
        assert names == flag["flags"]
        assert re.sub(r":\d+$", ":<port>", str(action.default)) == str(flag["default"])
        assert getattr(action.type, "__name__", None) == flag["type"]
        assert (action.nargs, type(action).__name__) == (flag["nargs"], "_" + flag["action"])
    assert parser.parse_args([]).opts == facts["opts_when_absent"]
    arguments = parser.parse_args(["--eval-only", *facts["opts_example"]])
    assert (arguments.eval_only, arguments.opts) == (True, facts["opts_example"])
    assert not parser.parse_args(["A.B", "1", "--eval-only"]).eval_only
    port = int(parser.parse_args([]).dist_url.rsplit(":", 1)[1])
    assert 49152 <= port < 49152 + 16384
    assert port == int(default_argument_parser().parse_args([]).dist_url.rsplit(":", 1)[1])


@pytest.fixture
def quiet_loggers():
    """The package's loggers without handlers, and after the test as they were.

    They propagate: otherwise pytest adds handlers of its own to them as a test begins.
    """
    before = {}
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        before[name] = (list(logger.handlers), logger.level, logger.propagate)
        logger.handlers.clear()
        logger.propagate = True
    yield
    for name, (handlers, level, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_setup(facts, tmp_path, quiet_loggers):
    facts, cfg = facts["default_setup"], get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path / "out"), 5
    default_setup(cfg, default_argument_parser().parse_args([]))
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == facts["output_dir_files"]
    loaded = get_cfg()
    loaded.merge_from_file(str(tmp_path / "out" / "config.yaml"))
    assert loaded.SOLVER == cfg.SOLVER and loaded.SEED == 5
    after = (np.random.get_state()[1].tolist(), torch.initial_seed(), random.getstate())
    np.random.seed(5)
    random.seed(5)
    assert after == (np.random.get_state()[1].tolist(), 5, random.getstate())
    logger = logging.getLogger("detectron2")
    assert [type(h).__name__ for h in logger.handlers] == facts["handlers"]
    assert (logger.propagate, logger.level) == (facts["propagate"], facts["level"])
    assert logging.getLogger(facts["second_logger"]).handlers


class Recording(HookBase):
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __getattribute__(self, moment):
        if moment in ("before_train", "after_train", "before_step", "after_backward", "after_step"):
            calls, name = self.calls, self.name
            return lambda: calls.append(f"{name}.{moment}")
        return super().__getattribute__(moment)


class Idle(TrainerBase):
    def run_step(self):
        pass


def test_loop(facts, raised):
    facts, calls = facts["TrainerBase"], []

    class Loop(TrainerBase):
        def run_step(self):
            calls.append(f"run_step@{self.iter}")
            self.after_backward()

    loop = Loop()
    loop.register_hooks([Recording("a", calls), None, Recording("b", calls)])
    loop.train(3, 5)
    assert calls == facts["train(3, 5)"]
    assert (loop.iter, loop.storage.iter) == (facts["iter_after"], facts["storage_iter"])
    assert sorted(loop.state_dict()) == facts["state_dict"]
    assert raised(loop.register_hooks, [3]) == facts["register_non_hook"]
    assert raised(TrainerBase().run_step) == facts["run_step_abstract"]


def test_after_train_runs_after_a_failure(quiet_loggers):
    calls = []

    class Failing(TrainerBase):
        def run_step(self):
            raise KeyError("x")

    loop = Failing()
    loop.register_hooks([Recording("a", calls)])
    with pytest.raises(KeyError):
        loop.train(0, 3)
    assert calls[-1] == "a.after_train"


def test_trainer_can_go():
    loop = Idle()
    loop.register_hooks([hooks.IterationTimer()])
    loop.train(0, 1)
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None


def test_eval_hook(facts):
    for name, expected in facts["EvalHook"].items():
        match = re.fullmatch(r"period_(\d+)_of_10(_not_after_train)?", name)
        if match is None:
            continue
        seen = []

        loop = Idle()

        def evaluate(loop=loop, seen=seen):
            seen.append(loop.iter)
            return {"task": {"x": 1.0}}

        loop.register_hooks([EvalHook(int(match[1]), evaluate, not match[2])])
        loop.train(0, 10)
        assert seen == expected, name
        assert loop.storage.latest()["task/x"][0] == 1.0


@pytest.mark.parametrize("result, error", [({"a": "text"}, ValueError), ([1], AssertionError)])
def test_eval_hook_wants_numbers(result, error, quiet_loggers):
    with pytest.raises(error):
        loop = Idle()
        loop.register_hooks([EvalHook(2, lambda: result, eval_after_train=False)])
        loop.train(0, 10)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(2, 1)

    def forward(self, batch):
        if not self.training:
            return [{} for _ in batch]
        x = torch.stack([item["x"] for item in batch])
        return {"loss_a": self.l(x).pow(2).mean(), "loss_b": (self.l(x) - 1).pow(2).mean()}


class Evaluator(DatasetEvaluator):
    def evaluate(self):
        return {"sem_seg": {"mIoU": 50.0, "IoU-a": 1.0}}


class Trainer(DefaultTrainer):
    @classmethod
    def build_model(cls, cfg):
        torch.manual_seed(0)
        return Toy()

    @classmethod
    def build_train_loader(cls, cfg):
        return [[{"x": torch.tensor([1.0, float(i % 3)])}] * 2 for i in range(1000)]

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return [[{}]] * 3

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Evaluator()


def config(folder, **solver):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST, cfg.MODEL.DEVICE = str(folder), ("t4",), "cpu"
    for key, value in {
        "MAX_ITER": 45,
        "CHECKPOINT_PERIOD": 20,
        "WARMUP_ITERS": 5,
        **solver,
    }.items():
        cfg.SOLVER[key] = value
    cfg.SOLVER.STEPS, cfg.TEST.EVAL_PERIOD = (30,), 25
    return cfg


def tree(value):
    if isinstance(value, dict):
        return {key: tree(item) for key, item in value.items()}
    return type(value).__name__


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_default_trainer(facts, tmp_path, quiet_loggers):
    facts = facts["DefaultTrainer"]
    cfg = config(tmp_path)
    default_setup(cfg, SimpleNamespace(eval_only=False))
    trainer = Trainer(cfg)
    assert [type(hook).__name__ for hook in trainer._hooks] == facts["hooks_in_order"]
    trainer.resume_or_load(resume=False)
    assert trainer.train() is None

    files = {re.sub(r"tfevents\..*", "tfevents.*", path.name) for path in tmp_path.iterdir()}
    assert sorted(files) == facts["files"]
    assert (tmp_path / "last_checkpoint").read_text() == facts["last_checkpoint"]
    lines = metrics(tmp_path)
    assert [line["iteration"] for line in lines] == facts["metrics_iterations"]
    assert [sorted(line) for line in lines] == facts["metrics_keys_per_line"]
    assert lines[0]["total_loss"] == pytest.approx(lines[0]["loss_a"] + lines[0]["loss_b"], rel=0.2)

    content = torch.load(tmp_path / "model_0000019.pth", weights_only=True)
    shape = tree(content)
    shape["trainer"]["_trainer"]["optimizer"]["state"] = "dict"
    assert shape == facts["checkpoint_tree"]
    assert content["iteration"] == facts["checkpoint_iteration"]
    assert sorted(content["trainer"]) == facts["checkpoint_trainer_keys"]

    log = (tmp_path / "log.txt").read_text()
    iteration_lines = [line for line in log.splitlines() if re.search(r" iter: \d", line)]
    assert len(iteration_lines) == facts["iteration_lines"]
    shown = re.sub(r"\s*max_mem.*", "", iteration_lines[0].split("INFO:  ")[1])
    assert re.sub(r"[\d.]+(e-\d+)?", "#", shown).rstrip() == facts["log_line_parts"]

    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == facts["resume"]["start_iter"]
    assert again.iter == facts["resume"]["iter"]
    longer = config(tmp_path, MAX_ITER=50)
    longer = Trainer(longer)
    longer.resume_or_load(resume=True)
    longer.train()
    models = sorted(path.name for path in tmp_path.glob("model_*"))
    assert models == facts["resume"]["then_to_50_files"]
    iterations = [line["iteration"] for line in metrics(tmp_path)]
    assert iterations == facts["resume"]["metrics_iterations_appended"]


def test_resumed_run_equals_an_unbroken_one(tmp_path, quiet_loggers):
    class Repeating(Trainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return [[{"x": torch.tensor([1.0, 2.0])}] * 2] * 1000

    whole = Repeating(config(tmp_path / "whole"))
    whole.train()
    cfg = config(tmp_path / "broken")
    first = Repeating(cfg)

    class Stop(HookBase):
        def after_step(self):
            if self.trainer.iter == 19:
                raise KeyboardInterrupt

    first.register_hooks([Stop()])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = Repeating(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 20
    second.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_trainer_test(facts, raised):
    facts, cfg = facts["DefaultTrainer"], get_cfg()
    cfg.DATASETS.TEST = ("t4",)
    assert Trainer.test(cfg, Toy()) == facts["test_returns_single_dataset"]
    cfg.DATASETS.TEST = ("t4", "t4")
    assert Trainer.test(cfg, Toy()) == facts["test_same_name_twice"]
    cfg.DATASETS.TEST = ("t4", "t4b")
    assert Trainer.test(cfg, Toy()) == facts["test_two_datasets"]
    assert raised(Trainer.test, cfg, Toy(), [Evaluator()]) == facts["evaluator_count_mismatch"]


def test_scaling(facts):
    facts, cfg = facts["DefaultTrainer"]["auto_scale_workers"], get_cfg()

    def leaves(cfg):
        solver = cfg.SOLVER
        return [
            solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS,
            list(solver.STEPS), cfg.TEST.EVAL_PERIOD, solver.CHECKPOINT_PERIOD,
            solver.REFERENCE_WORLD_SIZE,
        ]  # fmt: skip

    assert DefaultTrainer.auto_scale_workers(cfg, 4) is cfg
    solver = cfg.SOLVER
    (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS, steps,
     cfg.TEST.EVAL_PERIOD, solver.CHECKPOINT_PERIOD, solver.REFERENCE_WORLD_SIZE) = (
        facts["given_for_8"]
    )  # fmt: skip
    solver.STEPS = tuple(steps)
    cfg.freeze()
    for workers, expected in facts["result_for"].items():
        scaled = DefaultTrainer.auto_scale_workers(cfg, int(workers))
        assert leaves(scaled) == expected
        assert scaled.is_frozen()
    assert leaves(cfg) == facts["given_for_8"]


def test_non_finite_loss(facts, raised, quiet_loggers):
    class Broken(nn.Linear):
        def forward(self, batch):
            return {"loss": self.weight.sum() * float("nan")}

    model = Broken(1, 1)
    trainer = SimpleTrainer(model, [0] * 3, torch.optim.SGD(model.parameters(), lr=0.1))
    assert raised(trainer.train, 0, 1) == facts["DefaultTrainer"]["non_finite_loss"]


def test_simple_trainer_steps():
    class Single(nn.Linear):
        def forward(self, batch):
            return (self.weight * batch).sum()

    model = Single(1, 1, bias=False)
    start = model.weight.item()
    trainer = SimpleTrainer(model, [1.0] * 5, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(0, 3)
    assert model.weight.item() == pytest.approx(start - 0.3)
    assert trainer.storage.latest()["total_loss"][1] == 2


def test_other_loader_in_the_middle():
    class Single(nn.Linear):
        def forward(self, batch):
            seen.append(batch)
            return self.weight.sum()

    seen, model = [], Single(1, 1)
    trainer = SimpleTrainer(model, [1, 1], torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(0, 2)
    trainer.reset_data_loader(lambda: [2, 2])
    trainer.train(2, 4)
    assert seen == [1, 1, 2, 2]


def test_launch_of_one_process(facts, raised):
    calls = []
    launch(lambda *args: calls.append([*args]), 1, args=(1, 2))
    assert calls == facts["launch"]["one_process_calls_directly"]
    failure = raised(launch, print, 2, 2, 0, "auto")
    assert failure == facts["launch"]["two_processes_cpu"]["auto_url_with_two_machines"]
