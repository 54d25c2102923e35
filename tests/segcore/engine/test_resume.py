"""Training that survives: kills, bad images, losses that are no numbers, full disks."""

import errno
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segcore.config import load_config
from segcore.engine import seeding
from segcore.engine.batches import TrainingBatches, is_wide
from segcore.errors import UserError
from segcore.runtime.lock import process_start
from segcore.runtime.stopping import interrupts_ignored

PROGRAM = Path(__file__).with_name("resume_run.py")
IMAGES, ITERATIONS = 11, 30
CONFIG = """
MODEL: {META_ARCHITECTURE: RandomSegmenter, DEVICE: cpu, SEM_SEG_HEAD: {IGNORE_VALUE: 255}}
DATASETS: {TRAIN: [speckles], TEST: []}
DATALOADER: {NUM_WORKERS: 4}
INPUT:
  {FORMAT: RGB, MIN_SIZE_TRAIN: [24, 30, 36], COLOR_AUG_SSD: true, SIZE_DIVISIBILITY: 32,
   MIN_SIZE_TEST: 32, CROP: {ENABLED: true, TYPE: absolute, SIZE: [24, 24]}}
SOLVER:
  {IMS_PER_BATCH: 4, BASE_LR: 0.05, MAX_ITER: 30, CHECKPOINT_PERIOD: 3, WARMUP_ITERS: 5,
   LR_SCHEDULER_NAME: WarmupCosineLR}
SEED: 3
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The root of a small data set, of wide and of tall images."""
    root = tmp_path_factory.mktemp("data")
    write_images(root)
    return root


def write_images(root: Path) -> None:
    draw = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / "speckles" / folder).mkdir(parents=True)
    for number in range(IMAGES):
        size = (40, 56) if number % 3 else (50, 36)
        image = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        for folder, pixels in (("images", image), ("labels", image.argmax(2).astype(np.uint8))):
            Image.fromarray(pixels).save(root / "speckles" / folder / f"{number:02}.png")


