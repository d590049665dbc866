"""Geographic lookup tables: for each pixel of a map grid, the sensor pixel that is seen there."""

from __future__ import annotations

from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer

from torchspectral.errors import GridMismatch
from torchspectral.geo.grids import Grid, moved, parse_crs, to_ground, to_pixels


class GLT:
    """Immutable lookup table from a map grid to sensor rows and columns.

    Parameters
    ----------
    x, y : array_like, shape (rows, cols)
        1-based sensor column and row of each map pixel; 0 (or NaN in float tables) where nothing was seen. Negative
        numbers mark pixels that were filled from their nearest neighbour: their absolute value counts.
    transform : Affine
        Outer pixel corners (col, row) of the map grid to CRS coordinates.
    crs : CRS, WKT or EPSG
        Of the map grid.

    Attributes
    ----------
    x, y : ndarray of int32
        1-based, 0 where empty, never negative; read-only.
    filled : bool
        Whether the table had negative (nearest-filled) entries.

    Raises
    ------
    GridMismatch
        The tables are not two equal 2-D arrays of whole numbers, or the CRS cannot be read.
    """

    __slots__ = ("_crs", "_transform", "_x", "_y", "filled")
    _x: np.ndarray
    _y: np.ndarray
    _transform: Affine
    _crs: CRS
    filled: bool

    def __init__(self, x: Any, y: Any, transform: Affine, crs: Any) -> None:
        tables = {"x": np.asarray(x), "y": np.asarray(y)}
        if tables["x"].ndim != 2 or tables["x"].shape != tables["y"].shape or tables["x"].size == 0:
            raise GridMismatch(
                f"GLT x has shape {tables['x'].shape} and y {tables['y'].shape}, expected two equal 2-D tables"
            )
        filled = False
        clean = []
        for name, table in tables.items():
            if table.dtype.kind not in "iuf":
                raise GridMismatch(f"GLT {name} has type {table.dtype}, expected whole numbers")
            if table.dtype.kind == "f":
                table = np.nan_to_num(table, nan=0.0, posinf=0.0, neginf=0.0)
                if np.any(table != np.rint(table)):
                    raise GridMismatch(f"GLT {name} holds fractions, expected 1-based whole pixel numbers")
            if np.abs(table).max() > np.iinfo(np.int32).max:
                raise GridMismatch(f"GLT {name} holds numbers beyond 2**31, expected pixel numbers")
            filled = filled or bool(np.any(table < 0))
            clean.append(np.abs(table).astype(np.int32))
        empty = (clean[0] == 0) | (clean[1] == 0)
        for table in clean:
            table[empty] = 0
            table.flags.writeable = False
        parsed = parse_crs(crs)
        if parsed is None:
            raise GridMismatch("a GLT needs the CRS of its map grid: give EPSG:n or WKT")
        object.__setattr__(self, "_x", clean[0])
        object.__setattr__(self, "_y", clean[1])
        object.__setattr__(self, "_transform", transform)
        object.__setattr__(self, "_crs", parsed)
        object.__setattr__(self, "filled", filled)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a GLT cannot be changed (tried to set {name})")

    def __deepcopy__(self, memo: dict[int, Any]) -> GLT:
        return self

    def __copy__(self) -> GLT:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return GLT, (self._x, self._y, self._transform, self._crs.to_wkt())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GLT):
            return NotImplemented
        return self is other or (
            self.grid == other.grid and np.array_equal(self._x, other._x) and np.array_equal(self._y, other._y)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self._transform))

    def __repr__(self) -> str:
        share = 100 * float(np.mean(self._x > 0))
        return f"<GLT {self.shape[0]} x {self.shape[1]}, {share:.1f} % filled, {self._crs.name}>"

    @property
    def x(self) -> np.ndarray:
        """1-based sensor columns, 0 where empty; int32, shape (rows, cols)."""
        return self._x

    @property
    def y(self) -> np.ndarray:
        """1-based sensor rows, 0 where empty; int32, shape (rows, cols)."""
        return self._y

    @property
    def transform(self) -> Affine:
        """Outer pixel corners to CRS coordinates."""
        return self._transform

    @property
    def crs(self) -> CRS:
        """CRS of the map grid."""
        return self._crs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map grid."""
        return self._x.shape[0], self._x.shape[1]

    @property
    def grid(self) -> Grid:
        """The map grid."""
        t = self._transform
        kind = "map" if t.b == 0 and t.d == 0 else "rotated"
        return Grid(kind, self.shape[1], self.shape[0], t, self._crs)

    @property
    def valid(self) -> np.ndarray:
        """True where a sensor pixel is seen, shape (rows, cols)."""
        return self._x > 0

    def window(self, row: int, col: int, height: int, width: int) -> GLT:
        """The table of a window of the map grid.

        Raises
        ------
        GridMismatch
            The window leaves the table.
        """
        rows, cols = self.shape
        if row < 0 or col < 0 or height < 1 or width < 1 or row + height > rows or col + width > cols:
            raise GridMismatch(
                f"window row {row}, col {col}, {height} x {width} leaves the GLT of {rows} x {cols} pixels"
            )
        cut = slice(row, row + height), slice(col, col + width)
        return GLT(self._x[cut], self._y[cut], moved(self._transform, col, row), self._crs)

    def to_grid(self, grid: Grid) -> GLT:
        """The table on another map grid, by the nearest map pixel: one lookup then replaces the warp of every band.

        Parameters
        ----------
        grid : Grid
            A map or rotated grid with a CRS.

        Raises
        ------
        GridMismatch
            `grid` is a swath or has no CRS.
        """
        if grid.kind not in ("map", "rotated") or grid.crs is None:
            raise GridMismatch(f"got a {grid.kind} grid without map coordinates, expected a map grid with a CRS")
        transformer = Transformer.from_crs(grid.crs, self._crs, always_xy=True)
        west, _, east, _ = self.grid.bounds
        middle = (west + east) / 2
        out = np.zeros((2, grid.height, grid.width), dtype=np.int32)
        cols = np.arange(grid.width) + 0.5
        for start in range(0, grid.height, 256):
            rows = np.arange(start, min(start + 256, grid.height)) + 0.5
            x, y = to_ground(grid.transform, *np.meshgrid(cols, rows))
            with np.errstate(invalid="ignore"):
                x, y = transformer.transform(x, y)
                if self._crs.is_geographic:
                    # A table across the antimeridian counts on beyond 180 degrees.
                    x = middle + (x - middle + 180) % 360 - 180
                lookup_col, lookup_row = to_pixels(self._transform, x, y)
                inside = (
                    (lookup_col >= 0) & (lookup_row >= 0) & (lookup_col < self.shape[1]) & (lookup_row < self.shape[0])
                )
            at = lookup_row[inside].astype(np.int64), lookup_col[inside].astype(np.int64)
            out[0, start : start + rows.size][inside] = self._x[at]
            out[1, start : start + rows.size][inside] = self._y[at]
        return GLT(out[0], out[1], grid.transform, grid.crs)
