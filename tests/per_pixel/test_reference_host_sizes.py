"""DeepLabv3 and UPerNet in their published sizes: names, shapes and numbers of parameters."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY

sys.path.insert(0, str(Path(__file__).parents[1]))
import host_configs

from per_pixel import PerPixelSegmenter
from per_pixel.checkpoint import PublishedNames

RESNET = {
    "type": "ResNetV1c",
    "depth": 101,
    "dilations": [1, 1, 2, 4],
    "base_channels": 64,
    "stem_channels": 64,
}
SWIN = {
    "type": "SwinTransformer",
    "embed_dims": 128,
    "depths": [2, 2, 18, 2],
    "num_heads": [4, 8, 16, 32],
    "window_size": 12,
    "patch_size": 4,
    "drop_path_rate": 0.3,
}
BEIT = {
    "type": "BEiT",
    "img_size": [640, 640],
    "patch_size": 16,
    "embed_dims": 1024,
    "num_layers": 24,
    "num_heads": 16,
    "out_indices": [7, 11, 15, 23],
    "drop_path_rate": 0.2,
}
ASPP = {"type": "ASPPHead", "in_index": 3, "channels": 512}
UPERNET = {"type": "UPerHead", "in_index": [0, 1, 2, 3], "channels": 512}
# Backbone, decode head, and the keys of RankSeg beside the width of its head.
HOSTS = {
    "deeplabv3": (RESNET, ASPP, {"SHARE_EMBEDDING": True, "POOL": 16}),
    "swin_b": (SWIN, UPERNET, {"SHARE_EMBEDDING": True}),
    "beit_l": (BEIT, UPERNET | {"channels": 1024}, {}),
}
KEYS = {
    "deeplabv3": "keys_deeplabv3_r101d8_k150",
    "swin_b": "keys_upernet_swin_base_k150",
    "beit_l": "keys_upernet_beit_large_k150",
}
FORMS = {
    "baseline": None,
    "head (released form)": {"CLASS_TOKEN_PROJECTION": False},
    "+ Linear(h,h) with bias": {"CLASS_TOKEN_PROJECTION": True},
}


def model_of(host: str, num_classes: int, form: Mapping | None = None) -> PerPixelSegmenter:
    """Build a host without memory for its weights; ``form``: keys of RankSeg, None: plain."""
    backbone, head, keys = HOSTS[host]
    head = head | {"num_classes": num_classes, "dropout_ratio": 0.1, "align_corners": False}
    auxiliary = {"in_index": 2, "channels": 256, "loss_decode": {"loss_weight": 0.4}}
    model = {"backbone": backbone, "decode_head": head, "auxiliary_head": auxiliary}
    cfg = host_configs.model_config({"model": model, "mean_std": "ImageNet"})
    if form is not None:
        cfg.MODEL.RANKSEG.FLAG, cfg.MODEL.RANKSEG.HIDDEN_DIM = True, head["channels"]
        cfg.MODEL.RANKSEG.TOPK = 100 if num_classes > 1000 else 50
        for key, value in {**keys, **form}.items():
            cfg.MODEL.RANKSEG[key] = value
    with torch.device("meta"):
        return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


@pytest.mark.parametrize("host", HOSTS)
def test_models_have_the_published_keys(golden: Path, host: str) -> None:
    layout = json.loads((golden / "hosts" / f"{KEYS[host]}.json").read_text())
    model = model_of(host, layout["num_classes"])
    assert sum(p.numel() for p in model.parameters()) == layout["parameters"]
    derived = "relative_position_index"  # which published files contain, and models compute
    keys = {name: shape for name, shape in layout["keys"].items() if not name.endswith(derived)}
    names, state = PublishedNames(model), model.state_dict()
    published = {names.to_published(name): name for name in state}
    assert published.keys() == keys.keys()
    for name, ours in published.items():
        assert names.to_ours(name) == ours
        assert list(state[ours].shape) == keys[name], name


@pytest.mark.parametrize("host", HOSTS)
def test_models_have_the_published_number_of_parameters(golden: Path, host: str) -> None:
    """With and without RankSeg, as released and as the paper counts it."""
    rows = json.loads((golden / "hosts" / "parameter_counts.json").read_text())["rows"]
    for row in rows:
        for form, options in FORMS.items() if row["host"] == host else ():
            model = model_of(host, row["K"], options)
            millions = sum(p.numel() for p in model.parameters()) / 1e6
            assert round(millions, 4) == row["computed_M"][form], (row["K"], form)