@pytest.fixture(scope="module")
def program(data):
    """The program as a module, for runs inside of this process."""
    spec = importlib.util.spec_from_file_location("resume_run", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register(data)
    return module


@pytest.fixture(scope="module")
def start(data, repository, tmp_path_factory):
    """Start the program; returns its output folder and its process."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "resume.yaml").write_text(CONFIG)

    def start(out, *words, launcher=(), speckles=data, **variables):
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        flags = [part for word in words if word[:2] == "--" for part in word.split("=")]
        opts = [word for word in words if word[:2] != "--"]
        command = [sys.executable, *launcher, str(PROGRAM)]
        command += ["--config-file", str(folder / "resume.yaml"), *flags]
        process = subprocess.Popen(
            [*command, "OUTPUT_DIR", str(folder / out), *opts],
            env=environment | {"SPECKLES": str(speckles)} | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        return folder / out, process

    return start


@pytest.fixture(scope="module")
def run(start):
    """Run the program to its end; returns its output folder and its error stream."""

    def run(out, *words, code=0, **options):
        folder, process = start(out, *words, **options)
        try:
            printed = process.communicate()[1]
        finally:
            process.kill()
        assert process.returncode == code, printed[-3000:]
        return folder, printed

    return run


@pytest.fixture
def cfg(program, tmp_path):
    (tmp_path / "resume.yaml").write_text(CONFIG)
    out = tmp_path / "out"
    out.mkdir()
    opts = ["OUTPUT_DIR", str(out), "DATALOADER.NUM_WORKERS", "0", "SOLVER.MAX_ITER", "8"]
    return load_config(tmp_path / "resume.yaml", opts)


def losses(folder: Path) -> list[list]:
    """[iteration, loss, rate] in the order of computation."""
    path = folder / "losses.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_same_weights_and_state(one: Path, two: Path) -> None:
    states = [torch.load(folder / "model_final.pth", weights_only=True) for folder in (one, two)]
    for key, tensor in states[0]["model"].items():
        assert tensor.equal(states[1]["model"][key]), key
    trainers = [state["trainer"] for state in states]
    moments = [trainer["_trainer"].pop("optimizer")["state"] for trainer in trainers]
    assert trainers[0] == trainers[1]
    for number, moment in moments[0].items():
        assert all(value.equal(moments[1][number][key]) for key, value in moment.items())


@pytest.fixture(scope="module")
def unbroken(run) -> Path:
    folder, _ = run("unbroken")
    found = losses(folder)
    assert [iteration for iteration, _, _ in found] == list(range(ITERATIONS))
    assert len({loss for _, loss, _ in found}) == ITERATIONS
    return folder


# ---- resuming --------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_unbroken(start, run, unbroken):
    """With SIGKILL at two random moments; every loss of every part is that of the unbroken run."""
    moments = sorted(random.sample(range(1, ITERATIONS - 8), 2))
    for moment in moments:
        # It stalls before its end: on a busy machine it could be there before the kill is.
        faults = {"PACE": "0.02", "FAULT": f"stall {ITERATIONS - 2}"}
        folder, process = start("killed", "--resume", **faults)
        while process.poll() is None and max([-1, *(n for n, _, _ in losses(folder))]) < moment:
            time.sleep(0.001)
        time.sleep(random.random() * 0.05)
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()[-3000:]
    folder, _ = run("killed", "--resume")
    expected = losses(unbroken)
    found = losses(folder)
    assert {iteration for iteration, _, _ in found} == set(range(ITERATIONS))
    for line in found:
        assert line == expected[line[0]], f"killed after iterations {moments}"
    assert_same_weights_and_state(folder, unbroken)


@pytest.mark.parametrize("workers", [0, 2])
def test_losses_do_not_depend_on_the_number_of_workers(program, cfg, unbroken, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.SOLVER.MAX_ITER = ITERATIONS
    torch.manual_seed(cfg.SEED)  # for the weights, as the set-up of a run does
    program.LoggingTrainer(cfg).train()
    assert losses(Path(cfg.OUTPUT_DIR)) == losses(unbroken)


@pytest.mark.slow
def test_two_processes_resume_to_the_bit(run):
    words = ("--num-gpus=2", "SOLVER.MAX_ITER", "8", "DATALOADER.NUM_WORKERS", "1")
    folder, _ = run("two", *words)
    whole = losses(folder)
    shutil.copytree(folder, folder.with_name("whole"))
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    run("two", "--resume", *words)
    assert losses(folder) == whole + whole[3:]
    assert_same_weights_and_state(folder, folder.with_name("whole"))


def test_a_seed_that_was_drawn_is_kept(program, cfg):
    """With SEED -1, Detectron2's default."""
    cfg.SEED = -1
    cfg.DATALOADER.NUM_WORKERS = 1  # so that the model's draws are not seeded with the images'
    program.LoggingTrainer(cfg).train()
    whole = losses(Path(cfg.OUTPUT_DIR))
    Path(cfg.OUTPUT_DIR, "last_checkpoint").write_text("model_0000005.pth")
    trainer = program.LoggingTrainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    assert losses(Path(cfg.OUTPUT_DIR)) == whole + whole[6:]


def test_the_loss_scale_goes_on(program, cfg):
    steps = [program.LoggingTrainer(cfg)._trainer for _ in range(2)]
    for step, scale in zip(steps, (64.0, 16.0), strict=True):
        step.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    steps[0].load_state_dict(steps[1].state_dict())
    assert steps[0].scaler.get_scale() == 16.0


def test_batches_start_anywhere_and_visit_every_image():
    records = [{"width": 2 + n % 2, "height": 2 + n % 3} for n in range(7)]
    for grouped in (False, True):
        batches = TrainingBatches(records, 2, group_by_aspect=grouped)
        batches.begin(5, 0)
        stream = iter(batches)
        first = [next(stream) for _ in range(14)]
        batches.begin(5, 9)
        assert next(iter(batches)) == first[9]
        assert {sample.image for batch in first for sample in batch} == set(range(7))
        shapes = [{is_wide(records[sample.image]) for sample in batch} for batch in first]
        assert grouped == all(len(shape) == 1 for shape in shapes)
        assert [sample.iteration for sample in first[3]] == [3, 3]


def test_seeds_differ_in_every_part():
    def draws():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seen = set()
    for seed_from in (seeding.seed_sample, seeding.seed_step):
        for words in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
            seed_from(*words)
            first = draws()
            seed_from(*words)
            assert draws() == first
            seen |= set(first)
    assert len(seen) == 24


# ---- checkpoints -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kill_while_writing_leaves_the_checkpoint_before(run, unbroken):
    folder, _ = run("writing", FAULT="kill 1", code=-signal.SIGKILL)
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (folder / "model_0000005.pth").exists()
    assert len(list(folder.glob(".part-*.pth"))) == 1, "killed while it was written"
    run("writing", "--resume")
    assert losses(folder)[-27:] == losses(unbroken)[3:]
    assert not list(folder.glob(".*")), "what was left is cleared away"


def test_a_full_disk_leaves_the_checkpoint_before(program, cfg, monkeypatch):
    trainer = program.LoggingTrainer(cfg)
    save = torch.save

    def save_or_fail(content, file):
        if content["iteration"] > 2:
            file.write(b"a part")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", save_or_fail)
    with pytest.raises(UserError, match=r"model_0000005\.pth cannot be written: No space left"):
        trainer.train()
    out = Path(cfg.OUTPUT_DIR)
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    assert [path.name for path in out.glob("*.pth*")] == ["model_0000002.pth"]
    resumed = program.LoggingTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3


# ---- losses and weights that are no numbers --------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_it_does_harm(program, cfg, value):
    trainer = program.LoggingTrainer(cfg)
    batches = []

    def spoil(model, inputs, output):
        batches.append([item["file_name"] for item in inputs[0]])
        factor = value if trainer.iter == 4 else 1.0
        return {name: loss * factor for name, loss in output.items()}

    trainer.model.register_forward_hook(spoil)
    with pytest.raises(UserError, match=rf"the loss is {value} at iteration 4 ") as caught:
        trainer.train()
    assert len(batches) == 5 and all(name in str(caught.value) for name in batches[-1])
    assert "\n" not in str(caught.value)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert Path(cfg.OUTPUT_DIR, "last_checkpoint").read_text() == "model_0000002.pth"


def test_weights_that_are_no_numbers_are_not_saved(program, cfg):
    trainer = program.LoggingTrainer(cfg)
    weights = trainer.model.classify.weight
    weights.register_hook(lambda gradient: gradient * (np.nan if trainer.iter == 5 else 1.0))
    with pytest.raises(UserError, match=r"classify\.weight is no longer finite"):
        trainer.train()
    assert Path(cfg.OUTPUT_DIR, "last_checkpoint").read_text() == "model_0000002.pth"


def test_a_loss_in_one_process_stops_all(run):
    words = ("--num-gpus=2", "DATALOADER.NUM_WORKERS", "0")
    folder, printed = run("nan", *words, FAULT="nan 1 4", code=2)
    assert one_sentence(printed).startswith("the loss is nan at iteration 4 ")
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"


def one_sentence(printed: str) -> str:
    """What the one line of a user's error says."""
    (message,) = re.findall(r"^error: (.*)$", printed, re.MULTILINE)
    return message


# ---- images --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """A data set whose last image is cut short: one process meets it, the other does not."""
    root = tmp_path_factory.mktemp("damaged")
    write_images(root)
    path = root / "speckles" / "images" / f"{IMAGES - 1:02}.png"
    path.write_bytes(path.read_bytes()[:300])
    return root


@pytest.mark.parametrize(
    ("words", "launcher"),
    [
        (["--num-gpus=2"], ()),
        (["--num-gpus=2", "--eval-only", "DATASETS.TEST", "('speckles',)"], ()),
        ([], TORCHRUN),
    ],
    ids=["train", "evaluate", "torchrun"],
)
def test_a_bad_image_in_one_process_ends_all_with_one_error_message(run, damaged, words, launcher):
    code = 1 if launcher else 2  # torchrun's own
    words = [*words, "DATALOADER.NUM_WORKERS", "1"]
    _, printed = run("damaged", *words, launcher=launcher, speckles=damaged, code=code)
    assert "10.png" in one_sentence(printed)
    if not launcher:
        assert "Traceback" not in printed


def test_a_worker_that_was_killed_is_one_error_message(program, cfg):
    cfg.DATALOADER.NUM_WORKERS = 1
    trainer = program.LoggingTrainer(cfg)
    trainer._trainer.data_loader.dataset.mapper = lambda record: os.kill(os.getpid(), 9)
    with pytest.raises(UserError, match=r"worker process .* was killed.*lower DATALOADER.NUM_WORK"):
        trainer.train()


# ---- signals and other runs --------------------------------------------------------------------


def stalled(process: subprocess.Popen) -> None:
    """Read until it says so."""
    said = []
    for line in process.stderr:
        said.append(line)
        if line == "stalled\n":
            return
    raise AssertionError("".join(said)[-3000:])


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end_of(pids: list[int]) -> None:
    """Return when they have ended; a zombie counts as ended."""
    while any(process_start(pid) is not None for pid in pids):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_ends_it_in_one_line(start, number, said):
    folder, process = start(said, FAULT="stall 3")
    stalled(process)
    workers = children(process.pid)
    for pid in (process.pid, *workers) if number == signal.SIGINT else (process.pid,):
        os.kill(pid, number)  # a terminal sends it to all of them
    assert process.communicate()[1] == f"{said}\n"
    assert process.returncode == 128 + number and len(workers) == 4
    wait_for_end_of(workers)
    assert not (folder / "run.lock").exists()


@pytest.mark.slow
def test_a_signal_ends_all_processes_in_one_line(start):
    _, process = start("both", "--num-gpus=2", "DATALOADER.NUM_WORKERS", "1", FAULT="stall 3")
    stalled(process)
    ranks = children(process.pid)
    pids = [*ranks, *(pid for rank in ranks for pid in children(rank))]
    for pid in (process.pid, *pids):
        os.kill(pid, signal.SIGINT)
    printed = process.communicate()[1]
    assert printed.splitlines()[-1] == "interrupted" and "Traceback" not in printed
    assert process.returncode == 130 and len(pids) >= 4
    wait_for_end_of(pids)


@pytest.mark.parametrize("ignored", [False, True], ids=["", "in the background"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_in_one_line(start, rank, ignored):
    """Also where Ctrl-C is ignored, as in what a script runs in the background."""
    with interrupts_ignored() if ignored else nullcontext():
        words = ("--num-gpus=2", "DATALOADER.NUM_WORKERS", "0")
        _, process = start(f"dies-{rank}-{ignored}", *words, FAULT=f"die {rank}")
    printed = process.communicate()[1]
    message = f"error: process {rank} was killed by SIGKILL, perhaps for lack of memory"
    assert printed.splitlines()[-1] == message and process.returncode == 2
    assert printed.count("error") == 1 and "Traceback" not in printed


def test_a_killed_worker_is_one_line_wherever_the_process_is(start):
    _, process = start("worker", FAULT="stall 3")
    stalled(process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    (line,) = process.communicate()[1].splitlines()
    assert line.startswith("error: a worker process that reads images was killed")
    assert process.returncode == 2


@pytest.mark.slow
def test_a_second_run_in_the_folder_is_refused(start, run):
    folder, process = start("held", FAULT="stall 3")
    stalled(process)
    log = (folder / "log.txt").read_text()
    _, said = run("held", code=2)
    assert f"is in use by the run of process {process.pid} on " in said
    _, said = run("held", "--eval-only", code=2)
    assert "is in use by" in said and (folder / "log.txt").read_text() == log
    process.kill()
    process.wait()
    run("held", "--resume")
    assert not (folder / "run.lock").exists()


# ---- slow processes --------------------------------------------------------------------------


def test_how_long_processes_wait_for_a_slow_one_is_a_key(run):
    words = ("--num-gpus=2", "--eval-only", "DATASETS.TEST", "('speckles',)")
    words += ("DATALOADER.NUM_WORKERS", "0")
    _, printed = run("slow", *words, "TEST.TIMEOUT_MINUTES", "0.05", FAULT="slow 1", code=2)
    assert "raise TEST.TIMEOUT_MINUTES" in one_sentence(printed)
    assert "Traceback" not in printed
