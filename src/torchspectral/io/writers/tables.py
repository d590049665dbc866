"""Tables: CSV, GeoPackage and GeoJSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchspectral.errors import BadCube, MissingDependency, OutputFailed
from torchspectral.io.writers.base import tidy

SUFFIXES = (".csv", ".gpkg", ".geojson")


def is_table(value: Any) -> bool:
    """Whether a value is a pandas or geopandas table, or a list of rows (mappings); imports neither library."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(row, dict) for row in value)
    return any(c.__module__.split(".")[0] == "pandas" and c.__name__ == "DataFrame" for c in type(value).__mro__)


def write_table(table: Any, folder: Path, path: Path) -> list[tuple[Path, Path]]:
    """Write a DataFrame, GeoDataFrame or list of rows into the staging folder.

    CSV keeps every column (geometries as WKT, floats in full); GeoPackage and GeoJSON need geometries. GeoJSON is in
    WGS 84 longitude and latitude, as its standard wants, and GDAL rounds its numbers to 15 digits or so.

    Raises
    ------
    BadCube
        The table has no geometry, or a column that the format cannot hold.
    MissingDependency
        pandas or geopandas is not installed.
    OutputFailed
    """
    made = folder / path.name
    suffix = path.suffix.lower()
    if isinstance(table, list):
        import pandas as pd  # type: ignore[import-untyped]

        table = pd.DataFrame(table)
    if suffix == ".csv":
        table.to_csv(made, index=False)
        return [(made, path)]
    try:
        import geopandas
    except ImportError as error:
        raise MissingDependency(
            f"writing {suffix} needs geopandas, which is not installed: pip install 'torchspectral[vectors]'"
        ) from error
    if not isinstance(table, geopandas.GeoDataFrame) or table.active_geometry_name is None:
        raise BadCube(f"got a table without geometry for {path.name}, expected a GeoDataFrame: write it as .csv")
    if suffix == ".geojson" and table.crs is not None:
        table = table.to_crs(4326)
    driver = {".gpkg": "GPKG", ".geojson": "GeoJSON"}[suffix]
    more = {"layer": path.stem} if suffix == ".gpkg" else {}
    try:
        table.to_file(made, driver=driver, **more)
    except OSError:
        raise
    except Exception as error:  # pyogrio, fiona and shapely each have errors of their own
        text = tidy(error)[:200]
        if "no space" in text.lower() or "disk" in text.lower():
            raise OutputFailed(f"cannot write {path}: {text}") from error
        raise BadCube(f"the table cannot be written as {suffix}: {text}") from error
    return [(made, path)]
