"""``catrank evaluate``: the command line of evaluations."""

import argparse

from catrank.cli.word import Word

EVALUATE = """\
Evaluate models on suites of data sets, with a passport (a run manifest) on every score.

Data sets on the disk are evaluated, the others listed with how to get them. results.json,
results.md, index.html and a folder per model go to --output. Suites: ovss (open-vocabulary papers),
mess, closed, video, zeroshot, and scenes, by default for the shipped models. --check compares how
two scores were made, or one with how it would be made now; the exit code is 1 where they differ."""

SUITES = ("ovss", "mess", "closed", "video", "scenes", "zeroshot")
SYNONYMS = ("first", "all")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", nargs="+", default=[], metavar="NAME", help="of catrank models list")
    add("--config-file", nargs="+", default=[], metavar="C", help="or configs, one per model")
    add("--weights", nargs="+", default=[], metavar="W", help="as many files")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--suite", choices=SUITES, metavar="S", help=", ".join(SUITES))
    what.add_argument(
        "--datasets", nargs="+", default=[], metavar="NAME", help="registered data sets"
    )
    what.add_argument("--check", nargs="+", metavar="FILE", help="compare, and stop")
    add("--output", default="output/evaluation", metavar="DIR", help="(output/evaluation)")
    add("--templates", nargs="+", default=[], metavar="T", help="single, imagenet, photo ...")
    add(
        "--synonyms",
        nargs="+",
        default=[],
        choices=SYNONYMS,
        metavar="S",
        help="first, all: names of a class, likewise",
    )
    add("--examples", type=int, default=3, metavar="N", help="best and worst images each (3)")
    add("--num-gpus", type=int, default=1, metavar="N", help="processes, on the CPU too (1)")
    add(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="changes of the config, after -- where they follow a list",
    )


def _run(args: argparse.Namespace) -> int:
    if args.check:
        from catrank.evaluation.passports import check

        return check(args.check)
    from catrank.evaluation.suites import complete, main
    from segcore.engine import launch

    launch(main, complete(args))
    return 0


WORD = Word(
    title="evaluate models on data sets",
    run=_run,
    add_arguments=_arguments,
    usage="(--suite S | --datasets NAME ... | --check FILE ...) [options] [KEY VALUE]",
    description=EVALUATE,
    examples="""
catrank evaluate --suite scenes
catrank evaluate --model catseg-vitb --suite ovss
catrank evaluate --check one/passport.json other/passport.json
""",
    interrupted=": the same command continues",
)
