"""Training targets: labels and masks of a batch of images or clips, as the losses take them.

Shapes: B images or clips, T frames of a clip, N objects of one of them, C classes, (H, W) the
padded batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError


def checked_labels(batched_inputs: Sequence[dict], num_classes: int) -> list[Tensor]:
    """Return the classes (N,) of the objects of every image.

    Raises:
        UserError: an image has no "instances", or a label is not in 0 ... C - 1.
    """
    labels = []
    for item in batched_inputs:
        label = _ground_truth(item).gt_classes
        _check(label, num_classes, item)
        labels.append(label)
    return labels


def clip_targets(
    batched_inputs: Sequence[dict], num_classes: int, size: Sequence[int], device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Return labels and masks of the objects that are visible in at least one frame of their clip.

    The class of an object is its label in the first frame where it is visible: in frames without
    the object a mapper may have put any number.

    Args:
        batched_inputs: each with T "instances" of the same N objects in the same order.
        num_classes: C.
        size: (H, W).
        device: of the result.
    Returns:
        For each clip the classes (N,) and the masks (N, T, H, W) bool.

    Raises:
        UserError: a clip has no "instances", a label is not in 0 ... C - 1, or the frames do not
            list the same objects.
    """
    labels, masks = [], []
    for item in batched_inputs:
        frames = _ground_truth(item)
        numbers = {len(frame) for frame in frames}
        if len(numbers) > 1:
            raise UserError(
                f"the clip of {_name(item)} lists {min(numbers)} objects in one frame and "
                f"{max(numbers)} in another: its mapper has to list all of them in every frame."
            )
        mask = torch.stack([_padded(frame.gt_masks, size, device) for frame in frames], dim=1)
        label = torch.stack([frame.gt_classes.to(device) for frame in frames], dim=1)
        visible = mask.flatten(2).any(dim=2)  # (N, T)
        kept = visible.any(dim=1)
        first = visible[kept].int().argmax(dim=1, keepdim=True)
        labels.append(label[kept].gather(1, first)[:, 0])
        masks.append(mask[kept])
        _check(labels[-1], num_classes, item)
    return labels, masks


def padded_masks(
    batched_inputs: Sequence[dict], size: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Return the masks of every image, padded right and below like the images: (N, H, W) bool.

    Masks are tensors (N, h, w), or objects with an attribute ``tensor`` like ``BitMasks``.
    """
    return [_padded(item["instances"].gt_masks, size, device) for item in batched_inputs]


def _padded(masks: Any, size: Sequence[int], device: torch.device) -> Tensor:
    """Pad the masks of an image: (N, H, W) bool."""
    masks = getattr(masks, "tensor", masks).to(device)
    rows, columns = masks.shape[-2:]
    return F.pad(masks.bool(), (0, size[1] - columns, 0, size[0] - rows))


def _ground_truth(item: dict) -> Any:
    if "instances" not in item:
        raise UserError(
            f'{_name(item)} has no "instances": set INPUT.DATASET_MAPPER_NAME to a mapper '
            "that makes masks of the labels."
        )
    return item["instances"]


def _check(label: Tensor, num_classes: int, item: dict) -> None:
    wrong = label[(label < 0) | (label >= num_classes)]
    if len(wrong):
        raise UserError(
            f"{_name(item)} has an object of class {int(wrong[0])}, but there are {num_classes}: "
            "fix the label, or set MODEL.SEM_SEG_HEAD.NUM_CLASSES."
        )


def _name(item: dict) -> str:
    """Return the file name of an image, or of the first frame of a clip."""
    return item.get("file_name") or next(iter(item.get("file_names", ())), "a training image")
