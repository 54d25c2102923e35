"""ESSNet's networks against outputs, parameter counts and names of the published code.

All cases of the folder of reference outputs are run.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
import host_models

from per_pixel.checkpoint import PublishedNames
from per_pixel.config import build_decode_head
from per_pixel.embeddings import EmbeddingHead
from per_pixel.losses import resize
from per_pixel.names.essnet import EMBEDDINGS, PREFIX, SOFTMAX
from per_pixel.search import nearest_classes
from segcore.checkpoint import read_checkpoint
from segcore.checkpoint.renaming import Renaming
from segcore.config import default_config

GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
TABLE = "classifier.embedding.weight"
ARCHITECTURE = re.compile(r"deeplabv3plus_(mobilenet|resnet(\d+))(?:_d(\d+)|_baseline)_C(\d+)")
MEAN, STD = (torch.tensor(values)[:, None, None] for values in host_models.IMAGENET)


@cache
def table() -> dict[str, Any]:
    path = GOLDEN / "essnet" / "cases.json"
    return json.loads(path.read_text()) if path.is_file() else {"parameter_counts": {}}


CASES = [name for name, case in table().items() if "arch" in case]
COUNTS = table()["parameter_counts"]


@pytest.fixture(autouse=True)
def reference(golden: Path) -> None:
    """Skip without reference outputs."""


def config(architecture: str, classes: int, dim: int | None, output_stride: int = 16) -> Any:
    """Return the config of "resnet50", "resnet101" or "mobilenet"; without ``dim`` the softmax."""
    cfg = default_config()
    model = cfg.MODEL
    model.BACKBONE.FREEZE_AT = 0
    if architecture == "mobilenet":
        model.BACKBONE.NAME = "build_mobilenet_backbone"
        model.MOBILENET.OUTPUT_STRIDE, model.MOBILENET.PADDING = output_stride, "block"
        model.MOBILENET.OUT_FEATURES = ["res2", "res5"]
        model.MOBILENET.NORM = "BN"
    else:
        model.BACKBONE.NAME = "build_dilated_resnet_backbone"
        node = model.RESNETS
        node.DEPTH, node.STEM_TYPE, node.NORM = int(architecture[6:]), "basic", "BN"
        node.STRIDE_IN_1X1, node.RES5_MULTI_GRID = False, [1, 1, 1]
        node.RES4_DILATION, node.RES5_DILATION = {8: (2, 4), 16: (1, 2)}[output_stride]
        node.OUT_FEATURES = ["res2", "res5"]
    node = model.PER_PIXEL
    node.DECODER, node.IN_FEATURES, node.CHANNELS = "deeplabv3plus", ["res2", "res5"], 256
    node.NORM = "BN"
    rates = (6, 12, 18) if output_stride == 16 else (12, 24, 36)
    node.DILATIONS = [1, *rates]
    model.SEM_SEG_HEAD.NUM_CLASSES = classes
    model.ESSNET.FLAG, model.ESSNET.DIM = dim is not None, dim or 1
    return cfg


def build(cfg: Any) -> nn.ModuleDict:
    backbone = build_backbone(cfg, ShapeSpec(channels=3))
    head = build_decode_head(cfg, backbone.output_shape())
    return nn.ModuleDict({"backbone": backbone, "decode_head": head})


def names_of(model: nn.ModuleDict) -> Callable[[str], str]:
    """Return the function from our names of parameters to the published ones."""
    embeds = isinstance(model["decode_head"], EmbeddingHead)
    of_head = Renaming(EMBEDDINGS if embeds else SOFTMAX)

    def to_published(name: str) -> str:
        start, _, rest = name.partition(".")
        return name if start == "backbone" else PREFIX + of_head.to_published(rest)

    return to_published


def published_checkpoint(keys: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Return a checkpoint with these entries, as the release would write it."""
    weights = host_models.published_weights(keys)
    weights[TABLE] = deterministic.noise(TABLE, tuple(keys[TABLE]))
    return weights | {n: torch.tensor(0) for n in keys if n.endswith("num_batches_tracked")}


def load(model: nn.ModuleDict, keys: Mapping[str, list[int]]) -> None:
    """Load the published weights; their names and shapes are those of the model."""
    to_published, own = names_of(model), model.state_dict()
    assert {to_published(name): [*value.shape] for name, value in own.items()} == keys
    weights = published_checkpoint(keys)
    model.load_state_dict({name: weights[to_published(name)] for name in own})


