#!/usr/bin/env python3
"""Parameters and FLOPs of a model, part by part, for one image.

    python tools/analyze.py --config-file configs/catseg_d2/vitb_384.yaml
    python tools/analyze.py --config-file configs/catseg_d2/vitb_384.yaml --vocabulary ade20k_847 \
        --size 512 683 TEST.SLIDING_WINDOW True
    python tools/analyze.py --config-file mask2former_rankseg/scenes_60_panoptic.yaml

No weights are needed. One FLOP is one multiply-add, and the words of a vocabulary are counted as
encoded already, which happens once and not once an image. A video model sees a clip of one frame.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import logging
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import load_config

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from fvcore.nn import FlopCountAnalysis, flop_count_table
from torch import Tensor, nn

from segcore.engine import Trainer
from segcore.errors import UserError, exit_on_user_error


class OneImage(nn.Module):
    """A model as a function of one tensor, which is what a trace can follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(3, H, W) to all tensors of the prediction."""
        height, width = image.shape[-2:]
        inputs = [as_input(self.model, image) | {"height": int(height), "width": int(width)}]
        return tuple(tensors_of(self.model(inputs)[0]))


def as_input(model: nn.Module, image: Tensor) -> dict:
    """What a model takes for an image; of a video model a clip of one frame."""
    return {"image": [image] if hasattr(model, "clip_frames") else image}


def tensors_of(prediction: Any) -> Iterator[Tensor]:
    """The tensors of a prediction, whatever its form."""
    if isinstance(prediction, Tensor):
        yield prediction
    elif isinstance(prediction, Instances):
        yield from (prediction.pred_masks, prediction.scores)
    elif isinstance(prediction, dict | list | tuple):
        for part in prediction.values() if isinstance(prediction, dict) else prediction:
            yield from tensors_of(part)


def attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of ``scaled_dot_product_attention``, which fvcore does not know."""
    query, key, value = (x.type().sizes() for x in inputs[:3])
    *batch, length, width = query
    pairs = torch.Size(batch).numel() * length * key[-2]
    return pairs * (width + value[-1])


def analyze(cfg: CfgNode, vocabulary: str | None, size: tuple[int, int], depth: int) -> str:
    """A table of the parameters and FLOPs of the parts of a model.

    Args:
        cfg: from ``load_config``.
        vocabulary: anything that ``Vocabulary.load`` takes; None keeps the words of the config.
        size: height and width of the image.
        depth: how far down the parts are split.
    """
    model = Trainer.build_model(cfg).eval()
    model.may_predict = True  # what it predicts is not looked at
    if vocabulary is not None:
        if not hasattr(model, "set_vocabulary"):
            raise UserError(f"{type(model).__name__} reads no words: leave out --vocabulary")
        model.set_vocabulary(vocabulary)
    if hasattr(model, "clip_frames"):
        # Tracks leave as run lengths, which no trace follows: class scores stand for them.
        model.tasks = replace(model.tasks, semantic=True)
    image = torch.zeros(3, *size, device=cfg.MODEL.DEVICE)
    # The fingerprint of the text encoder reads its bits by `view(dtype)`, which PyTorch's tracer
    # does not record; no weight changes here.
    has_text = hasattr(model, "text_cache")
    unchanged = (
        mock.patch("segcore.text.cache.text_fingerprint", return_value=0)
        if has_text
        else nullcontext()
    )
    with torch.no_grad(), unchanged:
        model([as_input(model, image)])  # fills what is computed once
        flops = FlopCountAnalysis(OneImage(model), image)
        flops.set_op_handle("aten::scaled_dot_product_attention", attention_flops)
        flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        table = flop_count_table(flops, max_depth=depth + 1, show_param_shapes=False)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{table}\n{learning / 1e6:.2f} M parameters learn"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="a file, or the name of a config")
    parser.add_argument("--vocabulary", help="a registered name, a JSON file or words with commas")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(480, 640),
        metavar=("HEIGHT", "WIDTH"),
        help="of the image (default: 480 640)",
    )
    parser.add_argument("--depth", type=int, default=1, help="of the parts (default: 1)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for the config")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_arguments()
    cfg = load_config(args.config_file, args.opts)
    if "CLIP_WEIGHTS" in cfg.MODEL:
        cfg.MODEL.CLIP_WEIGHTS = ""  # nothing is fetched
    warnings.filterwarnings("ignore")  # of the tracer, about every size that it takes for fixed
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    print(analyze(cfg, args.vocabulary, tuple(args.size), args.depth))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
