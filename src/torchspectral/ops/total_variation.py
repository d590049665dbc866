"""Total variation: the proximal step of its isotropic form over any axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def forward_difference(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Next value less this one along an axis, zero at the end."""
    out = torch.zeros_like(x)
    size = x.shape[axis]
    out.narrow(axis, 0, size - 1).copy_(x.narrow(axis, 1, size - 1) - x.narrow(axis, 0, size - 1))
    return out


def difference_adjoint(p: torch.Tensor, axis: int) -> torch.Tensor:
    """Adjoint of `forward_difference`; the last value of `p` along the axis is not looked at."""
    out = torch.zeros_like(p)
    size = p.shape[axis]
    out.narrow(axis, 1, size - 1).add_(p.narrow(axis, 0, size - 1))
    out.narrow(axis, 0, size - 1).sub_(p.narrow(axis, 0, size - 1))
    return out


def tv_denoise(
    images: torch.Tensor, weight: float, *, axes: Sequence[int] = (-2, -1), iterations: int = 50
) -> torch.Tensor:
    """Minimise ``|x - images|^2 / 2 + weight TV(x)`` with the isotropic total variation over `axes`.

    Parameters
    ----------
    images : Tensor
        All other axes hold problems of their own.
    weight : float
        In the units of the images.
    axes : sequence of int
        Over which the gradient runs.
    iterations : int
        Of the fast gradient projection; a value depends on those at most ``iterations + 1`` steps away.

    Returns
    -------
    Tensor, shape of `images`

    References
    ----------
    Beck and Teboulle, "Fast gradient-based algorithms for constrained total variation image denoising and deblurring
    problems", IEEE TIP 18(11), 2009, algorithm FGP. Chambolle, "An algorithm for total variation minimization and
    applications", Journal of Mathematical Imaging and Vision 20, 2004.
    """
    if weight <= 0:
        return images.clone()
    step = 1 / (4 * len(axes) * weight)
    dual = [torch.zeros_like(images) for _ in axes]
    ahead, t = [d.clone() for d in dual], 1.0
    for _ in range(iterations):
        x = images.clone()
        for axis, a in zip(axes, ahead, strict=True):
            x.sub_(difference_adjoint(a, axis), alpha=weight)
        new = [a.add_(forward_difference(x, axis), alpha=step) for axis, a in zip(axes, ahead, strict=True)]
        length = new[0].square()
        for n in new[1:]:
            length.addcmul_(n, n)
        length = length.sqrt_().clamp_min_(1.0)
        new = [n / length for n in new]
        t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = [n + ((t - 1) / t_next) * (n - d) for n, d in zip(new, dual, strict=True)]
        dual, t = new, t_next
    x = images.clone()
    for axis, d in zip(axes, dual, strict=True):
        x.sub_(difference_adjoint(d, axis), alpha=weight)
    return x
