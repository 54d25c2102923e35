"""Outputs equal those of transformers' GroupViT with the same weights."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from groupvit_models import build, photographs

from groupvit_mixreorg import GroupViT
from segcore.text import tokenize

library = pytest.importorskip("transformers", reason="transformers is not installed: extra bench")

DEPTHS, GROUPS = [2, 1, 1], [8, 4, 0]


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, GroupViT]:
    """Return transformers' model and ours, with its weights."""
    torch.manual_seed(0)
    config = library.GroupViTConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "depths": DEPTHS,
            "num_group_tokens": GROUPS,
            "num_output_groups": [8, 4, 4],
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
        projection_intermediate_dim=24,
    )
    theirs = library.GroupViTModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) if parameter.ndim > 1 else parameter)
    ours = build(
        MODEL__GROUPVIT__DEPTHS=DEPTHS,
        MODEL__GROUPVIT__GROUP_TOKENS=GROUPS,
        MODEL__GROUPVIT__OUTPUT_GROUPS=[8, 4],
        MODEL__GROUPVIT__TEXT__WIDTH=32,
        MODEL__GROUPVIT__TEXT__NUM_LAYERS=2,
        MODEL__GROUPVIT__TEXT__CONTEXT_LENGTH=77,
    ).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@torch.no_grad()
def test_outputs(models) -> None:
    theirs, ours = models
    texts = ["a red circle", "a dog", "grass and sand, with a very blue sky"]
    tokens = tokenize(texts)
    images = torch.stack([item["image"] for item in photographs(2)])
    pixels = (images.float() - ours.pixel_mean) / ours.pixel_std
    expected = theirs(input_ids=tokens, pixel_values=pixels, output_segmentation=True)
    found = ours.model.embed_images(pixels)
    torch.testing.assert_close(found.vector, expected.image_embeds, atol=1e-5, rtol=1e-4)
    rows = F.normalize(ours.model.encode_text(tokens), dim=-1)
    torch.testing.assert_close(rows, expected.text_embeds, atol=1e-5, rtol=1e-4)
    similarities = ours.model.scale * found.vector @ rows.T
    torch.testing.assert_close(similarities, expected.logits_per_image, atol=1e-3, rtol=1e-4)
    features = expected.vision_model_output.last_hidden_state
    torch.testing.assert_close(found.features.segments, features, atol=1e-4, rtol=1e-4)
    # Its maps weight the similarities by the shares of the segments, and by the scale again.
    shares = F.interpolate(found.features.shares.unflatten(-1, (4, 4)), (32, 32), mode="bilinear")
    logits = ours.model.scale**2 * found.segments @ rows.T
    maps = torch.einsum("bst,bshw->bthw", logits, shares)
    torch.testing.assert_close(maps, expected.segmentation_logits, atol=1e-2, rtol=1e-4)
