"""Resizing a model's output to the requested size."""

import torch
import torch.nn.functional as F


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """Cut off the padding and resize bilinearly.

    Args:
        result: (C, H, W) scores of a padded image.
        img_size: (height, width) of the image without padding.

    Returns:
        (C, output_height, output_width).
    """
    height, width = img_size
    unpadded = result[None, :, :height, :width]
    size = (output_height, output_width)
    return F.interpolate(unpadded, size=size, mode="bilinear", align_corners=False)[0]
