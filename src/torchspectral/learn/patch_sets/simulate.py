"""Generated patch sets on disk: GeoTIFFs in SpectralEarth's folders, with masks, classes, splits."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings, OutputExists, OutputFailed
from torchspectral.learn.splits import HELD_OUT, TRAIN
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report, Result
from torchspectral.synth.land_cover import COVERS
from torchspectral.synth.patch_sets import Eye, LandPatch, PatchSettings, dates_of, eye, land_patch

NODATA = -32768
GSD = 30.0
CRS = "EPSG:32632"
_WORDS = {TRAIN: "train", HELD_OUT: "val", "test": "test"}


def simulate_patches(
    out: str | Path,
    count: int = 500,
    *,
    sensor: str = "enmap",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Write a patch set with land cover.

    ``OUT/<sensor>/<place>/<scene>.tif`` (int16, reflectance times 10000, nodata -32768, wavelengths in the band tags);
    ``OUT/landcover/<place>/<scene>.tif`` (class numbers), ``classes.csv``, ``labels.json`` (classes of each patch) and
    ``splits/{train,val,test}.txt`` (70, 15 and 15 % of the regions' blocks). With ``labels=single`` a ``metadata.csv`` with
    one class a patch takes the place of masks and lists.

    Parameters
    ----------
    out : path
        A folder that is made.
    count : int
        Patches, second dates included.
    sensor : str
        Of `torchspectral.sensors`.
    seed : int
    settings : mapping, optional
        Fields of `PatchSettings`.
    overwrite : bool
        Replace a generated set.
    progress : callable

    Returns
    -------
    Result
        ``table`` (pandas.DataFrame, a row a patch); path ``patches``.

    Raises
    ------
    BadSettings, UnknownName, OutputExists, OutputFailed
    """
    begun = perf_counter()
    if count < 2:
        raise BadSettings(f"got {count} patches, expected at least 2")
    made = PatchSettings.make(settings)
    sees = eye(sensor)
    folder = Path(out).expanduser()
    if folder.exists() and not overwrite:
        raise OutputExists(f"{folder} exists: choose another name, or say overwrite")
    if folder.exists() and not (folder / "patches.json").is_file():
        raise OutputFailed(f"{folder} exists and is no generated patch set: choose another name")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        rows = _write(partial, count, sees, seed, made, progress)
        _tables(partial, rows, made, sees, seed)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    except OSError as error:
        raise OutputFailed(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    import pandas as pd  # type: ignore[import-untyped]

    report = Report(
        method="simulate patches",
        settings={**made.model_dump(mode="json"), "sensor": sees.name, "count": count},
        figures={
            "patches": len(rows),
            "places": len({r["location"] for r in rows}),
            "bands": int(sees.wavelength.size),
        },
        notes=["generated materials: for tests and first runs, no measurements"],
        seconds={"total": perf_counter() - begun},
        seed=seed,
    )
    table = pd.DataFrame([{k: v for k, v in r.items() if k != "present"} for r in rows])
    return Result({"table": table}, report, {"patches": str(folder)})


def images_folder(sensor: str) -> str:
    """Name of the folder of images."""
    from torchspectral.learn.patch_sets.spectralearth import IMAGES

    return sensor if sensor in IMAGES else "images"


def _write(
    partial: Path, count: int, sees: Eye, seed: int, s: PatchSettings, progress: Progress
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    place = 0
    while len(rows) < count:
        days = dates_of(place, s, seed)[: count - len(rows)]
        corner = corner_of(place, s)
        for day in days:
            patch = land_patch(place, day, sees.name, s, seed)
            rows.append(_one(partial, place, day, patch, corner, sees, s))
        place += 1
        progress(Step("simulate patches", len(rows) / count))
    return rows


def _cell(number: int) -> tuple[int, int]:
    """Column and row of the places of a region, in a square that grows: 0; 1 2 3; 4 .. 8."""
    ring = math.isqrt(number)
    step = number - ring * ring
    return (ring, step) if step <= ring else (2 * ring - step, ring)


def corner_of(place: int, s: PatchSettings) -> tuple[float, float]:
    """West and north of a place [m]: regions lie 100 km apart, its places in rows with gaps of one patch."""
    side = s.size * GSD
    region, (col, row) = place % s.regions, _cell(place // s.regions)
    return 300_000 + 100_000 * (region % 4) + 2 * side * col, 5_900_000 - 100_000 * (region // 4) - 2 * side * row


def part_of_place(place: int, s: PatchSettings) -> str:
    """Part of a place: squares of 4 x 4 places of a region go together, so that the parts lie apart."""
    col, row = _cell(place // s.regions)
    parts = (TRAIN, TRAIN, TRAIN, HELD_OUT, TRAIN, TRAIN, "test")
    return parts[(3 * (place % s.regions) + 5 * (col // 4) + row // 4) % len(parts)]


def _one(
    partial: Path, place: int, day: date, patch: LandPatch, corner: tuple[float, float], sees: Eye, s: PatchSettings
) -> dict[str, Any]:
    location, name = f"place_{place:06d}", f"{day:%Y%m%d}T103000_{place:06d}.tif"
    images = images_folder(sees.name)
    image = partial / images / location / name
    scaled = np.where(np.isnan(patch.values), np.nan, np.rint(patch.values * 10000).clip(NODATA + 1, 32767))
    stored = np.where(np.isnan(scaled), NODATA, scaled).astype(np.int16)
    tags = [
        {"wavelength": f"{wave:.3f}", "wavelength_units": "nm", "fwhm": f"{width:.3f}"}
        for wave, width in zip(sees.wavelength, sees.fwhm, strict=True)
    ]
    _raster(image, stored, corner, NODATA, tags, scale=1e-4)
    row = {
        "path": f"{images}/{location}/{name}", "location": location, "date": f"{day}", "main": patch.main,
        "present": patch.present, "split": part_of_place(place, s), "valid": float(np.isfinite(patch.values[0]).mean()),
    }  # fmt: skip
    if s.labels == "pixels":
        _raster(partial / "landcover" / location / name, patch.cover[None], corner, None, [])
    return row


def _raster(
    path: Path,
    values: np.ndarray,
    corner: tuple[float, float],
    nodata: int | None,
    tags: list[dict[str, str]],
    scale: float = 0,
) -> None:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = values.shape
    try:
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=values.dtype, nodata=nodata,
            crs=CRS, transform=from_origin(*corner, GSD, GSD), BIGTIFF="NO",
        ) as data:  # fmt: skip
            for number, tag in enumerate(tags, start=1):
                data.update_tags(number, **tag)
            if scale:
                data.scales = (scale,) * bands
                data.update_tags(quantity="reflectance")
            data.write(values)
    except RasterioError as error:
        raise OutputFailed(f"{path} could not be written: {error}") from error


def _tables(partial: Path, rows: list[dict[str, Any]], s: PatchSettings, sees: Eye, seed: int) -> None:
    _sheet(
        partial / "classes.csv",
        [{"value": k, "name": c.name, "colour": "#{:02x}{:02x}{:02x}".format(*c.colour)} for k, c in enumerate(COVERS)],
    )
    if s.labels == "single":
        _sheet(
            partial / "metadata.csv",
            [{**{k: r[k] for k in ("path", "location", "date", "split")}, "label": r["main"]} for r in rows],
        )
    else:
        labels: dict[str, dict[str, list[str]]] = {}
        for r in rows:
            labels.setdefault(r["location"], {})[Path(r["path"]).stem] = [str(k) for k in r["present"]]
        (partial / "labels.json").write_text(json.dumps(labels, indent=0), encoding="utf-8")
        parts = dict.fromkeys(_WORDS, "")
        for r in rows:
            parts[r["split"]] += "/".join(r["path"].split("/")[1:]) + "\n"
        if parts[TRAIN] and parts[HELD_OUT]:
            (partial / "splits").mkdir()
            for part, text in parts.items():
                (partial / "splits" / f"{_WORDS[part]}.txt").write_text(text, encoding="utf-8")
    facts = {"sensor": sees.name, "seed": seed, "settings": s.model_dump(mode="json"), "patches": len(rows)}
    (partial / "patches.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _sheet(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
