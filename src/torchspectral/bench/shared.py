"""What the benches of the rooms have in common: rows with mean and deviation, tables on disk, pictures, costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.bench.store import Measured
from torchspectral.errors import OutputExists
from torchspectral.report.files import write_whole
from torchspectral.report.style import figure_png
from torchspectral.report.tables import Table, mean_std
from torchspectral.result import Report

COLOURS = (665.0, 560.0, 490.0)


def bench_folder(out: str | Path, *, overwrite: bool, resume: bool | None = None, written: str = "scores.csv") -> Path:
    """The folder of a bench; one that holds a bench already only to overwrite it or to go on with it.

    Parameters
    ----------
    resume : bool, optional
        None: this bench cannot be resumed.
    written : str
        The file by which a finished bench is known.

    Raises
    ------
    OutputExists
    """
    folder = Path(out)
    if (folder / written).exists() and not (overwrite or resume):
        ways = "to overwrite" if resume is None else "to overwrite or to resume"
        raise OutputExists(f"{folder} has a bench already: ask {ways}, or choose another folder")
    return folder


def rows_of(
    measured: Mapping[str, Sequence[Measured]], reports: list[Report], failed: dict[str, str]
) -> list[dict[str, Any]]:
    """One row a method: its figures, with mean and deviation where there are several, or a note why there are none.

    Parameters
    ----------
    measured : mapping of method to what it has given, one a turn
    reports : list of Report
        The report of each method's first turn is added; its number stands in the row as ``run``.
    failed : dict of method to reason
        Filled in.
    """
    rows: list[dict[str, Any]] = []
    columns = next((list(m.figures[0]) for found in measured.values() for m in found if m.figures), [])
    for name, turns in measured.items():
        found = [m for m in turns if m.figures]
        if not found:
            why = next((m.error for m in turns if m.error), "not measured")
            failed[name] = why
            rows.append({"method": name, **dict.fromkeys(columns), "note": why})
            continue
        reports.append(report_of(found[0].report))
        parts = [figures for m in found for figures in m.figures]
        values = {key: [p[key] for p in parts if p.get(key) is not None] for key in columns}
        row = {
            key: None if not any(map(np.isfinite, v)) else v[0] if len(v) == 1 else mean_std(v)
            for key, v in values.items()
        }
        rows.append({"method": name, **row, "run": len(reports)})
    if any("note" in row for row in rows):
        rows = [row | {"note": row.get("note", "")} for row in rows]
    return rows


def write_tables(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str = "",
    digits: int = 3,
    overwrite: bool = True,
) -> dict[str, str]:
    """Rows as ``NAME.csv``, ``.md`` and ``.tex``; the column ``run`` is for pages alone. Returns the paths by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    table = Table([{k: v for k, v in row.items() if k != "run"} for row in rows], caption=caption, digits=digits)
    texts = {"csv": table.csv(), "md": table.markdown(), "tex": table.latex()}
    return {
        f"{name}.{suffix}": str(write_whole(folder / f"{name}.{suffix}", text.encode(), overwrite=overwrite))
        for suffix, text in texts.items()
    }


def write_figures(folder: Path, figures: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Each figure as a PNG named by its caption up to the colon. Returns the paths by file name."""
    paths = {}
    for caption, figure in figures:
        file = folder / f"{caption.split(':')[0].lower().replace(' ', '-')}.png"
        paths[file.name] = str(write_whole(file, figure_png(figure, 150)))
    return paths


def windows(image: xr.DataArray, tiles: int) -> list[dict[str, slice]]:
    """The image in `tiles` x `tiles` parts of at least 32 pixels a side."""
    spans = []
    for axis in ("y", "x"):
        size = image.sizes[axis]
        count = max(1, min(tiles, size // 32))
        edges = np.linspace(0, size, count + 1).astype(int)
        spans.append([slice(int(a), int(b)) for a, b in pairwise(edges)])
    return [{"y": rows, "x": cols} for rows in spans[0] for cols in spans[1]]


def colours(cube: xr.DataArray) -> list[int]:
    """Bands for a natural-colour picture, or evenly spread ones."""
    wave = np.asarray(cube["wavelength"].values, dtype=np.float64)
    if np.isfinite(wave).any():
        return [int(np.nanargmin(np.abs(wave - colour))) for colour in COLOURS]
    return [int(b) for b in np.linspace(cube.sizes["band"] - 1, 0, 3)]


def key_of(images: Iterable[xr.DataArray | None], *facts: Any) -> str:
    """What measurements must share to be compared: pixels that were looked at, and plain facts."""
    digest = hashlib.sha256()
    for image in images:
        if image is not None:
            step = [max(1, n // 64) for n in image.shape]
            sample = image.isel({d: slice(None, None, s) for d, s in zip(image.dims, step, strict=True)}).values
            digest.update(repr(image.shape).encode() + np.ascontiguousarray(sample).tobytes())
    digest.update(json.dumps(list(facts)).encode())
    return digest.hexdigest()


def plain_name(title: str) -> str:
    """A file or folder name made of a scene's."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in title).strip(".-") or "scene"


def report_of(values: Mapping[str, Any]) -> Report:
    """A report from its mapping."""
    return Report(**{k: v for k, v in values.items() if k in Report.__dataclass_fields__})


def cost(report: Report) -> dict[str, float]:
    """Seconds and largest memory of a run."""
    return {"seconds": float(report.seconds.get("total", 0.0)), "memory [MB]": report.peak_memory / 1e6}
