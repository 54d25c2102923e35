"""Very small GroupViT models for tests."""

import torch

from groupvit_mixreorg.image_encoder import ImageEncoder
from groupvit_mixreorg.mixreorg import MixReorg
from groupvit_mixreorg.model import GroupViTModel
from groupvit_mixreorg.projector import Projector
from groupvit_mixreorg.text_encoder import TextEncoder

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
    for stage in encoder.stages:  # large weights, so that decisions differ between images
        for block in (*stage.blocks, stage.grouping):
            for parameter in block.parameters() if block is not None else ():
                if parameter.ndim == 2:
                    torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return encoder


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
