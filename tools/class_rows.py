#!/usr/bin/env python3
"""Start a model from a CAT-Seg: its image encoder, and class tables of its class names.

    python tools/class_rows.py --encoder catseg_d2/scenes_1k_towers.yaml encoder/model_final.pth \
        --config-file per_pixel/scenes_1k_segmenter_rankseg.yaml start.safetensors
    python train_net.py --config-file per_pixel/scenes_1k_segmenter_rankseg.yaml \
        MODEL.WEIGHTS start.safetensors MODEL.ALLOW_PARTIAL_WEIGHTS True

A model with a ViT has CAT-Seg's image encoder as its backbone; for another one, --backbone is a
checkpoint of one like it, such as scenes-60-panoptic for scenes_60_deeplabv3_rankseg.yaml.

A row of a class table is the text embedding of the name, so that classes whose names share words
start alike, and one learns from the pixels of another. Tables are Segmenter's class tokens,
ESSNet's class embeddings, a classifier of pixels, and the class tokens of a multi-label head with
its classifier. What else the model has keeps its random values.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import load_config

# isort: split
import safetensors.torch
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from catseg_d2.config import check_open_vocabulary
from segcore.backbones.vit import VisionTransformer
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing

# Names of class tables; a module has one of them.
TABLES = (
    "decode_head.class_embeddings",
    "decode_head.embedding_table.weight",
    "decode_head.classifier.linear.weight",
    "decode_head.classifier.class_table",
    "head.decoder.class_embeddings",
)
# Classifiers of class tokens, used where they are as wide as the table that the tokens come from.
TOKEN_CLASSIFIERS = (
    "decode_head.ranking.head.classifier.weight",
    "decode_head.classifier.ranking.head.classifier.weight",
    "head.decoder.classifier.weight",
)


def class_rows(embeddings: Tensor, width: int) -> Tensor:
    """Return rows (K, width) of text embeddings (K, P, C) with P prompts of each class.

    The mean of the classes, which names have in common, is subtracted; the mean norm is 1. Columns
    beyond C are 0; narrower rows are the first principal components.
    """
    rows = embeddings.mean(dim=1)
    rows = rows - rows.mean(dim=0)
    if width < rows.shape[1]:
        _, _, axes = torch.linalg.svd(rows, full_matrices=False)
        rows = rows @ axes[:width].T
    rows = rows / rows.norm(dim=1).mean()
    return F.pad(rows, (0, width - rows.shape[1]))


def start_weights(encoder: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that ``model`` starts from: those of its backbone and class tables.

    Args:
        encoder: the CAT-Seg, loaded.
        model: with classes; the backbone, unless it is a ViT, has its weights.

    Raises:
        UserError: the model has no class table, or its classes have no names.
    """
    own = model.state_dict()
    table = next((name for name in TABLES if name in own), None)
    if table is None:
        raise UserError("the config to start is of no model with a class table")
    if model.vocabulary is None:
        raise UserError("the classes have no names: set DATASETS.TRAIN to their data set")
    text = encoder.text_cache.get(encoder.clip, model.vocabulary, encoder.templates)
    rows = class_rows(text, own[table].numel() // len(text))
    if isinstance(model.backbone, VisionTransformer):
        model.load_state_dict(encoder.state_dict(), strict=False)  # its image encoder
    found = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    found[table] = rows.reshape(own[table].shape)
    for name in TOKEN_CLASSIFIERS:
        if name in own and own[name].shape == own[table].shape:
            found[name] = found[table]
    return {name: value.cpu().contiguous() for name, value in found.items()}


def write_start(
    encoder_cfg: CfgNode, checkpoint: Path, cfg: CfgNode, target: Path
) -> dict[str, Tensor]:
    """Write the weights that a model of ``cfg`` starts from; returns them.

    Args:
        encoder_cfg, checkpoint: of the CAT-Seg.
        cfg: of the model; MODEL.WEIGHTS has the backbone, unless it is a ViT.
        target: a file that ends in ``.safetensors``.

    Raises:
        UserError: as :func:`start_weights`, the target has another suffix, or MODEL.WEIGHTS is
            missing or has no use.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end in .safetensors")
    encoder = Trainer.build_model(encoder_cfg).eval()
    build_checkpointer(encoder_cfg, encoder).load_for_use(str(checkpoint))
    model = Trainer.build_model(cfg)
    has_vit = isinstance(model.backbone, VisionTransformer)
    if has_vit and cfg.MODEL.WEIGHTS:
        raise UserError("the model has a ViT, which is CAT-Seg's: leave out --backbone")
    if not has_vit:
        if not cfg.MODEL.WEIGHTS:
            raise UserError("the model has no ViT: name a checkpoint of its backbone, --backbone")
        build_checkpointer(cfg, model).load(cfg.MODEL.WEIGHTS)
    found = start_weights(encoder, model)
    with writing(target) as file:
        file.write(safetensors.torch.save({k: v.clone() for k, v in found.items()}))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="config of the CAT-Seg")
    parser.add_argument("checkpoint", type=path_argument, help="of the CAT-Seg")
    parser.add_argument("--config-file", required=True, help="config of the model to start")
    parser.add_argument("--backbone", default="", help="checkpoint of one that is no ViT")
    parser.add_argument("target", type=path_argument)
    arguments = parser.parse_args()
    with exit_on_user_error():
        encoder_cfg = load_config(arguments.encoder, [])
        check_open_vocabulary(encoder_cfg, arguments.encoder)
        weights = ["MODEL.WEIGHTS", arguments.backbone, "MODEL.ALLOW_PARTIAL_WEIGHTS", True]
        cfg = load_config(arguments.config_file, weights)
        found = write_start(encoder_cfg, arguments.checkpoint, cfg, arguments.target)
        classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        print(f"{arguments.target}: {len(found)} tensors, {classes:,} rows of class names")


if __name__ == "__main__":
    main()
