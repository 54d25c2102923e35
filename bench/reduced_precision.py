"""Measure reduced precision and other kernels: their error and speed compared with float32."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from catseg_models import build, random_image
from measure import in_turn, seconds
from torch import nn
from torch.ao import quantization
from vocabulary import many_class_names

import catseg_d2
from segcore.inference.precision import has_bfloat16
from segcore.inference.predictions import PredictionKind


@dataclass(frozen=True)
class Precision:
    """Seconds per image, largest error of a score, fraction of pixels with another label."""

    image: float
    error: float
    other_labels: float


def channels_last(model: catseg_d2.CATSeg) -> None:
    """Store weights and maps with the channels last in memory."""
    model.to(memory_format=torch.channels_last)


def int8(model: catseg_d2.CATSeg) -> None:
    """Quantise the linear layers of the image encoder: weights once, inputs at every call."""
    quantization.quantize_dynamic(model.clip.visual, {nn.Linear}, torch.qint8, inplace=True)


# Way -> config keys, and a change of the model.
WAYS: dict[str, tuple[dict[str, str], Callable[[catseg_d2.CATSeg], None] | None]] = {
    "float32": ({}, None),
    "bfloat16": ({"MODEL__PRECISION": "bfloat16"}, None),
    "compiled": ({"MODEL__COMPILE": "default"}, None),
    "channels last": ({}, channels_last),
    "int8 encoder": ({}, int8),
}


def ways(device: torch.device) -> list[str]:
    """Return the ways that make sense on a device."""
    names = list(WAYS)
    if device.type == "cuda":
        names.remove("int8 encoder")  # dynamic quantisation is for the CPU
    elif not has_bfloat16(device):
        names.remove("bfloat16")  # it takes tens of times as long
    return names


def compare(config: str, number: int, way: str) -> Precision:
    """Measure the time of an image, and compare its scores and labels with those of float32.

    The image is one crop, because a CPU takes crops one by one.
    """
    item = {"image": random_image()}
    expected = _model(config, number)([item])[0]["sem_seg"]
    keys, change = WAYS[way]
    model = _model(config, number, **keys)
    if change is not None:
        change(model)
    scores = model([item])[0]["sem_seg"]  # compiles
    error = (scores - expected).abs().max().item()
    other = (scores.argmax(dim=0) != expected.argmax(dim=0)).float().mean().item()
    del scores, expected
    model.prediction_kind = PredictionKind("labels")
    return Precision(min(seconds(lambda: model([item])) for _ in range(3)), error, other)


def _model(config: str, number: int, **keys: str) -> catseg_d2.CATSeg:
    model = build(config, MODEL__SEM_SEG_HEAD__POOLING_SIZES=[1, 1], **keys).eval()
    model.set_vocabulary(many_class_names(number))
    return model


def table_of_precisions(config: str, numbers: list[int], runs: int) -> None:
    """Print a line for every number of classes and every way of ``WAYS``."""
    print(f"{'classes':>7}  {'':<15}{'image s':>10}{'largest error':>15}{'other labels':>14}")
    for number in numbers:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        cases = {way: (compare, config, number, way) for way in ways(device)}
        results, _ = in_turn(cases, runs)
        for way, found in results.items():
            cells = (
                f"{found.image:>10.2f}{found.error:>15.1e}{found.other_labels:>14.2%}"
                if found
                else "  does not fit the memory"
            )
            print(f"{number:>7}  {way:<15}{cells}", flush=True)
