#!/usr/bin/env python3
"""Evaluate models on suites of data sets, with a passport on every score.

    python tools/evaluate.py --suite scenes
    python tools/evaluate.py --config-file catseg_d2/vitb_384.yaml --weights model_base.pth \
        --suite ovss TEST.SLIDING_WINDOW True MODEL.SEM_SEG_HEAD.POOLING_SIZES "[1,1]"
    python tools/evaluate.py --config-file a.yaml b.yaml --weights a.pth b.pth \
        --datasets ade20k_sem_seg_val
    python tools/evaluate.py --config-file catseg_d2/vitb_384.yaml --weights model_base.pth \
        --suite ovss --templates imagenet --synonyms all

runs what is ready on the disk and tells what is not and how to get it. The same command goes on
after an interruption. results.json, results.md and index.html go to --output, and a folder for
each model with, for each data set, result.json, passport.json and examples.

    python tools/evaluate.py --check one/passport.json [other/passport.json]

tells how two scores differ in how they were made, or one from how it would be made here and now;
the exit code is 1 where they do.

The suites: ovss, the six of open-vocabulary papers; mess, all of MESS; closed, what the model was
trained for; video; scenes, for which the models in demo/models are taken where none are named.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded. Each
# family adds its models and its config keys.
from catrank import import_families

# isort: split
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from catseg_d2.prompt_ensembles import SYNONYMS, use_ensemble
from catseg_d2.text import prompt_templates
from segcore.benchmarks.page import write_page
from segcore.benchmarks.passport import differences, read_passport, text_hash
from segcore.benchmarks.report import make_report, missing_line
from segcore.benchmarks.runs import Result, Run, config_name, evaluate, finished, make_run
from segcore.benchmarks.suites import SHIPPED, SUITES, supported_datasets
from segcore.benchmarks.tables import summary_table
from segcore.benchmarks.writing import write_json_report, write_markdown
from segcore.config import load_config
from segcore.datasets import check_registered, register_custom_datasets
from segcore.datasets.builtin import data_root
from segcore.datasets.status import Status, all_statuses
from segcore.engine import Trainer, build_checkpointer, launch
from segcore.engine.collective import collective
from segcore.errors import MESSAGE_CHARACTERS, UserError, exit_on_user_error, printable
from segcore.runtime.files import expand_home, join_inside, path_argument, short_name
from segcore.runtime.lock import hold

REPOSITORY = Path(__file__).resolve().parents[1]
logger = logging.getLogger("segcore.evaluate")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", nargs="+", default=[], help="one a model")
    parser.add_argument("--weights", nargs="+", default=[], help="as many files")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--suite", choices=SUITES)
    what.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    what.add_argument("--check", nargs="+", metavar="PASSPORT", help="compare, and stop")
    parser.add_argument("--output", type=path_argument, default=Path("output/evaluation"))
    parser.add_argument(
        "--templates",
        nargs="+",
        default=[],
        help="sentence ensembles that CAT-Seg is asked with, beside its own: single, imagenet",
    )
    parser.add_argument(
        "--synonyms", nargs="+", default=[], choices=SYNONYMS, help="words of a class, likewise"
    )
    parser.add_argument(
        "--examples", type=int, default=3, help="best and worst images, of each so many"
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="processes, on the CPU too")
    parser.add_argument(
        "opts", nargs="*", help="KEY VALUE pairs, after -- where they follow a list"
    )
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    """What every process does."""
    _log_to(args.output)
    asked = args.datasets or list(SUITES[args.suite])
    for config, _ in args.models:  # so that the data sets of one's own have names
        import_families(config, args.opts)
        register_custom_datasets(load_config(config, args.opts))
    check_registered(asked)
    missing, incomplete = look_for(asked)
    runs = [run for model in args.models for run in make_runs(args, *model, asked, missing)]
    if not runs:
        raise UserError("nothing to evaluate: " + "; ".join(map(_missing_line, missing.values())))
    results = []
    for run in runs:
        results += [(run, result) for result in run_all(run, args.examples)]
    if not comm.is_main_process():
        return
    asked_by = {name for config, _ in args.models for name in of_config(args, config, asked)}
    lacking = [(status, how_to_get(status)) for n, status in missing.items() if n in asked_by]
    title = f"Suite {args.suite}" if args.suite else "Evaluation"
    report = make_report(title, results, lacking, incomplete)
    write_json_report(report, args.output / "results.json")
    write_markdown(report, args.output / "results.md")
    page = write_page(report, args.output)
    header, rows = summary_table(report)
    for line in (header, *rows):
        print("  ".join(line))
    for status, how in lacking:
        print(missing_line(status, how))
    print(f"open {page}")


def _log_to(folder: Path) -> None:
    with collective():
        if comm.is_main_process():
            hold(folder, "--output")
    try:
        for name in ("fvcore", "detectron2", "segcore"):
            setup_logger(str(folder), comm.get_rank(), name=name)
        logging.getLogger("detectron2.engine.defaults").setLevel(logging.WARNING)  # prints models
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}") from error


def choose_models(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Configs and weights, those that are named or, for the suite scenes, those that ship."""
    if len(args.config_file) != len(args.weights):
        raise UserError(
            f"--config-file names {len(args.config_file)} and --weights {len(args.weights)}: "
            "name a checkpoint for each config, in the same order"
        )
    if args.config_file:
        return list(zip(args.config_file, map(expand_home, args.weights), strict=True))
    if args.suite != "scenes":
        raise UserError("name the model with --config-file and --weights")
    models = []
    for model in SHIPPED:
        weights = REPOSITORY / model.weights
        if weights.is_file():
            models.append((model.config, str(weights)))
        else:
            print(f"{model.weights} is not there: left out", file=sys.stderr)
    return models


