"""What the pictures of a training batch hold, in the form that the losses take.

Shapes: B pictures, N objects of one of them, C classes, (H, W) the padded batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError


def checked_labels(batched_inputs: Sequence[dict], num_classes: int) -> list[Tensor]:
    """The classes (N,) of the objects of every picture.

    Raises:
        UserError: a picture comes without objects' labels, or one is not in 0 ... C - 1.
    """
    labels = []
    for item in batched_inputs:
        name = item.get("file_name", "a training picture")
        if "instances" not in item:
            raise UserError(
                f'{name} comes without "instances": set INPUT.DATASET_MAPPER_NAME to a mapper '
                "that makes masks of the labels."
            )
        label = item["instances"].gt_classes
        wrong = label[(label < 0) | (label >= num_classes)]
        if len(wrong):
            raise UserError(
                f"{name} has an object of class {int(wrong[0])}, but there are {num_classes}: mend "
                "the label, or set MODEL.SEM_SEG_HEAD.NUM_CLASSES."
            )
        labels.append(label)
    return labels


def padded_masks(
    batched_inputs: Sequence[dict], size: Sequence[int], device: torch.device
) -> list[Tensor]:
    """The masks of every picture, padded right and bottom as the pictures are: (N, H, W) bool.

    Masks are tensors (N, h, w), or an object that holds one as Detectron2's ``BitMasks`` does.
    """
    height, width = size
    padded = []
    for item in batched_inputs:
        masks = item["instances"].gt_masks
        masks = getattr(masks, "tensor", masks).to(device)
        rows, columns = masks.shape[-2:]
        padded.append(F.pad(masks.bool(), (0, width - columns, 0, height - rows)))
    return padded
