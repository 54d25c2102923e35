"""Loss and gradients of a small model for one batch, distributed over the processes.

python gradients_run.py --config-file ... --num-gpus 2 OUTPUT_DIR out
"""

from pathlib import Path

import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

import catseg_d2  # noqa: F401
from segcore.config import load_config
from segcore.engine import Trainer, launch
from segcore.engine.trainer import parallel


def main(args):
    cfg = load_config(args.config_file, args.opts)
    torch.manual_seed(comm.get_rank())  # weights differ; wrapping synchronizes them
    bare = Trainer.build_model(cfg).train()
    model = parallel(bare, torch.device(cfg.MODEL.DEVICE))
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(4, 3, 96, 96, generator=generator) * 255
    labels = torch.randint(0, 60, (4, 12, 12), generator=generator).repeat_interleave(8, 1)
    labels = labels.repeat_interleave(8, 2)
    labels[0, :50] = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE  # the shards differ in ignored pixels
    mine = range(comm.get_rank(), 4, comm.get_world_size())
    captions = ["a red circle", "a square on sand", "two blue triangles on grass", "wood"]
    parts = zip(images, labels, captions, strict=True)
    batch = [dict(zip(("image", "sem_seg", "caption"), part, strict=True)) for part in parts]
    losses = model([batch[i] for i in mine])
    sum(losses.values()).backward()
    losses = comm.reduce_dict({name: loss.detach() for name, loss in losses.items()})
    if comm.is_main_process():
        gradients = {name: p.grad for name, p in bare.named_parameters() if p.requires_grad}
        torch.save({"losses": losses, "gradients": gradients}, Path(cfg.OUTPUT_DIR))


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
