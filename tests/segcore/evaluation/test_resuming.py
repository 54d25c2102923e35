"""Interrupted evaluations: their saved state, and that nothing is evaluated twice or lost."""

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import EventStorage
from PIL import Image

from segcore.config import default_config, load_config
from segcore.engine import Trainer, trainer
from segcore.evaluation import (
    EvaluatorsByOutput,
    InstanceEvaluator,
    MultilabelEvaluator,
    PanopticEvaluator,
    RetrievalEvaluator,
    SemanticEvaluator,
    StatefulEvaluator,
    VideoInstanceEvaluator,
    VideoSemanticEvaluator,
    resuming,
)
from segcore.evaluation.resuming import ResumableEvaluation, config_hash, weights_hash
from segcore.outlines import encode_masks

PROGRAM = Path(__file__).with_name("evaluation_run.py")
CONFIG = """
MODEL: {META_ARCHITECTURE: Oracle, DEVICE: cpu}
DATASETS: {TEST: [labelled, tracked]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {DATASET_MAPPER_NAME: as_it_is}
TEST: {SAVE_SECONDS: 1.0e-6, SUBMISSION: true}
"""
NUMBER = 6


@pytest.fixture(scope="module")
def program():
    """Load the program as a module, and with it ``video_run``."""
    spec = importlib.util.spec_from_file_location("evaluation_run", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- states ----------------------------------------------------------------------------------

Batches = list[tuple[dict, dict]]


@pytest.fixture
def images(tmp_path: Path, forget_datasets: None) -> list[dict]:
    """A data set ``images`` with ground truth of every kind; returns its dicts."""
    rng = np.random.default_rng(0)
    items, listed, objects, segments = [], [], [], []
    for i in range(NUMBER):
        labels = rng.integers(0, 3, (6, 8), dtype=np.uint8)
        path = str(tmp_path / f"{i}.png")
        Image.fromarray(labels).save(path)
        rgb = np.stack([labels + 1, 0 * labels, 0 * labels], axis=-1)
        Image.fromarray(rgb).save(tmp_path / f"rgb{i}.png")
        items.append({"file_name": path, "sem_seg_file_name": path, "image_id": i, "caption": path})
        listed.append({"id": i, "file_name": f"{i}.jpg", "height": 6, "width": 8})
        runs = encode_masks(torch.from_numpy(labels == 1)[None])[0]
        common = {"image_id": i, "category_id": 2, "iscrowd": 0}
        objects.append({"id": i + 1, "area": 9, "segmentation": runs, **common})
        parts = [{"id": c + 1, "category_id": c + 1, "iscrowd": 0} for c in np.unique(labels)]
        parts = [{key: int(value) for key, value in part.items()} for part in parts]
        segments.append({"image_id": i, "file_name": f"rgb{i}.png", "segments_info": parts})
    categories = [{"id": c + 1, "name": name, "isthing": 1} for c, name in enumerate("abc")]
    tables = {"images": listed, "categories": categories}
    (tmp_path / "objects.json").write_text(json.dumps(tables | {"annotations": objects}))
    (tmp_path / "segments.json").write_text(json.dumps(tables | {"annotations": segments}))
    DatasetCatalog.register("images", lambda: items)
    MetadataCatalog.get("images").set(
        stuff_classes=["a", "b", "c"],
        ignore_label=255,
        json_file=str(tmp_path / "objects.json"),
        panoptic_json=str(tmp_path / "segments.json"),
        panoptic_root=str(tmp_path),
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
        stuff_dataset_id_to_contiguous_id={},
    )
    return items


def predictions(items: list[dict]) -> Batches:
    """Return random predictions of all kinds for each image."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for item in items:
        labels = torch.randint(0, 3, (6, 8), generator=generator)
        labels[torch.rand(6, 8, generator=generator) < 0.7] = 1
        parts = [{"id": c + 1, "category_id": c, "isthing": True} for c in labels.unique().tolist()]
        embeddings = torch.randn(2, 4, generator=generator)
        masks = torch.stack([labels == 1, labels == 2])
        found = {"scores": torch.tensor([0.5, 0.7]), "pred_classes": torch.tensor([1, 2])}
        output = {
            "sem_seg_labels": labels,
            "panoptic_seg": (labels + 1, parts),
            "instances": SimpleNamespace(pred_masks=masks, **found),
            "category_scores": torch.rand(3, generator=generator),
            "image_embedding": embeddings[0],
            "text_embedding": embeddings[1],
        }
        pairs.append((item, output))
    return pairs


OF_IMAGES: dict[str, Callable[[], StatefulEvaluator]] = {
    "semantic": lambda: SemanticEvaluator("images", boundary=True),
    "panoptic": lambda: PanopticEvaluator("images"),
    "instances": lambda: InstanceEvaluator("images"),
    "multilabel": lambda: MultilabelEvaluator("images"),
    "retrieval": lambda: RetrievalEvaluator("images"),
    "several": lambda: EvaluatorsByOutput(
        "images",
        {
            "sem_seg": SemanticEvaluator("images"),
            "instances": InstanceEvaluator("images"),
            "nothing": PanopticEvaluator("images"),
        },
    ),
}


def loaded(state: dict) -> dict:
    """Save and load an object as files do, without executing anything."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_resumable(build: Callable[[], StatefulEvaluator], batches: Batches) -> None:
    """Interrupted before, between and after any two batches, the results are the same."""

    def process(evaluator: StatefulEvaluator, part: slice) -> StatefulEvaluator:
        for item, output in batches[part]:
            evaluator.process([item], [output])
        return evaluator

    whole = process(build(), slice(None)).evaluate()
    assert whole
    for stop in range(len(batches) + 1):
        state = loaded(process(build(), slice(stop)).state())
        resumed = build()
        resumed.load_state(state)
        assert str(process(resumed, slice(stop, None)).evaluate()) == str(whole)


@pytest.mark.parametrize("kind", OF_IMAGES)
def test_images(images, kind: str) -> None:
    assert_resumable(OF_IMAGES[kind], predictions(images))


@pytest.mark.parametrize("kind", ["semantic", "instances"])
def test_videos(program, forget_datasets, tmp_path: Path, kind: str) -> None:
    video_run = program.video_run
    video_run.write(tmp_path)
    videos = video_run.register(tmp_path)
    pieces = DatasetCatalog.get("labelled")
    if kind == "semantic":
        outputs = [{"sem_seg_labels": torch.from_numpy(video_run.predicted(p))} for p in pieces]
        batches = list(zip(pieces, outputs, strict=True))
        assert_resumable(lambda: VideoSemanticEvaluator("labelled"), batches)
    else:
        out = tmp_path / "out"
        batches = [(item, video_run.prediction(item)) for item in videos]
        assert_resumable(lambda: VideoInstanceEvaluator("tracked", output_dir=out), batches)


# ---- files -----------------------------------------------------------------------------------


class Counter(StatefulEvaluator):
    """Add up the processed items."""

    def reset(self) -> None:
        self.sum = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        self.sum += sum(output["value"] for output in outputs)

    def state(self) -> dict:
        return {"sum": self.sum}

    def load_state(self, state: dict) -> None:
        self.sum = state["sum"]

    def evaluate(self) -> dict:
        return {"task": {"sum": self.sum}}


def evaluation(folder: Path, seconds: float = 1e-9, **fingerprint: str) -> ResumableEvaluation:
    return ResumableEvaluation(Counter(), folder, {"model": "a"} | fingerprint, seconds)


def feed(run: ResumableEvaluation, *values: int) -> None:
    run.reset()
    for value in values:
        run.process([{}], [{"value": value}])
        run._pause = 0  # independent of the disk's speed


def test_it_resumes(tmp_path: Path, caplog) -> None:
    feed(evaluation(tmp_path), 1, 2)
    caplog.set_level("INFO")
    again = evaluation(tmp_path)
    assert again.done == 2 and "unfinished-0-of-1.pt: 2 items are done" in caplog.text
    feed(again, 4)
    assert again.evaluate() == {"task": {"sum": 7}}
    finished = evaluation(tmp_path)
    assert finished.done is None and finished.evaluate() == {"task": {"sum": 7}}
    finished.finish()
    assert evaluation(tmp_path).done == 0 and not list(tmp_path.iterdir())


def test_it_is_saved_regularly(tmp_path: Path, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = evaluation(tmp_path, seconds=10)
    for now[0] in (1, 9, 10, 12, 19):
        run.process([{}], [{"value": 1}])
    assert evaluation(tmp_path).done == 3


def _with_a_changed_value(content: bytes) -> bytes:
    """The sum, 3, is another number."""
    assert content.count(b"sumq") == 1
    index = content.index(b"K\x03", content.index(b"sumq")) + 1
    return content[:index] + b"\x07" + content[index + 1 :]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "it is damaged"),
        (lambda path: path.write_bytes(_with_a_changed_value(path.read_bytes())), "it is damaged"),
        (lambda path: torch.save({"fingerprint": {"model": "a"}}, path), "it is damaged"),
        (lambda path: torch.save({"fingerprint": {"model": "b"}}, path), "of another model"),
        (lambda path: torch.save(Path("code"), path), "it is damaged"),
    ],
    ids=["short", "a bit", "without a state", "of another model", "code"],
)
def test_it_starts_over(tmp_path: Path, caplog, spoil: Callable[[Path], None], reason: str) -> None:
    feed(evaluation(tmp_path), 1, 2)
    (path,) = tmp_path.iterdir()
    spoil(path)
    again = evaluation(tmp_path)
    assert again.done == 0 and again.evaluate() == {"task": {"sum": 0}}
    assert re.search(f"Starting over .*{reason}", caplog.text)


