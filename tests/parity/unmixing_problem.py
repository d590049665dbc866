"""The scene that the unmixing cases are made on; the cases describe it in prose only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from parity_fill import make_input


def _box(maps: np.ndarray, axis: int) -> np.ndarray:
    widths = [(2, 2) if i == axis else (0, 0) for i in range(3)]
    padded = np.pad(maps, widths, mode="edge")
    return sum(np.take(padded, range(i, i + maps.shape[axis]), axis=axis) for i in range(5)) / 5


def make(problem: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (band, pixel), endmembers (material, band) and abundances (material, pixel)."""
    bands, rows, cols, p, seed = (int(problem[key]) for key in ("L", "H", "W", "p", "seed"))
    base = make_input((p, 8), seed).astype(np.float64)
    places = np.linspace(0, 7, bands)
    spectra = np.stack([0.8 * np.interp(places, np.arange(8), row) + 0.05 for row in base])
    maps = -np.log(make_input((p, rows, cols), seed + 1, 1e-3, 1).astype(np.float64))
    if problem["smooth"]:
        maps = _box(_box(maps, 1), 2) ** 3
    shares = maps.reshape(p, -1)
    if problem["pure"]:
        for i in range(p):
            shares[:, i * (rows * cols // p)] = np.eye(p)[i]
    shares = shares / shares.sum(0)
    noise = make_input((bands, rows * cols), seed + 2, -1, 1).astype(np.float64) * problem["noise"] * np.sqrt(3)
    pixels = np.maximum(spectra.T @ shares + noise, 1e-4)
    return torch.from_numpy(pixels), torch.from_numpy(spectra), torch.from_numpy(shares)


def estimates(problem: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Made-up endmembers (material, band) and abundances (material, pixel) to score."""
    bands, rows, cols, p, seed = (int(problem[key]) for key in ("L", "H", "W", "p", "seed"))
    shares = make_input((p, rows * cols), seed + 6).astype(np.float64)
    return make_input((bands, p), seed + 5).astype(np.float64).T, shares / shares.sum(0)
