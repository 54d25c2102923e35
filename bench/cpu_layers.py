#!/usr/bin/env python3
"""CPU seconds of the layers that take most of CAT-Seg's time, in other precisions and formats.

    make bench BENCH=cpu_layers

Each is a layer of ViT-B/16 at its size for one crop: a linear layer of the image encoder's MLP, and
of the decoder the last stage, for eight classes. The ways take turns; a number is the minimum of
--runs calls, in CPU time, which other load on the machine changes little. "int8" is dynamic
quantisation.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split
import argparse
import copy
import time
import warnings
from collections.abc import Callable
from functools import partial

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catseg_d2.decoder import UpStage

# isort: split
import torch
from torch import Tensor, nn
from torch.ao import quantization

from segcore.errors import UserError, exit_on_user_error
from segcore.inference.precision import has_bfloat16

Call = Callable[[], Tensor]


def linear_ways() -> dict[str, Call]:
    """Return calls of the first linear layer of an MLP, for 577 tokens."""
    layer, x = nn.Linear(768, 3072), torch.rand(1, 577, 768)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch plans to move it to another package
        quantised = quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear}, torch.qint8)
    return {
        "float32": partial(layer, x),
        "bfloat16": partial(copy.deepcopy(layer).bfloat16(), x.bfloat16()),
        "int8": partial(quantised, x),
    }


def stage_ways() -> dict[str, Call]:
    """Return calls of the decoder's last stage, for the maps of eight classes."""
    stage, x, guidance = UpStage(64, 16, 32), torch.rand(8, 64, 48, 48), torch.rand(1, 16, 96, 96)
    last = torch.channels_last
    return {
        "float32": partial(stage, x, guidance),
        "channels last": partial(
            UpStage(64, 16, 32).to(memory_format=last), x.to(memory_format=last), guidance
        ),
        "bfloat16": partial(UpStage(64, 16, 32).bfloat16(), x.bfloat16(), guidance.bfloat16()),
    }


def cpu_seconds(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@torch.inference_mode()
def table(runs: int) -> None:
    """Print a row for each layer and way: CPU seconds, and their ratio to float32."""
    print(f"{'layer':<10}{'':<15}{'CPU s':>9}{'of float32':>12}")
    for name, ways in (("linear", linear_ways()), ("decoder", stage_ways())):
        for call in ways.values():
            call()
        found = {way: [] for way in ways}
        for _ in range(runs):
            for way, call in ways.items():
                found[way].append(cpu_seconds(call))
        for way, times in found.items():
            ratio = min(times) / min(found["float32"])
            print(f"{name:<10}{way:<15}{min(times):>9.4f}{ratio:>12.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="calls per way (default: 5)")
    args = parser.parse_args()
    if args.runs < 1:
        raise UserError("--runs takes 1 or more")
    known = "has" if has_bfloat16(torch.device("cpu")) else "lacks"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {known} bfloat16")
    table(args.runs)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
