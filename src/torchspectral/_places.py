"""From a place on the ground to a pixel, for the accessor."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr


def ground_to_pixel(cube: xr.DataArray, x: float, y: float, *, degrees: bool) -> tuple[int, int]:
    """Row and column (0-based) of the pixel that holds a place.

    Parameters
    ----------
    cube : DataArray, dims (..., y, x)
    x, y : float
        CRS units, or lon and lat (WGS 84) where `degrees`.

    Raises
    ------
    GridMismatch
        The image lies nowhere or has no CRS, or the place is outside of it.
    """
    from torchspectral.errors import GridMismatch
    from torchspectral.geo.cropping import describe_bounds
    from torchspectral.geo.grids import grid_of, to_pixels

    if not (math.isfinite(x) and math.isfinite(y)):
        raise GridMismatch(f"got the place {x}, {y}, expected two finite numbers")
    grid = grid_of(cube)
    if grid.kind == "none":
        raise GridMismatch("this image lies nowhere: give row and col instead of a place on the ground")
    if grid.kind == "swath":
        found = _nearest(cube["lon"].values, cube["lat"].values, x, y)
    else:
        if degrees:
            if grid.crs is None:
                raise GridMismatch(
                    "the image has no CRS, so degrees have no place in it: give x and y in its own units"
                )
            from pyproj import Transformer

            x, y = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform(x, y)
        col, row = to_pixels(grid.transform, x, y)
        inside = math.isfinite(row) and math.isfinite(col) and 0 <= row <= grid.height and 0 <= col <= grid.width
        found = (min(int(row), grid.height - 1), min(int(col), grid.width - 1)) if inside else None
    if found is None:
        unit = "lon, lat" if degrees or grid.kind == "swath" else "x, y"
        raise GridMismatch(
            f"the place {unit} = {x:.6g}, {y:.6g} lies outside the image, which spans {describe_bounds(cube)}"
        )
    return found


def _nearest(lon: np.ndarray, lat: np.ndarray, x: float, y: float) -> tuple[int, int] | None:
    """Pixel of a swath nearest to a place; None where that is further than a pixel's diagonal."""
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    east = (np.remainder(lon - x + 180, 360) - 180) * math.cos(math.radians(y))
    square = east**2 + (lat - y) ** 2
    if not np.isfinite(square).any():
        return None
    row, col = np.unravel_index(int(np.nanargmin(square)), square.shape)
    sizes = []
    for d_row, d_col in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        r, c = row + d_row, col + d_col
        if 0 <= r < lon.shape[0] and 0 <= c < lon.shape[1]:
            sizes.append((east[r, c] - east[row, col]) ** 2 + (lat[r, c] - lat[row, col]) ** 2)
    sizes = [s for s in sizes if np.isfinite(s)]
    near = not sizes or square[row, col] <= 0.51 * 2 * max(sizes)
    return (int(row), int(col)) if near else None
