"""Guides of several products and resolutions as one image on the fine grid, with masks and spectral responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral import sensors
from torchspectral.cube import check_cube, make_cube, make_spectra
from torchspectral.engine.paths import sources_of
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, MissingMetadata
from torchspectral.geo import align, grid_of, place
from torchspectral.geo.grids import Grid, pixel_in, to_ground, to_pixels
from torchspectral.geo.lazy import LazyArray, read_window, with_data
from torchspectral.ops.axis import apply, correlation
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.sharpening.guided.operators import SPLINE_REACH, rise_operator
from torchspectral.sharpening.pairs import PLACED, Done, as_floats, cut_to, fit_fine
from torchspectral.spectra.bands import Bands
from torchspectral.spectra.matrix import spectral_matrix

NEAR = 15.0
"""How far a guide's centre may lie from a band of its sensor to be taken for it [nm]."""
COVERED = 0.5
"""Share of a guide's response that the cube must see for the two to be compared."""
BOX = 9


@dataclass
class Guides:
    """What guided fusion is given.

    Attributes
    ----------
    image : DataArray, shape (K, R y, R x)
        Without NaN.
    valid : DataArray, shape (K, R y, R x)
        1 where a guide is seen.
    responses : DataArray or None, shape (K, band)
        Weights of the cube's bands in each guide, zero where the cube does not see the guide's wavelengths.
    native : tuple of int
        Guides that were not interpolated, from 0.
    products : tuple of int
        Product of each guide, from 0: images that were opened from one file or folder are of one.
    """

    image: xr.DataArray
    valid: xr.DataArray
    responses: xr.DataArray | None
    native: tuple[int, ...]
    products: tuple[int, ...] = ()


class Raised(LazyArray):
    """A coarser guide on the fine grid by ideal interpolation, window by window; NaN around missing pixels.

    Parameters
    ----------
    source : Variable, dims (band, y, x)
        Float32.
    times : int
        Fine pixels per pixel of the source.
    first : tuple of int
        Fine row and column (of the source's own corner) where the result begins.
    shape : tuple of int
        Fine rows and columns.
    """

    def __init__(self, source: xr.Variable, times: int, first: tuple[int, int], shape: tuple[int, int]) -> None:
        super().__init__((source.shape[0], *shape), np.float32)
        self.source, self.times, self.first = source, times, first

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Interpolate the window that holds the indices."""
        bands, *places = indices
        reach = interpolation_halo(self.times) + -(-SPLINE_REACH // self.times) + BOX // 2 + 1
        spans, picks = [], []
        for axis, index in enumerate(places):
            fine = index + self.first[axis]
            low = max(int(fine.min()) // self.times - reach, 0)
            high = min(int(fine.max()) // self.times + 1 + reach, self.source.shape[axis + 1])
            spans.append(slice(low, high))
            picks.append(fine - low * self.times)
        values = torch.from_numpy(read_window(self.source, bands, *spans).astype(np.float64))
        hole = ~torch.isfinite(values)
        if bool(hole.any()):
            values = _patched(values, hole)
        offset = -0.5 if self.times % 2 == 0 else 0.0
        rise = [rise_operator(s.stop - s.start, self.times, offset) for s in spans]
        out = apply(values, *rise).numpy()
        if bool(hole.any()):
            grown = torch.nn.functional.max_pool2d(hole.double()[None], 3, 1, 1)[0].numpy() > 0
            out[np.repeat(np.repeat(grown, self.times, 1), self.times, 2)] = np.nan
        return out[:, picks[0][:, None], picks[1][None, :]].astype(np.float32)


def _patched(values: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """Missing pixels from the mean around them, so that the interpolator does not ring."""
    seen = (~hole).double()
    box = [correlation(n, np.full(BOX, 1 / BOX), "edge") for n in values.shape[-2:]]
    share = apply(seen, *box)
    around = apply(torch.where(hole, 0.0, values), *box) / share.clamp_min(1e-9)
    return torch.where(hole, torch.where(share > 1e-9, around, 0.0), values)


class Stacked(LazyArray):
    """Bands of several images on one grid, or where they are seen."""

    def __init__(self, parts: Sequence[xr.Variable], valid: bool) -> None:
        super().__init__((sum(p.shape[0] for p in parts), *parts[0].shape[1:]), np.uint8 if valid else np.float32)
        self.parts, self.valid = list(parts), valid

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Read a window from each part that is asked for."""
        bands, rows, cols = indices
        out = np.empty((bands.size, rows.size, cols.size), dtype=self.dtype)
        window = slice(int(rows.min()), int(rows.max()) + 1), slice(int(cols.min()), int(cols.max()) + 1)
        start = 0
        for part in self.parts:
            here = np.flatnonzero((bands >= start) & (bands < start + part.shape[0]))
            if here.size:
                values = read_window(part, bands[here] - start, *window)
                values = values[:, (rows - window[0].start)[:, None], (cols - window[1].start)[None, :]]
                seen = np.isfinite(values)
                out[here] = seen if self.valid else np.where(seen, values, 0)
            start += part.shape[0]
        return out


