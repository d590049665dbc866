"""Figures of merit: reference metrics with update, merge and compute, and full-resolution ones.

Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
    "DsR": "full_resolution",
    "d_lambda": "full_resolution",
    "d_rho": "full_resolution",
    "d_s": "full_resolution",
    "d_sr": "full_resolution",
    "qnr": "full_resolution",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
