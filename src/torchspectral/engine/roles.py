"""From the caller's cubes to roles: bands, grids, libraries; what was dropped or moved goes into the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, good_bands, outside_bands
from torchspectral.engine.method import Input, Method, SceneInfo
from torchspectral.engine.reading import RoleReader
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    MissingMetadata,
    UnknownName,
    closest,
)
from torchspectral.geo.grids import Grid, grid_of, pixel_in, to_ground
from torchspectral.result import Report

CORNER_TOLERANCE = 0.1
"""How far corners of two grids may lie apart [pixels of the finer one]."""


@dataclass
class Inputs:
    """The inputs of a run after all checks.

    Attributes
    ----------
    cubes : dict of str to DataArray
        Raster roles as given (resampled where asked for), the lead first.
    readers : dict of str to RoleReader
    spectra : dict of str to ndarray, shape (spectrum, band)
    bands : ndarray of int
        Bands of the lead that are handed over.
    info : SceneInfo
    """

    cubes: dict[str, xr.DataArray]
    readers: dict[str, RoleReader]
    spectra: dict[str, np.ndarray]
    bands: np.ndarray
    info: SceneInfo

    @property
    def lead(self) -> xr.DataArray:
        """The leading cube."""
        return next(iter(self.cubes.values()))


def prepare_inputs(
    method: Method,
    given: Mapping[str, Any],
    *,
    bands: str | Sequence[int] = "good",
    resample: bool = False,
    report: Report,
) -> Inputs:
    """Check every role against the method's declaration and the lead.

    Raises
    ------
    UnknownName
        A role that the method does not have.
    BadInput
        A required role is missing.
    BadCube, BandMismatch, GridMismatch, BadSettings
        A role does not fit; the message says how to make it fit.
    """
    roles = {role.role: role for role in method.inputs}
    for name in given:
        if name not in roles:
            raise UnknownName(f"the method has no input {name!r}: {closest(str(name), tuple(roles))}")
    for name, role in roles.items():
        if given.get(name) is None and not role.optional:
            raise BadInput(f"the input {name!r} is missing, expected {', '.join(_required(method))}")
    present = {name: role for name, role in roles.items() if given.get(name) is not None}
    first, *_ = method.inputs
    cubes = {n: _as_raster(given[n], n) for n, role in present.items() if role.kind == "raster"}
    lead = cubes[first.role]
    chosen = choose_bands(lead, "all" if bands == "good" and method.allows_bad_bands else bands, report)
    ratios: dict[str, int] = {}
    for name, role in present.items():
        if role.kind == "raster":
            if name != first.role:
                cubes[name], ratios[name] = fit_grid(cubes[name], lead, role, resample, report)
            else:
                ratios[name] = 1
    readers = {
        name: _reader(name, cube, chosen if name == first.role else None, ratios[name]) for name, cube in cubes.items()
    }
    wavelength = _coordinate(lead, "wavelength")
    spectra = {n: _library(given[n], n, wavelength, chosen) for n, role in present.items() if role.kind == "spectra"}
    info = _scene_info(lead, cubes, {n: given[n] for n in spectra}, chosen, ratios)
    return Inputs(cubes, readers, spectra, chosen, info)


def choose_bands(lead: xr.DataArray, bands: str | Sequence[int], report: Report) -> np.ndarray:
    """Indices of the bands that are handed over; what is left out goes into the report.

    Raises
    ------
    BadSettings
        Neither "good", "all" nor indices of bands.
    BandMismatch
        No band is left, or an index lies outside.
    """
    count = lead.sizes["band"]
    if isinstance(bands, str):
        if bands not in ("good", "all"):
            raise BadSettings(f"got bands={bands!r}, expected 'good', 'all' or a list of band indices from 0")
        chosen = good_bands(lead) if bands == "good" else np.arange(count)
        if chosen.size == 0:
            raise BandMismatch(f"none of the {count} bands is marked good: use bands='all' or mark the good ones")
    else:
        try:
            chosen = np.asarray(list(bands))
            if chosen.dtype == bool and chosen.shape == (count,):
                chosen = np.flatnonzero(chosen)
            chosen = chosen.astype(np.int64, casting="safe") if chosen.size else chosen.astype(np.int64)
        except TypeError:
            raise BadSettings(f"got bands={bands!r}, expected 'good', 'all' or a list of band indices from 0") from None
        if chosen.size == 0 or chosen.ndim != 1:
            raise BandMismatch("no band was chosen, expected at least one index")
        if problem := outside_bands(chosen, count):
            raise BandMismatch(problem)
        if np.unique(chosen).size != chosen.size:
            raise BandMismatch("a band was chosen twice: list each band once")
    left = np.setdiff1d(np.arange(count), chosen)
    if left.size:
        why = "marked bad" if isinstance(bands, str) else "not chosen"
        report.dropped.append(f"{left.size} of {count} bands {why}: {_ranges(left + 1)}")
    return chosen


def fit_grid(
    cube: xr.DataArray, lead: xr.DataArray, role: Input, resample: bool, report: Report
) -> tuple[xr.DataArray, int]:
    """The role on a grid that covers the lead's ground with a whole number of pixels for each of the lead's.

    Returns
    -------
    cube : DataArray
        As given, or resampled.
    ratio : int

    Raises
    ------
    GridMismatch
        It does not fit, and `resample` was not asked for or cannot help.
    """
    here, there = grid_of(cube), grid_of(lead)
    problem, ratio = _compare(here, there)
    if not problem:
        problem = _check_ratio(role, ratio, here, there)
        if problem:
            raise GridMismatch(f"{role.role}: {problem}")
        return cube, ratio
    if not resample:
        raise GridMismatch(f"{role.role}: {problem}: resample=True (or geo.align) puts it on the lead's grid")
    from torchspectral.geo import align

    zoom = 1
    if role.ratio != "same" and {here.kind, there.kind} <= {"map", "rotated"}:
        width, height = pixel_in(here, there)
        zoom = max(1, round(1 / math.sqrt(max(width * height, 1e-30))))
        problem_there = _check_ratio(role, zoom, here, there)
        if problem_there:
            raise GridMismatch(f"{role.role}: {problem}, and {problem_there}")
    counts = cube.dtype.kind in "iu" and "packing" not in cube.attrs
    kind = "nearest" if counts or role.role in ("labels", "mask") else "bilinear"
    fitted = align(cube, there.scaled(zoom), resampling=kind)
    report.resampled.append(
        f"{role.role} from {here.height} x {here.width} to {there.height * zoom} x {there.width * zoom} pixels "
        f"({kind}): {problem}"
    )
    return fitted, zoom


def _compare(here: Grid, there: Grid) -> tuple[str, int]:
    """What keeps the two grids from covering the same ground, and the ratio where nothing does."""
    ratio = here.width / there.width
    placed = here.kind in ("map", "rotated") and there.kind in ("map", "rotated")
    if placed and here.crs != there.crs:
        return (f"its CRS is {_crs(here)}, expected {_crs(there)} as the lead"), 0
    whole = here.width % there.width == 0 and here.height % there.height == 0
    if not whole or here.width // there.width != here.height // there.height:
        return (
            f"it has {here.height} x {here.width} pixels, expected a whole number of times the lead's "
            f"{there.height} x {there.width}"
        ), 0
    if placed:
        pixel = min(here.resolution)
        for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
            x0, y0 = to_ground(here.transform, corner[0] * here.width, corner[1] * here.height)
            x1, y1 = to_ground(there.transform, corner[0] * there.width, corner[1] * there.height)
            off = float(np.hypot(x0 - x1, y0 - y1)) / pixel
            if off > CORNER_TOLERANCE:
                return f"its corners lie {off:.2f} of its pixels off the lead's, expected at most {CORNER_TOLERANCE}", 0
    return "", round(ratio)


def _check_ratio(role: Input, ratio: int, here: Grid, there: Grid) -> str:
    sizes = f"{here.height} x {here.width} pixels against the lead's {there.height} x {there.width}"
    if role.ratio == "same" and ratio != 1:
        return f"it has {sizes}, expected the same grid: aggregate it first, or exchange the inputs"
    if role.ratio == "finer" and ratio < 2:
        return f"it has {sizes}, expected a grid at least twice as fine"
    return ""


def _as_raster(value: Any, role: str) -> xr.DataArray:
    if not isinstance(value, xr.DataArray) or not (role == "labels" or "layer" in value.dims):
        if role == "labels":
            raise BadCube(f"got {_what(value)} as {role}, expected layers with dims (layer, y, x) or (y, x)")
        return check_cube(value, what=role)
    if value.dims == ("y", "x"):
        value = value.expand_dims("layer")
    if value.dims == ("layer", "y", "x"):
        return value.rename(layer="band").drop_vars("band", errors="ignore")
    if value.ndim == 3:
        return check_cube(value, what=role)
    raise BadCube(f"got {_what(value)} as {role}, expected layers with dims (layer, y, x) or (y, x)")


def _what(value: Any) -> str:
    return f"dims {value.dims}" if isinstance(value, xr.DataArray) else type(value).__name__


def _reader(name: str, cube: xr.DataArray, bands: np.ndarray | None, ratio: int) -> RoleReader:
    chosen = np.arange(cube.sizes["band"]) if bands is None else bands
    packing = cube.attrs.get("packing")
    scale = offset = None
    nodata = cube.attrs.get("nodata")
    if packing:
        count = cube.sizes["band"]
        scale = np.broadcast_to(np.asarray(packing.get("scale", 1.0), dtype=np.float64), (count,))[chosen]
        offset = np.broadcast_to(np.asarray(packing.get("offset", 0.0), dtype=np.float64), (count,))[chosen]
        nodata = packing.get("nodata", nodata)
    labels = name == "labels"
    if not labels and cube.dtype.kind not in "iuf":
        raise BadCube(f"got values of type {cube.dtype} as {name}, expected real numbers")
    return RoleReader(
        name,
        cube.variable,
        chosen,
        ratio,
        labels,
        None if nodata is None else float(nodata),
        scale,
        offset,
        wavelength=_coordinate(cube, "wavelength")[chosen],
    )


def _coordinate(cube: xr.DataArray, name: str) -> np.ndarray:
    if name in cube.coords:
        return np.asarray(cube[name].values, dtype=np.float64)
    return np.full(cube.sizes["band"], np.nan)


def _library(value: Any, role: str, wavelength: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if not isinstance(value, xr.DataArray) or value.dims != ("spectrum", "band"):
        raise BadCube(f"got {_what(value)} as {role}, expected spectra with dims (spectrum, band)")
    values = np.asarray(value.values, dtype=np.float32)
    own = _coordinate(value, "wavelength")
    count = values.shape[1]
    if count == wavelength.size:
        index: np.ndarray | slice = chosen
        target = wavelength
    elif count == chosen.size:
        index, target = slice(None), wavelength[chosen]
    else:
        raise BandMismatch(
            f"{role} has {count} bands, expected the lead's {wavelength.size} (or the {chosen.size} that are used): "
            "resample it to the scene's bands first (ts.resample)"
        )
    gap = np.abs(own - target)
    if np.isfinite(gap).any():
        spacing = float(np.nanmedian(np.abs(np.diff(target)))) if target.size > 1 else np.inf
        if np.nanmax(gap) > max(0.5 * spacing, 0.5):
            raise BandMismatch(
                f"{role} lies up to {np.nanmax(gap):.1f} nm off the scene's bands, expected at most half a band: "
                "resample it to the scene's bands first (ts.resample)"
            )
    used = values[:, index]
    if not np.isfinite(used).all():
        raise BadInput(f"{role} has missing values in the bands that are used: leave those bands or spectra out")
    return used


def _scene_info(
    lead: xr.DataArray,
    cubes: Mapping[str, xr.DataArray],
    spectra: Mapping[str, xr.DataArray],
    chosen: np.ndarray,
    ratios: Mapping[str, int],
) -> SceneInfo:
    from torchspectral import sensors

    sensor = sensors.match(lead)
    first = next(iter(cubes))
    mtf: dict[str, float] = {}
    for name, cube in cubes.items():
        own = sensor if name == first else sensors.match(cube)
        if name == "pan":
            pan = (sensor.pan if sensor else None) or (own.pan if own else None)
            if pan is not None:
                mtf[name] = float(pan.mtf)
        elif own is not None and own.mtf is not None and np.isfinite(own.mtf).any():
            mtf[name] = float(np.nanmean(own.mtf))
    names = {n: tuple(str(s) for s in v["spectrum"].values) for n, v in spectra.items() if "spectrum" in v.coords}
    for name, cube in cubes.items():
        classes = cube.attrs.get("names", cube.attrs.get("class_names"))
        if isinstance(classes, Mapping):
            classes = list(classes.values())
        if classes:
            names[name] = tuple(str(c) for c in classes)
    return SceneInfo(
        shape=(lead.sizes["y"], lead.sizes["x"]),
        wavelength=_coordinate(lead, "wavelength")[chosen],
        fwhm=_coordinate(lead, "fwhm")[chosen],
        quantity=str(lead.attrs.get("quantity", "dn")),
        ratio=dict(ratios),
        mtf=mtf,
        sensor=sensor.name if sensor else str(lead.attrs.get("sensor", "")),
        bands_of={n: _coordinate(c, "wavelength") for n, c in cubes.items() if n != first},
        names=names,
    )


def check_band_rule(method: Method, info: SceneInfo) -> None:
    """Refuse bands that the method does not take.

    Raises
    ------
    BandMismatch, MissingMetadata
    """
    rule = method.bands
    if info.bands < rule.least or (rule.most is not None and info.bands > rule.most):
        limit = f"at least {rule.least}" if rule.most is None else f"{rule.least} to {rule.most}"
        raise BandMismatch(f"got {info.bands} bands, the method works with {limit}: choose others with bands=")
    if rule.wavelength is None:
        return
    wanted = np.asarray(rule.wavelength)
    if np.isnan(info.wavelength).any():
        raise MissingMetadata(
            "the method needs the bands' wavelengths, the scene has none: set the wavelength coordinate"
        )
    if wanted.size != info.bands:
        raise BandMismatch(
            f"got {info.bands} bands, the weights expect {wanted.size}: resample the scene (ts.resample)"
        )
    off = float(np.abs(wanted - info.wavelength).max())
    spacing = float(np.median(np.abs(np.diff(np.sort(wanted))))) if wanted.size > 1 else 10.0
    if off > max(spacing / 2, 1.0):
        raise BandMismatch(
            f"the scene's bands lie up to {off:.1f} nm off those of the weights ({wanted.min():.0f} to "
            f"{wanted.max():.0f} nm): resample the scene (ts.resample)"
        )


def _required(method: Method) -> list[str]:
    return [i.role for i in method.inputs if not i.optional]


def _crs(grid: Grid) -> str:
    return grid.crs.name if grid.crs is not None else "unknown"


def _ranges(numbers: np.ndarray) -> str:
    """Numbers as "1-3, 7"."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if p.size > 1 else f"{p[0]}" for p in parts)
