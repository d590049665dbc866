"""Labels from a table of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, GridMismatch
from torchspectral.geo.grids import grid_of
from torchspectral.io.labels.classes import class_field, number_classes
from torchspectral.io.labels.points import claim, pixels_of
from torchspectral.io.libraries.text import columns_of

_ROWS, _COLS = ("row", "line", "y_pixel"), ("col", "column", "sample", "x_pixel")
_LON, _LAT = ("lon", "longitude", "long"), ("lat", "latitude")


def labels_of_table(file: Path, like: xr.DataArray, field: str | None) -> xr.DataArray:
    """Labels of the pixels that a CSV lists: row and col, x and y, or lon and lat, and the class.

    Raises
    ------
    BadInput
        The columns are not there, or a row lies beyond the cube where rows are counted.
    GridMismatch
        No point lies on the cube.
    UnknownName, BrokenProduct
    """
    table = columns_of(file)
    names = {str(c).strip().lower(): c for c in table.columns}

    def pair(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, str] | None:
        a, b = (next((names[n] for n in words if n in names), None) for words in (first, second))
        return (a, b) if a is not None and b is not None else None

    counted, ground, geographic = pair(_ROWS, _COLS), pair(("x", "easting"), ("y", "northing")), pair(_LON, _LAT)
    used = counted or ground or geographic
    if used is None:
        raise BadInput(
            f"{file.name} has the columns {', '.join(map(str, table.columns))}, expected row and col, x and y, or "
            "lon and lat, and a column of classes"
        )
    column = class_field([c for c in table.columns if c not in used], field, file.name)
    numbers, classes = number_classes(list(table[column]), file.name)
    places = [np.asarray(table[c]) for c in used]
    if any(p.dtype.kind not in "fiu" for p in places):
        raise BadInput(f"the columns {used[0]} and {used[1]} of {file.name} hold words, expected numbers")
    if used is counted:
        rows, cols = (p.astype(np.float64) for p in places)
        inside = (rows >= 0) & (rows < like.sizes["y"]) & (cols >= 0) & (cols < like.sizes["x"])
        whole = (rows == np.rint(rows)) & (cols == np.rint(cols))
        if not (inside & whole).all():
            worst = int(np.flatnonzero(~(inside & whole))[0])
            raise BadInput(
                f"{file.name} lists row {rows[worst]:g}, column {cols[worst]:g}, expected whole numbers from 0 to "
                f"{like.sizes['y'] - 1} and {like.sizes['x'] - 1} (counted from 0)"
            )
        where = rows.astype(np.int64), cols.astype(np.int64)
        keep = np.ones(rows.size, dtype=bool)
    else:
        if grid_of(like).kind == "none":
            raise GridMismatch(
                f"{file.name} lists places on the ground and the cube has no georeference: give row, col"
            )
        row, col, keep = pixels_of(like, places[0], places[1], "EPSG:4326" if used is geographic else None)
        where = row, col
        if not keep.any():
            raise GridMismatch(f"no place of {file.name} lies on the cube: is it of another scene, or another CRS?")
    return claim(like, where, numbers, keep, classes, file)
