"""Labels: whole numbers with names and colours, on the pixels of a cube."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from torchspectral.errors import BadInput, ProductNotFound
from torchspectral.io.labels.pixels import labels_on

__all__ = ["labels_on", "read_labels"]

VECTORS = (".gpkg", ".geojson", ".json", ".shp")
TABLES = (".csv", ".tsv")


def read_labels(
    path: str | Path,
    *,
    like: xr.DataArray | None = None,
    layer: str | None = None,
    field: str | None = None,
    all_touched: bool = False,
) -> xr.DataArray:
    """Read labels from a class raster, from vectors or from a table of pixels.

    Parameters
    ----------
    path : path
        Class raster (GeoTIFF, ENVI classification, Zarr, MATLAB ground truth); polygons or points (GeoPackage,
        GeoJSON, Shapefile); or a CSV of pixels: columns row and col (0-based), or x and y in the cube's CRS, or lon
        and lat, and a column of classes.
    like : DataArray, optional
        Cube whose pixels the labels shall lie on; vectors and tables need it. Rasters in one CRS and a whole number of
        pixels apart are cut and filled up with 0, exactly; else each pixel takes the nearest label, which the history
        says. Without georeference on either side the sizes must be equal.
    layer : str, optional
        Which layer of a product, or of a GeoPackage, that has several.
    field : str, optional
        Which column of a vector or table holds the classes; whole numbers from 1 on are taken as they are, anything
        else is numbered in sorted order. By default the only column that is named as classes are.
    all_touched : bool
        Polygons label every pixel that they touch, not only those whose centre they cover.

    Returns
    -------
    DataArray, shape (y, x), uint8 or uint16
        0 is unlabelled (nodata becomes 0); ``attrs["class_names"]`` (entry i belongs to value i) and
        ``attrs["class_colors"]`` where the file has them. A pixel that shapes of two classes claim stays 0, which the
        history counts.

    Raises
    ------
    BadInput
        Fractions, negative or too large numbers, several bands, no column of classes, no cube for a vector.
    GridMismatch
        The labels do not lie on the cube.
    UnknownName, ProductNotFound, UnknownProduct, BrokenProduct, MissingDependency
    """
    file = Path(path)
    if not file.exists():
        raise ProductNotFound(f"{file} does not exist: expected a class raster, vectors or a CSV of pixels")
    suffix = file.suffix.lower()
    if suffix in VECTORS or suffix in TABLES:
        if like is None:
            raise BadInput(f"{file.name} holds shapes or pixels, not a raster: give like=CUBE to draw them on")
        if suffix in TABLES:
            from torchspectral.io.labels.table import labels_of_table

            return labels_of_table(file, like, field)
        from torchspectral.io.labels.vectors import labels_of_vectors

        return labels_of_vectors(file, like, field, layer, all_touched)
    from torchspectral.io.labels.raster import read_class_raster

    labels = read_class_raster(file, layer)
    return labels if like is None else labels_on(labels, like)
