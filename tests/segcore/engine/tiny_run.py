"""A complete program around a tiny model, which the tests of the engine run as a user would.

python tiny_run.py --config-file tiny.yaml [--num-gpus 2] [--eval-only] [--resume] [KEY VALUE ...]
"""

import json
from pathlib import Path

import torch
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
)
from detectron2.engine import default_argument_parser
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn

from segcore.config import register_config_keys
from segcore.engine import Trainer, build_checkpointer, launch, setup
from segcore.errors import UserError, exit_on_user_error
from segcore.mappers import MAPPER_REGISTRY

NUM_IMAGES, NUM_CLASSES = 13, 3


def register_tiny_dataset(name: str) -> None:
    items = [{"index": i, "width": 8, "height": 8} for i in range(NUM_IMAGES)]
    DatasetCatalog.register(name, lambda: items)
    MetadataCatalog.get(name).set(stuff_classes=["a", "b", "c"])


if "tiny" not in DatasetCatalog.list():
    register_tiny_dataset("tiny")
    register_tiny_dataset("tiny_too")


def tiny_mapper(item: dict) -> dict:
    generator = torch.Generator().manual_seed(item["index"])
    image = torch.rand(3, 8, 8, generator=generator)
    return item | {"image": image, "sem_seg": image.argmax(0)}


@register_config_keys
def add_tiny_keys(cfg):
    cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""


class TinySegmenter(nn.Module):
    """Two convolutions and every kind of parameter that the optimizer distinguishes."""

    def __init__(self, cfg):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 1)
        self.clip = nn.ModuleDict({"text": nn.Linear(4, 8), "frozen": nn.Linear(2, 2)})
        self.clip["frozen"].requires_grad_(False)
        self.norm = nn.GroupNorm(2, 8)
        self.words = nn.Embedding(NUM_CLASSES, 4)
        self.scale = nn.Parameter(torch.ones(1))
        self.vocabulary = None

    def set_vocabulary(self, vocabulary):
        self.vocabulary = vocabulary

    def forward(self, inputs):
        images = torch.stack([item["image"] for item in inputs]).to(self.scale.device)
        features = self.norm(self.backbone(images))
        logits = torch.einsum("bchw,nc->bnhw", features, self.clip["text"](self.words.weight))
        logits = logits * self.scale
        if not self.training:
            return [{"sem_seg": scores, "vocabulary": self.vocabulary} for scores in logits]
        labels = torch.stack([item["sem_seg"] for item in inputs]).to(logits.device)
        return {"loss_sem_seg": nn.functional.cross_entropy(logits, labels)}


if "tiny" not in MAPPER_REGISTRY:
    MAPPER_REGISTRY._do_register("tiny", lambda cfg, is_train: tiny_mapper)

if "TinySegmenter" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(TinySegmenter)


class TinyEvaluator(DatasetEvaluator):
    """Pixel accuracy and the sum of all scores, over the images of all processes."""

    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        for item, output in zip(inputs, outputs, strict=True):
            correct = (output["sem_seg"].argmax(0).cpu() == item["sem_seg"]).sum().item()
            self.seen.append((item["index"], correct, output["vocabulary"]))

    def evaluate(self):
        seen = sorted(entry for part in comm.gather(self.seen) for entry in part)
        if not comm.is_main_process():
            return {}
        assert [index for index, _, _ in seen] == list(range(NUM_IMAGES))
        assert {tuple(words) for _, _, words in seen} == {("a", "b", "c")}
        return {"sem_seg": {"pACC": sum(n for _, n, _ in seen) / (64 * NUM_IMAGES) * 100}}


class TinyTrainer(Trainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return TinyEvaluator()


def main(args):
    cfg = setup(args)
    fault = Path(cfg.OUTPUT_DIR, "fault")
    if fault.exists() and comm.get_rank() == int(fault.read_text()):
        raise UserError(f"process {comm.get_rank()} has to fail")
    if args.eval_only:
        model = TinyTrainer.build_model(cfg)
        build_checkpointer(cfg, model).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        results = TinyTrainer.test(cfg, model)
        if comm.is_main_process():
            Path(cfg.OUTPUT_DIR, "results.json").write_text(json.dumps(results))
        return results
    trainer = TinyTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    with exit_on_user_error():
        launch(main, default_argument_parser().parse_args())
