"""Runs the sections and writes the panel, the report and the figures as JSON."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchspectral.errors import BadSettings, OutputExists, UnknownName, closest
from torchspectral.result import Report, Result


@dataclass
class Part:
    """What one section shows.

    Attributes
    ----------
    title, text : str
        Heading, and a paragraph in plain words.
    figures : list of (caption, matplotlib Figure)
    tables : list of (caption, rows); every row names its method and settings
    reports : list of Report
        Where the numbers come from.
    files : list of Path
        Outputs, relative to the demo's folder.
    """

    title: str
    text: str
    figures: list[tuple[str, Any]] = field(default_factory=list)
    tables: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Context:
    """What a section gets: its own folder, a way to talk, the samples where they are, and a seed."""

    folder: Path
    say: Callable[[str], None]
    samples: Path | None
    seed: int = 0


def find_sections() -> dict[str, Any]:
    """Section modules by name, in their `ORDER`; each has `ORDER`, a docstring and `run(context) -> Part`."""
    import torchspectral.demo.sections as package

    found = {
        m.name: importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].ORDER))


def find_samples() -> Path | None:
    """Folder of real sample scenes, where there is one: ``TORCHSPECTRAL_SAMPLES``, else ``../shared``."""
    for place in (os.environ.get("TORCHSPECTRAL_SAMPLES"), "../shared"):
        if place and (Path(place) / "data").is_dir():
            return Path(place) / "data"
    return None


def run_demo(
    out: str | Path,
    *,
    only: Sequence[str] | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
    seed: int = 0,
) -> Result:
    """Run the sections and write ``report.html``, ``panel.png``, ``figures.json`` and a folder a section.

    Parameters
    ----------
    out : path
        Folder; made where it does not exist.
    only : sequence of str, optional
        Names of the sections to run; all by default.
    say : callable
        Takes lines for people.

    Raises
    ------
    UnknownName
        No such section.
    OutputExists
        The folder has a report already and `overwrite` was not asked for.
    BadSettings
        `out` is a file.
    """
    from torchspectral.report.html import write_html
    from torchspectral.report.panel import save_panel

    known = find_sections()
    for name in only or ():
        if name not in known:
            raise UnknownName(f"no demo section {name!r}: {closest(name, list(known))}")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadSettings(f"{folder} is a file, expected a folder for the demo's outputs")
    if (folder / "report.html").exists() and not overwrite:
        raise OutputExists(f"{folder} has a demo report already: ask to overwrite, or choose another folder")
    samples = find_samples()
    parts: dict[str, Part] = {}
    began = time.perf_counter()
    for name, module in known.items():
        if only and name not in only:
            continue
        say(f"== {name}: {(module.__doc__ or '').strip().splitlines()[0]}")
        start = time.perf_counter()
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        parts[name] = module.run(Context(own, say, samples, seed))
        parts[name].seconds = time.perf_counter() - start
        say(f"   {parts[name].seconds:.1f} s")
    total = time.perf_counter() - began
    write_html(
        folder / "report.html",
        title="torchspectral: the main job on real scenes",
        intro=f"{len(parts)} sections in {total:.0f} s. Every number below names its method, settings, bands and time.",
        sections=[_for_html(name, part, folder) for name, part in parts.items()],
    )
    pictures = [
        (f"{parts[name].title}: {caption}", figure) for name in parts for caption, figure in parts[name].figures
    ]
    save_panel(pictures, folder / "panel.png")
    rows = {name: dict(part.tables) for name, part in parts.items()}
    (folder / "figures.json").write_text(json.dumps(rows, indent=1, default=str), encoding="utf-8")
    say(f"report: {folder / 'report.html'}\npanel: {folder / 'panel.png'}\n{total:.1f} s")
    report = Report(method="demo", seed=seed, seconds={n: p.seconds for n, p in parts.items()})
    return Result(dict(parts), report, {"report": str(folder / "report.html"), "panel": str(folder / "panel.png")})


def _for_html(name: str, part: Part, folder: Path) -> dict[str, Any]:
    return {
        "name": name,
        "title": part.title,
        "text": part.text,
        "figures": part.figures,
        "tables": part.tables,
        "provenance": [report.as_dict() for report in part.reports],
        "files": [str(p.relative_to(folder)) for p in part.files],
        "seconds": part.seconds,
    }
