"""Upsampling decoder: the map of every class grows from the feature grid to four times its side.

Source: CAT-Seg (CVPR 2024), section 3.3.

Shapes: B crops, T classes, C width, G width of the guidance.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.memory import recomputed


class Decoder(nn.Module):
    """Upsampling stages with image guidance, and a convolution to one logit."""

    def __init__(
        self, width: int, stage_widths: Sequence[int], guidance_widths: Sequence[int]
    ) -> None:
        super().__init__()
        inputs = [width, *stage_widths]
        self.stages = nn.ModuleList(
            UpStage(*widths) for widths in zip(inputs, guidance_widths, stage_widths, strict=False)
        )
        self.logit = nn.Conv2d(stage_widths[-1], 1, 3, padding=1)

    def forward(self, volume: Tensor, *guidance: Tensor) -> Tensor:
        """Return the logits of every class.

        Args:
            volume: (B, T, H, W, C).
            guidance: per stage (B, G, 2H, 2W), (B, G', 4H, 4W).
        Returns:
            (B, T, 4H, 4W).
        """
        batch = volume.shape[:2]
        x = volume.flatten(0, 1).permute(0, 3, 1, 2).contiguous()
        *first, last = zip(self.stages, guidance, strict=True)
        for stage, image in first:
            x = stage(x, image)
        stage, image = last
        x = stage.convolve(x, image)
        x = recomputed(lambda x: self.logit(stage.activate(x)), x)
        return x.unflatten(0, batch).squeeze(2)


class UpStage(nn.Module):
    """Upsample by two, concatenate the guidance, two 3x3 convolutions with group norm."""

    def __init__(self, width: int, guidance_width: int, out_width: int) -> None:
        super().__init__()
        groups = max(out_width // 16, 1)
        self.up_width = width - guidance_width
        self.up = nn.ConvTranspose2d(width, self.up_width, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(width, out_width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_width)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """x (B*T, C, H, W), guidance (B, G, 2H, 2W) -> (B*T, C', 2H, 2W)."""
        return self.activate(self.convolve(x, guidance))

    def convolve(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Apply all but the last norm; for the backward pass, keep outputs of convolutions only."""
        x = recomputed(self._enlarge, x, guidance)
        return recomputed(lambda x: self.conv2(F.relu(self.norm1(x))), x)

    def activate(self, x: Tensor) -> Tensor:
        """Apply the last norm and activation."""
        return F.relu(self.norm2(x))

    def _enlarge(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Upsample x and apply the first convolution, over the concatenation with the guidance.

        It is linear, so the part of the guidance is computed once per crop and added to all
        classes.
        """
        weight_x, weight_guidance = self.conv1.weight.split(
            [self.up_width, guidance.shape[1]], dim=1
        )
        x = F.conv2d(self.up(x), weight_x, padding=1)
        guided = F.conv2d(guidance, weight_guidance, padding=1)
        return x.unflatten(0, (len(guidance), -1)).add_(guided[:, None]).flatten(0, 1)
