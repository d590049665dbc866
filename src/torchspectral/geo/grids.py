"""Where the pixels of a cube lie on the ground.

Four kinds of grid:

``map``      axis-parallel in a CRS; coordinates ``x``, ``y`` are pixel centres in CRS units.
``rotated``  an affine transform with rotation or shear; ``x``, ``y`` count pixels (0.5 is the first centre).
``swath``    sensor geometry; 2-D coordinates ``lon``, ``lat`` [deg] and, where the product has one, a `GLT` in
             ``attrs["glt"]``; ``x`` (across-track) and ``y`` count pixels.
``none``     an image that lies nowhere; ``x``, ``y`` count pixels.

The scalar coordinate ``spatial_ref`` (CF grid mapping, read by rioxarray and GDAL) carries ``crs_wkt`` and
``GeoTransform``. `grid_of` also trusts the 1-D coordinates, so that a plain ``cube.isel`` keeps pixels in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from torchspectral.errors import GridMismatch, MissingMetadata

KINDS = ("map", "rotated", "swath", "none")


def to_ground(transform: Affine, cols: Any, rows: Any) -> tuple[Any, Any]:
    """Ground coordinates of pixel corner coordinates (col, row); scalars or arrays."""
    t = transform
    return t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f


def to_pixels(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Pixel corner coordinates (col, row) of ground coordinates; scalars or arrays."""
    t = transform
    det = t.a * t.e - t.b * t.d
    dx, dy = x - t.c, y - t.f
    return (t.e * dx - t.b * dy) / det, (t.a * dy - t.d * dx) / det


def moved(transform: Affine, col: float, row: float) -> Affine:
    """The transform with its origin at the corner (col, row) of the old one."""
    t = transform
    x, y = to_ground(t, col, row)
    return Affine(t.a, t.b, x, t.d, t.e, y)


def transfer(source: Grid, target: Grid) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Function from ground coordinates of one grid's CRS to those of the other's."""
    if source.crs is None or target.crs is None or source.crs == target.crs:
        return lambda x, y: (np.asarray(x), np.asarray(y))
    return Transformer.from_crs(source.crs, target.crs, always_xy=True).transform


def pixel_in(source: Grid, target: Grid) -> tuple[float, float]:
    """Width and height of a pixel of `source` in pixels of `target`, at its middle; whatever their CRS."""
    col, row = source.width / 2, source.height / 2
    move = transfer(source, target)
    x, y = move(*to_ground(source.transform, np.array([col, col + 1, col]), np.array([row, row, row + 1])))
    c, r = to_pixels(target.transform, np.asarray(x), np.asarray(y))
    return float(np.hypot(c[1] - c[0], r[1] - r[0])), float(np.hypot(c[2] - c[0], r[2] - r[0]))


def stretched(transform: Affine, along_x: float, along_y: float) -> Affine:
    """The transform with pixels `along_x` times as wide and `along_y` times as high, same origin."""
    t = transform
    return Affine(t.a * along_x, t.b * along_y, t.c, t.d * along_x, t.e * along_y, t.f)


@dataclass(frozen=True)
class Grid:
    """Ground grid of a raster.

    Attributes
    ----------
    kind : {"map", "rotated", "swath", "none"}
    width, height : int
        Pixels in x and y.
    transform : Affine
        Pixel corner coordinates (col, row) to ground coordinates; identity-like pixel counts for swath and none.
    crs : pyproj.CRS or None
    """

    kind: str
    width: int
    height: int
    transform: Affine
    crs: CRS | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def resolution(self) -> tuple[float, float]:
        """Pixel width and height in CRS units, both positive."""
        t = self.transform
        return float(np.hypot(t.a, t.d)), float(np.hypot(t.b, t.e))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the outer pixel edges in CRS units."""
        corners = ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))
        xs, ys = zip(*(to_ground(self.transform, *corner) for corner in corners), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, row: int, col: int, height: int, width: int) -> Grid:
        """Grid of a window of this grid."""
        return replace(self, height=height, width=width, transform=moved(self.transform, col, row))

    def scaled(self, zoom: float) -> Grid:
        """Grid of the same ground with `zoom` times as many pixels on each side."""
        return replace(
            self,
            height=round(self.height * zoom),
            width=round(self.width * zoom),
            transform=stretched(self.transform, 1 / zoom, 1 / zoom),
        )


