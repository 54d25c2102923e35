"""Training and evaluation with a tiny model: one process, two processes, torchrun, resume."""

import importlib.util
import json
import logging
import math
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from segcore.config import load_config
from segcore.engine import AutocastTrainer, Trainer, build_optimizer, launch
from segcore.errors import UserError

PROGRAM = Path(__file__).with_name("tiny_run.py")
CONFIG = """
MODEL: {META_ARCHITECTURE: TinySegmenter, DEVICE: cpu, SEM_SEG_HEAD: {TEST_CLASS_JSON: ''}}
DATASETS: {TRAIN: [tiny], TEST: [tiny]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {DATASET_MAPPER_NAME: tiny}
SOLVER:
  {IMS_PER_BATCH: 4, BASE_LR: 0.05, MAX_ITER: 6, CHECKPOINT_PERIOD: 3, WARMUP_ITERS: 0,
   LR_SCHEDULER_NAME: WarmupCosineLR, CLIP_MULTIPLIER: 0.5}
SEED: 1
"""


@pytest.fixture(scope="module")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny_run", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config_file(tiny, tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(config_file, repository):
    """Run the tiny program; returns its output folder and what it printed."""

    def run(out: str, *words: str, launcher: tuple[str, ...] = (), code: int = 0):
        folder = config_file.parent / out
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, str(PROGRAM), "--config-file", str(config_file)]
        flags = [word for word in words if word.startswith("--")]
        opts = [word for word in words if not word.startswith("--")]
        flags = [part for flag in flags for part in flag.split("=")]
        done = subprocess.run(
            [*command, *flags, "OUTPUT_DIR", str(folder), *opts],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return folder, done.stderr

    return run


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def largest_difference(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


# ---- one process -----------------------------------------------------------------------------


def test_a_tiny_model_learns_and_writes_detectron2s_files(tiny, config_file, tmp_path):
    opts = ["OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "60", "TEST.EVAL_PERIOD", "30"]
    cfg = load_config(config_file, [*opts, "SOLVER.CHECKPOINT_PERIOD", "40"])
    trainer = tiny.TinyTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    accuracy = [line["sem_seg/pACC"] for line in lines if "sem_seg/pACC" in line]
    assert len(accuracy) == 2 and accuracy[-1] > 60, "chance is a third"
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert {"total_loss", "lr", "time", "data_time"} <= lines[0].keys()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"last_checkpoint", "model_0000039.pth", "model_final.pth", "metrics.json"} <= names
    state = torch.load(tmp_path / "model_0000039.pth", weights_only=True)
    assert state.keys() == {"model", "trainer", "iteration"}
    assert {"iteration", "optimizer"} <= state["trainer"]["_trainer"].keys()


@pytest.mark.parametrize("optimizer", ["ADAMW", "SGD"])
def test_optimizer_groups(tiny, config_file, optimizer):
    cfg = load_config(config_file, ["SOLVER.OPTIMIZER", optimizer, "SOLVER.WEIGHT_DECAY", "0.01"])
    model = tiny.TinySegmenter(cfg)
    groups = build_optimizer(cfg, model).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for group in groups:
        (parameter,) = group["params"]
        found[names[parameter]] = (group["lr"], group["weight_decay"])
    assert found == {
        "scale": (0.05, 0.01),
        "backbone.weight": (0.05 * 0.1, 0.01),
        "backbone.bias": (0.05 * 0.1, 0.01),
        "clip.text.weight": (0.05 * 0.5, 0.01),
        "clip.text.bias": (0.05 * 0.5, 0.01),
        "norm.weight": (0.05, 0.0),
        "norm.bias": (0.05, 0.0),
        "words.weight": (0.05, 0.0),
    }


def test_clipping_over_the_whole_model(config_file):
    model = torch.nn.Linear(2, 2)
    opts = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1.0", "SOLVER.WEIGHT_DECAY", "0.0"]
    opts += ["SOLVER.MOMENTUM", "0.0", "SOLVER.CLIP_GRADIENTS.ENABLED", "True"]
    opts += ["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"]
    cfg = load_config(config_file, [*opts, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.01"])
    optimizer = build_optimizer(cfg, model)
    gradient = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 4.0])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter, value in zip(model.parameters(), gradient, strict=True):
        parameter.grad = value.clone()
    optimizer.step()
    for parameter, value, start in zip(model.parameters(), gradient, before, strict=True):
        torch.testing.assert_close(start - parameter, value * 0.01 / 5)


def test_wrong_names_are_error_messages(tiny, config_file):
    wrong = {
        ("SOLVER.OPTIMIZER", "ADAMM"): "SOLVER.OPTIMIZER is 'ADAMM', but takes ADAMW or SGD",
        ("SOLVER.LR_SCHEDULER_NAME", "Cosine"): "SOLVER.LR_SCHEDULER_NAME",
        ("MODEL.META_ARCHITECTURE", "TinySegmentor"): "there are TinySegmenter",
        (
            "DATASETS.TRAIN",
            "('tinny',)",
        ): "no dataset named 'tinny'; the nearest registered one is 'tiny'",
        ("DATASETS.TRAIN", "()"): "DATASETS.TRAIN is empty",
    }
    for opts, message in wrong.items():
        with pytest.raises(UserError, match=message):
            Trainer(load_config(config_file, opts))
    with pytest.raises(UserError, match="there is no dataset named 'tinny'"):
        Trainer.build_test_loader(load_config(config_file), "tinny")
    cfg = load_config(config_file)
    with pytest.raises(UserError, match="has no trainable parameter"):
        build_optimizer(cfg, tiny.TinySegmenter(cfg).requires_grad_(False))


def test_learning_rate_follows_the_published_schedule(golden, config_file):
    reference = json.loads((golden / "catseg" / "optimizer_vitb.json").read_text())
    opts = ["SOLVER.MAX_ITER", "80000", "SOLVER.BASE_LR", "2e-4", "SOLVER.WARMUP_FACTOR", "1.0"]
    cfg = load_config(config_file, opts)
    optimizer = build_optimizer(cfg, torch.nn.Linear(1, 1))
    scheduler = Trainer.build_lr_scheduler(cfg, optimizer)
    rates = reference["lr_schedule_last_group"]
    assert len(rates) >= 7
    for iteration, rate in rates.items():
        scheduler.last_epoch = int(iteration)
        assert math.isclose(scheduler.get_lr()[-1], rate, rel_tol=1e-9)


def test_autocast_trains_in_bfloat16_on_the_cpu(tiny, config_file, tmp_path):
    cfg = load_config(config_file, ["SOLVER.AMP.ENABLED", "True", "OUTPUT_DIR", str(tmp_path)])
    trainer = tiny.TinyTrainer(cfg)
    seen = []
    trainer.model.backbone.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    trainer.train()
    assert set(seen) >= {torch.bfloat16} and len(seen) >= 6
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_scaled_losses_are_clipped_after_scaling_back(tiny, config_file):
    """The loss scale of float16 must not change what the clipping sees."""
    cfg = load_config(
        config_file,
        ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"],
    )
    steps = []
    for dtype in (None, torch.float16):
        torch.manual_seed(0)
        model = tiny.TinySegmenter(cfg)
        optimizer = build_optimizer(cfg, model)
        batch = [tiny.tiny_mapper({"index": i}) for i in range(4)]
        step = AutocastTrainer(model, [batch], optimizer, dtype=dtype)
        step.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=dtype is not None)
        step.write_metrics = lambda *args: None
        step.run_step()
        steps.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert not steps[0].equal(steps[1]), "one of them ran in half precision"
    torch.testing.assert_close(steps[0], steps[1], atol=5e-3, rtol=2e-2)


def test_scaling_by_the_number_of_processes(config_file):
    opts = ["SOLVER.REFERENCE_WORLD_SIZE", "4", "SOLVER.MAX_ITER", "80000"]
    cfg = Trainer.auto_scale_workers(load_config(config_file, opts), 16)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER) == (16, 20000)
    assert math.isclose(cfg.SOLVER.BASE_LR, 0.2)


