"""Normalisations by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from detectron2._absent import sentence

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "GN": partial(nn.GroupNorm, 32),
}
_LEFT_OUT = ("FrozenBN", "LN", "naiveSyncBN", "naiveSyncBN_N")


def get_norm(norm: str | Callable | None, out_channels: int) -> nn.Module | None:
    """Make a normalisation.

    Args:
        norm: "BN", "SyncBN", "nnSyncBN" (the same), "GN" (32 groups), a function of the number of
            channels, or "" or None for no normalisation.
        out_channels: number of channels.
    """
    if not norm:
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm in _LEFT_OUT:
        raise KeyError(sentence(f"The normalisation {norm}"))
    if norm not in _NORMS:
        raise KeyError(f"normalisation {norm} is unknown; known: {', '.join(_NORMS)}")
    return _NORMS[norm](out_channels)
