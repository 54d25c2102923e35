"""A complete program that evaluates known predictions, on the videos of ``video_run``.

python evaluation_run.py --config-file run.yaml --eval-only [--num-gpus 2] [KEY VALUE ...]

STALL in the environment: before that many videos or pieces are predicted, the process waits to be
killed. What was predicted stands in ``OUTPUT_DIR/predicted-<rank>``, and the results in
``OUTPUT_DIR/results.json``.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import video_run

from segcore.engine import Trainer, launch, setup
from segcore.errors import exit_on_user_error
from segcore.evaluation import resuming
from segcore.mappers import MAPPER_REGISTRY


class Oracle(nn.Module):
    """Return the predictions of ``video_run``."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.log = Path(cfg.OUTPUT_DIR) / f"predicted-{comm.get_rank()}"
        self.stall = int(os.environ.get("STALL", -1))

    def forward(self, inputs):
        if self.stall == 0:
            (self.log.parent / f"stalled-{comm.get_rank()}").touch()
            time.sleep(3000)  # the test kills the process
        self.stall -= 1
        (item,) = inputs
        with self.log.open("a") as file:
            file.write(f"{item['video_id']} {item.get('first_frame', '')}\n")
        if "first_frame" not in item:
            return [video_run.prediction(item)]
        return [{"sem_seg_labels": torch.from_numpy(video_run.predicted(item))}]


if "Oracle" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(Oracle)
    MAPPER_REGISTRY._do_register("as_it_is", lambda cfg, is_train: dict)


def main(args):
    resuming.LEAST_PAUSE = 0
    video_run.register(Path(os.environ["VIDEOS"]))
    MetadataCatalog.get("labelled").evaluator_type = "video_semantic"
    MetadataCatalog.get("tracked").evaluator_type = "ytvis"
    cfg = setup(args)
    results = Trainer.test(cfg, Trainer.build_model(cfg))
    if comm.is_main_process():
        (Path(cfg.OUTPUT_DIR) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    with exit_on_user_error():
        launch(main, default_argument_parser().parse_args())
