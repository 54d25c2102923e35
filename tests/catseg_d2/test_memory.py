"""Bounded memory: chunks, out-of-memory errors, large vocabularies, large images."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from segcore.errors import UserError
from segcore.inference.predictions import PredictionKind
from segcore.memory import Chunk, by_chunks, recomputed, return_freed_memory

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

PATCHES = "TEST.PATCH_INFERENCE"
LABELS = ("TEST.SEM_SEG_OUTPUT", "labels")
CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"


def image(height: int, width: int) -> dict:
    return {"image": deterministic.image("memory", height, width)}


def many_classes(number: int) -> list[str]:
    return [f"thing {i:05}" for i in range(number)]


class SmallMachine:
    """Wraps a function and raises an out-of-memory error where its input has too many rows."""

    def __init__(self, function, rows: int, error: Exception, dim: int = 0) -> None:
        self.function, self.rows, self.error, self.dim = function, rows, error, dim
        self.refused = 0

    def __call__(self, *inputs, **options):
        if inputs[0].shape[self.dim] > self.rows:
            self.refused += 1
            raise self.error
        return self.function(*inputs, **options)


ERRORS = {
    "device": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "machine": RuntimeError(CPU_MESSAGE),
}


@pytest.mark.parametrize("error", ERRORS)
def test_chunks_of_classes_shrink_after_running_out_of_memory(
    tiny, monkeypatch, error: str
) -> None:
    model, item = tiny("MODEL.SEM_SEG_HEAD.CLASS_CHUNK", 40), image(96, 96)
    expected = model([item])[0]["sem_seg"]
    decoder = model.aggregator.decoder
    machine = SmallMachine(decoder.forward, 12, ERRORS[error], dim=1)
    monkeypatch.setattr(decoder, "forward", machine)
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected)
    assert model.class_chunk.size == 10 and machine.refused == 2
    model([item])
    assert machine.refused == 2  # larger chunks are not tried again


WINDOWS = ("TEST.SLIDING_WINDOW", "True", f"{PATCHES}.OUTPUT_SIZE", "160", f"{PATCHES}.TILE", "96")


def count_crops(model, monkeypatch) -> list[int]:
    """Return a list that records the number of crops of each call of the aggregation."""
    seen, forward = [], model.aggregator.forward
    monkeypatch.setattr(
        model.aggregator, "forward", lambda x, *rest: seen.append(len(x)) or forward(x, *rest)
    )
    return seen


@pytest.fixture
def like_a_gpu(monkeypatch) -> None:
    """Crops pass in batches, as on a GPU."""
    monkeypatch.setattr("catseg_d2.inference.batches_crops", lambda device: True)


@pytest.mark.usefixtures("like_a_gpu")
@pytest.mark.parametrize("limit", [0, 3], ids=["all classes", "three of them"])
def test_crops_are_batched_where_their_classes_fit(tiny, monkeypatch, limit: int) -> None:
    """Crops of several images and vocabularies as well, if they keep equally many classes."""
    model = tiny(*WINDOWS, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", limit)
    names = ["sand", "sky", "grass", "wood", "my dog"]
    items = [image(120, 160) | {"vocabulary": names}, image(160, 90) | {"vocabulary": names}]
    items.append(image(96, 96) | {"vocabulary": ["a red circle", "a lake", "stone"]})
    predictions, calls = {}, {}
    for classes in (1, 100):
        model.class_chunk.size = classes
        with monkeypatch.context() as patch:
            calls[classes] = count_crops(model, patch)
            predictions[classes] = [prediction["sem_seg"] for prediction in model(items)]
    crops = sum(calls[1])
    assert calls[1] == [1] * crops and crops == 15
    assert calls[100] == ([15] if limit else [10, 5])
    torch.testing.assert_close(predictions[100], predictions[1], atol=2e-6, rtol=0)
    assert predictions[1][0].std() > 1e-3


@pytest.mark.usefixtures("like_a_gpu")
def test_batches_of_crops_shrink_after_running_out_of_memory(tiny, monkeypatch) -> None:
    model, item = tiny(*WINDOWS), image(120, 160)
    expected = model([item])[0]["sem_seg"]
    classes = len(model.vocabulary)
    model.class_chunk.size = 5 * classes
    calls = count_crops(model, monkeypatch)
    machine = SmallMachine(model.aggregator.forward, 2, ERRORS["device"])
    monkeypatch.setattr(model.aggregator, "forward", machine)
    torch.testing.assert_close(model([item])[0]["sem_seg"], expected, atol=2e-6, rtol=0)
    assert calls == [2, 2, 1] and machine.refused == 1


@pytest.mark.parametrize(
    ("part", "name", "setting"),
    [
        ("decoder", "forward", "MODEL.SEM_SEG_HEAD.MAX_CLASSES"),
        ("clip", "encode_image", "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION"),
        ("clip", "encode_text", "smaller vocabulary"),
    ],
)
def test_no_memory_at_all_is_one_message(tiny, monkeypatch, part, name, setting) -> None:
    model = tiny()
    module = model.clip if part == "clip" else model.aggregator.decoder
    monkeypatch.setattr(module, name, SmallMachine(None, 0, ERRORS["machine"]))
    with pytest.raises(UserError, match=f"memory ran out: .*{setting}") as error:
        model([image(96, 96)])
    assert "\n" not in str(error.value)


def test_merging_continues_with_smaller_chunks(tiny, monkeypatch) -> None:
    model, item = tiny(*LABELS), image(96, 96)
    expected = model([item])[0]["sem_seg_labels"]
    from catseg_d2 import merging

    machine = SmallMachine(lambda ids, *rest: whole(*rest[:2], ids, *rest[2:]), 3, ERRORS["device"])
    whole = merging.merged_window
    monkeypatch.setattr(merging, "merged_window", lambda a, b, ids, *c: machine(ids, a, b, *c))
    assert torch.equal(model([item])[0]["sem_seg_labels"], expected)
    assert machine.refused > 0


def test_other_errors_pass_through() -> None:
    def fail() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Chunk(4, "").run(fail)


def test_chunks_of_classes_are_joined() -> None:
    volume = torch.randn(2, 7, 3, requires_grad=True)
    for chunk in (1, 3, 7, 9):
        result = by_chunks(lambda x: x[..., None].sin(), volume, chunk)
        assert torch.equal(result, volume[..., None].sin())
        (gradient,) = torch.autograd.grad(result.sum(), volume)
        torch.testing.assert_close(gradient, volume.cos())


def test_recomputed_keeps_its_input_only() -> None:
    kept = []
    x = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = recomputed(lambda x: x.sin().exp().tanh(), x)
    assert {t.data_ptr() for t in kept if t.numel() == 1000} <= {x.data_ptr()}
    expected = torch.autograd.grad(x.sin().exp().tanh().sum(), x)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x), expected)
    return_freed_memory()


def test_twenty_thousand_classes(tiny) -> None:
    model = tiny(*LABELS, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", 32, "TEST.TOP_K", 2)
    model.set_vocabulary(many_classes(20_000))
    prediction = model([image(60, 80)])[0]
    assert prediction["sem_seg_labels"].shape == (60, 80)
    assert len(prediction["top_k_labels"].unique()) <= 32


@pytest.mark.parametrize("output", ["scores", "labels"])
def test_one_class(tiny, output: str) -> None:
    model = tiny()
    model.set_vocabulary(["grass"])
    model.prediction_kind = PredictionKind(output)
    (prediction,) = model([image(60, 80)])[0].values()
    assert prediction.shape[-2:] == (60, 80)


def test_threads_with_different_vocabularies(tiny) -> None:
    """Lists of equal length, so that a mixture would show in the labels only."""
    model, item = tiny(*LABELS), image(96, 96)
    lists = [["sand", "sky", "my dog"], ["a red circle", "grass", "wood"]]
    expected = []
    for names in lists:
        model.set_vocabulary(names)
        expected.append(model([item])[0]["sem_seg_labels"])
    assert not torch.equal(*expected)
    wrong = []

    def predict(names: list[str]) -> None:
        for _ in range(8):
            model.set_vocabulary(names)
            labels = model([item])[0]["sem_seg_labels"]
            if not any(torch.equal(labels, x) for x in expected):
                wrong.append(labels)

    threads = [threading.Thread(target=predict, args=(names,)) for names in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FIFTY_MEGAPIXELS = f"""
