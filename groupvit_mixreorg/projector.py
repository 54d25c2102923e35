"""The projection of images, segments and texts to the joint space.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 3.2.

Shapes: D width of the encoder, C joint width.
"""

from torch import Tensor, nn


class Projector(nn.Module):
    """An MLP with batch norm, synchronized over all processes."""

    def __init__(self, width: int, hidden_dim: int = 4096, joint_width: int = 256) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden_dim)
        self.norm = nn.SyncBatchNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, joint_width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., C); all rows of a batch share the batch norm's statistics."""
        rows = self.hidden(x.flatten(0, -2))
        rows = self.norm(rows[..., None, None])[..., 0, 0]  # as feature maps of one pixel
        return self.output(rows.relu()).unflatten(0, x.shape[:-1])
