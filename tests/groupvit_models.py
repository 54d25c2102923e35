"""Very small GroupViT models for tests."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from groupvit_mixreorg import GroupViT
from groupvit_mixreorg.image_encoder import ImageEncoder
from groupvit_mixreorg.mixreorg import MixReorg
from groupvit_mixreorg.model import GroupViTModel
from groupvit_mixreorg.projector import Projector
from groupvit_mixreorg.text_encoder import TextEncoder
from segcore.config import load_config

WIDTH, HEADS, SIDE, DEPTH = 32, 2, 32, 4  # of the images; layers of the first stage


def image_encoder(**changes: object) -> ImageEncoder:
    """Return an encoder of images of 32 x 32 pixels with 6, then 3 segments."""
    settings = {
        "grid": (4, 4),
        "patch_size": 8,
        "width": WIDTH,
        "num_heads": HEADS,
        "depths": (DEPTH, 1, 1),
        "group_tokens": (6, 3, 0),
        "output_groups": (6, 3),
    }
    torch.manual_seed(0)
    encoder = ImageEncoder(**(settings | changes))
    spread(encoder)
    return encoder


@torch.no_grad()
def spread(encoder: ImageEncoder) -> None:
    """Draw large weights, so that decisions differ between tokens and images."""
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            values = torch.randn(parameter.shape)
            parameter.copy_(values if parameter.ndim == 3 else values / parameter[0].numel() ** 0.5)


def model(multi_label: bool = True, **changes: object) -> GroupViTModel:
    """Return GroupViT with that image encoder and a joint space of 16 dimensions."""
    images = image_encoder(**changes)
    texts = TextEncoder(width=16, num_layers=1, num_heads=2)
    projectors = Projector(WIDTH, 24, 16), Projector(16, 24, 16)
    return GroupViTModel(images, texts, *projectors, multi_label=multi_label)


def mixreorg(**changes: object) -> MixReorg:
    """Return MixReorg of that image encoder."""
    torch.manual_seed(1)
    return MixReorg(WIDTH, HEADS, DEPTH, **({"layer": 1} | changes))


def images(number: int, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> torch.Tensor:
    """Return normalised random images."""
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(seed))


CONFIG = "groupvit_mixreorg/scenes_60_groupvit.yaml"
MIXED = "groupvit_mixreorg/scenes_60_mixreorg.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.GROUPVIT.IMAGE_SIZE": SIDE,
    "MODEL.GROUPVIT.WIDTH": WIDTH,
    "MODEL.GROUPVIT.NUM_HEADS": HEADS,
    "MODEL.GROUPVIT.GROUP_TOKENS": [6, 3, 0],
    "MODEL.GROUPVIT.OUTPUT_GROUPS": [6, 3],
    "MODEL.GROUPVIT.TEXT.WIDTH": 16,
    "MODEL.GROUPVIT.TEXT.NUM_LAYERS": 1,
    "MODEL.GROUPVIT.PROJECTION.HIDDEN_DIM": 24,
    "MODEL.GROUPVIT.PROJECTION.DIM": 16,
    "MODEL.ZERO_SHOT.WINDOW": SIDE,
    "MODEL.ZERO_SHOT.KEEP_CLASSES": 5,  # fewer than the tests name
}


def small_config(name: str = CONFIG, **changes: object) -> CfgNode:
    """Return a config of ours, made very small; ``MODEL__DEVICE`` stands for ``MODEL.DEVICE``."""
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(name, [part for pair in settings.items() for part in pair])


def build(name: str = CONFIG, **changes: object) -> GroupViT:
    """Return the model of a small config, with large random weights."""
    torch.manual_seed(0)
    network = build_model(small_config(name, **changes))
    spread(network.model.image_encoder)
    return network


def items(number: int, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> list[dict]:
    """Return images with captions and their words."""
    generator = torch.Generator().manual_seed(seed)
    colors = ("red", "blue", "green", "yellow")
    return [
        {
            "image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8),
            "caption": f"a {colors[i % 4]} circle on {'grass' if i % 3 else 'stone'}",
            "words": [f"{colors[i % 4]} circle"],
        }
        for i in range(number)
    ]


def photographs(number: int, seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> list[dict]:
    """Return images without captions."""
    return [{"image": item["image"]} for item in items(number, seed, size)]
