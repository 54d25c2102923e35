"""The shape of a feature map."""

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Channels, size and stride of a feature map; None where unknown."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