def parse_crs(crs: Any) -> CRS | None:
    """Read a CRS from WKT, EPSG number, "EPSG:n" or any pyproj input; None stays None.

    Raises
    ------
    GridMismatch
        The text is no CRS.
    """
    if isinstance(crs, bytes):
        crs = crs.decode("utf-8", "replace")
    if crs is None or (isinstance(crs, str) and not crs.strip()):
        return None
    try:
        return CRS.from_user_input(crs.to_wkt() if hasattr(crs, "to_wkt") else crs)
    except CRSError as error:
        said = " ".join(str(error).split())[:160]
        raise GridMismatch(f"cannot read the CRS {str(crs)[:80]!r}: expected EPSG:n or WKT ({said})") from None


def place(cube: xr.DataArray, transform: Affine | None, crs: Any = None) -> xr.DataArray:
    """Put a cube (or layers) on a map or rotated grid; with `transform` None the pixels lie nowhere.

    Parameters
    ----------
    transform : Affine or None
        Outer pixel corners (col, row) to CRS coordinates.
    crs : CRS, WKT, EPSG, optional
        A transform without CRS is kept (local coordinates).
    """
    rows, cols = cube.sizes["y"], cube.sizes["x"]
    out = cube.drop_vars([n for n in ("spatial_ref", "lon", "lat") if n in cube.coords])
    counted: dict[str, Any] = {"y": np.arange(rows) + 0.5, "x": np.arange(cols) + 0.5}
    if transform is None:
        return out.assign_coords(counted)
    parsed = parse_crs(crs)
    rotated = transform.b != 0 or transform.d != 0
    if not rotated:
        counted = {
            "y": transform.f + counted["y"] * transform.e,
            "x": transform.c + counted["x"] * transform.a,
        }
    return _with_reference(out, transform, parsed, "rotated" if rotated else "map", counted)


def place_swath(cube: xr.DataArray, lon: Any, lat: Any, glt: Any = None) -> xr.DataArray:
    """Put a cube on a swath grid.

    Parameters
    ----------
    lon, lat : array_like, shape (y, x)
        Pixel centres, WGS 84 [deg]; may be lazy.
    glt : geo.GLT, optional
        Lookup table onto a map grid.

    Raises
    ------
    GridMismatch
        The arrays are not as large as the cube.
    """
    for name, array in (("lon", lon), ("lat", lat)):
        if tuple(array.shape) != cube.shape[-2:]:
            raise GridMismatch(f"{name} has shape {tuple(array.shape)}, expected {cube.shape[-2:]} as the cube")
    out = place(cube, None)
    centres = {"lon": (("y", "x"), lon), "lat": (("y", "x"), lat)}
    out = _with_reference(out, Affine.identity(), CRS.from_epsg(4326), "swath", centres)
    if glt is not None:
        out.attrs = {**out.attrs, "glt": glt}
    return out


