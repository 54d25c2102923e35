#!/usr/bin/env python3
"""Write the ranking head of a trained CAT-Seg to a file of its own, a rank adapter.

    python tools/rank_adapter.py --config-file catseg_d2/scenes_1k_rank_head.yaml \
        output/scenes_1k_rank_head/model_final.pth rank_head.safetensors

The file is for the checkpoint that the head was trained on, which has none:

    catrank segment photo.jpg --model base.safetensors --ranking rank_head.safetensors --keep 32
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import load_config

# isort: split
from detectron2.config import CfgNode

from catseg_d2.config import check_open_vocabulary
from catseg_d2.rank_adapter import RankAdapter
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument


def write_adapter(cfg: CfgNode, checkpoint: Path, target: Path) -> None:
    """Write the ranking head of ``checkpoint`` to ``target``.

    Raises:
        UserError: the target has another suffix, or the checkpoint has no ranking head.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end in .safetensors")
    if not cfg.MODEL.RANKSEG.FLAG:
        raise UserError(
            "MODEL.RANKSEG.FLAG of the config is False: name the config that the head was trained "
            "by, such as catseg_d2/scenes_1k_rank_head.yaml"
        )
    model = Trainer.build_model(cfg)
    build_checkpointer(cfg, model).load_for_use(str(checkpoint))
    RankAdapter.of(model).write(target)
    parameters = sum(parameter.numel() for parameter in model.ranking.parameters())
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB, {parameters:,} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="config that the head was trained by")
    parser.add_argument("checkpoint", type=path_argument)
    parser.add_argument("target", type=path_argument)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")
    arguments = parser.parse_args()
    with exit_on_user_error():
        # An adapter that the training started from is no part of its checkpoints.
        opts = [*arguments.opts, "MODEL.RANKSEG.WEIGHTS", ""]
        cfg = load_config(arguments.config_file, opts)
        check_open_vocabulary(cfg, arguments.config_file)
        write_adapter(cfg, arguments.checkpoint, arguments.target)


if __name__ == "__main__":
    main()
