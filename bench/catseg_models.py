"""Build CAT-Seg with random weights, and a random image, for the benchmarks."""

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2

# isort: split
import torch
from detectron2.modeling import build_model

from segcore.config import load_config

HEIGHT, WIDTH = 480, 640


def build(config: str, **keys: object) -> catseg_d2.CATSeg:
    """Return a model with the same random weights at every call.

    Args:
        config: its name or path.
        keys: of the config; ``__`` stands for a point.
    """
    settings = {
        "MODEL.CLIP_WEIGHTS": "",
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON": "",
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    torch.manual_seed(0)
    model = build_model(load_config(config, [item for pair in settings.items() for item in pair]))
    model.may_predict = True  # with random weights
    return model


def random_image() -> torch.Tensor:
    """Return (3, HEIGHT, WIDTH) uint8, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