def assemble(
    cube: xr.DataArray,
    given: Any,
    *,
    responses: xr.DataArray | None = None,
    resample: bool = False,
    done: Done,
) -> Guides:
    """Guides on the fine grid over the cube's ground.

    Parameters
    ----------
    cube : DataArray
    given : DataArray, Dataset, or a sequence or mapping of them
        Each with bands on a grid of its own; the finest grid is that of the result, and coarser guides (the 20 m bands
        of Sentinel-2) are brought to it by ideal interpolation. Guides that are no finer than the cube are left out.
    responses : DataArray, dims (spectrum, band), optional
        Spectral response of each guide in order, with wavelengths; else those of the guides' sensor, else Gaussians of
        centre and FWHM.
    resample : bool
        Whether guides may be interpolated where they do not fit the cube's grid.
    done : Done
        Gets a sentence for everything that was done.

    Raises
    ------
    BadInput
        No guide, or none finer than the cube.
    GridMismatch, BadCube, BandMismatch
    """
    listed = _listed(given)
    parts = [as_floats(_as_guides(part)) for part in listed]
    product = _products(listed)
    if not parts:
        raise BadInput("there is no guide: give one or several finer images")
    placed = grid_of(cube).kind in PLACED
    finer = [p for p in parts if _fineness(p, cube) > 0.99]
    if not finer or max(_fineness(p, cube) for p in finer) < 1.25:
        raise GridMismatch(
            "no guide is finer than the cube, expected pixels at most half as large: exchange the images, or use another"
        )
    for part in finer:
        cut_to(cube, part, "guide", Done())  # refuses what lies elsewhere
    for part in parts:
        if all(part is not kept for kept in finer):
            done.dropped.append(f"{part.sizes['band']} guide bands ({_labels(part)}) that are coarser than the cube")
    finest = max(finer, key=lambda p: _fineness(p, cube))
    base = fit_fine(finest, cube, what="guide", resample=resample, done=done)
    fitted, native = [], []
    products: list[int] = []
    count = 0
    for part in finer:
        products += [product[next(n for n, p in enumerate(parts) if p is part)]] * part.sizes["band"]
        times = _fineness(finest, cube) / _fineness(part, cube)
        if part is finest:
            out = base
        elif times < 1.01:
            zoom = base.sizes["x"] // cube.sizes["x"]
            out = fit_fine(part, cube, what="guide", resample=resample, done=done, zoom=zoom)
        else:
            out = _raised(part, base, times, resample, done) if placed else _raised_by_size(part, base, done)
        if times < 1.01:
            native += list(range(count, count + out.sizes["band"]))
        count += out.sizes["band"]
        fitted.append(out)
    made = _joined(cube, base, finer, fitted, tuple(native), responses, done)
    return replace(made, products=tuple(products))


def _listed(given: Any) -> list[Any]:
    if isinstance(given, xr.Dataset):
        rasters = [v for v in given.data_vars.values() if {"y", "x"} <= {str(d)[:1] for d in v.dims}]
        return [given["cube"]] if "cube" in given else list(rasters)
    if isinstance(given, dict):
        return list(given.values())
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return [one for part in given for one in _listed(part)]
    return [given]


def _products(listed: Sequence[Any]) -> list[int]:
    """A number for each image, the same for images of one file or folder."""
    seen: list[set[str]] = []
    found = []
    for part in listed:
        here = set(sources_of(part))
        known = next((n for n, other in enumerate(seen) if here & other), len(seen))
        if known == len(seen):
            seen.append(here)
        found.append(known)
    return found


def _as_guides(part: Any) -> xr.DataArray:
    """A cube from a cube, layers or a plain (y, x) image."""
    if isinstance(part, xr.DataArray) and (part.dims == ("y", "x") or "layer" in part.dims):
        names = [str(n) for n in np.atleast_1d(part["layer"].values)] if "layer" in part.coords else []
        image = part.expand_dims("band") if part.dims == ("y", "x") else part.rename(layer="band").drop_vars("band")
        blank = make_cube(image.variable, quantity=part.attrs.get("quantity", "dn"), attrs=part.attrs)
        kept = {n: c.variable for n, c in image.coords.items() if not {"band"} & set(c.dims) and n != "layer"}
        part = blank.assign_coords(kept)
        if names:
            part.attrs["band_names"] = names
    cube = check_cube(part, what="guide")
    if cube.ndim != 3:
        raise BandMismatch(f"got a guide with dims {cube.dims}, expected (band, y, x): take one time step")
    return cube


