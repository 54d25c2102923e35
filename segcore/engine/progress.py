"""What training and evaluation print: what runs and where, progress with losses, scores."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from segcore.runtime.console import Step, terminal

LOSS_WINDOW = 20  # iterations, of which the median is shown, as in Detectron2's log
TABLE_COLUMNS = 8  # metrics beside each other


def print_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Print what a command runs, on what device, and where its output goes.

    Args:
        cfg: of the run.
        args: of ``detectron2.engine.default_argument_parser``.
    """
    data_sets = cfg.DATASETS.TEST if args.eval_only else cfg.DATASETS.TRAIN
    facts = {
        "config": args.config_file,
        "data": ", ".join(data_sets) or "none",
        "weights": _weights(cfg, args.opts),
        "device": describe_device(cfg.MODEL.DEVICE),
        "output": f"{cfg.OUTPUT_DIR} (log.txt: configuration, model and all messages)",
    }
    shown = {key: value for key, value in facts.items() if value}
    title = f"{'evaluate' if args.eval_only else 'train'} {cfg.MODEL.META_ARCHITECTURE}"
    terminal().header(title, shown)


def _weights(cfg: CfgNode, opts: Sequence[Any]) -> str:
    """Return the checkpoint as it was named; the config may hold a converted copy's path."""
    named = dict(zip(opts[::2], opts[1::2], strict=False))
    return str(named.get("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS))


def describe_device(device: str) -> str:
    """Return the device of a run, for people: "cpu, 2 threads", "cuda (H100), 4 processes"."""
    processes = comm.get_world_size()
    if device.startswith("cuda"):
        text = f"{device} ({torch.cuda.get_device_name()})"
    else:
        threads = torch.get_num_threads()
        text = f"{device}, {threads} {'thread' if threads == 1 else 'threads'}"
    return text if processes == 1 else f"{text}, {processes} processes"


class TrainingProgress(HookBase):
    """Shows iterations, loss and learning rate on the terminal."""

    def before_train(self) -> None:
        trainer = self.trainer
        self._step: Step = terminal().step("training", trainer.max_iter, trainer.start_iter)
        self._step.begin()

    def after_step(self) -> None:
        self._step.update(self.trainer.iter + 1, ", ".join(self._losses()))

    def after_train(self) -> None:
        """End the step; the trainer calls this also where an exception ended the training."""
        trainer = self.trainer
        count = trainer.iter - trainer.start_iter
        self._step.result = ", ".join([f"{count:,} iterations", *self._losses()[:1]])
        stopped_early = getattr(trainer, "stopped_early", False)
        self._step.end(failed=trainer.iter < trainer.max_iter and not stopped_early)

    def _losses(self) -> list[str]:
        storage, shown = self.trainer.storage, []
        histories = storage.histories()
        if "total_loss" in histories:
            window = storage.count_samples("total_loss", LOSS_WINDOW)
            shown.append(f"total_loss {histories['total_loss'].median(window):.4g}")
        if "lr" in histories:
            shown.append(f"lr {histories['lr'].latest():.2g}")
        return shown


def print_results(data_set: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of the scores of each task; scores of single classes are in the log file.

    Args:
        data_set: its name.
        results: of an evaluator: task -> metric -> value.
    """
    for task, scores in results.items():
        names = [name for name in scores if _is_summary(name)]
        for start in range(0, len(names), TABLE_COLUMNS):
            shown = names[start : start + TABLE_COLUMNS]
            terminal().table([data_set, *shown], [[task, *(_cell(scores[n]) for n in shown)]])


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _is_summary(metric: str) -> bool:
    """Whether a metric is a mean; those of single classes have names such as IoU-grass."""
    return "-" not in metric or metric.endswith(("-seen", "-unseen"))
