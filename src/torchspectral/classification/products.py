"""What stands beside a class map: areas of the classes, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.engine import Output, Review
from torchspectral.geo.grids import grid_of
from torchspectral.result import Report, Result

STRIP, NODATA, SIDE = 1024, 255, 1200


def areas(classes: xr.DataArray) -> Any:
    """Table of the classes of a map: number, name, pixels, share of the pixels with data, hectares.

    Parameters
    ----------
    classes : DataArray of integers, dims (layer, y, x)
        With ``class_names``. Hectares need a map in metres or degrees (there the pixel at its own latitude); they are NaN
        for images without a place and in sensor geometry.

    Returns
    -------
    pandas.DataFrame
    """
    import pandas as pd  # type: ignore[import-untyped]

    names = [str(n) for n in classes.attrs.get("class_names", ())]
    size = row_hectares(classes)
    count, ground = np.zeros(256, dtype=np.int64), np.zeros(256)
    for start in range(0, classes.sizes["y"], STRIP):
        part = np.asarray(classes.isel(layer=0, y=slice(start, start + STRIP)).values).astype(np.int64)
        for row, values in enumerate(part):
            found = np.bincount(values, minlength=256)
            count += found
            ground += found * size[start + row]
    total = max(int(count[:NODATA].sum()), 1)
    numbers = [n for n in range(NODATA) if count[n] or n < len(names)]
    rows = [
        {
            "class": n,
            "name": names[n] if n < len(names) else f"class {n}",
            "pixels": int(count[n]),
            "share": round(float(count[n] / total), 6),
            "hectares": round(float(ground[n]), 6),
        }
        for n in numbers
        if count[n] or n
    ]
    return pd.DataFrame(rows, columns=["class", "name", "pixels", "share", "hectares"])


def row_hectares(raster: xr.DataArray) -> np.ndarray:
    """Hectares of a pixel in each row; NaN where they are not known."""
    grid = grid_of(raster)
    rows = raster.sizes["y"]
    if grid.kind not in ("map", "rotated") or grid.crs is None:
        return np.full(rows, np.nan)
    t = grid.transform
    area = abs(t.a * t.e - t.b * t.d)
    if not grid.crs.is_geographic:
        unit = float(grid.crs.axis_info[0].unit_conversion_factor) if grid.crs.axis_info else 1.0
        return np.full(rows, area * unit**2 / 1e4)
    from pyproj import Geod

    if grid.kind != "map":
        return np.full(rows, np.nan)
    geod = Geod(ellps="WGS84")
    edges = t.f + t.e * np.arange(rows + 1)
    west, east = t.c, t.c + t.a
    found = [abs(geod.polygon_area_perimeter([west, east, east, west], [a, a, b, b])[0]) for a, b in pairwise(edges)]
    return np.asarray(found) / 1e4


def area_review(cube: xr.DataArray, notes: Sequence[str]) -> Review:
    """Puts areas, and what was resampled, into the report before anything is written."""

    def look(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
        report.resampled += list(notes)
        if "classes" not in values:
            return {}
        table = areas(values["classes"])
        report.figures["areas"] = {
            str(row["name"]): {"pixels": int(row["pixels"]), "hectares": _finite(row["hectares"])}
            for _, row in table.iterrows()
        }
        left = table.loc[table["class"] == 0, "share"].sum()
        if left > 0.5:
            limit = (report.settings or {}).get("max_angle")
            why = f": they lie farther than max_angle={limit:g} rad from every reference" if limit else ""
            report.notes.append(f"{left:.0%} of the pixels are unclassified{why}")
        return {"areas": table}

    return Review(look, (Output("areas", kind="table"),))


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def draw_map(result: Result, out: Any, overwrite: bool) -> None:
    """Picture of the classes in the folder of all values; large maps are thinned."""
    classes = result.get("classes")
    written = result.paths.get("classes")
    if classes is None or written is None or "areas" not in result.paths:
        return
    from torchspectral.report import class_map, figure_png
    from torchspectral.report.files import write_whole

    step = max(1, -(-max(classes.sizes["y"], classes.sizes["x"]) // SIDE))
    thin = classes.isel(layer=0, y=slice(None, None, step), x=slice(None, None, step)).values
    present = [int(n) for n in np.unique(thin) if n != NODATA]
    names = [str(n) for n in classes.attrs.get("class_names", ())]
    colors = classes.attrs.get("class_colors", ())
    figure = class_map(
        thin,
        {n: names[n] if n < len(names) else f"class {n}" for n in present},
        colours={n: "#" + "".join(f"{int(c):02x}" for c in colors[n][:3]) for n in present if n < len(colors)},
        title="classes" if step == 1 else f"classes (every {step}th pixel)",
    )
    path = Path(written).with_name("classes.png")
    write_whole(path, figure_png(figure), overwrite=overwrite)
    result.paths["picture"] = str(path)
