"""Tables of positions: places and groups of bands apart or joined, brought to other sizes and other bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from torchspectral.errors import BandMismatch


def joint_positions(spatial: torch.Tensor, temporal: torch.Tensor) -> torch.Tensor:
    """One table of all tokens from those of places (1, hw, D) and of groups of bands (1, T, D): (1, T * hw, D)."""
    return (temporal[:, :, None] + spatial[:, None]).flatten(1, 2)


def resize_spatial(table: torch.Tensor, rows: int, cols: int, groups: int = 1) -> torch.Tensor:
    """Bring a table of square grids, (1, groups * side * side, D), to other sizes: bicubic.

    Raises
    ------
    BandMismatch
        The table is no stack of square grids.
    """
    side = round((table.shape[1] / groups) ** 0.5)
    if side * side * groups != table.shape[1]:
        raise BandMismatch(f"got a table of {table.shape[1]} positions, expected {groups} square grids")
    if (rows, cols) == (side, side):
        return table
    grids = table.reshape(groups, side, side, -1).permute(0, 3, 1, 2)
    grids = functional.interpolate(grids.float(), (rows, cols), mode="bicubic", align_corners=False, antialias=False)
    return grids.permute(0, 2, 3, 1).reshape(1, groups * rows * cols, -1).to(table.dtype)


def group_centres(wavelengths: Sequence[float], spectral_patch: int) -> np.ndarray:
    """Mean wavelength of each group of bands [nm]."""
    centres = np.asarray(wavelengths, dtype=np.float64)
    if centres.size % spectral_patch:
        raise BandMismatch(
            f"got {centres.size} bands, expected a multiple of {spectral_patch}, the bands of one token: leave out "
            f"{centres.size % spectral_patch}"
        )
    return centres.reshape(-1, spectral_patch).mean(1)


def resize_temporal(table: torch.Tensor, known: np.ndarray, wanted: np.ndarray) -> torch.Tensor:
    """Interpolate a table of groups (1, T, D) linearly over wavelength; constant beyond its ends.

    Parameters
    ----------
    table : Tensor (1, T, D)
    known, wanted : ndarray (T,), (W,)
        Mean wavelength of the groups [nm].

    Returns
    -------
    Tensor (1, W, D)
    """
    order = np.argsort(known)
    xs = known[order]
    at = np.clip(np.searchsorted(xs, wanted, side="right") - 1, 0, max(xs.size - 2, 0))
    if xs.size == 1:
        return table.repeat(1, wanted.size, 1)
    part = torch.from_numpy(np.clip((wanted - xs[at]) / (xs[at + 1] - xs[at]), 0, 1)).to(table)[:, None]
    rows = table[0, torch.from_numpy(order)]
    return torch.lerp(rows[at], rows[at + 1], part)[None]
