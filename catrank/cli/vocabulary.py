"""``catrank vocabulary``: what is odd about a vocabulary."""

import argparse

from catrank.cli.word import Group, Word

LINT = """\
Find what is odd about vocabularies: one line a finding, exit code 1 where there is any.

Found are: what a vocabulary is refused for; names that stand for several classes, or twice for one,
synonyms included; spaces at an end or side by side; names that are longer, in their prompt, than
the text encoder reads; colours that are missing while other classes have one, or used twice. With
--weights also pairs of classes that look the same to the text encoder: the cosine of their
embeddings, each the mean over its prompts, is above the threshold."""


def _lint_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("vocabularies", nargs="+", metavar="VOCABULARY", help="a file, a name, or typed names")
    add("--config-file", default="catseg_d2/vitb_384.yaml", metavar="C", help="of a CAT-Seg")
    add("--weights", default="", metavar="W", help="of that model: compare embeddings too")
    add("--threshold", type=float, default=0.98, metavar="X", help="a cosine (0.98)")


def _lint(args: argparse.Namespace) -> int:
    from catrank.vocabulary_lint import build_model, findings

    templates, model = build_model(args.config_file, args.weights)
    found = False
    for source in args.vocabularies:
        for finding in findings(source, templates, model, args.threshold):
            print(f"{source}: {finding}")
            found = True
    return 1 if found else 0


GROUP = Group(
    title="check vocabularies",
    words={
        "lint": Word(
            title="find what is odd about a vocabulary",
            run=_lint,
            add_arguments=_lint_arguments,
            usage="VOCABULARY [VOCABULARY ...] [options]",
            description=LINT,
            examples="""
catrank vocabulary lint pets.json ade20k_150 "grass, cat, dog"
catrank vocabulary lint pets.json --weights model_base.pth --threshold 0.97
""",
        )
    },
    examples="catrank vocabulary lint pets.json",
)
