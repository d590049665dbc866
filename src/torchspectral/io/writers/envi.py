"""ENVI: a flat file and its text header, as described in `torchspectral.io.writers.base`.

The default interleave is bil: whole spectra of a line lie together, so that a stripe of the scene is one write and
spectra, windows and single bands are all read at a fair price.
"""

from __future__ import annotations

import base64
import errno
import math
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pyproj import CRS
from pyproj.exceptions import CRSError

from torchspectral.errors import BadCube
from torchspectral.geo.grids import Grid, grid_of
from torchspectral.io.raw import RawArray
from torchspectral.io.writers.base import Raster, as_json, finite_list, payload, put_in_place, staged, tidy
from torchspectral.io.writers.encoding import choose_encoding
from torchspectral.log import Progress, get_logger
from torchspectral.settings import Settings, setting

DATA_TYPES = {
    "uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "uint16": 12, "uint32": 13, "int64": 14,
    "uint64": 15,
}  # fmt: skip
"""ENVI's numbers of the types that it has; int8 and float16 are widened."""

SUFFIXES = (".hdr", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip")


class EnviOptions(Settings):
    """Options of `save` for ENVI."""

    interleave: Literal["bsq", "bil", "bip"] = setting("bil", "order on disk; .bsq, .bil and .bip names settle it")
    byteorder: Literal["<", ">"] = setting("<", "little or big endian")
    nodata: float | None = setting(None, "number written in place of NaN; NaN itself by default")


def pair(path: Path) -> tuple[Path, Path]:
    """Header and data file of an output named by either."""
    if path.suffix.lower() == ".hdr":
        return path, path.with_suffix(".img")
    return path.with_suffix(".hdr"), path


def write_envi(
    raster: Raster, folder: Path, path: Path, options: EnviOptions, progress: Progress
) -> list[tuple[Path, Path]]:
    """Write into the staging folder; returns what must be renamed to what, in order."""
    header, data = pair(path)
    interleave = path.suffix.lower()[1:] if path.suffix.lower() in (".bsq", ".bil", ".bip") else options.interleave
    with RawArray.create(
        folder / data.name, raster.shape, raster.encoding.stored, interleave, byteorder=options.byteorder
    ) as raw:
        for band, row, col, block in raster.blocks("write envi", progress):
            raw.write(row, col, block, band=band)
    (folder / header.name).write_text(header_text(raster, raw), encoding="utf-8")
    return [(folder / data.name, data), (folder / header.name, header)]


def place_pair(made: list[tuple[Path, Path]], header: Path) -> None:
    """Put data and header in place; an old header goes first, so that no mixture ever stands under the name."""
    header.unlink(missing_ok=True)
    for source, target in made:
        put_in_place(source, target)


def adopt(
    raw: RawArray | str | Path,
    template: xr.DataArray,
    path: str | Path,
    *,
    overwrite: bool = False,
    report: Any = None,
) -> Path:
    """Turn a finished flat file into an ENVI product by renaming it; no value is read or copied.

    Parameters
    ----------
    raw : RawArray or path
        The file; a bare path holds bsq values of the template's type. On another disk it is copied.
    template : DataArray, shape (band or layer, y, x)
        What the values mean; its own values are not looked at.
    path : path
        ``.hdr`` or a data file's name.
    report : Report, optional
        Written as ``OUT.run.yaml``.

    Raises
    ------
    BadCube
        Shape or type of the file are not those of the template.
    OutputExists, OutputFailed
    """
    from torchspectral.io.saving import check_not_source
    from torchspectral.io.writers.run_yaml import run_path, write_run

    target = Path(path)
    if not isinstance(raw, RawArray):
        count, rows, cols = template.shape
        raw = RawArray(raw, (count, rows, cols), template.dtype)
    if raw.shape != template.shape or raw.dtype != template.dtype.newbyteorder("="):
        raise BadCube(
            f"{raw.path.name} holds {raw.shape} {raw.dtype}, expected {template.shape} {template.dtype} as the template"
        )
    if raw.dtype.name not in DATA_TYPES:
        raise BadCube(f"{raw.path.name} holds {raw.dtype}, which ENVI does not have: call save instead of adopt")
    header, data = pair(target)
    check_not_source(template, [header, data])
    raster = Raster(template, choose_encoding(template, supported=DATA_TYPES), grid_of(template))
    with staged([target, header, data] if target not in (header, data) else [header, data], overwrite) as folder:
        (folder / header.name).write_text(header_text(raster, raw), encoding="utf-8")
        raw.close()
        made = [(_fetched(raw.path, folder / data.name), data), (folder / header.name, header)]
        if report is not None:
            write_run(folder / "run.yaml", report, target)
        place_pair(made, header)
        if report is not None:
            put_in_place(folder / "run.yaml", run_path(target))
    return target


def _fetched(source: Path, staged_name: Path) -> Path:
    try:
        source.replace(staged_name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, staged_name)
        source.unlink()
    return staged_name


def header_text(raster: Raster, raw: RawArray) -> str:
    """The header of `raster` whose values lie in `raw`."""
    bands, rows, cols = raster.shape
    attrs, encoding = raster.value.attrs, raster.encoding
    classes = _is_classes(raster)
    lines = [
        "ENVI",
        f"description = {{{tidy(attrs.get('description') or raster.value.name or 'torchspectral', '{}')}}}",
        f"samples = {cols}",
        f"lines = {rows}",
        f"bands = {bands}",
        f"header offset = {raw.offset}",
        f"file type = {'ENVI Classification' if classes else 'ENVI Standard'}",
        f"data type = {DATA_TYPES[raw.dtype.name]}",
        f"interleave = {raw.interleave}",
        f"byte order = {0 if raw.byteorder == '<' else 1}",
    ]
    if attrs.get("sensor"):
        lines.append(f"sensor type = {tidy(attrs['sensor'], '{}')}")
    if attrs.get("acquired"):
        lines.append(f"acquisition time = {tidy(attrs['acquired'], '{}')}")
    names, wave, fwhm = raster.names(), None, None
    if raster.is_cube:
        wave, fwhm = (finite_list(raster.band_coordinate(n)) for n in ("wavelength", "fwhm"))
        if wave:  # GDAL and ENVI put the wavelength behind the name themselves
            names = [re.sub(r"^(band \d+) \(\S+ Nanometers\)$", r"\1", name) for name in names]
    lines.append(f"band names = {_braced([tidy(n, ',{}') for n in names])}")
    if raster.is_cube:
        good = raster.band_coordinate("good")
        if wave:
            lines += ["wavelength units = Nanometers", f"wavelength = {_braced(wave)}"]
        if fwhm:
            lines.append(f"fwhm = {_braced(fwhm)}")
        if good is not None:
            lines.append(f"bbl = {_braced(['1' if g else '0' for g in good])}")
    if encoding.nodata is not None:
        lines.append(f"data ignore value = {_number(encoding.nodata)}")
    if encoding.packing is not None:
        for key, name, neutral in (("scale", "data gain values", 1.0), ("offset", "data offset values", 0.0)):
            values = np.asarray(encoding.packing.get(key, neutral), dtype=np.float64).reshape(-1)
            if np.any(values != neutral):
                values = np.broadcast_to(values, (bands,))
                lines.append(f"{name} = {_braced([repr(float(v)) for v in values])}")
    if classes:
        lines += _class_lines(raster)
    lines += ground_lines(raster.grid)
    text = base64.b64encode(as_json(payload(raster)).encode("utf-8")).decode("ascii")
    lines.append(f"torchspectral = {{{text}}}")
    return "\n".join(lines) + "\n"


def _braced(items: list[str]) -> str:
    return "{" + ", ".join(items) + "}"


def _number(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _is_classes(raster: Raster) -> bool:
    return not raster.is_cube and raster.shape[0] == 1 and bool(raster.value.attrs.get("class_names"))


def _class_lines(raster: Raster) -> list[str]:
    names = [tidy(n, ",{}") for n in raster.value.attrs["class_names"]]
    colours = [list(c)[:3] for c in raster.value.attrs.get("class_colors") or []]
    colours += [[0, 0, 0]] * (len(names) - len(colours))
    flat = [str(int(v)) for colour in colours[: len(names)] for v in colour]
    return [
        f"classes = {len(names)}",
        f"class lookup = {_braced(flat)}",
        f"class names = {_braced(names)}",
    ]


def ground_lines(grid: Grid) -> list[str]:
    """``map info`` and ``coordinate system string``; nothing for images that lie nowhere.

    ENVI knows pixels turned by one angle, and GDAL reads the angle right for square pixels only. Other transforms stand
    in the payload alone, and the log says so.
    """
    if grid.kind not in ("map", "rotated"):
        return []
    t = grid.transform
    lines = []
    if t.b == 0 and t.d == 0:
        dx, dy, turn = t.a, -t.e, None
    else:
        dx, dy = math.hypot(t.a, t.d), math.copysign(math.hypot(t.b, t.e), -(t.a * t.e - t.b * t.d))
        angle = math.atan2(t.d * math.copysign(1, dy), t.a)
        turn = math.degrees(angle)
        cos, sin = math.cos(angle), math.sin(angle)
        back = (cos * dx, sin * dx, sin * dy, -cos * dy)
        if max(abs(p - q) for p, q in zip(back, (t.a, t.b, t.d, t.e), strict=True)) > 1e-9 * dx:
            get_logger("io").warning(
                "ENVI headers cannot state sheared or oblong turned pixels: only torchspectral will place this image"
            )
            return _crs_lines(grid.crs)
    words = [repr(1.0), repr(1.0), repr(t.c), repr(t.f), repr(dx), repr(dy)]
    lead, tail = _projection(grid.crs)
    rotation = [] if turn is None else [f"rotation={turn!r}"]
    lines.append(f"map info = {_braced([lead, *words, *tail, *rotation])}")
    return lines + _crs_lines(grid.crs)


def _projection(crs: CRS | None) -> tuple[str, list[str]]:
    """Name of the projection, and what stands behind the numbers of ``map info``."""
    if crs is None:
        return "Arbitrary", []
    unit = crs.axis_info[0].unit_name if crs.axis_info else ""
    units = {"metre": "Meters", "degree": "Degrees", "foot": "Feet", "US survey foot": "Feet"}.get(unit, "")
    tail = [f"units={units}"] if units else []
    datum = {4326: "WGS-84", 4267: "North America 1927", 4269: "North America 1983"}.get(
        (crs.geodetic_crs.to_epsg() if crs.geodetic_crs else None) or 0
    )
    if crs.is_geographic:
        return "Geographic Lat/Lon", [*([datum] if datum else []), *tail]
    zone = crs.utm_zone
    if zone and datum:
        return "UTM", [zone[:-1], "North" if zone.endswith("N") else "South", datum, *tail]
    return tidy(crs.name, ",{}") or "Projected", tail


def _crs_lines(crs: CRS | None) -> list[str]:
    if crs is None:
        return []
    for form in ("WKT1_ESRI", "WKT1_GDAL", "WKT2_2019"):
        try:
            return [f"coordinate system string = {{{tidy(crs.to_wkt(form))}}}"]
        except CRSError:
            continue
    return []


def write_library(spectra: xr.DataArray, folder: Path, path: Path) -> list[tuple[Path, Path]]:
    """ENVI spectral library (.sli and .hdr) in the staging folder: a line is a spectrum, a sample a band."""
    header = path.with_suffix(".hdr")
    values = np.asarray(spectra.values)
    stored = values.dtype if values.dtype.name in DATA_TYPES else np.dtype(np.float32)
    if stored.kind != "f":
        stored = np.dtype(np.float64 if stored.itemsize > 2 else np.float32)
    count, bands = values.shape
    lines = [
        "ENVI",
        f"description = {{{tidy(spectra.attrs.get('description') or 'torchspectral spectra', '{}')}}}",
        f"samples = {bands}",
        f"lines = {count}",
        "bands = 1",
        "header offset = 0",
        "file type = ENVI Spectral Library",
        f"data type = {DATA_TYPES[stored.name]}",
        "interleave = bsq",
        "byte order = 0",
        f"spectra names = {_braced([tidy(n, ',{}') for n in spectra['spectrum'].values])}",
    ]
    waves = [
        finite_list(np.asarray(spectra[n].values)) if n in spectra.coords else None for n in ("wavelength", "fwhm")
    ]
    if waves[0]:
        lines += ["wavelength units = Nanometers", f"wavelength = {_braced(waves[0])}"]
    if waves[1]:
        lines.append(f"fwhm = {_braced(waves[1])}")
    if "good" in spectra.coords:
        lines.append(f"bbl = {_braced(['1' if g else '0' for g in spectra['good'].values])}")
    if spectra.attrs.get("quantity") == "reflectance":
        lines.append("reflectance scale factor = 1.0")
    if np.isnan(values.astype(stored)).any():
        lines.append("data ignore value = nan")
    try:
        (folder / path.name).write_bytes(values.astype(stored.newbyteorder("<")).tobytes())
        (folder / header.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        from torchspectral.io.raw import output_failed

        raise output_failed(path, error) from error
    return [(folder / path.name, path), (folder / header.name, header)]