def test_each_data_set_is_evaluated_with_its_class_names(tiny, config_file):
    cfg = load_config(config_file, ["DATASETS.TEST", "('tiny', 'tiny_too')"])
    model = tiny.TinySegmenter(cfg)
    results = tiny.TinyTrainer.test(cfg, model)
    assert list(results) == ["tiny", "tiny_too"] and "pACC" in results["tiny"]["sem_seg"]
    cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = "mine"
    model.set_vocabulary(["a", "b", "c"])
    tiny.TinyTrainer.test(cfg, model)
    assert model.vocabulary == ["a", "b", "c"]
    model.set_vocabulary(["b", "a", "c"])
    with pytest.raises(UserError, match=r"TEST_CLASS_JSON, for data set tiny: .* another order"):
        tiny.TinyTrainer.test(cfg, model)


@pytest.mark.parametrize(("error", "shown"), [(UserError("wrong"), False), (ValueError, True)])
def test_only_the_tracebacks_of_our_own_errors_are_logged(
    tiny, config_file, tmp_path, monkeypatch, caplog, error, shown
):
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)
    trainer = tiny.TinyTrainer(load_config(config_file, ["OUTPUT_DIR", str(tmp_path)]))
    trainer.run_step = mock.Mock(side_effect=error)
    with pytest.raises(ValueError):
        trainer.train()
    assert ("Traceback" in caplog.text) == shown


# ---- several processes, and as a user runs them ----------------------------------------------


