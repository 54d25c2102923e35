#!/usr/bin/env python3
"""Start a Segmenter from a CAT-Seg: its image encoder, and a class table of its class names.

    python tools/class_rows.py --encoder catseg_d2/scenes_1k_towers.yaml encoder/model_final.pth \
        --config-file per_pixel/scenes_1k_segmenter_rankseg.yaml start.safetensors
    python train_net.py --config-file per_pixel/scenes_1k_segmenter_rankseg.yaml \
        MODEL.WEIGHTS start.safetensors MODEL.ALLOW_PARTIAL_WEIGHTS True

A row of the class table is the text embedding of the name, so that classes whose names share words
start alike, and one learns from the pixels of another. With RankSeg, the multi-label head compares
its class tokens with the same rows. What else the model has keeps its random values.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catrank import load_config

# isort: split
import safetensors.torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from catseg_d2.config import check_open_vocabulary
from per_pixel.segmenter import SegmenterHead
from segcore.engine import Trainer, build_checkpointer
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing

TABLE = "decode_head.class_embeddings"
CLASSIFIER = "decode_head.ranking.head.classifier.weight"


def class_rows(embeddings: Tensor, width: int) -> Tensor:
    """Return rows (1, K, width) of text embeddings (K, P, C) with P prompts of each class.

    The mean of the classes, which names have in common, is subtracted; the mean norm is 1, and
    columns beyond C are 0.

    Raises:
        UserError: the rows are narrower than the embeddings.
    """
    rows = embeddings.mean(dim=1)
    if rows.shape[1] > width:
        raise UserError(
            f"the text embeddings have {rows.shape[1]} dimensions and the class table {width}: "
            f"set MODEL.PER_PIXEL.CHANNELS to {rows.shape[1]} or more"
        )
    rows = rows - rows.mean(dim=0)
    rows = rows / rows.norm(dim=1).mean()
    return F.pad(rows, (0, width - rows.shape[1]))[None]


def start_weights(encoder: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of ``model``, a Segmenter, that a CAT-Seg gives.

    Args:
        encoder: the CAT-Seg, loaded.
        model: with classes.

    Raises:
        UserError: the model is no Segmenter with its own class table, or its classes have no names.
    """
    head = model.decode_head
    if not isinstance(head, SegmenterHead) or head.class_embeddings is None:
        raise UserError("the config to start is of no Segmenter with a class table")
    if model.vocabulary is None:
        raise UserError("the classes have no names: set DATASETS.TRAIN to their data set")
    text = encoder.text_cache.get(encoder.clip, model.vocabulary, encoder.templates)
    rows = class_rows(text, head.class_embeddings.shape[-1])
    model.load_state_dict(encoder.state_dict(), strict=False)  # its image encoder
    found = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    found[TABLE] = rows
    ranked = model.state_dict().get(CLASSIFIER)
    if ranked is not None and ranked.shape == rows.shape:
        found[CLASSIFIER] = rows
    return {name: value.cpu().contiguous() for name, value in found.items()}


def write_start(
    encoder_cfg: CfgNode, checkpoint: Path, cfg: CfgNode, target: Path
) -> dict[str, Tensor]:
    """Write the weights that a model of ``cfg`` starts from; returns them.

    Raises:
        UserError: as :func:`start_weights`, or the target has another suffix.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end in .safetensors")
    encoder = Trainer.build_model(encoder_cfg).eval()
    build_checkpointer(encoder_cfg, encoder).load_for_use(str(checkpoint))
    found = start_weights(encoder, Trainer.build_model(cfg))
    with writing(target) as file:
        file.write(safetensors.torch.save({k: v.clone() for k, v in found.items()}))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="config of the CAT-Seg")
    parser.add_argument("checkpoint", type=path_argument, help="of the CAT-Seg")
    parser.add_argument("--config-file", required=True, help="config of the Segmenter")
    parser.add_argument("target", type=path_argument)
    arguments = parser.parse_args()
    with exit_on_user_error():
        encoder_cfg = load_config(arguments.encoder, [])
        check_open_vocabulary(encoder_cfg, arguments.encoder)
        cfg = load_config(arguments.config_file, ["MODEL.WEIGHTS", ""])
        found = write_start(encoder_cfg, arguments.checkpoint, cfg, arguments.target)
        classes = found[TABLE].shape[1]
        print(f"{arguments.target}: {len(found)} tensors, {classes:,} rows of class names")


if __name__ == "__main__":
    main()
