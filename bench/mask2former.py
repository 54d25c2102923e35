"""Measure Mask2Former's speed and memory on this machine: `make bench BENCH=mask2former`.

    python bench/mask2former.py --models swin_t --tasks semantic training --runs 1

Weights, images and objects are random, which changes neither the arithmetic nor the memory. An
image is 512 x 512, predictions are label maps or segments, 150 classes. A training step is forward
and backward of two such images with ten objects each, without optimizer. "baseline" is
bench/baseline_mask2former.py, the published computation; "transformers" is the same model with the
same weights in that library (extra `bench`), which has no RankSeg and resizes masks to 384 x 384
before it predicts. Every number is the median of --runs separate processes; the implementations
take turns. "rest" is post-processing, in training matcher and criterion; "+" stands between forward
and backward. "GB" is the peak above the loaded model. "limit" is the time that the multiply-adds of
our products and convolutions take at the rate of a 2048^3 float32 product, measured between the
runs; only a 3 x 3 convolution can be faster, by Winograd's method.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import importlib.util
from dataclasses import dataclass
from functools import partial

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import mask2former_rankseg

# isort: split
import torch
from baseline_mask2former import BaselineMaskFormer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from measure import in_turn, memory_now, memory_peak
from parts import Parts
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers_weights import TransformersMaskFormer

from segcore.config import load_config
from segcore.errors import UserError, exit_on_user_error

SEMANTIC = "mask2former_rankseg/ade20k/semantic-segmentation"
MODELS = {
    "r50": f"{SEMANTIC}/maskformer2_R50_bs16_160k.yaml",
    "swin_t": f"{SEMANTIC}/swin/maskformer2_swin_tiny_bs16_160k.yaml",
}
TASKS = {
    "semantic": {},
    "rankseg": {
        "MODEL.RANKSEG.FLAG": True,
        "MODEL.RANKSEG.TOPK": 150,
        "MODEL.SEM_SEG_HEAD.USE_LAYERNORM": True,
    },
    "panoptic": {
        "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": False,
        "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True,
        "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
        "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
        "DATASETS.TEST": ("ade20k_panoptic_val",),
    },
    "training": {},
}
WAYS = ("baseline", "transformers", "ours")
PARTS = ("backbone", "pixel decoder", "decoder", "rest")
NUM_OBJECTS = 10
OBJECT_FRACTION = 0.2  # of the queries return an object in the panoptic task


@dataclass(frozen=True)
class Case:
    """A measurement: a config and changes to it, a task, the side of the image."""

    config: str
    task: str
    options: tuple = ()
    side: int = 512


@dataclass(frozen=True)
class Measured:
    """Medians, or one run: seconds of every part forward and backward, bytes above the model."""

    total: float
    backbone: float
    pixel_decoder: float
    decoder: float
    rest: float
    backbone_back: float
    pixel_decoder_back: float
    decoder_back: float
    rest_back: float
    memory: float


def build(case: Case) -> tuple[mask2former_rankseg.MaskFormer, CfgNode]:
    """Return a model with the same random weights at every call, and its config."""
    options = {**TASKS[case.task], "TEST.SEM_SEG_OUTPUT": "labels", "MODEL.WEIGHTS": ""}
    changes = [*(item for pair in options.items() for item in pair), *case.options]
    cfg = load_config(case.config, changes)
    torch.manual_seed(0)
    model = build_model(cfg)
    model.may_predict = True  # with random weights
    if case.task == "panoptic":
        _predict_objects(model)
    return model.train(case.task == "training"), cfg


@torch.no_grad()
def _predict_objects(model: mask2former_rankseg.MaskFormer) -> None:
    """Make OBJECT_FRACTION of the queries predict objects of various classes.

    Untrained queries would all predict the same, and there would be no segments to merge. The class
    logits become normally distributed, and the logit of "no object" is the value that the largest
    of them exceeds with that probability.
    """
    classifier = model.sem_seg_head.predictor.classifier
    below = torch.tensor(1 - OBJECT_FRACTION) ** (1 / model.num_classes)
    nn.init.normal_(classifier.weight, std=classifier.in_features**-0.5)
    nn.init.zeros_(classifier.weight[-1])
    classifier.bias[-1] = torch.special.ndtri(below)


def inputs(model: mask2former_rankseg.MaskFormer, case: Case) -> list[dict]:
    """Return an image, or for training two with objects: rectangles of many sizes."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randint, generator=generator)
    size, items = (case.side, case.side), []
    for _ in range(2 if case.task == "training" else 1):
        image = draw(0, 256, (3, *size), dtype=torch.uint8)
        item = {"image": image.to(model.device)}
        if case.task == "training":
            corners = draw(0, case.side, (NUM_OBJECTS, 2, 2)).sort(dim=1).values
            y, x = (_between(corners[..., axis], case.side) for axis in (0, 1))
            masks = (y[:, :, None] & x[:, None]).to(model.device)
            classes = draw(0, model.num_classes, (NUM_OBJECTS,)).to(model.device)
            item["instances"] = Instances(size, gt_masks=masks, gt_classes=classes)
        items.append(item)
    return items