def number(array: np.ndarray) -> np.ndarray:
    """Return an array with int64 instead of smaller integers."""
    return array if array.dtype.kind == "f" else array.astype(np.int64)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_network_equals_the_reference(name: str) -> None:
    case = table()[name]
    arrays = np.load(GOLDEN / "essnet" / f"{name}.npz")
    ref = {key: torch.from_numpy(number(arrays[key])) for key in arrays}
    architecture = case["arch"].removeprefix("deeplabv3plus_")
    model = build(config(architecture, case["classes"], case["d"], case["output_stride"])).eval()
    load(model, case["keys"])
    assert sum(parameter.numel() for parameter in model.parameters()) == case["parameters"]

    pattern, images, *size = case["input"]
    found = [deterministic.image(pattern.replace("<b>", str(i)), *size) for i in range(images)]
    features = model["backbone"]((torch.stack(found) - MEAN) / STD)
    head = model["decode_head"]
    close(features["res2"][:, ::9, ::3, ::3], ref["low_level"])
    close(features["res5"][:, ::37], ref["out"])
    close(head.decoder.aspp([features["res5"]])[:, ::9], ref["aspp"])
    quarter = head(features).scores
    close(quarter[:, :, ::2, ::2], ref["embedding_quarter"])
    full = resize(quarter, size, align_corners=False)
    close(full[:, :, ::6, ::6], ref["embedding_full"])
    close(full.norm(dim=1).flatten(1).amin(dim=1), ref["norm_full_min"])
    close(head.classes(), ref["classes"])

    pixels = full.movedim(1, -1)
    nearest = head.nearest(pixels.flatten(0, 2)).view(pixels.shape[:-1])
    equal = (nearest[:, ::2, ::2] == ref["nearest_class"]).float().mean()
    assert equal >= 0.999
    sample = pixels.flatten(0, 2)[::97]
    k = ref["faiss_8_sample_index"].shape[1]
    near = nearest_classes(sample, head.classes(), k)
    assert (near == ref["faiss_8_sample_index"]).float().mean() >= 0.999
    distances = torch.cdist(sample, head.classes()).square().gather(1, near)
    close(distances, ref["faiss_8_sample_sqdist"])
    # The classes by their probabilities, as inference asks for them.
    columns = full[0].flatten(1)
    scores = head.class_scores(columns, torch.arange(len(columns)))
    probabilities = scores(torch.arange(case["classes"]))
    assert torch.equal(probabilities.argmax(dim=0), nearest[0].flatten())
    expected = F.softmax(-20 * torch.cdist(head.classes(), columns.T), dim=0)
    torch.testing.assert_close(probabilities, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_to_the_unit(name: str) -> None:
    architecture, _, dim, classes = ARCHITECTURE.fullmatch(name).groups()
    with torch.device("meta"):
        model = build(config(architecture, int(classes), int(dim) if dim else None))
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


def test_the_softmax_baseline_has_the_published_names() -> None:
    case = table()[CASES[0]]
    keys = {name: shape for name, shape in case["keys"].items() if name != TABLE}
    with torch.device("meta"):
        model = build(config(case["arch"].removeprefix("deeplabv3plus_"), case["d"], None))
    to_published = names_of(model)
    assert {to_published(n): [*value.shape] for n, value in model.state_dict().items()} == keys


def test_a_published_file_loads_with_no_missing_and_no_unexpected_key(tmp_path) -> None:
    case = table()["mobilenet_os16"]
    cfg = config("mobilenet", case["classes"], case["d"])
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "PerPixelSegmenter", "cpu"
    file = tmp_path / "essnet.pth"
    torch.save({"cur_itrs": 7, "model_state": published_checkpoint(case["keys"])}, file)
    model, state = build_model(cfg), read_checkpoint(file)["model"]
    assert model.load_state_dict(state, strict=True) == ([], [])
    assert torch.equal(model.decode_head.embedding_table.weight, state[TABLE])
    own = model.state_dict()
    assert build_model(cfg).load_state_dict(own, strict=True) == ([], [])
    names = PublishedNames(model)
    assert all(names.to_ours(names.to_published(name)) == name for name in own)
    cfg.MODEL.ESSNET.FLAG, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = False, case["d"]
    baseline = {name: value for name, value in state.items() if name != TABLE}
    assert build_model(cfg).load_state_dict(baseline, strict=True) == ([], [])
