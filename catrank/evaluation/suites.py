"""Evaluate models on suites of data sets, with a passport on every score."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded. Each
# family adds its models and its config keys.
from catrank import import_families, load_config

# isort: split
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from catrank import models
from catrank.evaluation.prompts import describe_prompts, prompt_variants
from catseg_d2.prompt_ensembles import SYNONYMS, use_ensemble
from segcore.benchmarks.page import write_page
from segcore.benchmarks.report import make_report, missing_line
from segcore.benchmarks.runs import Result, Run, config_name, evaluate, finished, make_run
from segcore.benchmarks.suites import SUITES, by_threshold, supported_datasets
from segcore.benchmarks.tables import summary_table
from segcore.benchmarks.writing import write_json_report, write_markdown
from segcore.datasets import check_registered, register_custom_datasets
from segcore.datasets.builtin import data_root
from segcore.datasets.downloads import how_to_get
from segcore.datasets.status import Status, all_statuses
from segcore.engine import Trainer, build_checkpointer
from segcore.engine.collective import collective
from segcore.errors import UserError
from segcore.runtime.files import expand_home, join_inside, short_name, user_path
from segcore.runtime.lock import hold

# The models that ship, by their names, with their data sets in the suite ``scenes``.
SHIPPED = {
    "scenes-60": ("scenes_60_test",),
    "scenes-60-panoptic": ("scenes_60_test_panoptic",),
    "scenes-60-rankseg": ("scenes_60_test",),
    "scenes-60-video-instance": ("scenes_60_video_test_instance",),
}
logger = logging.getLogger("segcore.evaluate")


def main(args: argparse.Namespace) -> None:
    """What every process does."""
    _log_to(args.output)
    asked = args.datasets or list(SUITES[args.suite])
    for config, _ in args.models:  # so that the data sets of one's own have names
        register_custom_datasets(load_config(config, args.opts))
    check_registered(asked)
    missing, incomplete = look_for(asked)
    runs = [
        run
        for config, weights in args.models
        for run in make_runs(args, config, weights, asked, missing)
    ]
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
    """Return configs and weights: of the models that are named, or of the shipped ones.

    Raises:
        UserError: no model is named, or there are not as many configs as checkpoints.
    """
    if args.model and args.config_file:
        raise UserError("name models with --model, or with --config-file and --weights")
    if len(args.config_file) != len(args.weights):
        raise UserError(
            f"--config-file names {len(args.config_file)} and --weights {len(args.weights)}: "
            "name a checkpoint for each config, in the same order"
        )
    if args.config_file:
        return list(zip(args.config_file, map(expand_home, args.weights), strict=True))
    if not args.model and args.suite != "scenes":
        raise UserError("name the model with --model, or with --config-file and --weights")
    entries = [models.find(name) for name in args.model or SHIPPED]
    return [(entry.config, str(models.resolve(entry.name).path)) for entry in entries]


def look_for(names: Sequence[str]) -> tuple[dict[str, Status], dict[str, Status]]:
    """Data sets that are not on the disk, and those of another size than the benchmark has."""
    found = {each.name: each for each in all_statuses(data_root()) if each.name in names}
    missing = {name: each for name, each in found.items() if each.state == "missing"}
    incomplete = {name: each for name, each in found.items() if each.state == "other"}
    return missing, incomplete


def _missing_line(status: Status) -> str:
    return missing_line(status, how_to_get(status))


def of_config(args: argparse.Namespace, config: str, asked: Sequence[str]) -> Sequence[str]:
    """Which of the data sets a model is evaluated on; those named one by one all."""
    if args.datasets:
        return asked
    if args.shipped:
        return next(SHIPPED[name] for name in SHIPPED if models.find(name).config == config)
    return supported_datasets(load_config(config, args.opts), asked)


def make_runs(
    args: argparse.Namespace,
    config: str,
    weights: str,
    asked: Sequence[str],
    missing: dict[str, Status],
) -> list[Run]:
    """One for each prompts and background threshold; none where no data set is there."""
    names = tuple(name for name in of_config(args, config, asked) if name not in missing)
    if not names:
        return []
    plain = load_config(config, args.opts)
    runs = []
    for templates, synonyms in prompt_variants(plain, args.templates, args.synonyms):
        title = config_name(config).removesuffix(".yaml")
        if len({weights for other, weights in args.models if other == config}) > 1:
            title += f" {Path(weights).stem}"
        if templates:
            own = templates == plain.MODEL.PROMPT_ENSEMBLE_TYPE and synonyms == "first"
            title += "" if own else f", templates {templates}, synonyms {synonyms}"
        name = title.replace("/", "-").replace(", ", "-").replace(" ", "-")
        folder = join_inside(args.output, short_name(name), "--config-file")
        prompts = describe_prompts(templates, synonyms)
        parts = by_threshold(plain, names) if args.suite == "zeroshot" else {(): names}
        for more, part in parts.items():
            options = [*args.opts, *more]
            runs.append(make_run(title, config, weights, options, folder, part, prompts))
    return runs


def run_all(run: Run, examples: int) -> list[Result]:
    """The results of a run, finished ones from their files; none in all but the main process."""
    passports = {name: run.passport(name) for name in run.datasets}
    done = [name for name in run.datasets if finished(run, name, passports[name])]
    done = comm.all_gather(done)[0]
    model = None
    for number, name in enumerate(run.datasets, 1):
        logger.info("%s, %d of %d: %s", run.title, number, len(run.datasets), name)
        if name in done:
            logger.info("%s is finished: %s", name, run.folder(name) / "result.json")
            continue
        model = build(run) if model is None else model
        evaluate(run, model, name, passports[name], examples)
    if not comm.is_main_process():
        return []
    return [Result.read(run.folder(name)) for name in run.datasets]


def build(run: Run) -> nn.Module:
    """The model of a run, with its weights and its prompts."""
    model = Trainer.build_model(run.cfg)
    build_checkpointer(run.cfg, model).load_for_use(run.cfg.MODEL.WEIGHTS)
    if run.prompts and (run.prompts["templates"], run.prompts["synonyms"]) != (
        model.templates,
        SYNONYMS[0],
    ):
        use_ensemble(model, run.prompts["templates"], run.prompts["synonyms"])
    return model


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Arguments with the models to evaluate, and with what ``launch`` asks for."""
    if not args.suite and not args.datasets:
        raise UserError("name a --suite, or --datasets")
    args.output = user_path(args.output)
    args.shipped = not args.config_file and not args.model
    args.models = choose_models(args)
    args.config_file = args.models[0][0]  # which says where the processes run
    import_families(args.config_file, args.opts)
    args.num_machines, args.machine_rank, args.dist_url = 1, 0, ""
    return args