import resource, sys, torch
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import catseg_d2
from detectron2.modeling import build_model
from segcore.checkpoint import weights
from segcore.config import load_config

weights._check_trained = lambda *_: None  # random weights use as much memory as trained ones

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.manual_seed(0)
tiles = ["TEST.SLIDING_WINDOW", "True", "{PATCHES}.OUTPUT_SIZE", "0", "{PATCHES}.TILE", "1024"]
few = ["MODEL.SEM_SEG_HEAD.MAX_CLASSES", "16", "TEST.SEM_SEG_OUTPUT", "labels"]
cfg = load_config("catseg_d2/scenes_60.yaml", [*tiles, *few, "MODEL.DEVICE", "cpu"])
model = build_model(cfg)
model = model.eval()
model([{{"image": torch.zeros(3, 1024, 1024, dtype=torch.uint8)}}])
image = torch.randint(0, 256, (3, 5800, 8700), dtype=torch.uint8)
before = peak()
labels = model([{{"image": image}}])[0]["sem_seg_labels"]
print((peak() - before) / (5800 * 8700))
assert labels.shape == (5800, 8700) and len(labels.unique()) > 1
"""


@pytest.mark.slow
def test_fifty_megapixels_in_tiles_of_native_size(repository) -> None:
    """Memory: the image, its labels (8 bytes a pixel), their scores (4), temporaries of chunks."""
    done = subprocess.run(
        [sys.executable, "-c", FIFTY_MEGAPIXELS],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 30, "bytes a pixel"
