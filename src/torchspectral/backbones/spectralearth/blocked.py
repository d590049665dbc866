"""The spectral adapter in training, as matrix products over blocks of pixels, in a fifth of the memory.

Batch normalisation needs the mean and variance of a layer over all pixels before the next layer can be computed. Those of
the first layer, by far the largest, follow from the covariance of the bands in a window; it is never kept. Of the other two
layers only what comes before their normalisation stays in memory (50 MB an image of 128 x 128 pixels and 202 bands, where
layer by layer 400 MB stay); all else is computed anew, block by block, in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

PIXELS = 1024
"""Pixels that are computed at a time."""


class _Windows(torch.autograd.Function):
    """Convolution along the first axis: rows (length + 2, channels, pixels), the outer two zero, times a weight.

    The weight is (outputs, kernel * channels), the tap slow; outputs are (length, outputs, pixels).
    """

    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(source, weight)
        ctx.sizes = kernel, stride
        windows = _view(source, kernel, stride)
        return torch.baddbmm(
            bias[:, None].expand(len(windows), -1, source.shape[2]), weight.expand(len(windows), -1, -1), windows
        )

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (source, weight), (kernel, stride), grad = ctx.saved_tensors, ctx.sizes, grads[0].contiguous()
        windows = _view(source, kernel, stride)
        grad_weight = torch.zeros_like(weight)
        grad_source = torch.zeros_like(source) if ctx.needs_input_grad[0] else None
        for row, part in enumerate(grad):
            grad_weight.addmm_(part, windows[row].T)
            if grad_source is not None:
                _view(grad_source, kernel, stride)[row].addmm_(weight.T, part)
        return grad_source, grad_weight, grad.sum((0, 2)), None, None


def _view(source: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Windows (length, kernel * channels, pixels) of padded rows, without a copy."""
    rows, channels, pixels = source.shape
    shape = ((rows - kernel) // stride + 1, kernel * channels, pixels)
    return source.as_strided(shape, (stride * channels * pixels, pixels, 1), source.storage_offset())


def adapt(x: torch.Tensor, layers: Sequence[Any]) -> torch.Tensor:
    """Convolutions along the bands, batch normalisation with the batch's statistics and ReLU; then the mean over bands.

    Parameters
    ----------
    x : Tensor (n, bands, y, x)
    layers : sequence of modules
        `nn.Conv3d`, `nn.BatchNorm3d` and `nn.ReLU` by turns, and a last module that is not looked at. Running statistics
        are updated as `nn.BatchNorm3d` does.

    Returns
    -------
    Tensor (n, channels, y, x)
    """
    (first, norm1), (second, norm2), (third, norm3) = ((layers[i], layers[i + 1]) for i in (0, 3, 6))
    parts = list(_blocks(x))
    weight, bias, *sizes = _matrix(first)
    mean, spread, count = _merged([_covariance(part, *sizes) for part in parts])
    variance = torch.einsum("ok,kl,ol->o", weight, spread.to(weight.dtype), weight)
    scale, shift = _factors(norm1, weight @ mean.to(weight.dtype) + bias, variance, count)
    inner = [_run(_first_two, part, weight, bias, *sizes, scale, shift, *_matrix(second)) for part in parts]
    scale, shift = _normal(norm2, inner)
    outer = [_run(_next, rows, scale, shift, *_matrix(third)) for rows in inner]
    scale, shift = _normal(norm3, outer)
    return _unblocked([_run(_mean, rows, scale, shift) for rows in outer], parts, x)


def _matrix(convolution: Any) -> tuple[Any, Any, int, int]:
    """Weight (outputs, kernel * inputs) with the tap slow, bias, kernel and stride."""
    weight = convolution.weight[..., 0, 0].transpose(1, 2).flatten(1)
    return weight, convolution.bias, convolution.kernel_size[0], convolution.stride[0]


def _run(function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    """A block that is computed again in the backward pass."""
    if torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)


def _padded(rows: torch.Tensor) -> torch.Tensor:
    return nn.functional.pad(rows, (0, 0, 0, 0, 1, 1))


def _rows(part: torch.Tensor) -> torch.Tensor:
    """Pixels (images, bands, pixels) as padded rows (bands + 2, 1, images * pixels)."""
    return _padded(part.transpose(0, 1).reshape(part.shape[1], 1, -1))


def _first_two(
    part: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int, stride: int, scale: torch.Tensor,
    shift: torch.Tensor, *second: Any,
) -> torch.Tensor:  # fmt: skip
    # The factors go into the weights: what is kept of the first layer for its gradient is what comes after its ReLU.
    rows = _Windows.apply(_rows(part), weight * scale[:, None], bias * scale + shift, kernel, stride)
    return _Windows.apply(_padded(rows.relu_()), *second)


def _next(rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, *convolution: Any) -> torch.Tensor:
    return _Windows.apply(_padded(torch.addcmul(shift[:, None], rows, scale[:, None]).relu_()), *convolution)


def _mean(rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift[:, None], rows, scale[:, None]).relu_().mean(0)


def _covariance(part: torch.Tensor, kernel: int, stride: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean (kernel,) and sum of products of deviations (kernel, kernel) over all windows of bands, in float64."""
    windows = _rows(part)[:, 0].unfold(0, kernel, stride).reshape(-1, kernel).double()
    mean = windows.mean(0)
    apart = windows - mean
    return mean, apart.T @ apart, len(windows)


def _normal(norm: Any, blocks: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a layer from the values of all blocks (length, channels, pixels)."""
    found = []
    for rows in blocks:
        variance, mean = torch.var_mean(rows, dim=(0, 2), correction=0)
        count = rows.shape[0] * rows.shape[2]
        found.append((mean, variance * count, count))
    return _factors(norm, *_merged(found))


def _merged(found: list[tuple[torch.Tensor, torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean, variance (or covariance) and number of values of all blocks, from means, sums of squares and numbers."""
    total = sum(count for *_, count in found)
    mean = sum(part * (count / total) for part, _, count in found)
    assert isinstance(mean, torch.Tensor)
    spread = torch.zeros_like(found[0][1])
    for part, square, count in found:
        apart = part - mean
        between = apart.square() if square.ndim == 1 else torch.outer(apart, apart)
        spread = spread + square / total + between * (count / total)
    return mean, spread, total


def _factors(norm: Any, mean: torch.Tensor, variance: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of batch normalisation; running statistics follow as in `nn.BatchNorm3d`."""
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            rate = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, rate)
            norm.running_var.lerp_(variance * (count / max(count - 1, 1)), rate)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _blocks(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Pixels (images, bands, pixels): some of one image, or some whole images where they are small."""
    flat = x.flatten(2)
    if flat.shape[2] >= PIXELS:
        for image in flat.split(1):
            yield from image.split(PIXELS, 2)
    else:
        yield from flat.split(max(PIXELS // flat.shape[2], 1))


def _unblocked(columns: list[torch.Tensor], parts: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Columns (channels, images * pixels) of all blocks as images."""
    found = [
        column.unflatten(1, (part.shape[0], -1)).transpose(0, 1) for column, part in zip(columns, parts, strict=True)
    ]
    pixels = x.shape[2] * x.shape[3]
    if pixels >= PIXELS:
        each = -(-pixels // PIXELS)
        found = [torch.cat(found[i : i + each], 2) for i in range(0, len(found), each)]
    return torch.cat(found).unflatten(2, x.shape[2:])
