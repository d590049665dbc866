"""STAC items beside outputs: what was written, where it lies, when it was seen, how it came about."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS

from torchspectral.errors import BadSettings, MissingMetadata
from torchspectral.geo.footprints import footprint
from torchspectral.geo.grids import Grid, grid_of
from torchspectral.io.writers import envi
from torchspectral.io.writers.base import tidy
from torchspectral.io.writers.run_yaml import run_path

VERSIONS = ("1.0.0", "1.1.0")
_SCHEMAS = {
    "1.0.0": {"eo": "v1.1.0", "raster": "v1.1.0", "projection": "v1.1.0", "processing": "v1.1.0"},
    "1.1.0": {"eo": "v2.0.0", "raster": "v2.0.0", "projection": "v2.0.0", "processing": "v1.2.0"},
}
_COMMON = {"view": "v1.0.0", "classification": "v2.0.0"}
_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".zarr": "application/vnd+zarr",
    ".hdr": "text/plain",
}


def item_path(output: str | Path) -> Path:
    """Where the item of an output lies: its name with ``.stac.json`` added."""
    path = Path(output)
    return path.with_name(path.name + ".stac.json")


def check_version(stac: bool | str) -> str:
    """STAC version that is asked for; True is the newest.

    Raises
    ------
    BadSettings
    """
    version = VERSIONS[-1] if stac is True else str(stac)
    if version not in VERSIONS:
        raise BadSettings(f"got STAC version {version!r}, expected one of {', '.join(VERSIONS)}")
    return version


def times(value: xr.DataArray, acquired: str | None = None) -> dict[str, Any]:
    """``datetime`` of an item, with ``start_datetime`` and ``end_datetime`` where the value has an ``acquired_end``.

    Raises
    ------
    MissingMetadata
        Neither the value nor `acquired` says when it was seen.
    BadSettings
        The time cannot be read.
    """
    start = acquired if acquired is not None else value.attrs.get("acquired")
    if not start:
        raise MissingMetadata(
            "the product does not say when it was acquired, which a STAC item needs: give the time (--acquired "
            "2022-07-24T10:45:26Z), or write no item"
        )
    end = value.attrs.get("acquired_end") if acquired is None else None
    found: dict[str, Any] = {"datetime": _utc(start)}
    if end:
        found |= {"start_datetime": _utc(start), "end_datetime": _utc(end)}
    return found


def _utc(text: Any) -> str:
    try:
        time = datetime.datetime.fromisoformat(str(text).strip())
    except ValueError:
        raise BadSettings(
            f"cannot read the time {tidy(text)[:60]!r}: expected ISO 8601, 2022-07-24T10:45:26Z"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    kept = "milliseconds" if time.microsecond else "seconds"
    return time.astimezone(datetime.UTC).isoformat(timespec=kept).replace("+00:00", "Z")


def make_item(
    output: str | Path,
    value: xr.DataArray,
    encoding: Any,
    *,
    geometry: tuple[dict[str, Any] | None, list[float] | None] | None = None,
    acquired: str | None = None,
    version: bool | str = True,
    run: bool = True,
) -> dict[str, Any]:
    """A STAC item of a written cube or of layers.

    Parameters
    ----------
    output : path
        The written file or folder; the item stands beside it, and all its hrefs are relative.
    value : DataArray, shape (band or layer, y, x)
        What was written, as it lies on the ground now.
    encoding : Encoding
        Its type, nodata, scale and offset on disk.
    geometry : (geometry, bbox), optional
        Of `footprint`; that of `value` by default. Of a swath that was put on a map, give the swath's own.
    acquired : str, optional
        Time of the acquisition, ISO 8601; ``value.attrs["acquired"]`` by default.
    version : {"1.0.0", "1.1.0"} or bool
        True: the newest.
    run : bool
        Whether ``OUT.run.yaml`` stands beside the output.

    Returns
    -------
    dict
        Wavelengths and widths in um, as the electro-optical extension has them.

    Raises
    ------
    MissingMetadata, BadSettings
        As `times`, `check_version`.

    References
    ----------
    SpatioTemporal Asset Catalog, item specification 1.1.0; extensions eo, raster, projection, view, processing,
    classification.
    """
    import torchspectral

    path, chosen = Path(output), check_version(version)
    outline, bbox = footprint(value) if geometry is None else geometry
    attrs = value.attrs
    properties: dict[str, Any] = {"title": path.stem, **times(value, acquired)}
    if attrs.get("platform"):
        properties["platform"] = str(attrs["platform"]).lower()
    if attrs.get("sensor"):
        properties["instruments"] = [str(attrs["sensor"]).lower()]
    grid = grid_of(value)
    metres = _metres(grid)
    if metres is not None:
        properties["gsd"] = metres
    properties |= _projection(grid, chosen) | _view(attrs)
    if attrs.get("level"):
        properties["processing:level"] = str(attrs["level"])
    if attrs.get("history"):
        properties["processing:lineage"] = "; ".join(tidy(line) for line in attrs["history"])
    properties["processing:software"] = {"torchspectral": torchspectral.__version__}
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": chosen,
        "stac_extensions": [],
        "id": path.stem,
        "geometry": outline,
        **({"bbox": bbox} if bbox is not None else {}),
        "properties": properties,
        "links": [],
        "assets": _assets(path, _bands(value, encoding, metres, chosen), run),
    }
    item["stac_extensions"] = _extensions(item, chosen)
    return item


def write_item(file: Path, item: dict[str, Any]) -> None:
    """Write an item as JSON."""
    file.write_text(json.dumps(item, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _extensions(item: dict[str, Any], version: str) -> list[str]:
    """Schemas of the extensions whose fields stand in the item."""
    used = set(re.findall(r'"(eo|raster|proj|view|processing|classification):', json.dumps(item)))
    names = [{"proj": "projection"}.get(name, name) for name in sorted(used)]
    return [f"https://stac-extensions.github.io/{n}/{(_SCHEMAS[version] | _COMMON)[n]}/schema.json" for n in names]


def _metres(grid: Grid) -> float | None:
    if grid.kind not in ("map", "rotated") or grid.crs is None or grid.crs.is_geographic:
        return None
    factor = grid.crs.axis_info[0].unit_conversion_factor if grid.crs.axis_info else 0
    return float(f"{max(grid.resolution) * factor:.6g}") or None


def _projection(grid: Grid, version: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    placed = grid.kind in ("map", "rotated")
    crs = grid.crs if placed else None
    epsg = crs.to_epsg(min_confidence=100) if crs is not None else None
    if version == "1.0.0":
        found["proj:epsg"] = epsg
    else:
        found["proj:code"] = None if epsg is None else f"EPSG:{epsg}"
    if crs is not None and epsg is None:
        found["proj:wkt2"] = CRS.to_wkt(crs)
    found["proj:shape"] = [grid.height, grid.width]
    if placed:
        t = grid.transform
        found["proj:transform"] = [float(v) for v in (t.a, t.b, t.c, t.d, t.e, t.f)]
        found["proj:bbox"] = [float(v) for v in grid.bounds]
    return found


def _view(attrs: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key, change in (
        ("sun_azimuth", "view:sun_azimuth", lambda v: v % 360),
        ("sun_zenith", "view:sun_elevation", lambda v: 90 - v),
        ("view_zenith", "view:incidence_angle", abs),
    ):
        angle = attrs.get(name)
        if isinstance(angle, (int, float, np.number)) and np.isfinite(angle):
            found[key] = round(float(change(float(angle))), 6)
    return found


def _bands(value: xr.DataArray, encoding: Any, metres: float | None, version: str) -> dict[str, Any]:
    """Fields of the asset that tell its bands."""
    count, old = value.shape[0], version == "1.0.0"
    optical, stored = [], []
    is_cube = value.dims[0] == "band"
    names = [f"band {n}" for n in _coordinate(value, "number", np.arange(1, count + 1))]
    if not is_cube:
        names = [str(n) for n in value["layer"].values]
    wave, width = (_coordinate(value, name, np.full(count, np.nan)) for name in ("wavelength", "fwhm"))
    for band in range(count):
        told: dict[str, Any] = {"name": names[band]}
        prefix = "" if old else "eo:"
        if is_cube and np.isfinite(wave[band]) and wave[band] > 0:
            told[f"{prefix}center_wavelength"] = float(f"{wave[band] / 1000:.9g}")
        if is_cube and np.isfinite(width[band]) and width[band] > 0:
            told[f"{prefix}full_width_half_max"] = float(f"{width[band] / 1000:.9g}")
        optical.append(told)
        stored.append(_stored(value, encoding, band, metres, "" if old else "raster:"))
    classes = _classes(value)
    if old:
        return {"eo:bands": optical, "raster:bands": stored, **classes}
    return {"bands": [{**a, **b} for a, b in zip(optical, stored, strict=True)], **classes}


def _coordinate(value: xr.DataArray, name: str, default: np.ndarray) -> np.ndarray:
    return np.asarray(value[name].values) if name in value.coords and value[name].ndim == 1 else default


def _stored(value: xr.DataArray, encoding: Any, band: int, metres: float | None, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {"data_type": str(np.dtype(encoding.stored))}
    nodata = encoding.nodata
    if nodata is not None:
        found["nodata"] = "nan" if nodata != nodata else _number(nodata)
    if value.attrs.get("units"):
        found["unit"] = str(value.attrs["units"])
    if encoding.packing is not None:
        for key in ("scale", "offset"):
            numbers = np.atleast_1d(np.asarray(encoding.packing[key], dtype=np.float64))
            found[prefix + key] = float(numbers[band if numbers.size > 1 else 0])
    if metres is not None:
        found[f"{prefix}spatial_resolution"] = metres
    return found


def _number(value: Any) -> int | float:
    return int(value) if float(value).is_integer() else float(value)


def _classes(value: xr.DataArray) -> dict[str, Any]:
    names = value.attrs.get("class_names")
    if value.shape[0] != 1 or not isinstance(names, (list, tuple)) or not names:
        return {}
    colours = value.attrs.get("class_colors")
    rows = []
    for number, name in enumerate(names):
        row: dict[str, Any] = {
            "value": number,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", str(name)).strip("_") or f"class_{number}",
            "description": str(name) or f"class {number}",
        }
        if isinstance(colours, (list, tuple)) and len(colours) == len(names):
            row["color_hint"] = "".join(f"{int(c) & 255:02X}" for c in list(colours[number])[:3])
        rows.append(row)
    return {"classification:classes": rows}


def _assets(path: Path, bands: dict[str, Any], run: bool) -> dict[str, Any]:
    suffix = path.suffix.lower()
    data, assets = path, {}
    if suffix in envi.SUFFIXES:
        header, pixels = envi.pair(path)
        data = pixels if header.suffix.lower() == ".hdr" else header
        assets["header"] = {"href": f"./{header.name}", "type": _TYPES[".hdr"], "roles": ["metadata"]}
    kind = "application/octet-stream" if data is not path or suffix in envi.SUFFIXES else _TYPES[suffix]
    found = {"data": {"href": f"./{data.name}", "type": kind, "roles": ["data"], "title": path.stem, **bands}, **assets}
    if run:
        found["run"] = {"href": f"./{run_path(path).name}", "type": "application/yaml", "roles": ["metadata"]}
    return found
