"""Training and evaluation of any model by a config: what every process of a run does."""

import argparse
from typing import Any

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import import_families

# isort: split
from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from segcore.engine import Trainer, build_checkpointer, setup
from segcore.errors import UserError


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or evaluate with ``--eval-only``; returns the results of the evaluation, if any."""
    import_families(args.config_file, args.opts)
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, resume=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate(cfg: CfgNode, resume: bool) -> dict[str, Any]:
    """Evaluate ``MODEL.WEIGHTS``, or with ``resume`` the last checkpoint of ``OUTPUT_DIR``."""
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the data sets to evaluate on")
    model = Trainer.build_model(cfg)
    checkpointer = build_checkpointer(cfg, model)
    if not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise UserError("--eval-only needs weights: set MODEL.WEIGHTS, or --resume a run")
    checkpointer.load_for_use(cfg.MODEL.WEIGHTS, resume=resume)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
