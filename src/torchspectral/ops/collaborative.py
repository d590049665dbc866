"""Collaborative filtering: groups of alike patches are thinned out together in a transform domain."""

from __future__ import annotations

import math

import torch

CHUNK = 1 << 24
"""Values of patches that are worked on at a time."""


def dct_matrix(n: int, like: torch.Tensor) -> torch.Tensor:
    """Orthonormal type-II cosine transform, shape (n, n)."""
    i = torch.arange(n, dtype=torch.float64, device=like.device)
    matrix = torch.cos(math.pi * (2 * i + 1) * i[:, None] / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype)


def collaborative_filter(
    images: torch.Tensor,
    groups: torch.Tensor,
    *,
    patch: int = 8,
    threshold: float = 3.2,
    guide: torch.Tensor | None = None,
) -> torch.Tensor:
    """Denoise images with noise of variance one.

    Parameters
    ----------
    images : Tensor, shape (k, y, x)
    groups : Tensor of int64, shape (references, count)
        Patches that belong together, from `block_matching.match_patches`; the same for all images.
    patch : int
        Side of a patch [pixel].
    threshold : float
        Coefficients of a group below this many standard deviations of the noise are dropped (first pass).
    guide : Tensor, shape (k, y, x), optional
        Result of a first pass: coefficients are then weighed by its power against that of the noise (empirical Wiener
        filter) instead of dropped.

    Returns
    -------
    Tensor, shape (k, y, x)
        Average of all patches that cover a pixel, weighed by how few coefficients a group needed.

    References
    ----------
    Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE
    TIP 16(8), 2007.
    """
    _, height, width = images.shape
    count, high, wide = groups.shape[1], height - patch + 1, width - patch + 1
    one = dct_matrix(patch, images)
    plane, across = torch.kron(one, one), dct_matrix(count, images)
    window = torch.kaiser_window(patch, periodic=False, beta=2.0, dtype=images.dtype, device=images.device)
    window = torch.outer(window, window).reshape(-1, 1)
    # The transform of a patch is taken once, however many groups it is in, and they are added up before turning back.
    place = torch.div(groups, width, rounding_mode="floor") * wide + groups % width
    parts = [part.reshape(-1) for part in place.split(max(1, CHUNK // (count * patch * patch)))]
    out = torch.empty_like(images)
    for number, image in enumerate(images):
        spectra = _spectra(image, plane)
        guides = None if guide is None else _spectra(guide[number], plane)
        # Sums in float64 do not depend on the order of the groups once they are float32 again: a tile equals the scene.
        total = image.new_zeros(high * wide, patch * patch, dtype=torch.float64)
        weights = image.new_zeros(high * wide, dtype=torch.float64)
        for part in parts:
            spectrum = across @ spectra.index_select(0, part).reshape(-1, count, patch * patch)
            if guides is None:
                spectrum = torch.nn.functional.hardshrink(spectrum, threshold)
                weight = 1 / spectrum.flatten(1).count_nonzero(1).clamp_min(1).to(image.dtype)
            else:
                power = (across @ guides.index_select(0, part).reshape(-1, count, patch * patch)).square_()
                power /= power + 1
                spectrum *= power
                weight = 1 / power.square_().sum((1, 2)).clamp_min(1e-6)
            back = (across.T * weight[:, None, None]) @ spectrum
            total.index_add_(0, part, back.reshape(-1, patch * patch).double())
            weights.index_add_(0, part, weight.double().repeat_interleave(count))
        values = (plane.T @ total.to(image.dtype).T).mul_(window).reshape(patch, patch, high, wide)
        shares = (weights.to(image.dtype) * window).reshape(patch, patch, high, wide)
        out[number] = _overlapped(values) / _overlapped(shares)
    return out


def _spectra(image: torch.Tensor, plane: torch.Tensor) -> torch.Tensor:
    """Transforms of all patches of an image (y, x), from the upper left on, shape (positions, side^2)."""
    side = math.isqrt(len(plane))
    patches = image.unfold(0, side, 1).unfold(1, side, 1).permute(2, 3, 0, 1)
    return patches.reshape(len(plane), -1).T @ plane.T


def _overlapped(values: torch.Tensor) -> torch.Tensor:
    """Sum of patches at their places: (side, side, high, wide) to (high + side - 1, wide + side - 1)."""
    side, _, high, wide = values.shape
    out = values.new_zeros(high + side - 1, wide + side - 1)
    for down in range(side):
        for right in range(side):
            out[down : down + high, right : right + wide] += values[down, right]
    return out