def test_another_number_of_processes_starts_over(tmp_path: Path, caplog) -> None:
    feed(evaluation(tmp_path), 1, 2)
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / "unfinished-0-of-11.pt")
    assert evaluation(tmp_path).done == 0 and not list(tmp_path.iterdir())
    assert "is of another number of processes" in caplog.text


def test_the_fingerprint(program, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG)

    def config(*opts: object):
        return load_config(tmp_path / "run.yaml", opts)

    alike = config("OUTPUT_DIR", "x", "TEST.SAVE_SECONDS", 7, "MODEL.WEIGHTS", "y.pth", "SEED", 3)
    assert config_hash(alike) == config_hash(config())
    assert config_hash(config("INPUT.MIN_SIZE_TEST", 7)) != config_hash(config())
    # A family that this process has imported, and another one has not.
    imported, used = default_config(), config()
    expected = config_hash(used)
    for cfg in (imported, used):
        cfg.MODEL.ANOTHER_FAMILY = CfgNode({"DEPTH": 4, "NAMES": ("a", "b")})
    monkeypatch.setattr(resuming, "default_config", lambda: imported)
    assert config_hash(used) == expected
    used.MODEL.ANOTHER_FAMILY.DEPTH = 5
    assert config_hash(used) != expected
    model = torch.nn.BatchNorm2d(3)
    before = weights_hash(model)
    assert weights_hash(torch.nn.BatchNorm2d(3)) == before
    model.running_mean += 1
    assert weights_hash(model) != before


