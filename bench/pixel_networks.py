"""Build per-pixel models with random weights, and measure one image or one training step."""

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import per_pixel

# isort: split
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from measure import memory_now, memory_peak, seconds
from torch import nn
from transformers_upernet import TransformersUperNet

from segcore.config import load_config

# One process computes the norms of its own images.
ALWAYS = {
    "MODEL.PER_PIXEL.NORM": "BN",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.BEIT.NORM": "BN",
    "MODEL.WEIGHTS": "",
    "TEST.SEM_SEG_OUTPUT": "labels",
}
# Of every host: a few thousand weights.
TINY = {
    "MODEL.VIT.IMAGE_SIZE": 64,
    "MODEL.VIT.EMBED_DIM": 16,
    "MODEL.VIT.DEPTH": 2,
    "MODEL.VIT.NUM_HEADS": 2,
    "MODEL.BEIT.IMAGE_SIZE": 64,
    "MODEL.BEIT.EMBED_DIM": 16,
    "MODEL.BEIT.DEPTH": 4,
    "MODEL.BEIT.NUM_HEADS": 2,
    "MODEL.BEIT.OUT_BLOCKS": [0, 1, 2, 3],
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 1, 2, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 1, 2, 2],
    "MODEL.SWIN.WINDOW_SIZE": 4,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.PER_PIXEL.CHANNELS": 16,
    "MODEL.PER_PIXEL.NUM_HEADS": 2,
    "MODEL.PER_PIXEL.AUXILIARY.CHANNELS": 8,
    "MODEL.RANKSEG.HIDDEN_DIM": 16,
    "MODEL.RANKSEG.NUM_HEADS": 2,
    "MODEL.RANKSEG.FEEDFORWARD_DIM": 32,
}
TINY_SIDE = 64
BATCH = 2  # images of a training step
CELLS = 4  # down and across, of one class each


@dataclass(frozen=True)
class Case:
    """A measurement.

    Attributes:
        config: name of a config.
        training: a training step of ``BATCH`` images; otherwise the label map of one image.
        options: keys of the config and their values, in turn.
        side: of the images; 0: that of the config's crops.
    """

    config: str
    training: bool
    options: tuple = ()
    side: int = 0


@dataclass(frozen=True)
class Measured:
    """Medians, or one run: seconds forward and backward, bytes above the model."""

    forward: float
    backward: float
    memory: float


def pairs(options: dict[str, object]) -> tuple:
    """Return the keys and values of a dict in turn."""
    return tuple(item for pair in options.items() for item in pair)


def build(case: Case) -> tuple[per_pixel.PerPixelSegmenter, CfgNode]:
    """Return a model with the same random weights at every call, and its config."""
    cfg = load_config(case.config, [*pairs(ALWAYS), *case.options])
    torch.manual_seed(0)
    model = build_model(cfg)
    model.may_predict = True  # with random weights
    return model.train(case.training), cfg


def inputs(model: per_pixel.PerPixelSegmenter, case: Case, side: int) -> list[dict]:
    """Return an image, or for training ``BATCH`` with label maps of ``CELLS`` x ``CELLS`` cells."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(BATCH if case.training else 1):
        image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
        item = {"image": image.to(model.device)}
        if case.training:
            cells = torch.randint(0, model.num_classes, (1, 1, CELLS, CELLS), generator=generator)
            labels = F.interpolate(cells.double(), (side, side))[0, 0].long()
            item["sem_seg"] = labels.to(model.device)
        items.append(item)
    return items


def network(case: Case, in_transformers: bool) -> tuple[nn.Module, list[dict]]:
    """Return a model, ours or the same one in transformers, and its inputs."""
    model, cfg = build(case)
    items = inputs(model, case, case.side or cfg.INPUT.CROP.SIZE[0])
    if in_transformers:
        model = TransformersUperNet(model, cfg).train(case.training)
    return model, items


def loss(model: nn.Module, items: list[dict]) -> torch.Tensor:
    """Return the sum of the training losses."""
    return sum(model(items).values())


def measure(case: Case, in_transformers: bool) -> Measured:
    """Predict, or run a training step without optimizer, twice; time the second."""
    model, items = network(case, in_transformers)
    loaded = memory_now()
    found, forward, backward = [], 0.0, 0.0
    for _ in range(2):
        found.clear()
        if not case.training:
            forward = seconds(lambda: model(items))
            continue
        forward = seconds(lambda: found.append(loss(model, items)))
        backward = seconds(lambda: found[0].backward())
    return Measured(forward, backward, memory_peak() - loaded)
