"""PRISMA L1, L2B, L2C and L2D products (ASI), .he5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.errors import BadSettings, BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.geo.grids import Grid, moved, place, place_swath
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.detectors import OVERLAPS, average_overlap, bands_by_overlap
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.prisma.arrays import Axis1Array, ColumnArray, EmptyArray, FlatArray, Positions, PrismaCube
from torchspectral.io.readers.prisma.l2d_grid import l2d_beside, on_l2d_grid
from torchspectral.io.readers.prisma.metadata import (
    ANCHORS,
    PAN_RATIO,
    PrismaBands,
    PrismaProduct,
    level_of,
    open_prisma,
)

PRESETS = ("toolbox159",)
_MAGIC = b"\x89HDF\r\n\x1a\n"
# Layer -> dataset below the swath of the cubes, and the value that sets the flag (None: handed out as stored).
_FLAT = {
    "cloud": ("Data Fields/Cloud_Mask", 1),
    "landcover": ("Data Fields/LandCover_Mask", None),
    "sunglint": ("Data Fields/SunGlint_Mask", 1),
    "observing_angle": ("Geometric Fields/Observing_Angle", None),
    "relative_azimuth": ("Geometric Fields/Rel_Azimuth_Angle", None),
    "solar_zenith": ("Geometric Fields/Solar_Zenith_Angle", None),
    "latitude": ("Geolocation Fields/Latitude", None),
    "longitude": ("Geolocation Fields/Longitude", None),
}
_COLUMNS = {"column_wavelength": "Cw", "column_fwhm": "Fwhm"}


class PrismaReader(Reader):
    """Reader of PRISMA products."""

    name = "prisma"
    title = "PRISMA L1, L2B, L2C, L2D"
    patterns = ("PRS_L*.he5",)
    options = ("overlap", "pixel_anchor", "preset", "registered", "wavelength_map", "grid")
    layer_options = ("overlap", "pixel_anchor", "preset", "registered")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the swath groups ``HDFEOS/SWATHS/PRS_*``."""
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            if file.read(8) != _MAGIC:
                return 0.0
        return 0.95 if level_of(Handle(open_prisma, path).get()) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open both cubes as one lazy cube, bands ascending: reflectance (L2C, L2D) or radiance (L1, L2B).

        Bands that the product does not use (wavelength 0) are left out. ``number`` counts the stored bands from 1, VNIR
        first (stored in descending order). L2D lies on its map grid; L1, L2B and L2C are swaths with ``lon``, ``lat``.

        Parameters
        ----------
        overlap : {"wavelength", "detector", "vnir", "swir", "average"}
            Where VNIR and SWIR both see (920-1010 nm): keep all bands, sorted by wavelength (default); all, VNIR before
            SWIR; all of VNIR and the SWIR bands beyond it; all of SWIR and the VNIR bands before it; the VNIR bands
            there as means of both detectors (values, also with `raw`: nothing stored is a mean).
        pixel_anchor : {"auto", "center", "edge"}
            What the corner attributes of L2D mean; "auto" finds it out by the number of pixels between them.
        preset : {"toolbox159"}
            The 159 bands of the hyperspectral pansharpening toolbox and its published weights, VNIR before SWIR.
        registered : bool
            True (default) for the co-registered swaths HCO and PCO, False for HRC and PRC, as each detector saw them.
        wavelength_map : bool
            Whether to add the centres of every detector column [nm] (smile) as the coordinate ``wavelength_map``,
            (band, x); False by default, and not for L2D, whose columns are no detector columns.
        grid : {"swath", "l2d"}
            L2C only: "l2d" gives the swath the lookup table onto the grid of the L2D product that lies beside, so that it
            is orthorectified to the same pixels; reads the positions when opening.

        Raises
        ------
        BrokenProduct, BandMismatch, MissingMetadata, GridMismatch, BadSettings
        """
        overlap, anchor, preset = _rules(options)
        product = PrismaProduct(path, registered=options.get("registered", True))
        product.check()
        bands = product.bands()
        chosen, rule = _choose(bands, overlap, preset)
        quantity = "reflectance" if product.level in ("L2C", "L2D") else "radiance"
        try:
            factors = product.scaling(["Vnir", "Swir"])
        except MissingMetadata:
            if not raw:
                raise
            factors, quantity = {"Vnir": (1.0, 0.0), "Swir": (1.0, 0.0)}, "dn"
        array: StoredArray
        if overlap == "average":
            used = np.flatnonzero(bands.used)
            every = _cube_array(product, bands, used, factors)
            at = np.searchsorted(used, chosen)
            array = average_overlap(every, bands.wavelength[used], [bands.detector[i] for i in used], at)
            raw = False
        else:
            array = _cube_array(product, bands, chosen, factors)
        wavelength = np.where(bands.wavelength[chosen] > 0, bands.wavelength[chosen], np.nan)
        dropped = int((~bands.used).sum())
        lines = [
            f"opened {path.name} (PRISMA {product.level})",
            f"{dropped} bands that the product does not use left out" if preset is None else f"preset {preset}",
            rule,
            "value = DN / ScaleFactor - Offset" if product.level == "L1" else "value = Min + DN (Max - Min) / 65535",
            "DN 0 in all bands is nodata",
        ]
        cube = as_cube(
            array,
            quantity=quantity,
            raw=raw,
            attrs={**product.attributes(), "history": lines},
            wavelength=wavelength,
            fwhm=np.where(bands.fwhm[chosen] > 0, bands.fwhm[chosen], np.nan),
            good=bands.used[chosen],
            number=chosen + 1,
            detector=[bands.detector[i] for i in chosen],
        )
        cube, notes = _on_ground(product, cube, anchor, product.swath)
        if options.get("wavelength_map"):
            centres = _column_centres(product, bands, chosen)
            cube = cube.assign_coords(wavelength_map=(("band", "x"), centres))
            notes.append("wavelength_map: centres of each detector column (KDP_AUX)")
        if options.get("grid", "swath") != "swath":
            cube, note = on_l2d_grid(product, cube)
            notes.append(note)
        elif product.level == "L2C" and l2d_beside(product.path) is not None:
            notes.append("the L2D product lies beside: open with grid='l2d' to be orthorectified to its pixels")
        cube.attrs["history"] = [*lines, *notes]
        return cube

    def layers(self, path: Path) -> list[str]:
        """``pan``, error matrices, masks, angles and per-column band facts, as far as the product has them."""
        return sorted(_layers(PrismaProduct(path)) | _layers(PrismaProduct(path, registered=False)))

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One layer; the options are those of `open`, so that the layer goes with the cube opened by them.

        ``pan``: (y, x), 5 m, physical values. ``vnir_error, swir_error, pan_error``: 0 is fine. ``cloud, sunglint,
        nodata``: bool. ``column_wavelength, column_fwhm``: (layer, 1, x) [nm], the centres and widths that each
        detector column has (smile), for the bands in use, sorted as the cube's.
        """
        overlap, anchor, preset = _rules(options)
        product = PrismaProduct(path, registered=options.get("registered", True))
        known = _layers(product)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, sorted(known))}")
        if name in ("pan", "pan_error"):
            return _open_pan(product, name, anchor)
        if name in ("vnir_error", "swir_error"):
            return _open_error(product, name, anchor)
        if name in _COLUMNS:
            bands = product.bands()
            order, _ = _choose(bands, overlap, preset)
            places = tuple(f"KDP_AUX/{_COLUMNS[name]}_{d}_Matrix" for d in ("Vnir", "Swir"))
            return _layered(ColumnArray(product.handle, places, bands.where[order]), name, order + 1)
        if name == "nodata":
            layer = as_layer(EmptyArray(product.handle, product.cubes), name)
        else:
            below, value = _FLAT[name]
            layer = as_layer(FlatArray(product.handle, f"{product.swath}/{below}", value, decode=False), name)
        return _on_ground(product, layer, anchor, product.swath)[0]


