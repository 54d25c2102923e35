"""Normalisations by name, and batch normalisation that never changes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2._absent import sentence


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map, all of them buffers."""

    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, num_features, H, W), normalised."""
        if not x.requires_grad:
            return F.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        # batch_norm would keep x for the gradients of statistics that nobody asks for.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        if (local_metadata.get("version") or 0) < 2:  # old files hold the affine map alone
            for name, fresh in (
                ("running_mean", torch.zeros_like(self.running_mean)),
                ("running_var", torch.ones_like(self.running_var)),
            ):
                state_dict.setdefault(prefix + name, fresh)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every batch normalisation inside ``module``; its top is returned anew."""

        def frozen(norm: nn.Module) -> nn.Module:
            new = cls(norm.num_features, norm.eps)
            if norm.affine:
                new.weight.copy_(norm.weight.detach())
                new.bias.copy_(norm.bias.detach())
            new.running_mean.copy_(norm.running_mean)
            new.running_var.copy_(norm.running_var)
            return new

        return _replace(module, (nn.BatchNorm2d, nn.SyncBatchNorm), frozen)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Undo :meth:`convert_frozen_batchnorm`."""

        def trainable(norm: nn.Module) -> nn.Module:
            new = nn.BatchNorm2d(norm.num_features, norm.eps)
            new.load_state_dict(norm.state_dict(), strict=False)
            return new

        return _replace(module, (cls,), trainable)


def _replace(
    module: nn.Module, kinds: tuple[type, ...], make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    if isinstance(module, kinds):
        return make(module)
    for name, child in module.named_children():
        module.add_module(name, _replace(child, kinds, make))
    return module


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W), normalised."""
        last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,  # one of two names, kept for configs that use it
    "FrozenBN": FrozenBatchNorm2d,
    "GN": partial(nn.GroupNorm, 32),
    "LN": LayerNorm,
}
_LEFT_OUT = ("naiveSyncBN", "naiveSyncBN_N")


def get_norm(norm: str | Callable | None, out_channels: int) -> nn.Module | None:
    """Make a normalisation.

    Args:
        norm: "BN", "SyncBN", "nnSyncBN", "FrozenBN", "GN" (32 groups), "LN", a function of the
            number of channels, or "" or None for no normalisation.
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
