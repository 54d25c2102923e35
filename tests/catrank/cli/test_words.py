"""The tree of words: help that fits a screen, completion, and errors that name the nearest word."""

import os
import subprocess
import sys
from collections.abc import Iterator

import detectron2
import pytest

from catrank.cli import ROOT, main
from catrank.cli import evaluate as evaluate_word
from catrank.cli import models as models_word
from catrank.cli import segment as segment_word
from catrank.cli.parsing import Parser, parse
from catrank.cli.word import Group, Word
from catrank.exports import saving
from catseg_d2.prompt_ensembles import SYNONYMS
from segcore.benchmarks.suites import SUITES
from segcore.checkpoint.cache import KINDS
from segcore.datasets.mess import RECIPES
from segcore.scenes import CATALOGUES

MOST_LINES, MOST_COLUMNS = 32, 100
HEAVY = {"torch", "numpy", "PIL", "detectron2"}


def walk(word: Word | Group = ROOT, prefix: str = "catrank") -> Iterator[tuple[str, Word | Group]]:
    yield prefix, word
    if isinstance(word, Group):
        for name, child in word.words.items():
            yield from walk(child, f"{prefix} {name}")


ALL = dict(walk())


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_screen_and_ends_with_examples(command: str) -> None:
    lines = Parser(ALL[command], command).format_help().splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= MOST_COLUMNS
    assert lines[0].startswith(f"usage: {command}")
    examples = lines[lines.index("examples:") + 1 :]
    assert examples and all(line.startswith("  catrank ") for line in examples)


@pytest.mark.parametrize("command", ALL)
def test_examples_are_command_lines(command: str) -> None:
    import shlex

    for line in ALL[command].examples.strip().splitlines():
        word, _ = parse(Parser(ROOT, "catrank"), shlex.split(line)[1:])
        assert isinstance(word, Word)


def test_help_and_completion_import_nothing_heavy() -> None:
    program = f"import catrank.__main__, sys; print(*{HEAVY} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["dta"], "catrank has no word 'dta'; did you mean data or train?"),
        (["qqq"], "catrank has no word 'qqq'; there are "),
        (["data", "prepare", "ade2k"], "has no word 'ade2k'; did you mean ade20k or ade20k_full?"),
        (["train", "x.yaml", "--resum3"], "does not take '--resum3'; did you mean --resume"),
        (["data", "status", "--rot=x"], "does not take '--rot'; did you mean --root"),
        (["train"], "the following arguments are required: CONFIG"),
        (["evaluate", "--suite", "ovs"], "argument --suite: invalid choice: 'ovs'"),
    ],
)
def test_errors_are_one_line(line: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(line)
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err
    assert printed.err.count("\n") == 1


def test_a_group_alone_shows_its_help(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: catrank data WORD")


def test_keys_and_values_may_follow_options() -> None:
    _, args = parse(
        Parser(ROOT, "catrank"), ["train", "c.yaml", "A.B", "1", "--num-gpus", "2", "C", "-1"]
    )
    assert (args.config_file, args.num_gpus, args.opts) == ("c.yaml", 2, ["A.B", "1", "C", "-1"])


def test_choices_are_those_of_the_packages() -> None:
    """They are written out, since the packages take seconds to load."""
    assert set(SUITES) == set(evaluate_word.SUITES)
    assert SYNONYMS == evaluate_word.SYNONYMS
    assert set(saving.FORMATS) == set(segment_word.FORMATS)
    assert tuple(KINDS) == models_word.KINDS
    scenes = Parser(ALL["catrank data prepare scenes"], "x").format_help()
    assert all(name in scenes for name in CATALOGUES)
    mess = Parser(ALL["catrank data prepare mess"], "x").format_help()
    assert all(f"{name}," in mess or f"{name}\n" in mess for name in RECIPES)


def test_completion() -> None:
    pytest.importorskip("argcomplete")

    def complete(line: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-m", "catrank"],
            env=os.environ
            | {
                "_ARGCOMPLETE": "1",
                "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
                "_ARGCOMPLETE_IFS": " ",
                "COMP_LINE": line,
                "COMP_POINT": str(len(line)),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return {*done.stdout.split()}

    assert complete("catrank da") == {"data"}
    assert {"check", "prepare", "status"} <= complete("catrank data ")
    assert complete("catrank data prepare youtube") == {"youtubevis"}
    assert "--num-gpus" in complete("catrank train c.yaml --")


def test_info(capsys) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for title in ("versions:", "devices:", "cache:", "missing optional parts:"):
        assert f"\n{title}\n" in f"\n{text}"
    assert f"\n  detectron2       {detectron2.__version__}" in text
