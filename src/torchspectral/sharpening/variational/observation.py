"""How the coarse bands come from the fine image, and the way back that the solvers need."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchspectral.ops.axis import AxisOperator, apply, correlation
from torchspectral.ops.bilinear import bilinear_enlarge, bilinear_reduce
from torchspectral.ops.interpolate import decimation_operator
from torchspectral.ops.mtf import mtf_kernel, separable_terms

Step = Callable[[torch.Tensor], torch.Tensor]


def bilinear_observation(ratio: int) -> tuple[Step, Step]:
    """Antialiased bilinear reduction, and bilinear enlargement in place of its adjoint, as the benchmark has them."""
    return lambda fine: bilinear_reduce(fine, ratio), lambda coarse: bilinear_enlarge(coarse, ratio)


def mtf_observation(size: tuple[int, int], ratio: int, gain: float, device: torch.device) -> tuple[Step, Step]:
    """MTF and decimation, and ratio^2 times their adjoint, held back at the edges.

    Edge pixels stand for all that lies beyond them, so that the adjoint piles up there; divided by what it makes of ones,
    where that is above 1, the two steps together have a norm of at most 1.

    Parameters
    ----------
    size : tuple of int
        Rows and columns of the fine image.
    ratio : int
    gain : float
        Of the MTF at the coarse Nyquist frequency.
    device : torch.device
        Of the images.
    """
    pairs: list[tuple[AxisOperator, AxisOperator]] = []
    for down, across in separable_terms(mtf_kernel(ratio, gain, normalize=True), 1e-4):
        axes = zip(size, (down, across), strict=True)
        one, two = (decimation_operator(n, ratio) @ correlation(n, taps, "edge") for n, taps in axes)
        pairs.append((one, two))
    back = [(AxisOperator(ratio**2 * rows.adjoint().matrix), cols.adjoint()) for rows, cols in pairs]

    def reduce(fine: torch.Tensor) -> torch.Tensor:
        return sum((apply(fine, *pair) for pair in pairs[1:]), start=apply(fine, *pairs[0]))

    def adjoint(coarse: torch.Tensor) -> torch.Tensor:
        return sum((apply(coarse, *pair) for pair in back[1:]), start=apply(coarse, *back[0]))

    ones = torch.ones(size[0] // ratio, size[1] // ratio, dtype=torch.float64, device=device)
    share = 1 / adjoint(ones).clamp_min(1)

    def enlarge(coarse: torch.Tensor) -> torch.Tensor:
        return adjoint(coarse).mul_(share.to(coarse.dtype))

    return reduce, enlarge
