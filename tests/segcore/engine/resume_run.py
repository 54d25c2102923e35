"""A run that draws random numbers wherever it can, and that can be made to fail.

python resume_run.py --config-file resume.yaml [--num-gpus 2] [--eval-only] [--resume] [KEY VALUE]

FAULT in the environment: "nan RANK ITERATION", "slow RANK" (without end, in evaluation), "kill
NUMBER" (while the checkpoint of that number is being written), "stall ITERATION" (for tests
that kill it), "die RANK" (by SIGKILL, while the others go on).
"""

import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import HookBase, default_argument_parser
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn

from segcore.config import register_config_keys
from segcore.datasets import register_semantic_dataset
from segcore.engine import Trainer, build_checkpointer, launch, setup
from segcore.errors import exit_on_user_error

CLASSES = ["red", "green", "blue"]


def register(root: Path, name: str = "speckles") -> None:
    folders = (root / name / "images", root / name / "labels")
    register_semantic_dataset(name, *folders, CLASSES, image_suffix=".png", ignore_label=255)


@register_config_keys
def add_resume_keys(cfg):
    cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""


class RandomSegmenter(nn.Module):
    """Its loss shows what it drew from python, numpy and torch."""

    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(0.3))
        self.classify = nn.Conv2d(8, len(CLASSES), 1)
        self.fault = os.environ.get("FAULT", "").split()
        self.pace = float(os.environ.get("PACE", 0))

    def forward(self, inputs):
        time.sleep(self.pace)
        logits = [self.classify(self.layers(item["image"][None] / 255.0)) for item in inputs]
        if not self.training:
            if self.fault == ["slow", str(comm.get_rank())]:
                time.sleep(1000)  # longer than the others wait; the parent ends it
            sizes = [(item["height"], item["width"]) for item in inputs]
            resize = nn.functional.interpolate
            return [{"sem_seg": resize(x, s)[0]} for x, s in zip(logits, sizes, strict=True)]
        if self.fault == ["stall", str(get_event_storage().iter)]:
            sys.stderr.write("stalled\n")  # one write, so that two processes do not share a line
            sys.stderr.flush()
            time.sleep(1000)
        if self.fault == ["die", str(comm.get_rank())]:
            os.kill(os.getpid(), signal.SIGKILL)
        labels = [item["sem_seg"][None] for item in inputs]
        loss = nn.functional.cross_entropy
        losses = [loss(x, y, ignore_index=255) for x, y in zip(logits, labels, strict=True)]
        factor = 1 + random.random() + np.random.rand() + torch.rand(())
        if self.fault == ["nan", str(comm.get_rank()), str(get_event_storage().iter)]:
            factor = float("nan")
        return {"loss_sem_seg": torch.stack(losses).mean() * factor}


if "RandomSegmenter" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(RandomSegmenter)


class EveryLoss(HookBase):
    """Appends every iteration's loss and rate to ``losses.jsonl``, to the last bit."""

    def __init__(self, folder):
        self.path = Path(folder) / "losses.jsonl"

    def after_step(self):
        latest = self.trainer.storage.latest()
        line = [self.trainer.iter, latest["total_loss"][0], latest["lr"][0]]
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class LoggingTrainer(Trainer):
    def build_hooks(self):
        return super().build_hooks() + [EveryLoss(self.cfg.OUTPUT_DIR)] * comm.is_main_process()


def kill_while_writing(number: int) -> None:
    """Replace ``torch.save`` by one that writes half of that checkpoint and is killed."""
    save, calls = torch.save, iter(range(1000))

    def dying_save(content, file):
        if next(calls) < number:
            return save(content, file)
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying_save


def main(args):
    register(Path(os.environ["SPECKLES"]))
    fault = os.environ.get("FAULT", "").split()
    if fault[:1] == ["kill"]:
        kill_while_writing(int(fault[1]))
    cfg = setup(args)
    if args.eval_only:
        model = LoggingTrainer.build_model(cfg)
        build_checkpointer(cfg, model).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return LoggingTrainer.test(cfg, model)
    trainer = LoggingTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    with exit_on_user_error():
        launch(main, default_argument_parser().parse_args())
