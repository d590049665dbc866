"""What the unmixing bench writes of its scenes: tables, a figure each, a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchspectral.bench.shared import plain_name, rows_of, write_figures, write_tables
from torchspectral.bench.store import Measured
from torchspectral.errors import BadInput
from torchspectral.report.files import write_whole
from torchspectral.report.html import write_html
from torchspectral.report.unmixing import unmixing_comparison
from torchspectral.result import Report, Result
from torchspectral.unmixing.scenes import LabelledScene

if TYPE_CHECKING:
    from torchspectral.bench.unmixing import UnmixBenchSettings

SHOWN = 6
"""Methods in the picture of a scene."""


MATCHINGS: dict[str, Literal["angle", "abundance"]] = {
    "scores": "angle",
    "scores-abundance": "abundance",
}


SAID = {"angle": "spectral angle (Hungarian)", "abundance": "Euclidean distance of the abundance maps (HySUPP)"}


@dataclass
class Seen:
    """What is kept of a scene once its methods have run."""

    name: str
    names: list[str]
    maps: np.ndarray | None
    spectra: np.ndarray | None
    wavelength: np.ndarray
    notes: list[str]
    measured: dict[str, list[Measured]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    """Seeds that each method was to run with."""


def seen_of(scene: LabelledScene) -> Seen:
    """A scene before any method has run."""
    maps = None if scene.abundances is None else np.asarray(scene.abundances.values, dtype=np.float64)
    spectra = None if scene.endmembers is None else np.asarray(scene.endmembers.values, dtype=np.float64)
    wavelength = np.asarray(scene.cube["wavelength"].values, dtype=np.float64)
    return Seen(scene.name, scene.names, maps, spectra, wavelength, [*scene.notes, *scene.warnings])


def _picked(found: Measured, wanted: Mapping[str, str]) -> Measured:
    """The figures of one table under the names of its columns."""
    return replace(found, figures=[{new: f[old] for old, new in wanted.items() if old in f} for f in found.figures])


def write_comparison(
    seen: Sequence[Seen], folder: Path, chosen: UnmixBenchSettings, seed: int, skipped: Mapping[str, str]
) -> Result:
    """Tables, figures, page and settings of all runs into a folder.

    Raises
    ------
    BadInput
        No method could be run.
    """
    unit = "rad" if chosen.units == "zhu" else "deg"
    reports: list[Report] = []
    tables: dict[str, list[dict[str, Any]]] = {n: [] for n in (*MATCHINGS, "classes", "classes-abundance")}
    notes: list[str] = []
    for one in seen:
        failed: dict[str, str] = {}
        for table, matching in MATCHINGS.items():
            columns = {
                f"{matching}|SAD": f"SAD [{unit}]",
                f"{matching}|RMSE": "RMSE",
                f"{matching}|SRE [dB]": "SRE [dB]",
            }
            columns |= {n: n for n in ("RE", "seconds", "memory [MB]")}
            measured = {name: [_picked(m, columns) for m in turns] for name, turns in one.measured.items()}
            rows = rows_of(measured, reports if table == "scores" else [], failed)
            runs = {name: len([m for m in turns if m.figures]) for name, turns in one.measured.items()}
            tables[table] += [_row(one, row, runs[row["method"]], table == "scores") for row in rows]
            tables[table.replace("scores", "classes")] += _classes(one, matching, unit)
        notes += [f"{one.name}: {note}" for note in one.notes]
        notes += [f"{name} was not run on {one.name}: {why}" for name, why in failed.items()]
        for name, turns in one.measured.items():
            left = turns[0].bands if turns else {}
            notes += [f"{name} on {one.name}: {what} {which}" for what, which in left.items()]
            asked = one.asked[name]
            good = len([m for m in turns if m.figures])
            if 0 < good < asked:
                notes.append(f"{name} on {one.name}: {good} of {asked} seeds within the budget")
    if not reports:
        raise BadInput(f"no method could be run: {next((m.error for m in _all(seen) if m.error), '')}")
    notes += [f"{name} was left out: {why}" for name, why in skipped.items()]
    captions = {
        name: f"Unmixing, {chosen.seeds} seeds; {'each class, ' if name.startswith('classes') else ''}estimates paired "
        f"with the truth by {SAID['abundance' if name.endswith('abundance') else 'angle']}"
        for name in tables
    }
    paths: dict[str, str] = {}
    for name, rows in tables.items():
        if rows:
            paths |= write_tables(folder, name, rows, caption=captions[name], digits=4)
    figures = [
        (f"{plain_name(one.name)}: {_said(one)}", figure) for one in seen if (figure := _figure(one)) is not None
    ]
    paths |= write_figures(folder, figures)
    page = {
        "title": "Unmixing",
        "text": "Each method was run with its defaults unless the settings that stand with its run say otherwise. Methods "
        "that unmix with a library were given the true endmembers where none was named: their rows are floors. RMSE is "
        "that of abundances divided by their sum.\n\n" + "\n\n".join(notes),
        "figures": figures,
        "tables": [(captions[name], rows) for name, rows in tables.items() if rows],
        "provenance": reports,
    }
    paths["report"] = str(write_html(folder / "report.html", title="Unmixing bench", sections=[page]))
    runs_text = json.dumps([r.as_dict() for r in reports], indent=1, default=str)
    paths["runs.json"] = str(write_whole(folder / "runs.json", runs_text.encode()))
    report = Report(method="bench/unmix", settings=chosen.model_dump(), seed=seed, notes=notes)
    report.figures = {"scenes": len(seen), "methods": list(seen[0].measured)}
    return Result({name: rows for name, rows in tables.items() if rows}, report, paths)


def _all(seen: Sequence[Seen]) -> Iterator[Measured]:
    return (m for one in seen for turns in one.measured.values() for m in turns)


def _row(one: Seen, row: Mapping[str, Any], runs: int, linked: bool) -> dict[str, Any]:
    """A row with its scene and number of seeds in front; ``run`` links to the provenance in the first table alone."""
    rest = {k: v for k, v in row.items() if k not in ("method", "note") and (linked or k != "run")}
    method = row["method"]
    front = {"scene": one.name, "method": method, "given": one.given.get(method, ""), "seeds": runs or None}
    return {**front, **rest, "note": row.get("note", "")}


def _classes(one: Seen, matching: str, unit: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, turns in one.measured.items():
        if not any(m.figures for m in turns):
            continue
        for material in one.names:
            columns = {f"{matching}|{material}|SAD": f"SAD [{unit}]", f"{matching}|{material}|RMSE": "RMSE"}
            found = rows_of({name: [_picked(m, columns) for m in turns if m.figures]}, [], {})[0]
            kept = {k: v for k, v in found.items() if k in columns.values()}
            rows.append({"scene": one.name, "method": name, "class": material, **kept})
    return rows


def _said(one: Seen) -> str:
    return "maps and spectra, truth and estimates of the first seed" if one.maps is not None else "estimates, no truth"


def _figure(one: Seen) -> Any:
    """True and estimated maps and spectra of a scene."""
    rows: list[tuple[str, np.ndarray, np.ndarray]] = []
    errors: dict[str, np.ndarray] = {}
    names = one.names
    if one.maps is not None and one.spectra is not None:
        rows.append(("truth", one.maps, one.spectra))
    for name, turns in one.measured.items():
        first = turns[0] if turns else None
        if first is None or first.picture is None or first.curve is None or len(rows) > SHOWN:
            continue
        names = names or [f"endmember {n + 1}" for n in range(len(first.picture))]
        if len(first.picture) != len(names):
            continue
        rows.append((name, first.picture, first.curve))
        if first.error_map is not None:
            errors[name] = first.error_map
    if not rows or (len(rows) == 1 and one.maps is not None):
        return None
    return unmixing_comparison(rows, names, wavelength=one.wavelength, errors=errors, title=one.name)
