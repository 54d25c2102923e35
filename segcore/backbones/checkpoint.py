"""Read backbones from pre-training checkpoints: Swin's, Detectron2's and torchvision's."""

import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

# An entry that each kind of file has: Swin's release, Detectron2's and torchvision's ResNet.
FIRST_LAYERS = ("patch_embed.proj.weight", "stem.conv1.weight", "layer1.0.conv1.weight")
# torchvision's names of ResNet and Detectron2's.
TORCHVISION = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
CLASSIFIER = re.compile(r"(head|norm|fc|stem\.fc)\.(weight|bias)")


def backbone_weights(tensors: Mapping[str, Value]) -> dict[str, Value] | None:
    """Return the weights of a file that holds a backbone alone, under the names of our backbones.

    Args:
        tensors: entries of Swin's released files, of torchvision's ResNets, of Detectron2's
            conversions of these, or of one of the latter two with the prefix ``backbone.``.
    Returns:
        The entries without the classifier and its norm; None if the file is none of these.
    """
    if any(name.startswith("sem_seg_head.") for name in tensors):
        return None
    bare = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    if not any(name in bare for name in FIRST_LAYERS):
        return None
    if "layer1.0.conv1.weight" in bare:
        bare = {_from_torchvision(name): value for name, value in bare.items()}
    return {
        name: value
        for name, value in bare.items()
        if not CLASSIFIER.fullmatch(name) and not name.endswith(".num_batches_tracked")
    }


def _from_torchvision(name: str) -> str:
    name = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
    for pattern, ours in TORCHVISION:
        name = re.sub(pattern, ours, name)
    return name