def _fineness(part: xr.DataArray, cube: xr.DataArray) -> float:
    """Pixels of the guide per pixel of the cube along a side."""
    here, there = grid_of(part), grid_of(cube)
    if here.kind in PLACED and there.kind in PLACED:
        width, height = pixel_in(here, there)
        return 1 / math.sqrt(max(width * height, 1e-30))
    return part.sizes["x"] / cube.sizes["x"]


def _labels(part: xr.DataArray) -> str:
    wave = np.asarray(part["wavelength"].values, dtype=np.float64)
    known = [f"{w:.0f} nm" for w in wave if np.isfinite(w)]
    return ", ".join(known[:4]) + (" ..." if len(known) > 4 else "") if known else "wavelengths unknown"


def _raised(part: xr.DataArray, base: xr.DataArray, times: float, resample: bool, done: Done) -> xr.DataArray:
    """A coarser guide interpolated to the fine grid: ideally where its pixels hold whole fine ones, else cubic."""
    fine, here = grid_of(base), grid_of(part)
    whole = round(times)
    label = _labels(part)
    if whole >= 2 and here.crs == fine.crs and abs(times - whole) < 1e-3 * whole:
        col, row = to_pixels(here.transform, *to_ground(fine.transform, 0, 0))
        first = round(row * whole), round(col * whole)
        if max(abs(row * whole - first[0]), abs(col * whole - first[1])) < 0.1:
            low = [math.floor(f / whole) for f in first]
            high = [-(-(f + n) // whole) for f, n in zip(first, fine.shape, strict=True)]
            window = here.window(low[0], low[1], high[0] - low[0], high[1] - low[1])
            source = align(part, window, resampling="nearest")
            start = first[0] - low[0] * whole, first[1] - low[1] * whole
            array = Raised(source.variable, whole, start, fine.shape)
            done.notes.append(f"guides {label} interpolated {whole} times finer (ideal interpolation)")
            return _on(with_data(part, array), fine)
    if here.kind not in PLACED:
        raise GridMismatch(f"guides {label} lie nowhere, the others on a map: call geo.place first")
    if not resample:
        raise GridMismatch(
            f"guides {label}: their pixels do not hold whole pixels of the finest guide: resample=True (--align) brings "
            "them onto its grid"
        )
    done.resampled.append(f"guides {label} (cubic) onto the grid of the finest guide")
    return align(part, fine, resampling="cubic")


def _raised_by_size(part: xr.DataArray, base: xr.DataArray, done: Done) -> xr.DataArray:
    times = base.sizes["x"] / part.sizes["x"]
    whole = round(times)
    if part.sizes["x"] * whole != base.sizes["x"] or part.sizes["y"] * whole != base.sizes["y"]:
        raise GridMismatch(
            f"got guides of {part.sizes['y']} x {part.sizes['x']} and {base.sizes['y']} x {base.sizes['x']} pixels, "
            "expected a whole ratio: bring them to one grid first"
        )
    done.notes.append(f"guides {_labels(part)} interpolated {whole} times finer (ideal interpolation)")
    out = with_data(part, Raised(part.variable, whole, (0, 0), (base.sizes["y"], base.sizes["x"])))
    return out.assign_coords({n: base[n].variable for n in ("y", "x") if n in base.coords})


def _on(image: xr.DataArray, grid: Grid) -> xr.DataArray:
    return place(image, grid.transform, grid.crs)


def _joined(
    cube: xr.DataArray,
    base: xr.DataArray,
    parts: list[xr.DataArray],
    fitted: list[xr.DataArray],
    native: tuple[int, ...],
    responses: xr.DataArray | None,
    done: Done,
) -> Guides:
    wave = np.concatenate([np.asarray(p["wavelength"].values, dtype=np.float64) for p in fitted])
    width = np.concatenate([np.asarray(p["fwhm"].values, dtype=np.float64) for p in fitted])
    weights = None
    if responses is not None:
        weights = _given_weights(cube, responses, wave.size)
    elif np.isfinite(np.asarray(cube["wavelength"].values, dtype=np.float64)).any():
        weights = np.concatenate([_weights(cube, p) for p in parts])
        blind = [k for k in range(wave.size) if np.isfinite(wave[k]) and not weights[k].any()]
        if blind and weights.any():
            done.notes.append(
                "guides whose wavelengths the cube does not see, not compared with it: "
                + ", ".join(f"{wave[k]:.0f} nm" for k in blind)
            )
    if weights is not None and not weights[list(native)].any():
        weights = None
    blank = make_cube(np.empty((wave.size, 1, 1), np.float32), wavelength=wave, fwhm=width, quantity="dn", attrs={})
    like = {n: c.variable for n, c in base.coords.items() if not {"band", "layer"} & set(c.dims)}
    images = []
    for valid in (False, True):
        array = Stacked([p.variable for p in fitted], valid)
        images.append(with_data(blank, array).assign_coords(like))
    spectra = None
    if weights is not None:
        names = [f"guide {k + 1}" + (f" ({w:.0f} nm)" if np.isfinite(w) else "") for k, w in enumerate(wave)]
        spectra = make_spectra(weights.astype(np.float32), names, wavelength=np.asarray(cube["wavelength"].values))
    return Guides(images[0], images[1], spectra, native)


def _weights(cube: xr.DataArray, part: xr.DataArray) -> np.ndarray:
    """Weights of the cube's bands in each band of a guide image, rows of zeros where nothing is known."""
    count, bands = part.sizes["band"], cube.sizes["band"]
    out = np.zeros((count, bands))
    wave = np.asarray(part["wavelength"].values, dtype=np.float64)
    width = np.asarray(part["fwhm"].values, dtype=np.float64)
    known = np.isfinite(wave)
    if not known.any():
        return out
    sensor = sensors.match(part)
    own = np.full(count, -1)
    if sensor is not None and sensor.bands:
        gap = np.abs(wave[:, None] - sensor.wavelength[None, :])
        near = np.where(known, np.nan_to_num(gap, nan=np.inf).argmin(1), -1)
        close = np.nan_to_num(gap, nan=np.inf).min(1) <= NEAR
        own = np.where(close, near, -1)
    try:
        if (own >= 0).any() and sensor is not None:
            table, _ = spectral_matrix(cube, sensor, min_coverage=COVERED)
            out[own >= 0] = np.nan_to_num(table[own[own >= 0]])
        rest = np.flatnonzero(known & (own < 0) & np.isfinite(width))
        if rest.size:
            facts = Bands(wave[rest], width[rest], np.ones(rest.size, dtype=bool))
            out[rest] = np.nan_to_num(spectral_matrix(cube, facts, method="srf", min_coverage=COVERED)[0])
        rest = np.flatnonzero(known & (own < 0) & ~np.isfinite(width))
        centres = np.asarray(cube["wavelength"].values, dtype=np.float64)
        for k in rest:
            near_band = int(np.nanargmin(np.abs(centres - wave[k])))
            if abs(centres[near_band] - wave[k]) <= NEAR:
                out[k, near_band] = 1.0
    except (BandMismatch, MissingMetadata):
        pass  # the cube sees none of them, which the caller tells
    return out


def _given_weights(cube: xr.DataArray, responses: xr.DataArray, count: int) -> np.ndarray:
    """Weights from tabulated responses."""
    if not isinstance(responses, xr.DataArray) or responses.dims != ("spectrum", "band"):
        raise BadSettings("got responses of another kind, expected spectra with dims (spectrum, band) and wavelengths")
    if responses.sizes["spectrum"] != count:
        raise BandMismatch(f"got {responses.sizes['spectrum']} responses for {count} guide bands, expected one each")
    centres = np.asarray(cube["wavelength"].values, dtype=np.float64)
    places = np.asarray(responses["wavelength"].values, dtype=np.float64) if "wavelength" in responses.coords else None
    if places is None or not np.isfinite(places).all() or not np.isfinite(centres).any():
        raise MissingMetadata("responses and cube must both have wavelengths [nm] to be brought together")
    order = np.argsort(places)
    spacing = np.gradient(np.where(np.isfinite(centres), centres, 0.0)) if centres.size > 1 else np.ones(1)
    curves = np.nan_to_num(np.asarray(responses.values, dtype=np.float64))[:, order]
    good = np.asarray(cube["good"].values, dtype=bool) & np.isfinite(centres)
    out = np.zeros((count, centres.size))
    for k in range(count):
        out[k, good] = np.interp(centres[good], places[order], curves[k], left=0, right=0) * np.abs(spacing[good])
    total = out.sum(1, keepdims=True)
    return np.where(total > 0, out / np.where(total > 0, total, 1.0), 0.0)
