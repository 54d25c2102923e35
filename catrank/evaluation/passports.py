"""How two scores differ in how they were made, by their passports (run manifests)."""

from collections.abc import Sequence
from pathlib import Path

from catrank import import_families
from catrank.evaluation.prompts import describe_prompts
from segcore.benchmarks.passport import differences, read_passport
from segcore.benchmarks.runs import make_run
from segcore.datasets import check_registered, register_custom_datasets
from segcore.errors import MESSAGE_CHARACTERS, UserError, printable


def check(paths: Sequence[str]) -> int:
    """Print how two passports differ, or one from what it would be now; the exit code."""
    if len(paths) > 2:
        raise UserError(f"--check compares one or two passports, but {len(paths)} are named")
    one, *others = map(read_passport, paths)
    if not others:
        print(f"opening what the passport names: {printable(named_by(one), MESSAGE_CHARACTERS)}")
    found = differences(one, others[0] if others else made_now(one))
    for line in found:
        print(printable(line, MESSAGE_CHARACTERS))
    if not found:
        print("made in the same way")
    return 1 if found else 0


def named_by(passport: dict) -> str:
    """The files, keys and data set that a passport names, which others may have written."""
    name, config, weights, options, _ = _recorded(passport)
    shown = f"config {config}, weights {weights}, data set {name}"
    return f"{shown}, settings {' '.join(map(str, options))}" if options else shown


def made_now(passport: dict) -> dict:
    """The passport that the same command would give a score now."""
    name, config, weights, options, prompts = _recorded(passport)
    import_families(config, options)
    run = make_run(config, config, weights, options, Path(), [name], prompts)
    register_custom_datasets(run.cfg)
    check_registered([name])
    return run.passport(name)


def _recorded(passport: dict) -> tuple[str, str, str, list, dict]:
    """Data set, config, weights, options and prompts of the command that made a score."""
    try:
        made, words = passport["made"], passport["vocabulary"]
        prompts = describe_prompts(words.get("templates", ""), words.get("synonyms", ""))
        name, config = passport["dataset"]["name"], passport["model"]["config"]
        weights, options = made["weights"], made["options"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the passport lacks {printable(error)}: name a second one") from error
    texts = all(isinstance(text, str) for text in (name, config, weights))
    if not texts or not isinstance(options, list):
        raise UserError("the passport names no files of a run: name a second one")
    return name, config, weights, options, prompts
