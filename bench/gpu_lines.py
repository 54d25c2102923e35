"""Measure one family in one process for bench/gpu.py; write a line of JSON per measurement."""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_models
import groupvit
import mask2former
import pixel_classifiers
import pixel_networks

# isort: split
import torch
from baseline_catseg import BaselineCATSeg
from catseg import PUBLISHED_VOCABULARIES, predict_labels
from measure import memory_now, memory_peak, seconds
from torch import Tensor, nn
from vocabulary import many_class_names

from catseg_d2.encoders import __file__ as encoders_file
from segcore.errors import UserError
from segcore.inference.precision import Precision

ENCODERS_FOLDER = Path(encoders_file).parent
GROUPVIT_BATCH = 64
NUMBERS = (19, 58, 150, 847)  # of classes
COMPILED_NUMBER = 150
COMPILE_MODES = ("default", "reduce-overhead")
KEPT = 32  # classes that enter the aggregation, of larger vocabularies
# Other encoders of CAT-Seg: config, that of a tiny model, keys. The tokenizer file is of Scenes,
# since SigLIP's comes with its weights.
TOKENIZER = {"MODEL__CLIP_TOKENIZER": str(ENCODERS_FOLDER / "tokenizers" / "scenes.json")}
ENCODERS = (
    ("catseg_d2/vitl_siglip_384.yaml", "catseg_d2/scenes_60_siglip.yaml", TOKENIZER),
    ("catseg_d2/eva02_l14_336.yaml", "catseg_d2/scenes_60.yaml", {}),
)
PER_PIXEL_MODELS = ("segmenter_b", "upernet_swin_b")
PRECISIONS = ("float32", "tf32", "bf16")
SWIN_L = (
    f"{mask2former.SEMANTIC}/swin/maskformer2_swin_large_IN21k_384_bs16_160k_res640.yaml",
    640,
)
SEMANTIC = tuple(
    item
    for task, wanted in (("SEMANTIC", True), ("PANOPTIC", False), ("INSTANCE", False))
    for item in (f"MODEL.MASK_FORMER.TEST.{task}_ON", wanted)
)


@dataclass(frozen=True)
class Effort:
    """Of a line: warm-up calls, seconds to measure for, and the maximum number of calls."""

    warm_up: int = 2
    seconds: float = 2.0
    calls: int = 30


TINY = Effort(warm_up=0, seconds=0.0, calls=1)


