"""The cube: a plain `xarray.DataArray` with dims ``(band, y, x)`` and a few rules.

Coordinates on ``band``
    ``wavelength`` and ``fwhm`` [nm, float64, NaN where unknown], ``good`` (bool), ``number`` (the product's band
    number, 1-based), ``detector`` (str, "" where unknown).
Attributes (all plain values, so that they survive JSON)
    ``quantity`` : "reflectance" (0..1), "radiance" [W m-2 sr-1 um-1] or "dn" (raw numbers);
    optional ``units, sensor, platform, level, product, acquired`` (ISO 8601 UTC), ``sun_zenith, sun_azimuth,
    view_zenith`` [deg], ``source`` (list of paths), ``history`` (list of lines), ``nodata`` (dn only).
Nodata
    NaN in float cubes; in integer cubes the value ``attrs["nodata"]``.
Packed cubes
    ``attrs["packing"] = {"scale": [..], "offset": [..], "nodata": value|None}`` marks stored integers of a physical
    quantity: value = stored * scale + offset, a list entry a band (or one for all). Only `io` makes and unmakes them.
A video has a leading ``time`` dimension. Layers have dims ``(layer, y, x)`` with string coordinate ``layer``; spectra
``(spectrum, band)``. Where the pixels lie on the ground is the business of `torchspectral.geo`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube

DIMS = ("band", "y", "x")
QUANTITIES = ("reflectance", "radiance", "dn")
UNITS = {"reflectance": "1", "radiance": "W m-2 sr-1 um-1", "dn": "1"}
BAND_COORDS = ("wavelength", "fwhm", "good", "number", "detector")


def make_cube(
    data: Any,
    *,
    wavelength: Any = None,
    fwhm: Any = None,
    good: Any = None,
    number: Any = None,
    detector: Any = None,
    quantity: str = "dn",
    attrs: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> xr.DataArray:
    """Build a cube from an array and its band facts; places no pixels on the ground (see `geo.place`).

    Parameters
    ----------
    data : array_like, shape (band, y, x) or (time, band, y, x)
        Values in the physical range of `quantity`; may be lazy (an xarray `Variable` or dask array).
    wavelength, fwhm : array_like, shape (band,), optional
        Centres and widths [nm].
    good : array_like of bool, shape (band,), optional
        False for bands that should not be used; all True by default.
    number : array_like of int, shape (band,), optional
        The product's own 1-based band numbers; 1..band by default.
    detector : sequence of str, optional
        Detector of each band.
    quantity : {"reflectance", "radiance", "dn"}
        What the values are.

    Raises
    ------
    BadCube
        Wrong number of dimensions, a coordinate of the wrong length, unknown quantity, wavelengths not in nm.
    """
    ndim = getattr(data, "ndim", None)
    if ndim is None:
        data = np.asarray(data)
        ndim = data.ndim
    if ndim not in (3, 4):
        raise BadCube(f"got an array of {ndim} dimensions, expected (band, y, x) or (time, band, y, x)")
    dims = ("time", *DIMS) if ndim == 4 else DIMS
    variable = data if isinstance(data, xr.Variable) else xr.Variable(dims, data)
    bands = variable.sizes["band"]
    coords: dict[str, Any] = {
        "wavelength": _per_band("wavelength", wavelength, bands, np.float64, np.nan),
        "fwhm": _per_band("fwhm", fwhm, bands, np.float64, np.nan),
        "good": _per_band("good", good, bands, np.bool_, True),
        "number": _per_band("number", np.arange(1, bands + 1) if number is None else number, bands, np.int64, 0),
        "detector": _per_band("detector", detector, bands, np.str_, ""),
    }
    # Pixel centres counted from the outer corner: the grid of an image that lies nowhere.
    coords["y"] = np.arange(variable.sizes["y"]) + 0.5
    coords["x"] = np.arange(variable.sizes["x"]) + 0.5
    wave = coords["wavelength"][1]
    finite = wave[np.isfinite(wave)]
    if finite.size and (finite.min() < 100 or finite.max() > 100_000):
        raise BadCube(
            f"wavelengths run from {finite.min():g} to {finite.max():g}, expected nanometres between 100 and 100000: "
            "convert the units"
        )
    if quantity not in QUANTITIES:
        raise BadCube(f"got quantity {quantity!r}, expected one of {', '.join(QUANTITIES)}")
    cube = xr.DataArray(variable, coords=coords, name=name or quantity)
    cube.attrs = {"quantity": quantity, "units": UNITS[quantity], **dict(attrs or {})}
    cube.attrs.setdefault("history", [])
    return cube


def _per_band(name: str, value: Any, bands: int, dtype: Any, default: Any) -> tuple[str, np.ndarray]:
    array = np.full(bands, default, dtype=dtype) if value is None else np.asarray(value).astype(dtype)
    if array.shape != (bands,):
        raise BadCube(f"got {array.shape} values of {name}, expected one for each of the {bands} bands")
    return "band", array


def check_cube(cube: Any, *, what: str = "cube") -> xr.DataArray:
    """Return `cube` if it follows the contract, with absent band coordinates filled in.

    Raises
    ------
    BadCube
        With what was got and what was expected.
    """
    if not isinstance(cube, xr.DataArray):
        make = "open it with ts.open" if isinstance(cube, (str, Path)) else "make one of an array with ts.make_cube"
        raise BadCube(
            f"got {type(cube).__name__} as {what}, expected an xarray.DataArray with dims (band, y, x): {make}"
        )
    if cube.dims not in (DIMS, ("time", *DIMS)):
        raise BadCube(f"got dims {cube.dims} as {what}, expected (band, y, x): use .transpose('band', 'y', 'x')")
    if 0 in cube.shape:
        raise BadCube(f"got an empty {what} of shape {cube.shape}, expected at least one band and one pixel")
    if cube.dtype.kind not in "iuf":
        raise BadCube(f"got values of type {cube.dtype} as {what}, expected real numbers")
    if is_packed(cube):
        _check_packing(cube, what)
    missing = [name for name in BAND_COORDS if name not in cube.coords]
    if missing or "quantity" not in cube.attrs:
        model = make_cube(cube.variable, quantity=cube.attrs.get("quantity", "dn"))
        cube = cube.assign_coords({name: model.coords[name] for name in missing})
        cube.attrs = {**model.attrs, **cube.attrs}
    return cube


def check_image(cube: Any, *, what: str = "cube") -> xr.DataArray:
    """`check_cube` of what must be one image.

    Raises
    ------
    BadCube
        It is no cube, or a video.
    """
    cube = check_cube(cube, what=what)
    if "time" in cube.dims:
        raise BadCube(f"got a video of {cube.sizes['time']} frames, expected one image: pick one with isel(time=k)")
    return cube


def _check_packing(cube: xr.DataArray, what: str) -> None:
    bands = cube.sizes["band"]
    for name in ("scale", "offset"):
        size = np.size(cube.attrs["packing"].get(name, 0.0))
        if size not in (1, bands):
            raise BadCube(
                f"got {size} values of {name} for the {bands} bands of a packed {what}, expected one for each: pick bands "
                "of stored numbers with torchspectral.cube.pick_bands, or when opening (bands=)"
            )


def make_layers(
    data: Any,
    layers: Sequence[str],
    *,
    like: xr.DataArray | None = None,
    attrs: Mapping[str, Any] | None = None,
    name: str = "layers",
) -> xr.DataArray:
    """Build named layers, shape (layer, y, x), on the ground grid of `like` where one is given.

    Raises
    ------
    BadCube
        The number of names is not the number of layers, or the size is not that of `like`.
    """
    array = data if hasattr(data, "ndim") else np.asarray(data)
    if array.ndim != 3 or array.shape[0] != len(layers):
        raise BadCube(f"got layers of shape {tuple(array.shape)} and {len(layers)} names, expected (layer, y, x)")
    out = xr.DataArray(array, dims=("layer", "y", "x"), coords={"layer": [str(n) for n in layers]}, name=name)
    if like is not None:
        if out.shape[-2:] != like.shape[-2:]:
            raise BadCube(f"got layers of {out.shape[-2:]} pixels, expected {like.shape[-2:]} as the cube they lie on")
        ground = {key: c for key, c in like.coords.items() if set(c.dims) <= {"y", "x"}}
        out = out.assign_coords(ground)
        if "glt" in like.attrs:
            out.attrs["glt"] = like.attrs["glt"]
    else:
        out = out.assign_coords(y=np.arange(out.sizes["y"]) + 0.5, x=np.arange(out.sizes["x"]) + 0.5)
    out.attrs.update(attrs or {})
    return out


def make_spectra(
    data: Any,
    names: Sequence[str],
    *,
    wavelength: Any = None,
    fwhm: Any = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Build spectra, shape (spectrum, band), such as endmembers or a library.

    Raises
    ------
    BadCube
        Names or wavelengths do not match the array.
    """
    array = np.asarray(data)
    if array.ndim != 2 or array.shape[0] != len(names):
        raise BadCube(f"got spectra of shape {array.shape} and {len(names)} names, expected (spectrum, band)")
    bands = array.shape[1]
    coords: dict[str, Any] = {
        "spectrum": [str(n) for n in names],
        "wavelength": _per_band("wavelength", wavelength, bands, np.float64, np.nan),
        "fwhm": _per_band("fwhm", fwhm, bands, np.float64, np.nan),
    }
    out = xr.DataArray(array, dims=("spectrum", "band"), coords=coords, name="spectra")
    out.attrs.update(attrs or {})
    return out


