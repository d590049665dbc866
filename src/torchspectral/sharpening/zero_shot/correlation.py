"""Local cross-correlation fields, and their gradient.

The field is that of the full-resolution losses of Z-PNN, R-PNN and rho-PNN: a window of 2 w x 2 w pixels that covers
rows ``i - w + 1 .. i + w``, means that are subtracted where they were taken, zeros beyond the edge.
"""

from __future__ import annotations

from typing import Any

import torch

FLOOR = 1e-20
"""Least value of a local variance, and what keeps the quotient finite."""


def box_sum(image: torch.Tensor, half: int, *, adjoint: bool = False) -> torch.Tensor:
    """Sums over windows of 2 w x 2 w pixels, zeros beyond the edge, same size.

    Windows are built by doubling, so that no sum runs over more than a window: safe in float32, where integral images
    of large scenes lose all digits.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
    half : int
        w, at least 1; output i sums rows ``i - w + 1 .. i + w``.
    adjoint : bool
        Sum rows ``i - w .. i + w - 1`` instead: the transposed operator.

    Returns
    -------
    Tensor, shape (..., y, x)
    """
    before, after = (half, half - 1) if adjoint else (half - 1, half)
    padded = torch.nn.functional.pad(image, (before, after, before, after))
    return _runs(_runs(padded, 2 * half, -1), 2 * half, -2)


def _runs(x: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Sums of `length` neighbours along an axis, valid part, by binary doubling."""
    total: torch.Tensor | None = None
    reach, power, place = x.shape[dim] - length + 1, 1, 0
    while True:
        if length & power:
            piece = x.narrow(dim, place, reach)
            total = piece if total is None else total + piece
            place += power
        power *= 2
        if power > length:
            break
        now = x.shape[dim] - power // 2
        x = x.narrow(dim, 0, now) + x.narrow(dim, power // 2, now)
    assert total is not None
    return total


class LocalCorrelation:
    """Cross-correlation of images with one guide, whose own part is computed once.

    Parameters
    ----------
    guide : Tensor, shape (n, c, y, x)
        The PAN; its statistics are computed in float64, whatever its type.
    half : int
        Half width w of the window.
    clip_cross : bool
        Clip the covariance from below too, as R-PNN does: negative correlation becomes 0. Z-PNN and rho-PNN do not.
    dtype : torch.dtype
        Of the work on the images.

    References
    ----------
    Scarpa, Ciotola, "Full-resolution quality assessment for pansharpening", Remote Sensing 14 (2022).
    """

    def __init__(
        self, guide: torch.Tensor, half: int, *, clip_cross: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        exact = guide.detach().double()
        deviation = exact - box_sum(exact, half) / (2 * half) ** 2
        power = box_sum(deviation.square(), half).clamp_min(FLOOR)
        self.half, self.clip_cross, self.dtype = half, clip_cross, dtype
        self.deviation, self.root = deviation.to(dtype), power.sqrt().to(dtype)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The field, (n, c, y, x), in the work's type; differentiable in `image`."""
        field: torch.Tensor = _Field.apply(image.to(self.dtype), self.deviation, self.root, self.half, self.clip_cross)
        return field

    def crop(self, border: int) -> LocalCorrelation:
        """The same without a border."""
        out = object.__new__(LocalCorrelation)
        out.__dict__ = dict(self.__dict__)
        cut = slice(border, -border or None)
        out.deviation, out.root = self.deviation[..., cut, cut], self.root[..., cut, cut]
        return out


class _Field(torch.autograd.Function):
    """c = s_ab / (sqrt(s_aa s_bb) + FLOOR), with the gradient of the published code: none where a sum is at a limit."""

    @staticmethod
    def forward(
        ctx: Any, image: torch.Tensor, guide: torch.Tensor, guide_root: torch.Tensor, half: int, clip_cross: bool
    ) -> torch.Tensor:
        deviation = image - box_sum(image, half).div_((2 * half) ** 2)
        own = box_sum(deviation.square(), half)
        cross = box_sum(deviation * guide, half)
        root = own.clamp_min(FLOOR).sqrt_()
        scale = root * guide_root + FLOOR
        if clip_cross:
            clipped = cross.clamp_min(FLOOR)
            ctx.cross_moves = (cross > FLOOR) & (cross < cross.max())
        else:
            clipped, ctx.cross_moves = cross, None
        field = clipped / scale
        ctx.own_moves = (own > FLOOR) & (own < own.max())
        ctx.half = half
        ctx.save_for_backward(deviation, guide, guide_root, root, scale, field)
        return field

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        deviation, guide, guide_root, root, scale, field = ctx.saved_tensors
        half = ctx.half
        to_cross = grad / scale
        # d scale / d own = guide_root / (2 root); d field / d scale = -field / scale
        to_own = -to_cross * field * guide_root / (2 * root)
        to_own = torch.where(ctx.own_moves, to_own, 0.0)
        if ctx.cross_moves is not None:
            to_cross = torch.where(ctx.cross_moves, to_cross, 0.0)
        to_deviation = box_sum(to_own, half, adjoint=True).mul_(2).mul_(deviation)
        to_deviation.addcmul_(box_sum(to_cross, half, adjoint=True), guide)
        to_image = to_deviation - box_sum(to_deviation, half, adjoint=True).div_((2 * half) ** 2)
        return to_image, None, None, None, None


def correlation_field(image: torch.Tensor, guide: torch.Tensor, half: int, *, clip_cross: bool = False) -> torch.Tensor:
    """Local cross-correlation of two images in float64, see `LocalCorrelation`.

    Parameters
    ----------
    image, guide : Tensor, shape (n, c, y, x)
    half : int
    clip_cross : bool

    Returns
    -------
    Tensor, shape (n, c, y, x), float64
    """
    return LocalCorrelation(guide, half, clip_cross=clip_cross, dtype=torch.float64)(image)
