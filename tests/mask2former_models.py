"""Mask2Former models for the tests: configs, the reference's weights, published keys."""

import json
from pathlib import Path

import deterministic
import torch
from detectron2.modeling import build_model
from torch import Tensor

from mask2former_rankseg import MaskFormer
from mask2former_rankseg.checkpoint import names_of
from segcore.config import load_config

ADE = "mask2former_rankseg/ade20k"
R50 = f"{ADE}/semantic-segmentation/maskformer2_R50_bs16_160k.yaml"
SWIN_T = f"{ADE}/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k.yaml"
PANOPTIC = f"{ADE}/panoptic-segmentation/maskformer2_R50_bs16_160k.yaml"

# A model of a few thousand weights, with all parts of the large ones.
TINY = {
    "MODEL.SWIN.EMBED_DIM": 8,
    "MODEL.SWIN.DEPTHS": [1, 1, 2, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 2, 4, 8],
    "MODEL.SWIN.WINDOW_SIZE": 4,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 12,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 9,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 5,
    "MODEL.RANKSEG.HIDDEN_DIM": 64,
}
RANKED = {
    "MODEL.RANKSEG.FLAG": True,
    "MODEL.RANKSEG.TOPK": 5,
    "MODEL.SEM_SEG_HEAD.USE_LAYERNORM": True,
}


def build(config: str, *options: object) -> MaskFormer:
    """Build the model of a config and options, without pre-trained weights, in evaluation mode."""
    return build_model(load_config(config, [*options, "MODEL.WEIGHTS", ""])).eval()


def published_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the checkpoint of the reference outputs, with published names."""
    to_published = names_of(model).to_published
    state = {to_published(name): value for name, value in model.state_dict().items()}
    filled = deterministic.weights({name: value.shape for name, value in state.items()})
    for name, value in filled.items():
        filled[name] = _rescaled(name, value, "sem_seg_head.predictor.class_embed.bias" in state)
    return filled


def _rescaled(name: str, value: Tensor, has_class_bias: bool) -> Tensor:
    """Rescale the noise of a parameter, so that the queries do not collapse into one."""
    noise = deterministic.noise(name, tuple(value.shape))
    predictor = "sem_seg_head.predictor."
    if name.endswith("running_mean"):
        return 0.1 * noise
    if name.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if name == "ml_norm.weight":
        return 4 * (1 + 0.1 * noise)
    if name == "ml_head.fc.W":
        return noise / value.shape[-1] ** 0.5
    if name == "ml_head.cls_emb" or "level_embed" in name or name.startswith(predictor + "query_"):
        return noise
    if name == predictor + "class_embed.weight" and has_class_bias:
        return 4 * value
    if name.startswith(predictor) and name.endswith("attn.in_proj_weight"):
        sharper = 2 * value.shape[1]  # queries and keys only
        return torch.cat([3 * value[:sharper], value[sharper:]])
    if name.startswith(predictor + "transformer_") and name.endswith(
        ("out_proj.weight", "linear2.weight")
    ):
        return 0.15 * value
    if name == predictor + "mask_embed.layers.2.bias":
        return 4 * value
    if name.endswith("self_attn.sampling_offsets.weight"):
        return 2 * value
    return value


def read_keys(golden: Path, name: str) -> dict[str, list[int]]:
    """Return the shape of every parameter of a published model."""
    return json.loads((golden / "mask2former_rankseg" / f"keys_{name}.json").read_text())
