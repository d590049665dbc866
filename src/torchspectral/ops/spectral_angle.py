"""Spectral angles between pixels and reference spectra."""

from __future__ import annotations

import torch


def spectral_angles(pixels: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Angle of each pixel to each reference spectrum.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    references : Tensor, shape (p, bands)

    Returns
    -------
    Tensor, shape (p, n)
        Angles [rad], 0..pi; NaN where the pixel or the reference is a zero vector or holds NaN.

    Notes
    -----
    The angle is taken as 2 atan2(|u - v|, |u + v|) of the unit vectors, by way of the cosine: near zero, where the
    arccosine of a rounded cosine loses half of the digits, |u - v|^2 = 2 - 2 cos is formed in float64.

    References
    ----------
    Kruse et al., "The spectral image processing system (SIPS)", Remote Sensing of Environment 44, 1993.
    """
    references = references.to(torch.float64)
    unit = references / references.norm(dim=1, keepdim=True)
    out = pixels.new_empty((references.shape[0], pixels.shape[1]), dtype=torch.float64)
    chunk = 16_384
    for start in range(0, pixels.shape[1], chunk):
        part = pixels[:, start : start + chunk].to(torch.float64)
        out[:, start : start + chunk] = _angle(unit @ (part / part.norm(dim=0, keepdim=True)))
    return out


def angle_matrix(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Angles [rad] between the rows of two sets of spectra, (p, bands) and (q, bands) -> (p, q)."""
    return spectral_angles(other.T, one)


def _angle(cosine: torch.Tensor) -> torch.Tensor:
    cosine = cosine.clamp(-1.0, 1.0)
    return 2.0 * torch.atan2((1.0 - cosine).sqrt(), (1.0 + cosine).sqrt())
