"""Which models `catrank evaluate` evaluates, and on which data sets."""

import argparse

import pytest

from catrank import load_config, models
from catrank.cli.evaluate import WORD
from catrank.cli.parsing import Parser
from catrank.evaluation.suites import SHIPPED, choose_models, of_config
from segcore.benchmarks.suites import supported_datasets
from segcore.errors import UserError


def parse(*words: str) -> argparse.Namespace:
    return Parser(WORD, "catrank evaluate").parse_args(words)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_support_their_data_sets(name: str) -> None:
    cfg = load_config(models.find(name).config)
    assert supported_datasets(cfg, SHIPPED[name]) == SHIPPED[name]


def test_the_suite_scenes_takes_the_shipped_models() -> None:
    args = parse("--suite", "scenes")
    chosen = choose_models(args)
    assert [config for config, _ in chosen] == [models.find(name).config for name in SHIPPED]
    assert [path for _, path in chosen] == [str(models.resolve(name).path) for name in SHIPPED]
    args.shipped = True
    assert [of_config(args, config, ()) for config, _ in chosen] == [*SHIPPED.values()]


def test_models_by_name() -> None:
    args = parse("--suite", "closed", "--model", "scenes-60", "scenes-60-rankseg")
    assert [config for config, _ in choose_models(args)] == [
        "catseg_d2/scenes_60.yaml",
        "mask2former_rankseg/scenes_60_rankseg.yaml",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the model with --model, or with --config-file and --weights"),
        (("--model", "scenes-61"), "no model 'scenes-61': near names are scenes-60"),
        (("--config-file", "a.yaml"), "--config-file names 1 and --weights 0"),
        (("--model", "scenes-60", "--config-file", "a.yaml", "--weights", "a.pth"), "name models"),
    ],
)
def test_errors(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_models(parse("--suite", "ovss", *words))
