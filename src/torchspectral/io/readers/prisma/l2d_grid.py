"""The map grid of the L2D product for an L2C product of the same take."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from torchspectral.errors import BadSettings, GridMismatch, ProductNotFound
from torchspectral.geo.grids import Grid, parse_crs
from torchspectral.geo.swaths import build_glt
from torchspectral.io.readers.prisma.metadata import PrismaProduct


def l2d_beside(path: Path) -> Path | None:
    """The L2D product of the same take in the same folder, by its name."""
    wanted = path.name.upper().replace("_L2C_", "_L2D_")
    if wanted == path.name.upper():
        return None
    try:
        return next((p for p in sorted(path.parent.iterdir()) if p.name.upper() == wanted), None)
    except OSError:
        return None


def on_l2d_grid(product: PrismaProduct, cube: xr.DataArray) -> tuple[xr.DataArray, str]:
    """A swath cube with the lookup table onto the grid of the L2D product beside it, and a line for the history.

    Raises
    ------
    BadSettings
        No L2C product.
    ProductNotFound
        No L2D product of the same take beside it.
    GridMismatch
        That product, or this one, has no positions.
    """
    if product.level != "L2C":
        raise BadSettings(f"grid='l2d' is for L2C products, {product.path.name} is {product.level}")
    beside = l2d_beside(product.path)
    if beside is None:
        expected = product.path.name.replace("_L2C_", "_L2D_")
        raise ProductNotFound(f"grid='l2d' needs {expected} beside {product.path.name}: get it, or leave out grid")
    other = PrismaProduct(beside)
    transform, crs, _ = other.ground("auto")
    rows, cols = other.grid_shape
    parsed = parse_crs(crs)
    if transform is None or parsed is None:
        raise GridMismatch(f"{beside.name} has no corner attributes or no Epsg_Code, so its grid is not known")
    if "lon" not in cube.coords:
        raise GridMismatch(f"{product.path.name} has no latitudes and longitudes to look up")
    glt = build_glt(cube["lon"].values, cube["lat"].values, grid=Grid("map", cols, rows, transform, parsed))
    cube.attrs = {**cube.attrs, "glt": glt}
    return cube, f"lookup table onto the grid of {beside.name}"