def _between(ends: Tensor, number: int) -> Tensor:
    """ends (N, 2) -> the cells from the first to the second end, (N, number) bool."""
    cells = torch.arange(number)
    return (ends[:, :1] <= cells) & (cells <= ends[:, 1:])


def segmenter(case: Case, way: str) -> tuple[nn.Module, dict[str, nn.Module], list[dict]]:
    """Return a model that predicts or returns losses, its parts, and inputs."""
    model, cfg = build(case)
    items = inputs(model, case)
    if way == "ours":
        head = model.sem_seg_head
        modules = (model.backbone, head.pixel_decoder, head.predictor)
    else:
        wrap = {
            "baseline": BaselineMaskFormer,
            "transformers": partial(TransformersMaskFormer, cfg=cfg),
        }
        model = wrap[way](model).train(case.task == "training")
        modules = (model.backbone, model.pixel_decoder, model.decoder)
    return model, dict(zip(PARTS, modules, strict=False)), items


def measure(case: Case, way: str) -> Measured:
    """Predict, or run a training step, twice; time the second."""
    model, modules, items = segmenter(case, way)
    parts = Parts(modules)
    loaded = memory_now()
    for _ in range(2):
        result, forward = parts.forward(lambda: _finish(model(items)))
        back = parts.backward(result) if case.task == "training" else None
        del result
    forward = (*forward.parts, forward.rest)
    back = (*back.parts, back.rest) if back else (0.0,) * len(forward)
    return Measured(sum(forward) + sum(back), *forward, *back, memory_peak() - loaded)


def _finish(prediction: dict[str, Tensor] | list) -> object:
    """Return the sum of losses, or the label maps of scores."""
    if isinstance(prediction, dict):
        return sum(prediction.values())
    if isinstance(prediction[0], dict) and "sem_seg" in prediction[0]:
        return [item["sem_seg"].argmax(dim=0) for item in prediction]
    return prediction


def arithmetic(case: Case) -> Measured:
    """Return multiply-adds of our products and convolutions, in the fields for seconds."""
    model, modules, items = segmenter(case, "ours")
    is_training = case.task == "training"
    model.requires_grad_(is_training)
    forward = _counted(model, modules, lambda: model(items))
    both, back = forward, [0.0] * len(forward)
    if is_training:
        both = _counted(model, modules, lambda: _finish(model(items)).backward())
        back = [total - part for total, part in zip(both, forward, strict=True)]
    return Measured(sum(both), *forward, *back, 0.0)


def _counted(model: nn.Module, modules: dict[str, nn.Module], function: object) -> list[float]:
    with FlopCounterMode(display=False) as counter:
        function()
    counts = counter.get_flop_counts()
    names = {module: name for name, module in model.named_modules()}
    prefix = type(model).__name__
    parts = [sum(counts[f"{prefix}.{names[part]}"].values()) / 2 for part in modules.values()]
    return [*parts, counter.get_total_flops() / 2 - sum(parts)]


def ways(case: Case, ours_alone: bool) -> list[str]:
    """Return the implementations to measure: transformers has no RankSeg."""
    if ours_alone:
        return ["ours"]
    known = [way for way in WAYS if way != "transformers" or case.task != "rankseg"]
    lacks = importlib.util.find_spec("transformers") is None
    return [way for way in known if way != "transformers" or not lacks]


def line(name: str, found: Measured | None) -> str:
    """Return a row of the table."""
    if found is None:
        return f"  {name:<14}  does not fit the memory"
    forward = (found.backbone, found.pixel_decoder, found.decoder, found.rest)
    back = (found.backbone_back, found.pixel_decoder_back, found.decoder_back, found.rest_back)
    cells = [
        f"{there:.2f}" + (f"+{again:.2f}" if sum(back) else "")
        for there, again in zip(forward, back, strict=True)
    ]
    memory = f"{found.memory / 1e9:>7.2f}" if found.memory else ""
    return f"  {name:<14}{found.total:>8.2f}" + "".join(f"{c:>15}" for c in cells) + memory


def table(name: str, case: Case, args: argparse.Namespace) -> None:
    """Print the rows of a case."""
    cases = {way: (measure, case, way) for way in ways(case, args.ours_alone)}
    results, rate = in_turn(cases, args.runs)
    counted = arithmetic(case)
    limit = Measured(*(value / rate for value in vars(counted).values()))
    print(f"{name}, {case.task}; the machine: {rate / 1e9:.1f} GMAC/s")
    for way, found in {**results, "limit": limit}.items():
        print(line(way, found), flush=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--runs", type=int, default=5, help="processes per number (default: 5)")
    add("--ours-alone", action="store_true", help="leave out baseline and transformers")
    args = parser.parse_args(arguments)
    if args.runs < 1:
        raise UserError("--runs takes 1 or more")
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"seconds and GB, {where}, {torch.get_num_threads()} threads")
    if importlib.util.find_spec("transformers") is None:
        print("without transformers, which is not installed: pip install .[bench]")
    print(f"  {'':<14}{'total':>8}" + "".join(f"{part:>15}" for part in PARTS) + f"{'GB':>7}")
    for name in args.models:
        for task in args.tasks:
            table(name, Case(MODELS[name], task), args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
