"""A very small Mask2Former with RankSeg on four drawn images, without files of a data set.

python rankseg_run.py --config-file ... --num-gpus 2 OUTPUT_DIR out.pth

saves the losses and gradients of one batch, sharded over the processes.
"""

import argparse
import sys
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase, default_argument_parser
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from mask2former_models import RANKED, TINY

from mask2former_rankseg.points import RandomPoints
from segcore.config import load_config
from segcore.engine import Trainer, launch
from segcore.engine.trainer import parallel
from segcore.mappers import MAPPER_REGISTRY

IMAGES, OBJECTS, SIDE = 4, 3, 64
OPTIONS = TINY | RANKED
OPTIONS |= {
    "MODEL.RANKSEG.LOSS_WEIGHT": 10.0,
    "MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 64,
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "DATASETS.TRAIN": ("blobs",),
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.DATASET_MAPPER_NAME": "blobs",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.AMP.ENABLED": False,
    "SEED": 1,
}


def blobs(record: dict) -> dict:
    """An image of noise with brighter rectangles in it, its objects."""
    draw = torch.Generator().manual_seed(record["index"])
    image = torch.randint(0, 100, (3, SIDE, SIDE), generator=draw)
    masks = torch.zeros(OBJECTS, SIDE, SIDE, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, SIDE - 20, (2,), generator=draw).tolist()
        mask[top : top + 20, left : left + 16] = True
        image[:, mask] += torch.randint(0, 100, (3, 1), generator=draw)
    classes = torch.randperm(12, generator=draw)[:OBJECTS]
    objects = Instances((SIDE, SIDE), gt_classes=classes, gt_masks=masks)
    return record | {"image": image, "instances": objects}


if "blobs" not in MAPPER_REGISTRY:
    MAPPER_REGISTRY._do_register("blobs", lambda cfg, is_train: blobs)
    records = [{"index": i, "width": SIDE, "height": SIDE} for i in range(IMAGES)]
    DatasetCatalog.register("blobs", lambda: records)


class FixedPoints(RandomPoints):
    """The same points for every mask."""

    def draw(self, number: int, points: int, device: torch.device) -> Tensor:
        x = torch.linspace(0.05, 0.95, points, device=device)
        return torch.stack([x, 0.05 + 0.9 * x.flip(0) ** 2], dim=-1).expand(number, -1, -1)


class EveryLoss(HookBase):
    """Keeps the losses and the rate of every iteration, to the last bit."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[str, float]] = {}

    def after_step(self) -> None:
        latest = self.trainer.storage.latest()
        self.kept[self.trainer.iter] = {
            name: value for name, (value, _) in latest.items() if "loss" in name or name == "lr"
        }


class BlobTrainer(Trainer):
    """A trainer that keeps every loss in ``losses``."""

    def build_hooks(self) -> list[HookBase]:
        hook = EveryLoss()
        self.losses = hook.kept
        return [*super().build_hooks(), hook]


def main(args: argparse.Namespace) -> None:
    """Nothing but the weights is drawn at random, so that the processes agree."""
    cfg = load_config(args.config_file, args.opts)
    torch.manual_seed(comm.get_rank())  # the processes start apart; wrapping makes them agree
    bare = Trainer.build_model(cfg).train()
    bare.criterion.points = FixedPoints(64)
    model = parallel(bare, torch.device("cpu"))
    mine = range(comm.get_rank(), IMAGES, comm.get_world_size())
    losses = model([blobs({"index": i}) for i in mine])
    sum(losses.values()).backward()
    losses = comm.reduce_dict({name: loss.detach() for name, loss in losses.items()})
    if comm.is_main_process():
        gradients = {name: p.grad for name, p in bare.named_parameters()}
        torch.save({"losses": losses, "gradients": gradients}, Path(cfg.OUTPUT_DIR))


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
