"""``catrank data config``: a config to start from, over catrank.starting_configs."""

import argparse

from catrank.cli.word import Word

MODELS = ("catseg", "mask2former", "segmenter", "deeplabv3")
TASKS = ("panoptic", "instance", "semantic", "video-instance", "video-semantic")
CONFIG = """\
Write a config to start from: model, classes, sizes, and a schedule by the number of images.

FILE is a description of custom datasets, as catrank data import writes it. mask2former (on all but
instances), segmenter and deeplabv3 are with RankSeg. The config says why its numbers are so."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("description", metavar="FILE", help="a description of custom datasets")
    add("--model", choices=MODELS, default="catseg", metavar="M", help=f"{', '.join(MODELS)}")
    add("--task", choices=TASKS, metavar="T", help=f"{', '.join(TASKS)} (the first with data)")
    add("--tiny", action="store_true", help="a very small model, trained from scratch: a test")
    add("--output", metavar="YAML", help="the config (beside FILE)")
    add("--overwrite", action="store_true", help="replace the config")


def _run(args: argparse.Namespace) -> int:
    from catrank.starting_configs import write_starting_config
    from segcore.errors import UserError, printable
    from segcore.runtime.files import user_path

    description = user_path(args.description)
    name = f"{description.stem}_{args.model}{'_tiny' if args.tiny else ''}.yaml"
    output = user_path(args.output) if args.output else description.with_name(name)
    if output.exists() and not args.overwrite:
        raise UserError(f"{printable(output)} exists: give --overwrite, or another --output")
    task = write_starting_config(description, output, args.model, task=args.task, tiny=args.tiny)
    print(f"wrote {printable(output)} ({args.model}, {task}); train: catrank train "
          f"{printable(output)}")  # fmt: skip
    return 0


CONFIG_WORD = Word(
    title="write a config to start from",
    run=_run,
    add_arguments=_arguments,
    usage="FILE [options]",
    description=CONFIG,
    examples="""
catrank data config datasets/pets/pets.json --model catseg
catrank data config datasets/pets/pets.json --model mask2former --task instance --tiny
""",
)
