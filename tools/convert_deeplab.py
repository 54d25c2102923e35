#!/usr/bin/env python3
"""Turn the published DeepLabv3 with MobileNetV2 (TensorFlow.js) into a small .safetensors file.

    npm pack @codait/max-image-segmenter@0.3.0
    tar -xzf codait-max-image-segmenter-0.3.0.tgz
    python tools/convert_deeplab.py package/model demo/models/deeplabv3_mobilenet_voc.safetensors

The package holds the model "mobilenetv2_pascal_trainval" of TensorFlow's DeepLab: 21 classes of
PASCAL VOC 2012, batch norm folded into the convolutions, licence Apache 2.0. The file that this
command writes is in half precision; its metadata hold the config, the vocabulary, the licence and
the notice of the changes.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from segcore.checkpoint.tensorflow_js import read_tensorflow_js
from segcore.checkpoint.vocabulary import KEY, vocabulary_to_text
from segcore.errors import UserError, exit_on_user_error, printable
from segcore.runtime.files import path_argument, writing
from segcore.vocabulary import Vocabulary

METADATA = {
    "config": "per_pixel/voc/deeplabv3_mobilenetv2.yaml",
    KEY: vocabulary_to_text(Vocabulary.registered("voc21")),
    "license": "Apache-2.0",
    "notice": (
        "DeepLabv3 with MobileNetV2 (deeplabv3_mnv2_pascal_trainval) of The TensorFlow Authors, as "
        "published in the npm package @codait/max-image-segmenter 0.3.0 (IBM CODAIT, Model Asset "
        "eXchange), Apache License 2.0. Changed by CatRank: names and layout of the tensors, "
        "depthwise scales multiplied into the kernels, half precision."
    ),
}
BLOCKS, LOW_LEVEL_BLOCKS = 17, 3
# Convolutions of the head: ours, and the names of the graph.
HEAD = {
    "decoder.image_pool": "image_pooling",
    "decoder.branches.0": "aspp0",
    "decoder.bottleneck": "concat_projection",
}
KERNEL, BIAS = "/Conv2D/merged_input", "/BatchNorm/FusedBatchNorm/Offset"
DEPTHWISE, SCALE = "/depthwise_weights", "/BatchNorm/FusedBatchNorm/Scaled"
# What the graph computes with besides the weights; the config says the same: pixels x factor - 1,
# padded with the mean to the canvas.
CONSTANTS = {"mul_1/x": 2 / 255, "Reshape": 127.5, "ToFloat/x": 1.0, "sub_1/x": 513}


def rename(tensors: dict[str, np.ndarray], where: str) -> dict[str, Tensor]:
    """Return the weights of our model, float32, from the tensors of the graph.

    Args:
        tensors: by the graph's names; kernels (height, width, channels in, channels out), those of
            depthwise convolutions (height, width, channels, 1).
        where: the source of the tensors, for error messages.

    Raises:
        UserError: a tensor is missing, has another number of dimensions, or is one too many.
    """
    left = dict(tensors)

    def take(name: str, dimensions: int) -> Tensor:
        value = left.pop(name, None)
        if value is None or value.dtype != np.float32 or value.ndim != dimensions:
            raise UserError(f"{where} holds no float32 {name} of {dimensions} dimensions: it is "
                "another model than @codait/max-image-segmenter 0.3.0")  # fmt: skip
        return torch.from_numpy(value.copy())

    weights: dict[str, Tensor] = {}

    def convolution(ours: str, kernel: str, bias: str) -> None:
        weights[f"{ours}.weight"] = take(kernel, 4).permute(3, 2, 0, 1)
        weights[f"{ours}.bias"] = take(bias, 1)

    convolution("backbone.low_level_features.0.0", f"MobilenetV2/Conv{KERNEL}",
                f"MobilenetV2/Conv{BIAS}")  # fmt: skip
    for block in range(1, BLOCKS + 1):
        level = "low" if block <= LOW_LEVEL_BLOCKS else "high"
        ours = f"backbone.{level}_level_features.{block}.conv"
        graph = "MobilenetV2/expanded_conv" + (f"_{block - 1}" if block > 1 else "")
        if block > 1:  # the first one does not expand
            convolution(f"{ours}.0.0", f"{graph}/expand{KERNEL}", f"{graph}/expand{BIAS}")
        index, depthwise = min(block - 1, 1), f"{graph}/depthwise"
        scale = take(depthwise + SCALE, 1)[:, None, None, None]
        kernel = take(depthwise + DEPTHWISE, 4).permute(2, 3, 0, 1)
        if len(scale) != len(kernel):
            raise UserError(f"{where}: {depthwise} has {len(kernel)} kernels, {len(scale)} scales")
        weights[f"{ours}.{index}.0.weight"] = kernel * scale
        weights[f"{ours}.{index}.0.bias"] = take(depthwise + BIAS, 1)
        convolution(f"{ours}.{index + 1}", f"{graph}/project{KERNEL}", f"{graph}/project{BIAS}")
    for ours, graph in HEAD.items():
        convolution(f"decode_head.{ours}.conv", graph + KERNEL, graph + BIAS)
    convolution("decode_head.classifier.linear", "logits/semantic/weights",
                "logits/semantic/biases")  # fmt: skip
    _check_constants(left, where)
    return weights


def _check_constants(tensors: dict[str, np.ndarray], where: str) -> None:
    """Raise UserError unless what is left of the graph's tensors is known to change nothing."""
    for name, expected in CONSTANTS.items():
        value = tensors.pop(name, np.array(np.nan))
        if not np.allclose(value, expected, rtol=1e-6, atol=0):
            raise UserError(f"{where}: {name} is not {expected:g}: it is another model")
    # Sizes, paddings and axes are integers.
    more = [name for name, value in tensors.items() if value.dtype.kind == "f"]
    if more:
        raise UserError(f"{where} holds {printable(more[0])} besides: it is another model")


def convert(folder: Path, target: Path) -> None:
    """Write the model of a folder with ``model.json`` to ``target``, a .safetensors file.

    Raises:
        UserError: the folder holds another model, or a damaged one.
    """
    if target.suffix != ".safetensors":
        raise UserError(f"{printable(target)} must end in .safetensors")
    model = folder / "model.json"
    weights = rename(read_tensorflow_js(model), printable(model))
    half = {name: value.half().contiguous() for name, value in weights.items()}
    wrong = [name for name, value in half.items() if not value.isfinite().all()]
    if wrong:
        raise UserError(f"{printable(model)}: {wrong[0]} does not fit into half precision")
    with writing(target) as file:
        file.write(reproducible(safetensors.torch.save(half, METADATA)))
    count = sum(value.numel() for value in half.values())
    size = target.stat().st_size
    print(f"{target}: {count:,} parameters, {size / 1e6:.2f} MB")


def reproducible(content: bytes) -> bytes:
    """Return a .safetensors file with the entries of its header in order: safetensors writes
    those of the metadata in another order each time. The header is JSON, behind its length in 8
    bytes, and ends in spaces so that the values are aligned."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=path_argument, help="with model.json and its shards")
    parser.add_argument("target", type=path_argument)
    arguments = parser.parse_args()
    with exit_on_user_error():
        convert(arguments.folder, arguments.target)


if __name__ == "__main__":
    main()
