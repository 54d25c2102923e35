"""Measure GroupViT's and MixReorg's speed and memory on this machine: `make bench BENCH=groupvit`.

    python bench/groupvit.py --batch 8 --runs 1

Weights and images are random, of the published size. "image" is the image encoder with its
projection for a batch of images of 224 x 224; "training" is forward and backward of the batch with
a caption an image, without optimizer. "groupvit" and "mixreorg" are ours, "transformers" is
GroupViT in that library (extra `bench`) with the same weights. At test time MixReorg is GroupViT.
Every number is the median of --runs separate processes; the ways take turns. "GB" is the peak above
the loaded model.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import groupvit_mixreorg

# isort: split
import torch
from detectron2.modeling import build_model
from measure import in_turn, memory_now, memory_peak, seconds
from torch import Tensor, nn
from transformers_weights import import_transformers

from groupvit_mixreorg.names.transformers import PAIRS
from segcore.checkpoint.renaming import Renaming
from segcore.config import load_config
from segcore.errors import UserError, exit_on_user_error

TASKS = {
    "image": ("groupvit", "transformers"),
    "training": ("groupvit", "mixreorg", "transformers"),
}
CAPTION = "a photograph of a brown dog that runs over green grass, number {}"


@dataclass(frozen=True)
class Measured:
    """Seconds of forward and backward, and bytes of the peak above the loaded model."""

    forward: float
    backward: float
    memory: float


def build(way: str) -> groupvit_mixreorg.GroupViT:
    """Build a model of ours of the published size, with random weights, for captions alone."""
    name = "mixreorg" if way == "mixreorg" else "gcc_yfcc"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = ["MODEL.DEVICE", device, "MODEL.GROUPVIT.MULTI_LABEL", 0]
    torch.manual_seed(0)
    return build_model(load_config(f"groupvit_mixreorg/{name}.yaml", options))


def in_transformers(model: groupvit_mixreorg.GroupViT) -> nn.Module:
    """Return the library's model with the weights of ours.

    Raises:
        UserError: the library is not installed.
    """
    config = import_transformers("GroupViTConfig")()
    theirs = import_transformers("GroupViTModel")(config)
    names, weights = Renaming(PAIRS), {}
    for name, value in model.state_dict().items():
        target = names.to_published(name.removeprefix("model."))
        if "qkv_proj" not in target:
            weights[target] = value
        else:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                weights[target.replace("qkv_proj", f"{letter}_proj")] = part
    theirs.load_state_dict(weights)
    return theirs.to(model.device)


def inputs(model: groupvit_mixreorg.GroupViT, batch: int, side: int = 224) -> list[dict]:
    """Return random images with captions."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=model.device)
    return [{"image": x, "caption": CAPTION.format(i)} for i, x in enumerate(images)]


def forward_of(way: str, task: str, batch: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a model, and its forward pass: embeddings of images, or the loss of a batch."""
    model = build(way)
    items = inputs(model, batch)
    images = torch.stack([item["image"] for item in items]).float() / 255
    tokens = model.tokenize([item["caption"] for item in items]).to(model.device)
    if way == "transformers":
        theirs = in_transformers(model).train(task == "training")
        if task == "training":
            pairs = {"input_ids": tokens, "pixel_values": images, "return_loss": True}
            return theirs, lambda: theirs(**pairs).loss
        return theirs, lambda: theirs.get_image_features(pixel_values=images)
    model.train(task == "training")
    if task == "training":
        return model, lambda: sum(model(items).values())
    return model, lambda: model.model.project(model.model.image_encoder(images).vector)


def measure(way: str, task: str, batch: int) -> Measured:
    """Measure one pass of a batch, after another one."""
    _, forward = forward_of(way, task, batch)
    found: list[Tensor] = []
    with torch.set_grad_enabled(task == "training"):
        forward()
        before = memory_now()
        ahead = seconds(lambda: found.append(forward()))
        back = seconds(found[0].backward) if task == "training" else 0.0
    return Measured(ahead, back, memory_peak() - before)


def line(way: str, found: Measured | None, batch: int) -> str:
    """Return a row of the table."""
    if found is None:
        return f"  {way:<14}  does not fit the memory"
    total = found.forward + found.backward
    backward = f"{found.backward:.2f}" if found.backward else ""
    numbers = f"{batch / total:>11.2f}{found.forward:>11.2f}{backward:>12}"
    return f"  {way:<14}{numbers}{found.memory / 1e9:>8.2f}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--batch", type=int, default=8, help="images (default: 8)")
    parser.add_argument("--runs", type=int, default=5, help="processes per number (default: 5)")
    args = parser.parse_args(arguments)
    if args.runs < 1:
        raise UserError("--runs takes 1 or more")
    if args.batch < 2 or args.batch % 2:
        raise UserError("--batch takes an even number: MixReorg mixes pairs of images")
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"batches of {args.batch} images, {where}, {torch.get_num_threads()} threads")
    has_library = importlib.util.find_spec("transformers") is not None
    if not has_library:
        print("without transformers, which is not installed: pip install .[bench]")
    print(f"  {'':<14}{'images / s':>11}{'forward s':>11}{'backward s':>12}{'GB':>8}")
    for task in args.tasks:
        ways = [way for way in TASKS[task] if has_library or way != "transformers"]
        results, rate = in_turn({way: (measure, way, task, args.batch) for way in ways}, args.runs)
        print(f"{task}; the machine: {rate / 1e9:.1f} GMAC/s")
        for way, found in results.items():
            print(line(way, found, args.batch), flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
