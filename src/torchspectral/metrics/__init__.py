"""Figures of merit: reference metrics with update, merge and compute, and full-resolution ones.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "Metric": "base",
    "measure": "base",
    "RMSE": "pointwise",
    "MAE": "pointwise",
    "PSNR": "pointwise",
    "R2": "pointwise",
    "ERGAS": "pointwise",
    "SAM": "pointwise",
    "SSIM": "windows",
    "UQI": "windows",
    "Q2n": "q2n",
    "MPSNR": "restoration",
    "MSSIM": "restoration",
    "MeanAngle": "restoration",
    "noise_std": "restoration",
    "residual_autocorrelation": "restoration",
    "stripe_index": "restoration",
    "DsR": "full_resolution",
    "d_lambda": "full_resolution",
    "d_rho": "full_resolution",
    "d_s": "full_resolution",
    "d_sr": "full_resolution",
    "qnr": "full_resolution",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