def look_for(names: Sequence[str]) -> tuple[dict[str, Status], dict[str, Status]]:
    """Data sets that are not on the disk, and those of another size than the benchmark has."""
    found = {each.name: each for each in all_statuses(data_root()) if each.name in names}
    missing = {name: each for name, each in found.items() if each.state == "missing"}
    incomplete = {name: each for name, each in found.items() if each.state == "other"}
    return missing, incomplete


def how_to_get(status: Status) -> str:
    """What to do for a data set, as datasets/status.py tells."""
    downloads = json.loads((REPOSITORY / "datasets/downloads.json").read_text("utf-8"))
    source = downloads[status.group]
    steps = ", ".join(f"python {command}" for command in source["prepare"])
    return f"Download: {source['download']}. Then: {steps}"


def _missing_line(status: Status) -> str:
    return missing_line(status, how_to_get(status))


def of_config(args: argparse.Namespace, config: str, asked: Sequence[str]) -> Sequence[str]:
    """Which of the data sets a model is evaluated on; those named one by one all."""
    if args.datasets:
        return asked
    shipped = [each.datasets for each in SHIPPED if args.shipped and each.config == config]
    return shipped[0] if shipped else supported_datasets(load_config(config, args.opts), asked)


def make_runs(
    args: argparse.Namespace,
    config: str,
    weights: str,
    asked: Sequence[str],
    missing: dict[str, Status],
) -> list[Run]:
    """One for each wording; none where no data set is there."""
    names = tuple(name for name in of_config(args, config, asked) if name not in missing)
    if not names:
        return []
    plain = load_config(config, args.opts)
    runs = []
    for templates, synonyms in wordings(plain, args.templates, args.synonyms):
        title = config_name(config).removesuffix(".yaml")
        if len({weights for other, weights in args.models if other == config}) > 1:
            title += f" {Path(weights).stem}"
        if templates:
            own = templates == plain.MODEL.PROMPT_ENSEMBLE_TYPE and synonyms == "first"
            title += "" if own else f", templates {templates}, synonyms {synonyms}"
        name = title.replace("/", "-").replace(", ", "-").replace(" ", "-")
        folder = join_inside(args.output, short_name(name), "--config-file")
        wording = describe_wording(templates, synonyms)
        runs.append(make_run(title, config, weights, args.opts, folder, names, wording))
    return runs


