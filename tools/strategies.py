#!/usr/bin/env python3
"""Ways to look at an image larger than those of training: an ablation of patch inference.

    python datasets/prepare_scenes.py --num-images 0 100 --size 288 --seed 7 --root /tmp/large
    DETECTRON2_DATASETS=/tmp/large python tools/strategies.py \
        --config-file configs/catseg_d2/scenes_60.yaml \
        MODEL.WEIGHTS demo/models/scenes_60.safetensors INPUT.MIN_SIZE_TEST 288

One row a strategy: the whole image at the resolution of training, or tiles of that size cut from
the image at a larger one, with and without the global view, with more and less overlap. A tile is
as many pixels wide as the image that the model was trained on. Columns: mIoU of the seen and the
unseen classes, their harmonic mean, and how many crops an image makes.

Source: CAT-Seg (CVPR 2024), table 3 ("training resolution" against "patch inference").
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import logging
from collections.abc import Iterator

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2  # adds its model and its config keys

# isort: split
from detectron2.config import CfgNode

from catrank import load_config
from catseg_d2.config import check_open_vocabulary
from catseg_d2.patches import PatchGeometry
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error

COLUMNS = ("mIoU-seen", "mIoU-unseen", "hIoU")


def strategies(tile: int) -> Iterator[tuple[str, PatchGeometry | None]]:
    """Name and geometry of every strategy; None is the whole image."""
    published = 5 / 3  # the side of the resized image over that of a tile, 640 / 384
    yield "whole image, training resolution", None
    for scale in (4 / 3, published, 2):
        for global_view in (True, False):
            view = "with" if global_view else "without"
            side = round(scale * tile)
            yield (
                f"tiles of an image of {side}, {view} global view",
                PatchGeometry(output_size=side, tile=tile, global_view=global_view),
            )
    side = 2 * tile
    for overlap in (0.0, 0.5):
        yield (
            f"tiles of an image of {side}, overlap {overlap:.0%}, with global view",
            PatchGeometry(output_size=side, tile=tile, overlap=overlap),
        )


def compare(cfg: CfgNode, model: catseg_d2.CATSeg) -> Iterator[tuple[str, dict[str, float], int]]:
    """Evaluate every strategy on the one data set of ``DATASETS.TEST``.

    Yields:
        name, the evaluator's scores in percent, crops of a square image.
    """
    before, side = model.patches, cfg.INPUT.MIN_SIZE_TEST
    try:
        for name, geometry in strategies(model.side[0]):
            model.patches = geometry
            scores = Trainer.test(cfg, model)["sem_seg"]
            yield name, scores, 1 if geometry is None else len(geometry.plan(side, side))
    finally:
        model.patches = before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="config of the model")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")
    arguments = parser.parse_args()
    cfg = load_config(arguments.config_file, arguments.opts)
    check_open_vocabulary(cfg, arguments.config_file)
    if len(cfg.DATASETS.TEST) != 1 or not cfg.MODEL.WEIGHTS:
        raise UserError("set MODEL.WEIGHTS, and DATASETS.TEST to one data set")
    model = Trainer.build_model(cfg)
    build_checkpointer(cfg, model).load_for_use(cfg.MODEL.WEIGHTS)
    logging.disable(logging.INFO)
    print(f"{'':56}" + "".join(f"{column:>12}" for column in COLUMNS) + f"{'crops':>7}")
    for name, scores, crops in compare(cfg, model):
        print(
            f"{name:56}" + "".join(f"{scores[c]:12.2f}" for c in COLUMNS) + f"{crops:7}", flush=True
        )


if __name__ == "__main__":
    with exit_on_user_error():
        main()
