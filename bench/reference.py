"""Run the authors' released code beside ours; it needs Detectron2 and that code's dependencies.

The code calls CUDA everywhere and downloads CLIP when the model is built. Here, calls of CUDA do
nothing without a GPU, and CLIP has random weights, which change neither time nor memory.
"""

import json
import sys
import tempfile
from pathlib import Path

import open_clip
import torch

from segcore.errors import UserError


class RandomCLIP(torch.nn.Module):
    """A stand-in for OpenAI's archive of ViT-B/16, with the attributes that the code reads."""

    input_resolution = torch.tensor(224)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return random weights and the three sizes that OpenAI's archive holds."""
        clip = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16-quickgelu"))
        sizes = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
        return clip.state_dict() | {name: torch.tensor(size) for name, size in sizes.items()}


def build_reference(checkout: str, class_names: list[str]) -> torch.nn.Module:
    """Return the released ViT-B model with random weights and patch inference.

    Args:
        checkout: folder of its repository.
        class_names: its vocabulary.
    Raises:
        UserError: the folder is not that repository, or one of its imports is missing.
    """
    config = Path(checkout) / "configs" / "vitb_384.yaml"
    if not config.is_file():
        raise UserError(f"--reference {checkout} holds no configs/vitb_384.yaml: name a checkout")
    sys.path.insert(0, checkout)
    if not torch.cuda.is_available():
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
    try:
        from detectron2.modeling import META_ARCH_REGISTRY

        META_ARCH_REGISTRY._obj_map.pop("CATSeg", None)  # ours, of the same name
        from cat_seg import add_cat_seg_config
        from cat_seg.third_party import clip
        from detectron2.config import get_cfg
        from detectron2.projects.deeplab import add_deeplab_config
    except ImportError as error:
        raise UserError(f"--reference {checkout} cannot be imported: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "classes.json")
        names.write_text(json.dumps(class_names))
        clip._download = lambda *_, **__: ""
        torch.jit.load = lambda *_, **__: RandomCLIP()

        cfg = get_cfg()
        add_deeplab_config(cfg)
        add_cat_seg_config(cfg)
        cfg.merge_from_file(str(config))
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
        cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = str(names)
        cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = str(names)
        cfg.MODEL.SEM_SEG_HEAD.POOLING_SIZES = [1, 1]
        cfg.TEST.SLIDING_WINDOW = True
        return META_ARCH_REGISTRY.get("CATSeg")(cfg).to(cfg.MODEL.DEVICE).eval()