def allow_tf32(name: str) -> None:
    """Compute the products that are in float32 in TF32, unless ``name`` is float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "float32"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Compute products in float32, in TF32, or under autocast in bfloat16."""
    allow_tf32(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    context = torch.autocast(device, torch.bfloat16) if name == "bf16" else nullcontext()
    with context:
        yield


def timed(function: Callable[[], Any], effort: Effort) -> tuple[float, float]:
    """Return median seconds of a call after the warm-up, and the peak of additional bytes."""
    loaded = memory_now()
    for _ in range(effort.warm_up):
        function()
    times, end = [], time.monotonic() + effort.seconds
    while not times or (time.monotonic() < end and len(times) < effort.calls):
        times.append(seconds(function))
    return statistics.median(times), memory_peak() - loaded


def line(function: Callable[[], Any], effort: Effort, images: int, **names: object) -> dict:
    """Return a line of the table; after an error or out of memory it holds the message."""
    try:
        time_of_call, memory = timed(function, effort)
        rates = {"images/s": f"{images / time_of_call:.2f}", "GB": f"{memory / 1e9:.2f}"}
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        rates = {"images/s": reason[:100].replace("|", "/"), "GB": ""}
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {**names, **rates}


def catseg_lines(config: str, with_compiled: bool, tiny: bool) -> Iterator[dict]:
    """Measure CAT-Seg and the baseline: patch inference, label maps."""
    effort = TINY if tiny else Effort()
    model = _catseg(config)
    image = catseg_models.random_image()[:, : 96 if tiny else None, : 96 if tiny else None]
    image = image.to(model.device)
    baseline, wanted = BaselineCATSeg(model), None
    for number in NUMBERS[:1] if tiny else NUMBERS:
        vocabulary = PUBLISHED_VOCABULARIES.get(number) or many_class_names(number)
        model.set_vocabulary(vocabulary)
        baseline.set_vocabulary(vocabulary)
        expected = None
        for name in PRECISIONS:
            found, labels = _catseg_line(model, image, name, effort, classes=number, way="ours")
            expected = labels if expected is None else expected
            yield found | {"other labels": _others(labels, expected)}
        kept = 4 if tiny else KEPT
        if number > kept:
            names = {"classes": number, "way": f"ours, {kept} kept"}
            model.max_classes, usual = kept, model.max_classes
            found, labels = _catseg_line(model, image, "bf16", effort, **names)
            model.max_classes = usual
            yield found | {"other labels": _others(labels, expected)}
        prediction = partial(predict_labels, baseline, image)
        for name in PRECISIONS:
            with precision(name):
                found = line(prediction, effort, 1, classes=number, way="baseline", precision=name)
            yield found | {"other labels": ""}
        if number == COMPILED_NUMBER:
            wanted = expected
    for mode in COMPILE_MODES if with_compiled and not tiny else ():
        model = _catseg(config, MODEL__COMPILE=mode)
        model.set_vocabulary(PUBLISHED_VOCABULARIES[COMPILED_NUMBER])
        names = {"classes": COMPILED_NUMBER, "way": f"ours, compiled, {mode}"}
        found, labels = _catseg_line(model, image, "bf16", effort, **names)
        yield found | {"other labels": _others(labels, wanted)}


def _catseg(config: str, **keys: object) -> nn.Module:
    """Return CAT-Seg as published evaluation builds it, with label maps."""
    return catseg_models.build(
        config,
        TEST__SLIDING_WINDOW=True,
        TEST__SEM_SEG_OUTPUT="labels",
        MODEL__SEM_SEG_HEAD__POOLING_SIZES=[1, 1],
        **keys,
    ).eval()


def _catseg_line(
    model: nn.Module, image: Tensor, name: str, effort: Effort, **names: object
) -> tuple[dict, Tensor | None]:
    """Return a line of our model in a precision, and its labels; None after an error."""
    allow_tf32(name)
    model.precision = Precision("bfloat16" if name == "bf16" else "float32")
    prediction = partial(predict_labels, model, image)
    found = line(prediction, effort, 1, **names, precision=name)
    return found, None if found["GB"] == "" else prediction()


def _others(labels: Tensor | None, expected: Tensor | None) -> str:
    if labels is None or expected is None:
        return ""
    return f"{(labels != expected).float().mean().item():.2%}"


def encoder_lines(tiny: bool) -> Iterator[dict]:
    """Measure CAT-Seg with SigLIP's and EVA-02-CLIP's encoders: patch inference, label maps."""
    effort = TINY if tiny else Effort()
    for large, small, keys in ENCODERS:
        config = small if tiny else large
        model = _catseg(config, **keys)
        image = catseg_models.random_image()[:, : 96 if tiny else None, : 96 if tiny else None]
        image = image.to(model.device)
        number = 20 if tiny else 150
        model.set_vocabulary(PUBLISHED_VOCABULARIES[number])
        expected = None
        for name, kept in (("float32", 0), ("bf16", 0), ("bf16", 4 if tiny else KEPT)):
            model.max_classes = kept
            names = {"config": Path(config).stem, "classes": number, "kept": kept or number}
            found, labels = _catseg_line(model, image, name, effort, **names)
            expected = labels if expected is None else expected
            yield found | {"other labels": _others(labels, expected)}


def groupvit_lines(tiny: bool) -> Iterator[dict]:
    """Measure GroupViT, MixReorg and transformers: embeddings of images, training steps."""
    effort = TINY if tiny else Effort()
    batch = 2 if tiny else GROUPVIT_BATCH
    for task, ways in groupvit.TASKS.items():
        training = task == "training"
        for way in ways:
            try:
                model, forward = groupvit.forward_of(way, task, batch)
            except UserError as error:  # without transformers
                reason = " ".join(str(error).split())[:100]
                yield {"task": task, "way": way, "precision": "", "images/s": reason, "GB": ""}
                continue
            call = partial(_forward_backward, model, forward) if training else forward
            for name in ("float32",) if tiny else ("float32", "bf16"):
                with precision(name), torch.set_grad_enabled(training):
                    yield line(call, effort, batch, task=task, way=way, precision=name)


def _forward_backward(model: nn.Module, forward: Callable[[], Tensor]) -> None:
    model.zero_grad()
    forward().backward()


def mask2former_lines(tiny: bool) -> Iterator[dict]:
    """Measure Swin-L and transformers: label maps of an image, a training step of two images."""
    effort = TINY if tiny else Effort()
    config, side = ("mask2former_rankseg/scenes_60_panoptic.yaml", 64) if tiny else SWIN_L
    options = SEMANTIC if tiny else ()
    for task in ("semantic", "training"):
        for way in ("ours", "transformers"):
            case = mask2former.Case(config, task, options, side)
            build = partial(_mask2former, case, way)
            yield from _lines(build, task == "training", effort, PRECISIONS, task=task, way=way)


def _mask2former(case: mask2former.Case, way: str) -> tuple[nn.Module, list[dict]]:
    model, _, items = mask2former.segmenter(case, way)
    return model, items


def per_pixel_lines(tiny: bool) -> Iterator[dict]:
    """Measure per-pixel models, with and without RankSeg: label maps, and training steps."""
    effort = TINY if tiny else Effort(seconds=1.0)
    for name, task in itertools.product(PER_PIXEL_MODELS, pixel_classifiers.TASKS):
        for number in pixel_classifiers.MODELS[name]:
            training = task == "training"
            for way, (case, theirs) in pixel_classifiers.ways(name, number, training).items():
                if tiny:
                    options = pixel_networks.pairs(pixel_networks.TINY)
                    case = replace(case, options=options, side=pixel_networks.TINY_SIDE)
                build = partial(pixel_networks.network, case, theirs)
                names = {"model": name, "classes": number, "task": task, "way": way}
                yield from _lines(build, training, effort, ("bf16",), **names)


def _lines(
    build: Callable[[], tuple[nn.Module, list[dict]]],
    training: bool,
    effort: Effort,
    precisions: Sequence[str],
    **names: object,
) -> Iterator[dict]:
    """Measure a model that ``build`` returns with its inputs, in each precision."""
    try:
        model, items = build()
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        yield {**names, "precision": "", "images/s": reason, "GB": ""}
        return
    call = partial(_step if training else _prediction, model, items)
    for name in precisions:
        with precision(name):
            yield line(call, effort, len(items), **names, precision=name)


def _prediction(model: nn.Module, items: list[dict]) -> object:
    return mask2former._finish(model(items))


def _step(model: nn.Module, items: list[dict]) -> None:
    model.zero_grad()
    mask2former._finish(model(items)).backward()


FAMILIES = {
    "encoders": encoder_lines,
    "groupvit": groupvit_lines,
    "mask2former": mask2former_lines,
    "per_pixel": per_pixel_lines,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("family", choices=("catseg", *FAMILIES))
    parser.add_argument("config", nargs="?")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.family == "catseg":
        config = "catseg_d2/scenes_60.yaml" if args.tiny else args.config
        lines = catseg_lines(config, args.compile, args.tiny)
    else:
        lines = FAMILIES[args.family](args.tiny)
    with args.log.open("w", encoding="utf-8") as file:
        for found in lines:
            print(json.dumps(found), file=file, flush=True)


if __name__ == "__main__":
    main()
