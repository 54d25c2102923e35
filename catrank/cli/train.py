"""``catrank train``: the command line of training."""

import argparse

from catrank.cli.word import Word

TRAIN = """\
Train a model as its config says, and evaluate it.

CONFIG is a file, or the name of a config that comes with CatRank (configs/INDEX.md). KEY VALUE
pairs change it: MODEL.WEIGHTS, DATASETS.TRAIN, SOLVER.BASE_LR, OUTPUT_DIR, ... Checkpoints, logs
and scores go to OUTPUT_DIR. By torchrun: torchrun --nproc-per-node 4 -m catrank train CONFIG."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config_file", metavar="CONFIG", help="a file, or the name of a config")
    add("--resume", action="store_true", help="continue from the last checkpoint of OUTPUT_DIR")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes of this machine; on the "
        "CPU too (1)")  # fmt: skip
    add("--num-machines", type=int, default=1, metavar="N", help="(1)")
    add("--machine-rank", type=int, default=0, metavar="N", help="of this machine, from 0 (0)")
    add("--dist-url", default="", metavar="URL", help="of the first machine, tcp://node0:29500")
    add("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")


def _run(args: argparse.Namespace) -> int:
    from catrank import import_families
    from catrank.training import main
    from segcore.engine import launch

    args.eval_only = False
    import_families(args.config_file, args.opts)  # here, and in every process
    launch(main, args)
    return 0


WORD = Word(
    title="train a model",
    run=_run,
    add_arguments=_arguments,
    usage="CONFIG [options] [KEY VALUE ...]",
    description=TRAIN,
    examples="""
catrank train catseg_d2/vitb_384.yaml --num-gpus 4 OUTPUT_DIR out/vitb
catrank train catseg_d2/vitb_384.yaml --resume OUTPUT_DIR out/vitb
catrank train mask2former_rankseg/scenes_60_panoptic.yaml SOLVER.MAX_ITER 1000
""",
    interrupted=": --resume continues from the last checkpoint",
)
