"""``catrank label``: images of any number."""

import argparse
import sys

from catrank.cli.options import add_model_options, model_arguments
from catrank.cli.word import Word

LABEL = """\
Label images of any number into Parquet shards, on Ray (here, or on a cluster) or in one process."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", nargs="+", metavar="INPUT", help="images, folders, patterns, "
        ".tar, .txt or .parquet of paths; also addresses, s3://...")  # fmt: skip
    add("--output", default="labelled", metavar="DIR", help="(labelled); resumes what is there")
    add("--engine", choices=("ray", "local"), default="ray", help="local: one process, no Ray")
    add("--address", metavar="A", help="of a Ray cluster; auto: that of this machine")
    add("--workers", type=int, metavar="N", help="models (one a GPU, or else a processor)")
    add("--threads", type=int, default=1, metavar="N", help="of the processor for a worker (1)")
    add("--batch-size", type=int, default=8, metavar="N", help="images of a batch (8)")
    add("--shard-size", type=int, default=512, metavar="N", help="images of a shard (512)")
    add("--column", default="path", metavar="C", help="of the paths in .parquet files (path)")
    add("--png", action="store_true", help="write a 16-bit PNG of class ids for each image, too")
    add_model_options(parser)


def _run(args: argparse.Namespace) -> int:
    from catrank.labelling import label
    from segcore.errors import printable

    manifest = label(
        args.input,
        args.output,
        loading=model_arguments(args),
        engine=args.engine,
        address=args.address,
        workers=args.workers,
        threads=args.threads,
        batch_size=args.batch_size,
        shard_size=args.shard_size,
        label_png=args.png,
        column=args.column,
    )
    images, errors = manifest["images"], manifest["errors"]
    print(f"{images - errors:,} of {images:,} images labelled, see {printable(args.output)}")
    if errors:
        print(f"failed: {errors:,} images, whose rows hold an error message", file=sys.stderr)
    return 1 if errors else 0


WORD = Word(
    title="label images of any number into Parquet",
    run=_run,
    add_arguments=_arguments,
    usage="INPUT [INPUT ...] [options] [--opts KEY VALUE ...]",
    description=LABEL,
    examples="""
catrank label 's3://bucket/shards/*.tar' --address auto --batch-size 32 --output /shared/labels
""",
    interrupted=": the same command resumes",
)
