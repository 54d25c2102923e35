"""Measure reduced precision and other kernels: their error and speed compared with float32."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from catseg_models import build, random_image
from measure import in_turn, seconds
from vocabulary import many_class_names

import catseg_d2
from segcore.inference.predictions import PredictionKind


@dataclass(frozen=True)
class Precision:
    """Seconds per image, largest error of a score, fraction of pixels with another label."""

    image: float
    error: float
    other_labels: float


def half_precision(model: catseg_d2.CATSeg) -> Callable:
    """Compute products in bfloat16, sums in float32."""

    def prediction(inputs: list[dict]) -> list[dict]:
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            return model(inputs)

    return prediction


def compiled(model: catseg_d2.CATSeg) -> Callable:
    """Fuse kernels by torch.compile; the aggregation is one graph."""
    model.aggregator = torch.compile(model.aggregator, fullgraph=True)
    return model


def channels_last(model: catseg_d2.CATSeg) -> Callable:
    """Store maps with the channels last in memory."""
    return model.to(memory_format=torch.channels_last)


WAYS = {
    "float32": lambda model: model,
    "bfloat16": half_precision,
    "compiled": compiled,
    "channels last": channels_last,
}


def compare(config: str, number: int, way: str) -> Precision:
    """Measure the time of an image, and compare its scores and labels with those of float32."""
    model = build(
        config, TEST__SLIDING_WINDOW=True, MODEL__SEM_SEG_HEAD__POOLING_SIZES=[1, 1]
    ).eval()
    model.set_vocabulary(many_class_names(number))
    item = {"image": random_image()}
    expected = model([item])[0]["sem_seg"]
    prediction = WAYS[way](model)
    scores = prediction([item])[0]["sem_seg"]
    error = (scores - expected).abs().max().item()
    other = (scores.argmax(dim=0) != expected.argmax(dim=0)).float().mean().item()
    del scores, expected
    model.prediction_kind = PredictionKind("labels")
    return Precision(seconds(lambda: prediction([item])), error, other)


def table_of_precisions(config: str, numbers: list[int], runs: int) -> None:
    """Print a line for every number of classes and every way of ``WAYS``."""
    print(f"{'classes':>7}  {'':<15}{'image s':>10}{'largest error':>15}{'other labels':>14}")
    for number in numbers:
        cases = {way: (compare, config, number, way) for way in WAYS}
        results, _ = in_turn(cases, runs)
        for way, found in results.items():
            cells = (
                f"{found.image:>10.2f}{found.error:>15.1e}{found.other_labels:>14.2%}"
                if found
                else "  does not fit the memory"
            )
            print(f"{number:>7}  {way:<15}{cells}", flush=True)
