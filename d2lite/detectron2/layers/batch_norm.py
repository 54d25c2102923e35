"""Normalisation layers by name, and frozen batch norm."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2._absent import absent_message


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and a fixed affine map, all of them buffers.

    Args:
        num_features: number of channels.
        eps: added to the variance.
    """

    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        # A fresh layer changes nothing: variance and eps add up to one.
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        if x.requires_grad:  # batch_norm would keep what the gradients of its buffers need
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            scale, shift = (t.reshape(1, -1, 1, 1).to(x.dtype) for t in (scale, shift))
            return x * scale + shift
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.eps)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        # Files of the first version hold the affine map alone, with the statistics worked in.
        if (local_metadata.get("version") or 1) < 2:
            shape = self.running_mean.shape
            state_dict.setdefault(prefix + "running_mean", torch.zeros(shape))
            state_dict.setdefault(prefix + "running_var", torch.ones(shape))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace the batch norms in ``module`` by frozen ones with the same numbers.

        Returns:
            ``module``, changed in place, or what replaces it if it is a batch norm itself.
        """
        learning = (nn.BatchNorm2d, nn.SyncBatchNorm)
        return _convert(module, learning, lambda norm: cls(norm.num_features, norm.eps))

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Replace frozen batch norms by trainable ones with the same numbers."""
        return _convert(module, (cls,), lambda norm: nn.BatchNorm2d(norm.num_features, norm.eps))


def _convert(
    module: nn.Module, kinds: tuple[type, ...], make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    if not isinstance(module, kinds):
        for name, child in module.named_children():
            setattr(module, name, _convert(child, kinds, make))
        return module
    made = make(module).to(module.running_mean.device)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if (value := getattr(module, name)) is not None:
            getattr(made, name).data = value.detach().clone()
    made.num_batches_tracked = module.num_batches_tracked
    return made.train(module.training)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": partial(nn.GroupNorm, 32),
}
_LEFT_OUT = ("LN", "naiveSyncBN", "naiveSyncBN_N")


def get_norm(norm: str | Callable | None, out_channels: int) -> nn.Module | None:
    """Build a normalisation layer.

    Args:
        norm: "BN", "SyncBN", "nnSyncBN" (the same), "FrozenBN", "GN" (32 groups), a function of the
            number of channels, or "" or None for no normalisation.
        out_channels: number of channels.
    """
    if not norm:
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm in _LEFT_OUT:
        raise KeyError(absent_message(f"The normalisation {norm}"))
    if norm not in _NORMS:
        raise KeyError(f"normalisation {norm} is unknown; known: {', '.join(_NORMS)}")
    return _NORMS[norm](out_channels)
