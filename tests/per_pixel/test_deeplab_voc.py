"""DeepLabv3 that ships: its keys, the numbers of the published graph, labels of photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import catrank
from segcore.checkpoint import read_checkpoint

REFERENCE = Path(__file__).with_name("deeplab_reference.json")
WEIGHTS = Path(__file__).parents[2] / "demo/models/deeplabv3_mobilenet_voc.safetensors"
# Shares of the pixels in percent, by the published graph.
SHARES = {
    "astronaut": {"person": 41.9, "bottle": 0.8},
    "chelsea": {"cat": 79.1},
    "coffee": {"dining table": 90.7},  # there is no class for the cup
    "rocket": {},
}


@pytest.fixture(scope="module")
def model() -> catrank.Model:
    return catrank.load(device="cpu")


@pytest.fixture(scope="module")
def photographs():
    return pytest.importorskip("skimage.data", reason="its wheel holds the photographs")


def test_no_key_is_missing_or_unexpected(model) -> None:
    state = model.network.state_dict()
    weights = read_checkpoint(WEIGHTS)["model"]
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in state.items()}
    assert sum(p.numel() for p in model.network.parameters()) == 2_097_013
    assert model.class_names[0] == "background" and len(model.class_names) == 21


@torch.no_grad()
def test_scores_of_the_published_graph(model, photographs) -> None:
    """They were computed in float32; the weights here are rounded to half precision."""
    reference = json.loads(REFERENCE.read_text())
    image = Image.fromarray(photographs.astronaut()).resize((513, 513), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    network, step = model.network, reference["step"]
    features = network.backbone(network.normalise(pixels)[None])
    scores = network.decode_head(features).scores[0].permute(1, 2, 0)
    assert scores.shape == (65, 65, 21)
    error = (scores[::step, ::step] - torch.tensor(reference["logits"])).abs()
    assert error.max() < 0.1 and error.mean() < 0.02


@pytest.mark.parametrize("name", SHARES)
def test_photographs(model, photographs, name: str) -> None:
    image = getattr(photographs, name)()
    result = model.segment(image)
    assert result.labels.shape == image.shape[:2]
    counts = np.bincount(result.labels.ravel(), minlength=21) / result.labels.size
    shares = {k: 100 * v for k, v in zip(model.class_names, counts, strict=True) if v}
    objects = {k: v for k, v in shares.items() if k != "background"}
    assert objects == pytest.approx(SHARES[name], abs=0.3)


def test_portrait_and_small_images(model, photographs) -> None:
    """The canvas is padded at the right or the bottom; the prediction has the image's size."""
    image = photographs.chelsea()[:, :200]
    result = model.segment(image)
    assert result.labels.shape == (300, 200)
    assert (result.labels == model.class_names.index("cat")).mean() > 0.7


def test_several_images_at_once(model, photographs) -> None:
    images = [photographs.chelsea(), photographs.astronaut()]
    for image, result in zip(images, model.segment(images, batch_size=2), strict=True):
        alone = model.segment(image)
        assert (result.labels == alone.labels).mean() > 0.9999
