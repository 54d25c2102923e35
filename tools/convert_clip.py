#!/usr/bin/env python3
r"""Turn a CLIP model that OpenAI published (a TorchScript archive) into a plain file of weights.

    python tools/convert_clip.py ViT-B-16.pt vit_b_16.safetensors
    python train_net.py --config-file catseg_d2/vitb_384.yaml \
        MODEL.CLIP_WEIGHTS vit_b_16.safetensors

Opening such an archive compiles the program in it, so do this with files from OpenAI only. Nothing
else in this project opens one.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
from pathlib import Path

import safetensors.torch

from segcore.checkpoint import open_torchscript_clip
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument, writing


def convert(archive: Path, target: Path) -> None:
    """Write the float32 weights of ``archive`` to ``target``, a .safetensors file."""
    if target.suffix != ".safetensors":
        raise UserError(f"{target} must end in .safetensors")
    weights = open_torchscript_clip(archive)
    weights = {name: value.contiguous() for name, value in weights.items()}
    with writing(target) as file:
        file.write(safetensors.torch.save(weights))
    print(f"{target}: {len(weights)} tensors")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=path_argument)
    parser.add_argument("target", type=path_argument)
    arguments = parser.parse_args()
    with exit_on_user_error():
        convert(arguments.archive, arguments.target)


if __name__ == "__main__":
    main()
