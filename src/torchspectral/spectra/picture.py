"""Natural-colour pictures: which three bands, and how values become brightness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, good_bands
from torchspectral.errors import BadCube, BadSettings, BandMismatch
from torchspectral.spectra.lazy import to_float

VISIBLE = (650.0, 550.0, 475.0)
_FURTHEST = 40.0  # nm from a colour's wavelength that still looks natural


def rgb_bands(cube: xr.DataArray, wavelengths: Sequence[float] | None = None) -> tuple[int, int, int]:
    """Bands (0-based) for red, green and blue.

    Takes the good bands nearest to `wavelengths` [nm]. A cube that sees no visible light, or has no wavelengths, gives
    good bands at five sixths, a half and one sixth of its range: a false-colour picture.

    Raises
    ------
    BandMismatch
        Not three wavelengths, one of them beyond the bands, or no good band.
    """
    good = good_bands(cube)
    if good.size == 0:
        raise BandMismatch("the cube has no good band: mark bands as good before making a picture")
    wanted = np.asarray(VISIBLE if wavelengths is None else tuple(wavelengths), dtype=np.float64)
    if wanted.shape != (3,):
        raise BandMismatch(f"got {wanted.size} wavelengths for a picture, expected three: red, green, blue [nm]")
    centres = np.asarray(cube["wavelength"].values, dtype=np.float64)[good] if "wavelength" in cube.coords else None
    if centres is not None and np.isfinite(centres).any():
        gaps = np.where(np.isfinite(centres), np.abs(centres[None, :] - wanted[:, None]), np.inf)
        nearest = gaps.argmin(axis=1)
        # A sampling coarser than this has no nearer band; a wavelength beyond the bands is a mistake.
        low, high = np.nanmin(centres) - _FURTHEST, np.nanmax(centres) + _FURTHEST
        if wavelengths is not None and not ((wanted >= low) & (wanted <= high)).all():
            raise BandMismatch(
                f"got {', '.join(f'{w:g}' for w in wanted)} nm for red, green and blue, expected wavelengths within the "
                f"good bands, {np.nanmin(centres):g} to {np.nanmax(centres):g} nm"
            )
        if wavelengths is not None or gaps.min(axis=1).max() <= _FURTHEST:
            return int(good[nearest[0]]), int(good[nearest[1]]), int(good[nearest[2]])
        good = good[np.argsort(np.where(np.isfinite(centres), centres, np.inf))]
    last = good.size - 1
    red, green, blue = (good[round(last * share)] for share in (5 / 6, 1 / 2, 1 / 6))
    return int(red), int(green), int(blue)


def rgb_picture(
    cube: xr.DataArray,
    *,
    wavelengths: Sequence[float] | None = None,
    stretch: tuple[float, float] = (2.0, 98.0),
    limits: np.ndarray | None = None,
    gamma: float = 1.0,
    max_size: int = 1024,
) -> xr.DataArray:
    """Natural-colour picture; reads three bands only, every n-th pixel where the cube is larger than `max_size`.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
    wavelengths : sequence of 3 floats, optional
        Red, green, blue [nm].
    stretch : (float, float)
        Percentiles of each colour that become black and full brightness.
    limits : array_like, shape (3, 2), optional
        Values that become black and full brightness, instead of percentiles; of another picture
        (``attrs["limits"]``), so that two pictures compare.
    gamma : float
        Exponent: above 1 lifts the shadows.
    max_size : int
        Longest side of the picture in pixels.

    Returns
    -------
    DataArray, dims (y, x, colour)
        float32 in 0..1: red, green, blue and alpha, which is 0 where nodata and else 1; keeps the ground coordinates.
        ``attrs``: bands, wavelengths, limits.

    Raises
    ------
    BadCube, BadSettings, BandMismatch
    """
    cube = check_cube(cube)
    if "time" in cube.dims:
        raise BadCube("got a video, expected a cube (band, y, x): take one frame with .isel(time=n)")
    low, high = (float(p) for p in stretch)
    if not 0 <= low < high <= 100:
        raise BadSettings(f"got stretch {stretch}, expected two percentiles 0 <= low < high <= 100")
    if not gamma > 0 or max_size < 1:
        raise BadSettings(f"got gamma={gamma} and max_size={max_size}, expected both positive")
    bands = rgb_bands(cube, wavelengths)
    step = max(1, -(-max(cube.sizes["y"], cube.sizes["x"]) // max_size))
    # The middle of each step, so that the picture lies on the ground where the cube does.
    thin = cube.isel(band=sorted(set(bands)), y=slice(step // 2, None, step), x=slice(step // 2, None, step))
    values = to_float(np.asarray(thin.values), cube.attrs.get("nodata"))
    rows = {band: row for row, band in enumerate(sorted(set(bands)))}
    colours = values[[rows[b] for b in bands]].astype(np.float32)
    given = limits
    limits = _percentiles(colours, low, high) if given is None else np.asarray(given, dtype=np.float64)
    if limits.shape != (3, 2):
        raise BadSettings(f"got limits of shape {limits.shape}, expected (3, 2): low and high of red, green, blue")
    span = np.where(limits[:, 1] > limits[:, 0], limits[:, 1] - limits[:, 0], 1.0)
    picture = np.clip((colours - limits[:, :1, None]) / span[:, None, None], 0, 1) ** (1 / gamma)
    known = np.isfinite(colours).all(axis=0)
    picture = np.concatenate([np.where(known, picture, 0), np.asarray(known)[None]])
    ground = {name: c for name, c in thin.coords.items() if set(c.dims) <= {"y", "x"}}
    out = xr.DataArray(
        np.moveaxis(picture, 0, -1).astype(np.float32), dims=("y", "x", "colour"), coords=ground, name="picture"
    )
    out = out.assign_coords(colour=["red", "green", "blue", "alpha"])
    centres = cube["wavelength"].values
    out.attrs = {"bands": list(bands), "wavelengths": [float(centres[b]) for b in bands], "limits": limits.tolist()}
    return out


def _percentiles(colours: np.ndarray, low: float, high: float) -> np.ndarray:
    limits = np.zeros((3, 2))
    for i, colour in enumerate(colours):
        finite = colour[np.isfinite(colour)]
        if finite.size:
            limits[i] = np.percentile(finite, [low, high])
    return limits
