"""Writes STAC items with small assets; shares nothing with the reader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine


def write_asset(path: Path, seed: int = 0, side: int = 8, dtype: str = "uint16", pixel: float = 20.0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(1, 9000, (side, side)).astype(dtype)
    values[0, 0] = 0
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=side, width=side, dtype=dtype, crs="EPSG:32632",
        transform=Affine(pixel, 0, 600000, 0, -pixel, 5000000),
    ) as out:  # fmt: skip
        out.write(values, 1)
    return values


def asset(href: str, wavelength: float | None = None, **more: Any) -> dict[str, Any]:
    """One asset as the eo and raster extensions describe it."""
    raster = {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}
    found: dict[str, Any] = {"href": href, "type": "image/tiff; application=geotiff", "raster:bands": [raster], **more}
    if wavelength is not None:
        found["eo:bands"] = [{"name": f"b{wavelength:g}", "center_wavelength": wavelength / 1000,
                              "full_width_half_max": 0.02}]  # fmt: skip
    return found


def write_item(folder: Path, assets: Mapping[str, Mapping[str, Any]], name: str = "scene_1", **properties: Any) -> Path:
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [],
        "properties": {"datetime": "2024-05-01T10:00:00Z", "platform": "some-sat", "view:sun_elevation": 50.0,
                       "view:off_nadir": -3.0, **properties},
        "assets": dict(assets),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(item))
    return path