def outside_bands(indices: np.ndarray, count: int) -> str:
    """What is wrong with indices into `count` bands, counted both from 1, as people do, and from 0; "" where nothing is."""
    wrong = indices[(indices < 0) | (indices >= count)]
    if not wrong.size:
        return ""
    return (
        f"got band {int(wrong[0]) + 1} (index {int(wrong[0])}) of {count}, expected bands 1 to {count} "
        f"(indices 0 to {count - 1})"
    )


def good_bands(cube: xr.DataArray) -> np.ndarray:
    """Indices of the bands marked good, shape (n,)."""
    return np.flatnonzero(cube["good"].values) if "good" in cube.coords else np.arange(cube.sizes["band"])


def pick_bands(cube: xr.DataArray, bands: Any) -> xr.DataArray:
    """Some bands of a cube, by index, slice or list; unlike `isel`, a packed cube keeps each band's scale and offset."""
    out = cube.isel(band=bands)
    if not is_packed(cube):
        return out
    packing = dict(cube.attrs["packing"])
    for name in ("scale", "offset"):
        values = np.asarray(packing.get(name, 0.0), dtype=np.float64).reshape(-1)
        if values.size > 1:
            packing[name] = [float(v) for v in values[bands]]
    out.attrs = {**cube.attrs, "packing": packing}
    return out


def is_packed(cube: xr.DataArray) -> bool:
    """Whether the values are stored integers of a physical quantity."""
    return "packing" in cube.attrs


def nodata_mask(cube: xr.DataArray) -> xr.DataArray:
    """True where a value is nodata; loads the values."""
    if cube.dtype.kind == "f":
        return cube.isnull()
    nodata = cube.attrs.get("nodata")
    return (cube == nodata) if nodata is not None else xr.zeros_like(cube, dtype=bool)


def with_history(cube: xr.DataArray, lines: str | Iterable[str]) -> xr.DataArray:
    """Copy of `cube` (values shared) with lines added to its history."""
    added = [lines] if isinstance(lines, str) else list(lines)
    out = cube.copy(deep=False)
    out.attrs = {**cube.attrs, "history": [*cube.attrs.get("history", []), *added]}
    return out
