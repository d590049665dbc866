"""Training pairs by Wald's protocol, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.interpolate import check_ratio, ideal_interp
from torchspectral.sharpening.protocol import simulate_wald


def wald_pairs(
    cube: xr.DataArray,
    ratio: int,
    patch: int | None = None,
    *,
    stride: int | None = None,
    pan: xr.DataArray | None = None,
    gain: float = 1.0,
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Training pairs by Wald's protocol.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Small enough to be held in memory.
    ratio : int
    patch : int, optional
        Side of square patches on the cube's grid, a multiple of `ratio`; None: the whole image as one.
    stride : int, optional
        Distance of patches, a multiple of `ratio`; default `patch`.
    pan : DataArray, optional
        As for `simulate_wald`.
    gain : float
        All values are divided by it.
    **settings
        Fields of `WaldSettings`.

    Returns
    -------
    dict of str to ndarray
        ``target`` and ``upsampled`` (n, band, patch, patch), ``pan`` (n, 1, patch, patch), ``hs`` (n, band,
        patch / ratio, patch / ratio), float32; with a patch size, patches without nodata only.

    Raises
    ------
    BadSettings
        Patch or stride are no multiples of the ratio, or the patch is larger than the image.
    GridMismatch, MissingMetadata
    """
    ratio = check_ratio(ratio)
    made = simulate_wald(cube, ratio, pan, **settings)
    arrays = {name: _floats(value) / np.float32(gain) for name, value in made.items()}
    hole = np.isnan(arrays["hs"])
    filled = torch.from_numpy(np.where(hole, 0, arrays["hs"]))
    upsampled = ideal_interp(filled, ratio).numpy()
    if hole.any():
        upsampled[np.repeat(np.repeat(hole, ratio, 1), ratio, 2)] = np.nan
    whole = {"target": arrays["truth"], "upsampled": upsampled, "pan": arrays["pan"], "hs": arrays["hs"]}
    if patch is None:
        return {name: array[None] for name, array in whole.items()}
    stride = patch if stride is None else stride
    rows, cols = whole["target"].shape[-2:]
    if patch < ratio or patch % ratio or stride < ratio or stride % ratio or patch > min(rows, cols):
        raise BadSettings(
            f"got patches of {patch} every {stride} pixels in an image of {rows} x {cols}, expected multiples of "
            f"{ratio} and at most the image"
        )
    found: dict[str, list[np.ndarray]] = {name: [] for name in whole}
    for row in range(0, rows - patch + 1, stride):
        for col in range(0, cols - patch + 1, stride):
            cut = {
                name: array[:, row // z : (row + patch) // z, col // z : (col + patch) // z]
                for name, array in whole.items()
                for z in [ratio if name == "hs" else 1]
            }
            if all(np.isfinite(part).all() for part in cut.values()):
                for name, part in cut.items():
                    found[name].append(part)
    if not found["target"]:
        raise BadInput(f"every patch of {patch} pixels touches nodata, expected at least one without: use smaller ones")
    return {name: np.stack(parts) for name, parts in found.items()}


def _floats(cube: xr.DataArray) -> np.ndarray:
    values = np.asarray(cube.values)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    nodata = cube.attrs.get("nodata")
    return np.where(values == nodata, np.float32(np.nan), values.astype(np.float32)).astype(np.float32)
