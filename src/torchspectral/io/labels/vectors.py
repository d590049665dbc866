"""Labels from polygons and points of GeoPackage, GeoJSON and Shapefile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import (
    BadInput,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    UnknownName,
    closest,
    missing_dependency,
)
from torchspectral.geo.grids import grid_of
from torchspectral.io.labels.classes import class_field, number_classes
from torchspectral.io.labels.points import claim, finished, pixels_of

_LARGEST = 1 << 30
_SIGNATURES = {".gpkg": (b"SQLite format 3\0",), ".shp": (b"\0\0\x27\x0a",), ".geojson": (b"{",), ".json": (b"{",)}


def read_vectors(file: Path, layer: str | None = None) -> Any:
    """Shapes of a vector file as a GeoDataFrame, empty and missing ones left out.

    Raises
    ------
    BrokenProduct
        The content is not what the suffix says (so that no other driver is led to foreign files), or damaged.
    BadInput
        Several layers and none is named.
    UnknownName, MissingDependency
    """
    suffix = file.suffix.lower()
    if suffix not in _SIGNATURES or not file.is_file():
        raise BrokenProduct(f"{file.name} is no vector file, expected {', '.join(_SIGNATURES)}")
    with file.open("rb") as opened:
        head = opened.read(256)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not (head if suffix in (".gpkg", ".shp") else text).startswith(_SIGNATURES[suffix]):
        raise BrokenProduct(f"{file.name} does not begin as a {suffix} file does: is it another format?")
    if file.stat().st_size > _LARGEST:
        raise BrokenProduct(f"{file.name} has {file.stat().st_size >> 20} MB, expected at most {_LARGEST >> 20}")
    try:
        import geopandas
        import pyogrio
    except ModuleNotFoundError as error:
        raise missing_dependency(f"reading {file.name}", error) or error from error
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind]
        chosen = _layer(layers, layer, file)
        table = geopandas.read_file(file, layer=chosen, engine="pyogrio")
    except (BadInput, UnknownName):
        raise
    except Exception as error:  # GDAL, pyogrio and shapely each have errors of their own
        raise BrokenProduct(f"{file.name} cannot be read as vectors: {str(error)[:200]}") from error
    found = table[~(table.geometry.isna() | table.geometry.is_empty)]
    if found.empty:
        raise BadInput(f"{file.name} has no shapes")
    return found


def _layer(layers: list[str], wanted: str | None, file: Path) -> str | None:
    if wanted is not None and wanted not in layers:
        raise UnknownName(f"{file.name} has no layer {wanted!r}: {closest(wanted, layers)}")
    if wanted is None and len(layers) > 1:
        raise BadInput(f"{file.name} has the layers {', '.join(layers)}: say which with layer=NAME")
    return wanted or next(iter(layers), None)


def labels_of_vectors(
    file: Path, like: xr.DataArray, field: str | None, layer: str | None, all_touched: bool
) -> xr.DataArray:
    """Labels drawn from polygons and points.

    Raises
    ------
    GridMismatch
        The cube has no georeference, or no shape lies on it.
    MissingMetadata
        The shapes have no CRS.
    BadInput, BrokenProduct, UnknownName, MissingDependency
        Lines, among others.
    """
    table = read_vectors(file, layer)
    grid = grid_of(like)
    if grid.kind == "none":
        raise GridMismatch(f"{file.name} holds shapes on the ground and the cube has no georeference to draw them on")
    if table.crs is None:
        raise MissingMetadata(f"{file.name} has no CRS: set one, for example with GDAL's ogr2ogr -a_srs EPSG:32633")
    own = table.crs
    target = "EPSG:4326" if grid.kind == "swath" or grid.crs is None else grid.crs.to_wkt()
    try:
        table = table.to_crs(target)
    except Exception as error:  # pyproj and shapely each have errors of their own
        raise GridMismatch(f"the shapes of {file.name} cannot be brought onto the cube: {str(error)[:200]}") from error
    column = class_field([c for c in table.columns if c != table.geometry.name], field, file.name)
    numbers, classes = number_classes(list(table[column]), file.name)
    kinds = {str(k).removeprefix("Multi") for k in table.geom_type}
    if kinds == {"Point"}:
        parts = table.geometry.explode(index_parts=False)
        owner = np.repeat(np.arange(len(table)), [len(getattr(g, "geoms", [g])) for g in table.geometry])
        row, col, keep = pixels_of(like, parts.x.to_numpy(), parts.y.to_numpy())
        if not keep.any():
            raise GridMismatch(f"no point of {file.name} lies on the cube: is it of another scene?")
        return claim(like, (row, col), numbers[owner], keep, classes, file)
    if kinds != {"Polygon"}:
        raise BadInput(f"{file.name} holds {', '.join(sorted(kinds))}, expected polygons alone or points alone")
    shapes = [(g, int(n)) for g, n in zip(table.geometry, numbers, strict=True) if n > 0]
    values, mixed = (_on_swath if grid.kind == "swath" else _on_grid)(shapes, like, all_touched)
    if not values.any() and not mixed:
        raise GridMismatch(f"no polygon of {file.name} covers a pixel of the cube: is it of another scene?")
    moved = "" if own == table.crs else f" (brought from {own.to_string()[:40]})"
    notes = [f"{len(shapes)} polygons of {file.name}{moved} by {column}, {int((values > 0).sum())} pixels labelled"]
    return finished(values, like, classes, file, notes, mixed)


def _on_grid(shapes: list[tuple[Any, int]], like: xr.DataArray, all_touched: bool) -> tuple[np.ndarray, int]:
    from rasterio.features import rasterize

    grid = grid_of(like)

    def drawn(order: list[tuple[Any, int]]) -> np.ndarray:
        return np.asarray(
            rasterize(
                order,
                out_shape=grid.shape,
                transform=grid.transform,
                all_touched=all_touched,
                fill=0,
                dtype="uint16",
            )
        )

    # By class, smallest number first and then last: a pixel that two classes claim comes out differently.
    shapes = sorted(shapes, key=lambda shape: shape[1])
    low, high = drawn(shapes[::-1]), drawn(shapes)
    return np.where(low == high, high, 0).astype(np.uint16), int((low != high).sum())


def _on_swath(shapes: list[tuple[Any, int]], like: xr.DataArray, all_touched: bool) -> tuple[np.ndarray, int]:
    """A swath's pixel has the class of the polygon in which its centre lies."""
    import shapely

    if all_touched:
        raise BadInput("all_touched needs a cube on a map, this one is in sensor geometry: orthorectify it first")
    lon, lat = (np.asarray(like[n].values, dtype=np.float64).ravel() for n in ("lon", "lat"))
    pixel, shape = _pairs(shapely, lon, lat, [g for g, _ in shapes])
    number = np.array([n for _, n in shapes], dtype=np.uint16)[shape]
    low, high = np.full(lon.size, 65535, dtype=np.uint16), np.zeros(lon.size, dtype=np.uint16)
    np.minimum.at(low, pixel, number)
    np.maximum.at(high, pixel, number)
    claimed = high > 0
    mixed = claimed & (low != high)
    values = np.where(claimed & ~mixed, high, 0).astype(np.uint16)
    return values.reshape(like.sizes["y"], like.sizes["x"]), int(mixed.sum())


def _pairs(shapely: Any, lon: np.ndarray, lat: np.ndarray, shapes: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    known = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    tree = shapely.STRtree(shapely.points(lon[known], lat[known]))
    shape, point = tree.query(np.asarray(shapes, dtype=object), predicate="covers")
    return known[point], shape
