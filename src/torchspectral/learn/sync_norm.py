"""Batch normalisation over the batches of all processes, on any device.

`torch.nn.SyncBatchNorm` runs on accelerators only; with this, processes on CPUs also give the loss and the gradient of
one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from torchspectral.learn.losses.gather import world_size


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose statistics are those of all processes; as many values in each of them."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (n, channels, ...)."""
        world = world_size()
        if world == 1 or not self.training:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        over = [0, *range(2, x.ndim)]
        shape = (1, -1, *([1] * (x.ndim - 2)))
        count = x.numel() // x.shape[1] * world
        mean = sum_over_processes(x.sum(over)) / count
        centred = x - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(over)) / count
        self._remember(mean.detach(), variance.detach(), count)
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var.dtype), share)


def share_statistics(network: nn.Module, *, accelerator: bool = False) -> nn.Module:
    """Replace every batch normalisation of a network by one over all processes; names and values stay.

    Parameters
    ----------
    network : nn.Module
    accelerator : bool
        Take torch's own, which is faster there.
    """
    if accelerator:
        shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return shared
    for name, child in network.named_children():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            # The very module goes on, with another forward pass: parameters stay the optimiser's.
            child.__class__ = SharedBatchNorm
        else:
            share_statistics(child)
        setattr(network, name, child)
    return network


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes, with gradient."""
    summed: torch.Tensor = _Sum.apply(x)
    return summed


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        out = x.contiguous().clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole
