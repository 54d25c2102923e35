"""Read backbones from pre-training checkpoints: Swin's, Detectron2's and torchvision's."""

import re
from collections.abc import Mapping
from typing import TypeVar

from segcore.checkpoint.renaming import Renaming

Value = TypeVar("Value")

# How the names of other parts of whole models begin.
HEADS = ("sem_seg_head.", "decode_head.", "auxiliary_head.")
# An entry that each kind of file has: Swin's release, Detectron2's and torchvision's ResNet, and
# torchvision's MobileNetV2.
FIRST_LAYERS = (
    "patch_embed.proj.weight",
    "stem.conv1.weight",
    "layer1.0.conv1.weight",
    "features.1.conv.0.0.weight",
)
# torchvision's names of ResNet and Detectron2's.
RESNET = Renaming(
    [
        ("bn1.*", "stem.conv1.norm.*"),
        ("conv1.*", "stem.conv1.*"),
        *(
            pair
            for layer, stage in enumerate(("res2", "res3", "res4", "res5"), 1)
            for pair in (
                (f"layer{layer}.#.downsample.1.*", f"{stage}.#.shortcut.norm.*"),
                (f"layer{layer}.#.downsample.0.*", f"{stage}.#.shortcut.*"),
                (f"layer{layer}.#.bn#.*", f"{stage}.#.conv#.norm.*"),
                (f"layer{layer}.#.conv#.*", f"{stage}.#.conv#.*"),
            )
        ),
    ]
)
MOBILENET = (
    (r"^features\.([0-3])\.", r"low_level_features.\1."),
    (r"^features\.", "high_level_features."),
)
# Of MobileNetV2 also the last convolution, which is there for the classifier alone.
CLASSIFIER = re.compile(
    r"(head|norm|fc|stem\.fc|classifier\.1)\.(weight|bias)|high_level_features\.18\..*"
)


def backbone_weights(tensors: Mapping[str, Value]) -> dict[str, Value] | None:
    """Return the weights of a file that holds a backbone alone, under the names of our backbones.

    Args:
        tensors: entries of Swin's released files, of torchvision's ResNets or MobileNetV2, of
            Detectron2's conversions of these, or of a ResNet with the prefix ``backbone.``.
    Returns:
        The entries without the classifier and its norm; None if the file is none of these.
    """
    if any(name.startswith(HEADS) for name in tensors):
        return None
    bare = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    if not any(name in bare for name in FIRST_LAYERS):
        return None
    if "layer1.0.conv1.weight" in bare:
        bare = {RESNET.to_ours(name): value for name, value in bare.items()}
    elif "features.1.conv.0.0.weight" in bare:
        bare = {_from_mobilenet(name): value for name, value in bare.items()}
    return {
        name: value
        for name, value in bare.items()
        if not CLASSIFIER.fullmatch(name) and not name.endswith(".num_batches_tracked")
    }


def _from_mobilenet(name: str) -> str:
    for pattern, ours in MOBILENET:
        name = re.sub(pattern, ours, name)
    return name
