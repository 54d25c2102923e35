"""Very small per-pixel models on four synthetic images, without files of a data set.

python hosts_run.py --config-file ... --num-gpus 2 OUTPUT_DIR out.pth

saves the losses and gradients of one batch, sharded over the processes.
"""

import argparse
import sys
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase, default_argument_parser
from detectron2.utils import comm

sys.path.insert(0, str(Path(__file__).parents[1]))

import per_pixel  # noqa: F401
from segcore.config import load_config
from segcore.engine import Trainer, launch
from segcore.engine.trainer import parallel
from segcore.mappers import MAPPER_REGISTRY

IMAGES, SIDE = 4, 64
OPTIONS = {
    "DATASETS.TRAIN": ("blocks",),
    "INPUT.DATASET_MAPPER_NAME": "blocks",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.AMP.ENABLED": False,
}


def blocks(record: dict) -> dict:
    """Return an image of noise with brighter blocks, one class each, on ignored ground; images have
    unequal numbers of labelled pixels."""
    draw = torch.Generator().manual_seed(record["index"])
    image = torch.randint(0, 100, (3, SIDE, SIDE), generator=draw)
    labels = torch.full((SIDE, SIDE), 255)
    for number in torch.randperm(12, generator=draw)[:3].tolist():
        top, left = torch.randint(0, SIDE - 24, (2,), generator=draw).tolist()
        labels[top : top + 24, left : left + 20] = number
        image[:, labels == number] += torch.randint(0, 100, (3, 1), generator=draw)
    ids = labels.unique()
    return record | {"image": image, "sem_seg": labels, "category_ids": ids[ids < 255]}


if "blocks" not in MAPPER_REGISTRY:
    MAPPER_REGISTRY._do_register("blocks", lambda cfg, is_train: blocks)
    records = [{"index": i, "width": SIDE, "height": SIDE} for i in range(IMAGES)]
    DatasetCatalog.register("blocks", lambda: records)


class EveryLoss(HookBase):
    """Keeps the losses and the learning rate of every iteration, to the last bit."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[str, float]] = {}

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        self.kept[self.trainer.iter] = {
            name: value for name, (value, _) in latest.items() if "loss" in name or name == "lr"
        }


class BlockTrainer(Trainer):
    """A trainer that keeps every loss in ``losses``."""

    def build_hooks(self) -> list[HookBase]:
        hook = EveryLoss()
        self.losses = hook.kept
        return [*super().build_hooks(), hook]


def main(args: argparse.Namespace) -> None:
    """Nothing but the weights is drawn at random, so that the processes agree; in float64, since
    rounding switches units on and off."""
    cfg = load_config(args.config_file, args.opts)
    torch.manual_seed(comm.get_rank())  # the processes start apart; wrapping makes them agree
    bare = Trainer.build_model(cfg).double().train()
    model = parallel(bare, torch.device("cpu"))
    mine = range(comm.get_rank(), IMAGES, comm.get_world_size())
    losses = model([blocks({"index": i}) for i in mine])
    sum(losses.values()).backward()
    losses = comm.reduce_dict({name: loss.detach() for name, loss in losses.items()})
    if comm.is_main_process():
        gradients = {name: p.grad for name, p in bare.named_parameters()}
        buffers = {name: value for name, value in bare.named_buffers() if "running" in name}
        found = {"losses": losses, "gradients": gradients, "statistics": buffers}
        torch.save(found, Path(cfg.OUTPUT_DIR))


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
