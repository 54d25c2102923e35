"""A plain Vision Transformer from CLIP's image encoder equals the encoder."""

import open_clip
import pytest
import torch
from torch import Tensor

from segcore.backbones.clip import image_encoder
from segcore.backbones.published import load_pretrained
from segcore.backbones.vit import VisionTransformer
from segcore.errors import UserError


def encoder(quick_gelu: bool) -> open_clip.CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 2, "layers": 1}
    return open_clip.CLIP(8, vision, text, quick_gelu=quick_gelu).eval()


def backbone(**options) -> VisionTransformer:
    options = {"pre_norm": True, "patch_bias": False} | options
    return VisionTransformer(24, 2, 2, (4, 4), patch_size=8, **options).eval()


def load(ours: VisionTransformer, tensors: dict[str, Tensor]) -> None:
    loaded = load_pretrained(ours, tensors)
    ours.load_state_dict({n.removeprefix("backbone."): value for n, value in loaded.items()})


def split(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the three matrices of CAT-Seg's attention."""
    result = {}
    for name, value in tensors.items():
        if name.endswith("in_proj_weight"):
            stem = name.removesuffix("in_proj_weight")
            for part, matrix in zip("qkv", value.chunk(3), strict=True):
                result[f"{stem}{part}_proj_weight"] = matrix
        else:
            result[name] = value
    return result


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "clip.", "sem_seg_head.predictor.clip_model."])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_equals_the_encoder(prefix: str, activation: str) -> None:
    clip = encoder(activation == "quick_gelu")
    tensors = clip.state_dict() if not prefix else split(clip.state_dict())
    ours = backbone(activation=activation)
    load(ours, {prefix + name: value for name, value in tensors.items()})
    images = torch.randn(2, 3, 32, 32)
    visual = clip.visual
    expected = visual.ln_post(visual.transformer(visual._embeds(images)))[:, 1:]
    tokens = ours(images)["tokens"].flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)


def test_a_transformer_without_the_norm_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"MODEL\.VIT\.PRE_NORM True"):
        load(backbone(pre_norm=False), encoder(False).state_dict())


def test_other_checkpoints_have_no_image_encoder() -> None:
    assert image_encoder(backbone().state_dict()) is None
    assert image_encoder({"visual.conv1.weight": torch.zeros(1)}) is None  # a ResNet's