def _rules(options: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Overlap, anchor and preset, checked."""
    overlap, anchor = options.get("overlap", "wavelength"), options.get("pixel_anchor", "auto")
    preset = options.get("preset")
    for name, value, known in (("overlap", overlap, OVERLAPS), ("pixel_anchor", anchor, ANCHORS)):
        if value not in known:
            raise BadSettings(f"got {name}={value!r}, expected one of {', '.join(known)}")
    if options.get("grid", "swath") not in ("swath", "l2d"):
        raise BadSettings(f"got grid={options['grid']!r}, expected swath or l2d")
    for name in ("wavelength_map", "registered"):
        if not isinstance(options.get(name, False), (bool, np.bool_)):
            raise BadSettings(f"got {name}={options[name]!r}, expected True or False")
    if overlap == "average" and not options.get("registered", True):
        raise BadSettings(
            "overlap='average' mixes pixels of both detectors, which are not registered: leave out registered"
        )
    if preset is not None and preset not in PRESETS:
        raise BadSettings(f"unknown preset {preset!r}: {closest(str(preset), PRESETS)}")
    if preset is not None and "overlap" in options:
        raise BadSettings("got preset and overlap, expected one of them: a preset is a list of bands")
    return overlap, anchor, preset


def _cube_array(
    product: PrismaProduct, bands: PrismaBands, chosen: np.ndarray, factors: Mapping[str, tuple[float, float]]
) -> PrismaCube:
    """The stored numbers of some bands and what they mean."""
    scale, offset = (np.array([factors[("Vnir", "Swir")[cube]][k] for cube in bands.where[chosen, 0]]) for k in (0, 1))
    return PrismaCube(product.handle, product.cubes, bands.where[chosen], scale=scale, offset=offset)


def _column_centres(product: PrismaProduct, bands: PrismaBands, chosen: np.ndarray) -> np.ndarray:
    """Centres of every detector column, float32 of shape (band, x) [nm].

    Raises
    ------
    MissingMetadata, BrokenProduct
    """
    if product.level == "L2D":
        raise MissingMetadata(
            "wavelength_map needs detector columns, and L2D is resampled to a map: open L1, L2B or L2C"
        )
    places = tuple(f"KDP_AUX/Cw_{d}_Matrix" for d in ("Vnir", "Swir"))
    cols = product.grid_shape[1]
    out = np.empty((chosen.size, cols), dtype=np.float32)
    for cube, place_in in enumerate(places):
        at = np.flatnonzero(bands.where[chosen, 0] == cube)
        shape = product.shape(place_in)
        wanted = (cols, product.shape(product.cubes[cube])[1])
        if not shape:
            raise MissingMetadata(f"{product.path.name} has no {place_in}: leave out wavelength_map")
        if shape != wanted:
            raise BrokenProduct(f"{place_in} has shape {shape}, expected {wanted}: one centre a column and band")
        out[at] = product.file[place_in][...].T[bands.where[chosen[at], 1]]
    return out


def _choose(bands: PrismaBands, overlap: str, preset: str | None) -> tuple[np.ndarray, str]:
    """Stored bands to take, in order, and a line for the history."""
    if preset is not None:
        chosen = bands.toolbox()
        unused = int((~bands.used[chosen]).sum())
        more = f"; {unused} of them are not used by this product and marked bad" if unused else ""
        return chosen, f"159 bands, VNIR before SWIR{more}"
    used = np.flatnonzero(bands.used)
    if used.size == 0:
        raise BrokenProduct("the product uses none of its bands: all wavelengths are 0")
    order, rule = bands_by_overlap(bands.wavelength[used], [bands.detector[i] for i in used], overlap)
    return used[order], rule


def _layers(product: PrismaProduct) -> set[str]:
    found = {name for name, (below, _) in _FLAT.items() if product.has(f"{product.swath}/{below}")}
    if all(product.has(place) for place in product.cubes):
        found.add("nodata")
    found |= {name for name in ("vnir_error", "swir_error") if product.has(_error_place(product, name))}
    if product.has(f"{product.pan_swath}/Data Fields/Cube"):
        found.add("pan")
        if product.has(_error_place(product, "pan_error")):
            found.add("pan_error")
    for name, word in _COLUMNS.items():
        if all(product.has(f"KDP_AUX/{word}_{d}_Matrix") for d in ("Vnir", "Swir")):
            found.add(name)
    return found


def _error_place(product: PrismaProduct, name: str) -> str:
    kind = "PIXEL_SAT_ERR_MATRIX" if product.level == "L1" else "PIXEL_L2_ERR_MATRIX"
    if name == "pan_error":
        return f"{product.pan_swath}/Data Fields/{kind}"
    return f"{product.swath}/Data Fields/{name.split('_')[0].upper()}_{kind}"


def _open_error(product: PrismaProduct, name: str, anchor: str) -> xr.DataArray:
    """Error matrix of one cube for the bands in use, ascending by wavelength."""
    place_in = _error_place(product, name)
    cube = 0 if name == "vnir_error" else 1
    bands = product.bands()
    mine = np.flatnonzero(bands.used & (bands.where[:, 0] == cube))
    mine = mine[np.argsort(bands.wavelength[mine], kind="stable")]
    if product.shape(place_in) != product.shape(product.cubes[cube]):
        raise BrokenProduct(
            f"{place_in} has shape {product.shape(place_in)}, expected {product.shape(product.cubes[cube])} as its cube"
        )
    where = np.column_stack([np.zeros(mine.size, int), bands.where[mine, 1]])
    layer = _layered(Axis1Array(product.handle, (place_in,), where, decode=False), name, mine + 1)
    layer.attrs["flag_meanings"] = "0 is fine"
    return _on_ground(product, layer, anchor, product.swath)[0]


def _layered(array: StoredArray, name: str, numbers: np.ndarray) -> xr.DataArray:
    variable = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    coords = {
        "layer": [f"band_{n}" for n in numbers],
        "y": np.arange(array.shape[1]) + 0.5,
        "x": np.arange(array.shape[2]) + 0.5,
    }
    return xr.DataArray(variable, coords=coords, name=name)


def _open_pan(product: PrismaProduct, name: str, anchor: str) -> xr.DataArray:
    """The panchromatic image (or its error matrix) on its own grid."""
    below = f"{product.pan_swath}/Data Fields/Cube"
    attrs = {k: v for k, v in product.attributes().items() if k != "history"}
    if name == "pan":
        scale, offset = product.scaling(["Pan"])["Pan"]
        array = FlatArray(product.handle, below, scale=scale, offset=offset, nodata=0)
        quantity = "reflectance" if product.level in ("L2C", "L2D") else "radiance"
        layer = as_layer(array, name, {**attrs, "quantity": quantity})
    else:
        layer = as_layer(FlatArray(product.handle, _error_place(product, name), decode=False), name, attrs)
    if product.shape(below) != tuple(layer.shape):
        raise BrokenProduct(
            f"the PAN error matrix has {layer.shape} pixels, expected {product.shape(below)} as the PAN"
        )
    if product.level != "L2D":
        return _on_ground(product, layer, anchor, product.pan_swath)[0]
    transform, crs, _ = product.ground(anchor)
    if transform is None:
        return layer
    rows, cols = product.grid_shape
    grid = Grid("map", cols, rows, transform, None).scaled(PAN_RATIO)
    if layer.shape == grid.shape:
        how = f"outer corners agree with the cube's: {PAN_RATIO} x {PAN_RATIO} pixels in each of its pixels"
        placed = place(layer, grid.transform, crs)
    elif layer.shape == (PAN_RATIO * (rows - 1) + 1, PAN_RATIO * (cols - 1) + 1):
        # The first and last PAN pixels are centred on the cube's first and last pixels.
        inside = (PAN_RATIO - 1) / 2
        placed = place(layer, moved(grid.transform, inside, inside), crs)
        how = "corner pixels are centred on the cube's corner pixels: outer corners differ by 2.5 PAN pixels"
    else:
        raise BrokenProduct(
            f"the PAN has {layer.shape} pixels, expected {grid.shape}: {PAN_RATIO} times the cube's {rows} x {cols}"
        )
    placed.attrs["history"] = [f"opened {product.path.name} (PRISMA {product.level} PAN)", how]
    return placed


def _on_ground(product: PrismaProduct, value: xr.DataArray, anchor: str, swath: str) -> tuple[xr.DataArray, list[str]]:
    """A cube or layer on the map grid (L2D) or on its swath, and lines for the history."""
    if product.level == "L2D" and swath == product.swath:
        transform, crs, notes = product.ground(anchor)
        return (value if transform is None else place(value, transform, crs)), notes
    for tail in ("", "_VNIR", "_SWIR", "_PAN"):
        places = [f"{swath}/Geolocation Fields/{axis}{tail}" for axis in ("Longitude", "Latitude")]
        if all(product.shape(p) == tuple(value.shape[-2:]) for p in places):
            lon, lat = (indexing.LazilyIndexedArray(Positions(product.handle, p)) for p in places)
            return place_swath(value, lon, lat), [f"positions from {places[1].rsplit('/', 1)[1]} and its longitudes"]
    return value, ["no latitudes and longitudes of this size: the pixels are placed nowhere"]
