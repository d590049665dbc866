"""What stands beside the values of an unmixing in a folder: pictures and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import OutputExists
from torchspectral.result import Result
from torchspectral.unmixing.scoring import angle_matrix

DRAWN = ("endmembers.png", "composite.png", "abundances.png", "rmse.png")
PAGE = "report.html"
CAPTIONS = {
    "endmembers": "Endmembers",
    "composite": "Composite: each endmember's colour by its share",
    "abundances": "Abundances",
    "rmse": "Residual: root mean square over the bands",
}


def refuse_existing(folder: Path) -> None:
    """Refuse to draw over pictures or a page that are there.

    Raises
    ------
    OutputExists
    """
    for name in (*DRAWN, PAGE):
        if (folder / name).exists():
            raise OutputExists(
                f"{folder / name} exists: overwrite=True (--overwrite) replaces it, or choose another name"
            )


def draw_pictures(result: Result, folder: Path) -> None:
    """Write pictures and a page of a result whose values lie in a folder, and add their paths to it.

    Methods that find endmembers alone get the plot of these.
    """
    from torchspectral.report.charts import spectra_lines
    from torchspectral.report.files import write_whole
    from torchspectral.report.html import write_html
    from torchspectral.report.style import figure_png
    from torchspectral.report.unmixing import unmixing_figures
    from torchspectral.unmixing.factorisation.channels import band_quality_figure

    spectra = result["endmembers"]
    if "abundances" in result and "rmse" in result:
        rmse = result["rmse"]
        unit = str(rmse.attrs.get("units") or spectra.attrs.get("units") or "1")
        figures = unmixing_figures(result["abundances"], spectra, rmse, unit=unit)
    else:
        figures = {"endmembers": spectra_lines(spectra)}
    pngs = {name: figure_png(figure, 150) for name, figure in figures.items()}
    if "band_quality" in result:
        pngs["band_quality"] = figure_png(band_quality_figure(result["band_quality"]), 150)
    for name, png in pngs.items():
        result.paths[f"{name}.png"] = str(write_whole(folder / f"{name}.png", png))
    captions = {**CAPTIONS, "band_quality": "Channel weights: low ones are suggested as bad"}
    page = {
        "title": f"Unmixing by {result.report.method.rpartition('/')[2]}",
        "text": _text(result),
        "figures": [(captions[name], png) for name, png in pngs.items()],
        "tables": [("Endmembers", _rows(result))],
        "provenance": [result.report],
        "files": sorted({Path(p).name for p in result.paths.values()}),
    }
    result.paths["report"] = str(write_html(folder / PAGE, title="Unmixing", sections=[page]))


def _text(result: Result) -> str:
    lines = [str(note) for note in result.report.notes]
    return "\n\n".join(["Pixels without data are white in the maps.", *lines])


def _rows(result: Result) -> list[dict[str, Any]]:
    """One row an endmember: mean and largest abundance, and the nearest other endmember."""
    from torchspectral.report.unmixing import MOST, thinned

    spectra = result["endmembers"]
    names = [str(n) for n in spectra["spectrum"].values]
    angles = angle_matrix(spectra.values, spectra.values)
    np.fill_diagonal(angles, np.nan)
    rows: list[dict[str, Any]] = [{"endmember": name} for name in names]
    if "abundances" in result and result["abundances"].sizes["layer"] == len(names):
        values = np.asarray(thinned(result["abundances"]).values, dtype=np.float64)
        for row, plane in zip(rows, values, strict=True):
            known = plane[np.isfinite(plane)]
            row |= {"mean abundance": float(known.mean()) if known.size else None}
            row |= {"largest": float(known.max()) if known.size else None}
    for row, line in zip(rows, angles, strict=True):
        if np.isfinite(line).any():
            row |= {"nearest other": names[int(np.nanargmin(line))], "angle [rad]": float(np.nanmin(line))}
    rows.sort(key=lambda row: -(row.get("mean abundance") or 0.0)) if len(rows) > MOST else None
    return rows[: 4 * MOST]
