"""Where the pixels of an unrectified flight line lie: positions and lookup table, read when they are needed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pyproj import CRS, Transformer

from torchspectral.errors import BrokenProduct
from torchspectral.geo.glt import GLT
from torchspectral.geo.lazy import LazyArray
from torchspectral.io.raw import RawArray
from torchspectral.io.readers.envi.header import EnviHeader, crs_of, transform_of
from torchspectral.io.readers.envi.reader import files_of, raw_array
from torchspectral.io.safety import check_read

_NODATA = -9999.0


class FlightGLT(GLT):
    """Lookup table of a ``_glt`` file, read when it is first looked into.

    Negative entries (pixels filled from their neighbours) count by their absolute value, see `GLT`.

    Parameters
    ----------
    header : Path
        Of the ``_glt`` file.
    image : tuple of int
        Rows and columns of the image that it looks into.

    Raises
    ------
    BrokenProduct
        Not two bands, or without map coordinates; when it is read: it looks outside the image.
    """

    __slots__ = ("_columns", "_header", "_image", "_path", "_size", "_table")
    _columns: int
    _header: EnviHeader
    _image: tuple[int, int]
    _path: Path
    _size: tuple[int, int]
    _table: GLT | None

    def __init__(self, header: Path, image: tuple[int, int]) -> None:
        found, _ = files_of(header)
        transform, crs = transform_of(found), crs_of(found)
        if found.shape[0] < 2 or transform is None or crs is None:
            raise BrokenProduct(
                f"{header.name} is no lookup table: it has {found.shape[0]} bands and "
                f"{'no map coordinates' if transform is None or crs is None else 'map coordinates'}, expected two bands "
                "and a map info with its CRS"
            )
        put = object.__setattr__
        put(self, "_header", found)
        put(self, "_path", header)
        put(self, "_image", (int(image[0]), int(image[1])))
        put(self, "_size", found.shape[1:])
        put(self, "_columns", min(1, _named(found, ("sample", "col", "x"), 0)))
        put(self, "_table", None)
        put(self, "_transform", transform)
        put(self, "_crs", crs)

    def __reduce__(self) -> tuple[Any, ...]:
        return FlightGLT, (self._path, self._image)

    def _read(self) -> GLT:
        table = self._table
        if table is None:
            _, data = files_of(self._path)
            raw = raw_array(self._header, data)
            check_read((2, *self._size), raw.dtype, self._path)
            x, y = (raw.read(slice(None), slice(None), slice(b, b + 1))[0] for b in (self._columns, 1 - self._columns))
            table = GLT(x, y, self._transform, self._crs)
            rows, cols = self._image
            if int(table.x.max()) > cols or int(table.y.max()) > rows:
                raise BrokenProduct(
                    f"{self._path.name} looks up row {int(table.y.max())} and column {int(table.x.max())}, but the image "
                    f"has {rows} x {cols} pixels: it belongs to another file"
                )
            object.__setattr__(self, "_table", table)
        return table

    @property
    def _x(self) -> np.ndarray:  # type: ignore[override]
        return self._read().x

    @property
    def _y(self) -> np.ndarray:  # type: ignore[override]
        return self._read().y

    @property
    def filled(self) -> bool:  # type: ignore[override]
        """Whether the table has nearest-filled entries."""
        return self._read().filled

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map grid."""
        return self._size

    def __repr__(self) -> str:
        return f"<GLT {self.shape[0]} x {self.shape[1]} in {self._path.name}, {self._crs.name}>"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, FlightGLT) and (self._path, self._image) == (other._path, other._image)
        return same or super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()


class Positions(LazyArray):
    """Longitudes or latitudes [deg] from a ``_loc`` or ``_igm`` file, lazy, shape (y, x); NaN where there are none.

    Parameters
    ----------
    raw : RawArray
    bands : tuple of int
        Those of x (or longitude) and y (or latitude).
    axis : {0, 1}
        0 for longitudes, 1 for latitudes.
    crs : str
        WKT of the stored coordinates; "" where they are longitudes and latitudes.
    """

    def __init__(
        self, raw: RawArray, bands: tuple[int, int], axis: int, crs: str = "", nodata: float = _NODATA
    ) -> None:
        super().__init__(raw.shape[1:], np.float64)
        self.raw, self.bands, self.axis, self.crs, self.missing = raw, bands, axis, crs, nodata

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Positions at the outer product of rows and columns."""
        ys, xs = indices
        window = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
        wanted = self.bands if self.crs else (self.bands[self.axis],)
        parts = [self.raw.read(*window, slice(b, b + 1))[0].astype(np.float64) for b in wanted]
        gone = np.any([(p == self.missing) | ~np.isfinite(p) for p in parts], axis=0)
        out = _to_lonlat(self.crs).transform(*parts)[self.axis] if self.crs else parts[0]
        out = np.where(gone | ~np.isfinite(out), np.nan, out)
        return out[np.ix_(ys - ys.min(), xs - xs.min())]


def positions(header: EnviHeader, crs: CRS | None) -> tuple[Positions, Positions] | None:
    """Longitudes and latitudes of a ``_loc`` (degrees) or ``_igm`` (`crs`, or degrees) file; None where they cannot be."""
    _, data = files_of(header.path)
    if header.shape[0] < 2:
        return None
    raw = raw_array(header, data)
    x = _named(header, ("lon", "easting", "x"), 0)
    y = _named(header, ("lat", "northing", "y"), 1)
    numbers = header.numbers("data ignore value")
    nodata = float(numbers[0]) if numbers.size else _NODATA
    wkt = "" if crs is None or crs.is_geographic else crs.to_wkt()
    return Positions(raw, (x, y), 0, wkt, nodata), Positions(raw, (x, y), 1, wkt, nodata)


def igm_crs(igm: EnviHeader, glt: EnviHeader | None) -> CRS | None:
    """CRS of the coordinates in an ``_igm`` file: its own, or that of the lookup table made from it."""
    own = crs_of(igm)
    return own if own is not None or glt is None else crs_of(glt)


@lru_cache(maxsize=8)
def _to_lonlat(wkt: str) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(wkt), CRS.from_epsg(4326), always_xy=True)


def _named(header: EnviHeader, words: tuple[str, ...], otherwise: int) -> int:
    """Band whose name begins with (or holds) one of the words, else `otherwise`."""
    names = [name.lower() for name in header.items("band names")]
    for word in words:
        for n, name in enumerate(names):
            if word in name.split() or (len(word) > 1 and word in name):
                return n
    return otherwise