# ---- the program -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(program, repository, tmp_path_factory):
    """Start the program; returns its output folder and its process."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "run.yaml").write_text(CONFIG)
    program.video_run.write(folder)

    def start(out: str, *arguments: str, **variables: str) -> tuple[Path, subprocess.Popen]:
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
        environment |= {"VIDEOS": str(folder)} | variables
        flags = [item for item in arguments if item.startswith("--")]
        opts = [item for item in arguments if not item.startswith("--")]
        command = [sys.executable, str(PROGRAM), "--config-file", str(folder / "run.yaml")]
        flags = [part for flag in flags for part in flag.split("=")]
        process = subprocess.Popen(
            [*command, "--eval-only", *flags, "OUTPUT_DIR", str(folder / out), *opts],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return folder / out, process

    return start


@pytest.fixture(scope="module")
def run(start):
    """Run the program to its end; returns its output folder and its log."""

    def run(out: str, *arguments: str) -> tuple[Path, str]:
        folder, process = start(out, *arguments)
        errors = process.communicate()[1]
        assert process.returncode == 0, errors[-3000:]
        return folder, (folder / "log.txt").read_text()

    return run


@pytest.fixture(scope="module")
def unbroken(run) -> Path:
    return run("unbroken")[0]


def kill_when(folder: Path, process: subprocess.Popen, stalled: int) -> None:
    """When so many processes of a run stall, kill them all at once."""
    while len(list(folder.glob("stalled-*"))) < stalled:
        assert process.poll() is None, process.stderr.read()[-3000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def predicted(folder: Path) -> list[str]:
    """Return the predicted items in any order, with repetitions."""
    files = folder.glob("predicted-*")
    return sorted(line for path in files for line in path.read_text().splitlines())


def assert_same_outcome(one: Path, two: Path) -> None:
    """Results, reports and submissions to the last byte."""
    assert (one / "results.json").read_text() == (two / "results.json").read_text()
    parts = [folder / "inference" for folder in (one, two)]
    files = [sorted(p.relative_to(part) for p in part.rglob("*.*")) for part in parts]
    assert files[0] == files[1] and len(files[0]) > 50
    for file in files[0]:
        assert (parts[0] / file).read_bytes() == (parts[1] / file).read_bytes(), file


def test_a_killed_evaluation_is_resumed(start, run, unbroken: Path) -> None:
    folder, process = start("killed", STALL="14")
    kill_when(folder, process, 1)
    assert len(predicted(folder)) == 14
    _, log = run("killed")
    assert "labelled/unfinished-0-of-1.pt: the evaluation was finished" in log
    assert "tracked/unfinished-0-of-1.pt: 2 items are done" in log
    assert predicted(folder) == predicted(unbroken), "nothing twice"
    assert_same_outcome(folder, unbroken)
    assert not list(folder.rglob("unfinished*"))


@pytest.mark.slow
def test_two_killed_processes_are_resumed(start, run, unbroken: Path) -> None:
    folder, process = start("two", "--num-gpus=2", STALL="3")
    kill_when(folder, process, 2)
    assert len(predicted(folder)) == 6
    run("two", "--num-gpus=2")
    assert predicted(folder) == predicted(unbroken)
    assert_same_outcome(folder, unbroken)


# ---- the trainer -----------------------------------------------------------------------------


@pytest.fixture
def cfg(program, forget_datasets, tmp_path: Path):
    """Of an evaluation in this process, of one data set."""
    program.video_run.write(tmp_path)
    program.video_run.register(tmp_path)
    MetadataCatalog.get("labelled").evaluator_type = "video_semantic"
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    opts = ["OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", "('labelled',)"]
    return load_config(tmp_path / "run.yaml", opts)


def interrupt(cfg, after: int) -> None:
    model = Trainer.build_model(cfg)
    calls = iter(range(after))

    def stop(*_: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        Trainer.test(cfg, model)


@pytest.mark.parametrize("change", [None, "config", "model", "list of files"])
def test_only_the_same_is_resumed(cfg, monkeypatch, caplog, change: str | None) -> None:
    monkeypatch.setattr(resuming, "LEAST_PAUSE", 0)
    interrupt(cfg, after=4)
    model = Trainer.build_model(cfg)
    if change == "config":
        cfg.INPUT.MIN_SIZE_TEST = 77
    elif change == "model":
        model.weight.data += 1
    elif change == "list of files":
        DatasetCatalog.get("labelled").pop()
    caplog.set_level("INFO")
    Trainer.test(cfg, model)
    done = len(predicted(Path(cfg.OUTPUT_DIR)))
    whole = len(DatasetCatalog.get("labelled"))
    if change is None:
        assert done == whole and "4 items are done" in caplog.text
    else:
        assert done == 4 + whole and f"it is of another {change}" in caplog.text


def test_not_within_a_training_nor_where_it_is_off(cfg, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "ResumableEvaluation", None)  # any call fails
    with EventStorage(0):
        results = Trainer.test(cfg, Trainer.build_model(cfg))
    cfg.TEST.SAVE_SECONDS = 0.0
    assert str(Trainer.test(cfg, Trainer.build_model(cfg))) == str(results)
    cfg.TEST.SAVE_SECONDS = 1.0

    class Stateless(DatasetEvaluator):
        def evaluate(self) -> dict:
            return {"task": {"number": 1.0}}

    assert Trainer.test(cfg, Trainer.build_model(cfg), [Stateless()]) == {"task": {"number": 1.0}}
