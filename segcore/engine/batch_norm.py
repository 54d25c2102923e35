"""Batch norm over the images of all processes on CPUs, where PyTorch's runs on GPUs alone."""

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn

CHANNELS = (1, -1, 1, 1)


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """``SyncBatchNorm`` of feature maps with the same parameters and numbers, on any device."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same shape; B, H and W may differ between the processes."""
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.new_tensor([x.numel() / x.shape[1]])
        sums = differentiable_all_reduce(torch.cat([values.sum((0, 2, 3)), count]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        # The variance in a second pass: the mean of squares less a square cancels digits.
        centred = values - mean.view(CHANNELS)
        variance = differentiable_all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(CHANNELS) + self.bias.view(CHANNELS)).to(x.dtype)


def synchronize_on_cpu(module: nn.Module) -> None:
    """Replace the ``SyncBatchNorm`` layers inside a module by :class:`CPUSyncBatchNorm`, in place.

    The new layers hold the same parameters and statistics.
    """
    for name, child in module.named_children():
        if not isinstance(child, nn.SyncBatchNorm):
            synchronize_on_cpu(child)
            continue
        replaced = CPUSyncBatchNorm(child.num_features, child.eps, child.momentum)
        replaced.weight, replaced.bias = child.weight, child.bias
        for buffer, value in child.named_buffers():
            setattr(replaced, buffer, value)
        setattr(module, name, replaced.train(child.training))
