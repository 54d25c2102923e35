#!/usr/bin/env python3
"""Write a small checkpoint of a small model: half precision, only the tokens seen in training.

    python tools/shrink.py --config-file catseg_d2/scenes_60.yaml \
        output/scenes_60/model_final.pth demo/models/scenes_60.safetensors
    python tools/shrink.py --backbone \
        demo/models/scenes_60_panoptic.safetensors output/backbone.safetensors

For an open-vocabulary model whose text encoder was trained from scratch on the class names of
TRAIN_CLASS_JSON: the token embeddings of these names and of the prompt templates are kept, other
tokens have no embedding afterwards. A pre-trained text encoder would lose its vocabulary: keep
its checkpoint as it is.

--backbone keeps the backbone alone: other models that have one like it start from it
(MODEL.WEIGHTS, with MODEL.ALLOW_PARTIAL_WEIGHTS True).
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
from detectron2.config import CfgNode
from torch import Tensor

from segcore.checkpoint import read_checkpoint
from segcore.checkpoint.vocabulary import KEY, vocabulary_text, vocabulary_to_text
from segcore.datasets.model_classes import config_vocabulary, data_set_vocabulary
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, user_path, writing
from segcore.text import prompt_templates
from segcore.text.token_rows import keep_token_rows
from segcore.vocabulary import Vocabulary

BACKBONE = "backbone."  # how the names of its weights begin


def shrink_model(cfg: CfgNode, config: str, checkpoint: Path, target: Path) -> None:
    """Write the model of ``checkpoint`` to ``target``, a .safetensors file, in float16.

    Its metadata hold the classes of a closed-vocabulary model, and ``config`` where that is the
    name of a config that comes with CatRank.
    """
    weights = read_checkpoint(checkpoint)["model"]
    metadata = {} if user_path(config).is_file() else {"config": config}
    text = vocabulary_text(weights)
    if prompts := trained_prompts(cfg):
        weights = keep_token_rows(weights, prompts)
    elif text is None and (classes := config_vocabulary(cfg) or data_set_vocabulary(cfg)):
        text = vocabulary_to_text(classes)
    metadata |= {} if text is None else {KEY: text}
    write_half(weights, metadata, checkpoint, target)


def shrink_backbone(checkpoint: Path, target: Path) -> None:
    """Write the backbone of ``checkpoint`` to ``target``, a .safetensors file, in float16."""
    weights = read_checkpoint(checkpoint)["model"]
    weights = {name: value for name, value in weights.items() if name.startswith(BACKBONE)}
    if not weights:
        raise UserError(f"{checkpoint} has no weight whose name begins with '{BACKBONE}'")
    write_half(weights, {}, checkpoint, target)


def write_half(
    weights: dict[str, Tensor], metadata: dict[str, str], checkpoint: Path, target: Path
) -> None:
    """Write ``weights`` of ``checkpoint`` to ``target``, in float16.

    Raises:
        UserError: a weight is too large for float16.
    """
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in weights.items()
    }
    wrong = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if wrong:
        raise UserError(f"{checkpoint}: {wrong[0]} does not fit into half precision")
    with writing(target) as file:
        file.write(safetensors.torch.save(weights, metadata or None))
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB, {len(weights)} tensors")


def trained_prompts(cfg: CfgNode) -> list[str]:
    """Return the prompts that a model of class names was trained with; [] of other models.

    GroupViT learns from any text of captions, unless the config names the vocabulary of these.
    """
    names = [cfg.MODEL.get("PROMPT_ENSEMBLE_TYPE", "single")]
    match cfg.MODEL.META_ARCHITECTURE:
        case "CATSeg":
            source = cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON
        case "GroupViT" if cfg.INPUT.CAPTION.VOCABULARY:
            source, names = cfg.INPUT.CAPTION.VOCABULARY, [*names, "imagenet"]
        case _:
            return []
    words, templates = Vocabulary.load(source).prompts, map(prompt_templates, names)
    return [template(word) for each in templates for template in each for word in words]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kept = parser.add_mutually_exclusive_group(required=True)
    kept.add_argument("--config-file", help="config that the model was trained by")
    kept.add_argument("--backbone", action="store_true", help="keep the backbone alone")
    parser.add_argument("checkpoint", type=path_argument)
    parser.add_argument("target", type=path_argument)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")
    arguments = parser.parse_args()
    with exit_on_user_error():
        if arguments.target.suffix != ".safetensors":
            raise UserError(f"{arguments.target} must end in .safetensors")
        if arguments.backbone:
            shrink_backbone(arguments.checkpoint, arguments.target)
        else:
            cfg = load_config(arguments.config_file, arguments.opts)
            shrink_model(cfg, arguments.config_file, arguments.checkpoint, arguments.target)


if __name__ == "__main__":
    main()