@pytest.mark.slow
def test_two_processes_train_as_one(run):
    """The losses and gradients of a global batch do not depend on how it is sharded.

    With SGD, because Adam blows up the rounding of gradients that are zero.
    """
    one, _ = run("one", "SOLVER.OPTIMIZER", "SGD")
    two, _ = run("two", "--num-gpus=2", "SOLVER.OPTIMIZER", "SGD")
    losses = [
        [json.loads(line).get("total_loss") for line in (folder / "metrics.json").open()]
        for folder in (one, two)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    start = torch.load(one / "model_0000002.pth", weights_only=True)["model"]
    assert largest_difference(final_weights(one), start) > 1e-2
    assert largest_difference(final_weights(one), final_weights(two)) < 1e-6


@pytest.mark.slow
def test_two_processes_evaluate_as_one(run, config_file):
    trained, _ = run("train")
    weights = ("MODEL.WEIGHTS", str(trained / "model_final.pth"))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    runs = [
        run("one", "--eval-only", *weights),
        run("two", "--eval-only", "--num-gpus=2", *weights),
        run("torchrun", "--eval-only", *weights, launcher=torchrun),
    ]
    results = [(folder / "results.json").read_text() for folder, _ in runs]
    assert results[0] == results[1] == results[2] and "pACC" in results[0]


@pytest.mark.slow
def test_resume_goes_on_where_it_stopped(run):
    whole, _ = run("whole", "SOLVER.MAX_ITER", "6")
    state = torch.load(whole / "model_0000002.pth", weights_only=True)
    part, _ = run("part", "SOLVER.MAX_ITER", "6")
    (part / "last_checkpoint").write_text("model_0000002.pth")
    (part / "model_final.pth").unlink()
    run("part", "--resume", "SOLVER.MAX_ITER", "6")
    again = torch.load(part / "model_final.pth", weights_only=True)
    assert state["iteration"] == 2 and again["iteration"] == 5
    steps = again["trainer"]["_trainer"]["optimizer"]["state"][0]["step"]
    assert steps == 6, "the optimizer's state went on too"
    assert again["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 6


def test_two_machines(run, config_file):
    """Two machines of one process each, both here."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"--dist-url=tcp://127.0.0.1:{server.getsockname()[1]}"
    with ThreadPoolExecutor() as pool:
        done = [
            pool.submit(
                run, "out", "--eval-only", "--num-machines=2", f"--machine-rank={rank}", url
            )
            for rank in range(2)
        ]
        (folder, _), _ = (machine.result() for machine in done)
    assert "pACC" in (folder / "results.json").read_text()


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_is_one_error_message_and_ends_all(run, tmp_path, rank):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fault").write_text(str(rank))
    _, printed = run("out", "--num-gpus=2", code=2)
    assert printed.count(f"error: process {rank} has to fail") == 1
    assert "Traceback" not in printed


def test_a_wrong_command_line_is_one_error_message(tiny, config_file, tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    for words, message in {
        ("SOLVER.MAX_ITERS", "3"): "the nearest is SOLVER.MAX_ITER",
        ("MODEL.DEVICE", "cuda"): "there is no GPU that PyTorch can use",
        ("--num-gpus=0",): "--num-gpus is 0",
        ("MODEL.WEIGHTS", "gone.pth"): "the checkpoint gone.pth is no file",
        ("OUTPUT_DIR", "/proc/here"): "OUTPUT_DIR /proc/here cannot be written",
    }.items():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        words = words if words[0][0] == "-" else ("OUTPUT_DIR", str(tmp_path / "out"), *words)
        args = ["--config-file", str(config_file), *words]
        with pytest.raises(UserError, match=re.escape(message)):
            launch(tiny.main, default_argument_parser().parse_args(args))


@pytest.mark.parametrize(("chosen", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_of_processes_on_the_cpu_sleep(
    tiny, config_file, monkeypatch, chosen, found
):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "to be put back")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    inherited = []

    def start(*_: object, **__: object) -> SimpleNamespace:
        inherited.append(dict(os.environ))
        return SimpleNamespace(join=lambda: True, processes=[])

    monkeypatch.setattr(torch.multiprocessing, "start_processes", start)
    args = ["--config-file", str(config_file), "--num-gpus", "2"]
    launch(tiny.main, default_argument_parser().parse_args(args))
    assert inherited[0]["OMP_WAIT_POLICY"] == found


def test_more_gpus_than_there_are(tiny, config_file, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    args = ["--config-file", str(config_file), "--num-gpus", "4", "MODEL.DEVICE", "cuda"]
    with pytest.raises(UserError, match="--num-gpus is 4, but this machine has 1"):
        launch(tiny.main, default_argument_parser().parse_args(args))


def test_a_batch_that_the_processes_cannot_divide(config_file, tiny, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match="IMS_PER_BATCH is 4, which 3 processes cannot divide"):
        Trainer.build_train_loader(load_config(config_file))