def place_coarser(out: xr.DataArray, like: xr.DataArray, ratio: int) -> xr.DataArray:
    """Put an image on the ground of `like`, with pixels `ratio` times as wide and high (1: the same), same corner.

    A swath keeps the longitudes and latitudes of the pixels in the middle of each block of `like`.
    """
    grid = grid_of(like)
    if grid.kind == "swath":
        rows, cols = (np.minimum(np.arange(out.sizes[d]) * ratio + ratio // 2, like.sizes[d] - 1) for d in ("y", "x"))
        return place_swath(out, *(like[n].variable[rows, cols] for n in ("lon", "lat")))
    coarse = grid.scaled(1 / ratio)
    return place(out, coarse.transform if grid.kind != "none" else None, grid.crs)


def _with_reference(
    cube: xr.DataArray, transform: Affine, crs: CRS | None, kind: str, coords: dict[str, Any]
) -> xr.DataArray:
    """The cube with its grid, and other coordinates: assigning them at once is what takes the time."""
    attrs: dict[str, Any] = {"grid_kind": kind, "GeoTransform": " ".join(repr(float(v)) for v in transform.to_gdal())}
    if crs is not None:
        wkt = crs.to_wkt()
        attrs |= {"crs_wkt": wkt, "spatial_ref": wkt}
    out = cube.assign_coords({**coords, "spatial_ref": xr.Variable((), np.int64(0), attrs)})
    out.encoding = {**out.encoding, "grid_mapping": "spatial_ref"}
    return out


def grid_of(cube: xr.DataArray) -> Grid:
    """Grid of a cube or of layers, right also after slicing and regular striding.

    Raises
    ------
    GridMismatch
        The coordinates are not evenly spaced (pixels were picked irregularly).
    """
    rows, cols = cube.sizes["y"], cube.sizes["x"]
    if "spatial_ref" not in cube.coords:
        kind = "swath" if "lon" in cube.coords and cube["lon"].ndim == 2 else "none"
        crs = CRS.from_epsg(4326) if kind == "swath" else None
        if kind == "none" and "x" in cube.coords and "y" in cube.coords:
            return Grid("none", cols, rows, _counted(cube, Affine.identity()), None)
        return Grid(kind, cols, rows, Affine.identity(), crs)
    ref = cube["spatial_ref"].attrs
    crs = parse_crs(ref.get("crs_wkt") or ref.get("spatial_ref"))
    text = ref.get("GeoTransform")
    base = Affine.from_gdal(*(float(v) for v in str(text).split())) if text else None
    kind = ref.get("grid_kind") or ("map" if base is None or (base.b == 0 and base.d == 0) else "rotated")
    if kind == "map":
        return Grid("map", cols, rows, _from_centres(cube, base), crs)
    return Grid(kind, cols, rows, _counted(cube, base or Affine.identity()), crs)


def _axis(cube: xr.DataArray, name: str, step: float | None) -> tuple[float, float]:
    """First centre and spacing of one axis."""
    values = (
        np.asarray(cube[name].values, dtype=np.float64) if name in cube.coords else np.arange(cube.sizes[name]) + 0.5
    )
    if values.size == 1:
        if step is None:
            raise MissingMetadata(f"cannot tell the pixel size from one {name} coordinate: call geo.place")
        return float(values[0]), step
    steps = np.diff(values)
    mean = float((values[-1] - values[0]) / (values.size - 1))
    if mean == 0 or not np.allclose(steps, mean, rtol=1e-3, atol=0):
        raise GridMismatch(f"the {name} coordinates are not evenly spaced, pixels were picked irregularly: resample")
    if step is not None and abs(mean - step) <= 1e-6 * abs(step):
        mean = step
    return float(values[0]), mean


def _from_centres(cube: xr.DataArray, base: Affine | None) -> Affine:
    x0, dx = _axis(cube, "x", base.a if base else None)
    y0, dy = _axis(cube, "y", base.e if base else None)
    if base is not None and dx == base.a and dy == base.e:
        # Whole-pixel steps from the stored corner keep the transform exact to the last bit.
        col, row = round((x0 - base.c) / dx - 0.5), round((y0 - base.f) / dy - 0.5)
        near = abs((x0 - base.c) / dx - 0.5 - col) < 1e-3 and abs((y0 - base.f) / dy - 0.5 - row) < 1e-3
        if near:
            return Affine(dx, 0.0, base.c + col * dx, 0.0, dy, base.f + row * dy)
    return Affine(dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)


def _counted(cube: xr.DataArray, base: Affine) -> Affine:
    x0, dx = _axis(cube, "x", 1.0)
    y0, dy = _axis(cube, "y", 1.0)
    if (x0, y0, dx, dy) == (0.5, 0.5, 1.0, 1.0):
        return base
    return stretched(moved(base, x0 - dx / 2, y0 - dy / 2), dx, dy)
