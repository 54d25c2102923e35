#!/usr/bin/env python3
"""Parameters and FLOPs of a model, part by part, for one picture.

    python tools/analyze.py --config-file configs/catseg_d2/vitb_384.yaml
    python tools/analyze.py --config-file configs/catseg_d2/vitb_384.yaml --vocabulary ade20k_847 \
        --size 512 683 TEST.SLIDING_WINDOW True

No weights are needed. One FLOP is one multiply-add, and the words of a vocabulary are counted as
encoded already, which happens once and not once a picture.
"""

import argparse
import logging
import warnings
from typing import Any
from unittest import mock

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2  # noqa: F401  (adds its model and its config keys)

# isort: split
import torch
from detectron2.config import CfgNode
from fvcore.nn import FlopCountAnalysis, flop_count_table
from torch import Tensor, nn

from segcore.config import load_config
from segcore.engine import Trainer
from segcore.errors import UserError, exit_on_user_error


class OnePicture(nn.Module):
    """A model as a function of one tensor, which is what a trace can follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(3, H, W) to scores (T, H, W)."""
        height, width = image.shape[-2:]
        inputs = [{"image": image, "height": int(height), "width": int(width)}]
        return self.model(inputs)[0]["sem_seg"]


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
        size: height and width of the picture.
        depth: how far down the parts are split.
    """
    model = Trainer.build_model(cfg).eval()
    model.may_predict = True  # what it predicts is not looked at
    if vocabulary is not None:
        if not hasattr(model, "set_vocabulary"):
            raise UserError(f"{type(model).__name__} reads no words: leave out --vocabulary")
        model.set_vocabulary(vocabulary)
    image = torch.zeros(3, *size, device=cfg.MODEL.DEVICE)
    # The fingerprint of the text tower reads its bits by `view(dtype)`, which PyTorch's tracer does
    # not record; no weight changes here.
    unchanged = mock.patch("catseg_d2.text.text_fingerprint", return_value=0)
    with torch.no_grad(), unchanged:
        model([{"image": image}])  # fills what is computed once
        flops = FlopCountAnalysis(OnePicture(model), image)
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
        help="of the picture (default: 480 640)",
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