def wordings(
    cfg: CfgNode, templates: Sequence[str], synonyms: Sequence[str]
) -> list[tuple[str, str]]:
    """What a model is asked with: its own words first, then every combination that is named."""
    if cfg.MODEL.META_ARCHITECTURE != "CATSeg":
        return [("", "")]
    own = cfg.MODEL.PROMPT_ENSEMBLE_TYPE
    named = itertools.product(templates or [own], synonyms or [SYNONYMS[0]])
    return list(dict.fromkeys([(own, SYNONYMS[0]), *named]))


def describe_wording(templates: str, synonyms: str) -> dict[str, str | int]:
    """What a passport says of it; nothing where a model reads no words."""
    if not templates:
        return {}
    sentences = [template("{}") for template in prompt_templates(templates)]
    return {
        "synonyms": synonyms,
        "templates": templates,
        "sentences": len(sentences),
        "templates_sha256": text_hash(sentences),
    }


def run_all(run: Run, examples: int) -> list[Result]:
    """The results of a run, finished ones from their files; none in all but the main process."""
    passports = {name: run.passport(name) for name in run.datasets}
    done = [name for name in run.datasets if finished(run, name, passports[name])]
    done = comm.all_gather(done)[0]
    model = None
    for place, name in enumerate(run.datasets, 1):
        logger.info("%s, %d of %d: %s", run.title, place, len(run.datasets), name)
        if name in done:
            logger.info("%s is finished: %s", name, run.folder(name) / "result.json")
            continue
        model = build(run) if model is None else model
        evaluate(run, model, name, passports[name], examples)
    if not comm.is_main_process():
        return []
    return [Result.read(run.folder(name)) for name in run.datasets]


def build(run: Run) -> nn.Module:
    """The model of a run, with its weights and its wording."""
    model = Trainer.build_model(run.cfg)
    build_checkpointer(run.cfg, model).load_for_use(run.cfg.MODEL.WEIGHTS)
    if run.prompts and (run.prompts["templates"], run.prompts["synonyms"]) != (
        model.templates,
        SYNONYMS[0],
    ):
        use_ensemble(model, run.prompts["templates"], run.prompts["synonyms"])
    return model


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
    name, config, weights, options, wording = _recorded(passport)
    import_families(config, options)
    run = make_run(config, config, weights, options, Path(), [name], wording)
    register_custom_datasets(run.cfg)
    check_registered([name])
    return run.passport(name)


def _recorded(passport: dict) -> tuple[str, str, str, list, dict]:
    """Data set, config, weights, options and wording of the command that made a score."""
    try:
        made, words = passport["made"], passport["vocabulary"]
        wording = describe_wording(words.get("templates", ""), words.get("synonyms", ""))
        name, config = passport["dataset"]["name"], passport["model"]["config"]
        weights, options = made["weights"], made["options"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the passport lacks {printable(error)}: name a second one") from error
    texts = all(isinstance(text, str) for text in (name, config, weights))
    if not texts or not isinstance(options, list):
        raise UserError("the passport names no files of a run: name a second one")
    return name, config, weights, options, wording


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Arguments with the models to evaluate, and with what ``launch`` asks for."""
    if not args.suite and not args.datasets:
        raise UserError("name a --suite, or --datasets")
    args.shipped = not args.config_file
    args.models = choose_models(args)
    args.config_file = args.models[0][0]  # which says where the processes run
    import_families(args.config_file, args.opts)
    args.num_machines, args.machine_rank, args.dist_url = 1, 0, ""
    return args


if __name__ == "__main__":
    with exit_on_user_error(": the same command goes on"):
        arguments = parse_arguments()
        if arguments.check:
            sys.exit(check(arguments.check))
        launch(main, complete(arguments))
