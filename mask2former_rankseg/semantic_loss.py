"""The loss of semantic logits that a backbone returns beside its feature maps, as SeMask's does.

Source: Jain et al., "SeMask: Semantically Masked Transformers for Semantic Segmentation", ICCV
Workshops 2023 (arXiv:2112.12782), section 3.3.

Shapes: B images or clips, T frames (1 for an image), N objects of one image or clip, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # label of pixels in no object


def semantic_loss(logits: Tensor, labels: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Return the mean cross-entropy over the pixels that are in an object; 0 if there is none.

    Args:
        logits: (B, C, H, W), for clips (B T, C, H, W).
        labels: for each image the classes of its objects, (N,) int64, 0 ... C - 1.
        masks: for each image (N, H, W) or (N, T, H, W) bool; of objects that overlap the last
            counts.
    """
    target = torch.cat([label_maps(*pair) for pair in zip(labels, masks, strict=True)])
    target = target.view(len(logits), *target.shape[-2:])
    total = F.cross_entropy(logits.float(), target, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)


def label_maps(labels: Tensor, masks: Tensor) -> Tensor:
    """Return the class of every pixel, ``IGNORED`` in no object: (1, H, W) or (T, H, W) int64.

    Args:
        labels: (N,) int64.
        masks: (N, H, W) or (N, T, H, W) bool.
    """
    size = masks.shape[1:] if masks.ndim == 4 else (1, *masks.shape[1:])
    target = torch.full(size, IGNORED, dtype=torch.int64, device=masks.device)
    for label, mask in zip(labels, masks, strict=True):
        target.masked_fill_(mask, label)
    return target
