"""Sharpening methods compared on one scene: reduced resolution with truth, full resolution without.

Reduced resolution follows Wald's protocol (`sharpening.protocol`); full resolution needs a PAN of the scene and uses
indexes that know no truth. Each method is run by the engine as a user would run it, and a method that cannot be run on
the scene stands in the table with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral import registry
from torchspectral.errors import BadInput, OutputExists, TorchspectralError
from torchspectral.log import Progress, Step, no_progress
from torchspectral.report.charts import band_curves
from torchspectral.report.figures import error_maps, rgb_panels
from torchspectral.report.files import write_whole
from torchspectral.report.html import write_html
from torchspectral.report.tables import Table, mean_std
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.base import as_pan, sharpen
from torchspectral.sharpening.protocol import simulate_wald

REDUCED = ("ERGAS", "SAM", "Q2n", "PSNR", "SSIM")
FULL = ("D_lambda", "D_s", "D_sR", "D_rho", "QNR")
SHOWN = 6
"""Methods in the pictures."""


class BenchSettings(Settings):
    """Settings of the sharpening bench."""

    crop: int = setting(10, "pixels left out at each edge of the fine grid", unit="pixel", ge=0)
    snr: float | None = setting(None, "noise added to the simulated pair, below the rms of each band", unit="dB")
    seeds: int = setting(1, "repetitions with other seeds; figures are then mean and deviation", ge=1)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def bench_sharpening(
    scene: xr.DataArray,
    pan: xr.DataArray | None = None,
    *,
    methods: Sequence[str] | None = None,
    ratio: int | None = None,
    out: str | Path,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Compare sharpening methods; writes tables (CSV, Markdown, LaTeX), figures and an HTML page.

    Parameters
    ----------
    scene : DataArray, dims (band, y, x)
        The truth of the reduced-resolution table, and the input of the full-resolution one.
    pan : DataArray, optional
        The scene's PAN; without one a PAN is made of the scene's bands and there is no full-resolution table.
    methods : sequence of str, optional
        Cards of the room; all by default.
    ratio : int, optional
        By default that of scene and PAN, else 4.
    out : path
        Folder.
    seed : int
        Of the first repetition.
    **settings
        Fields of `BenchSettings`.

    Returns
    -------
    Result
        ``reduced`` and, with a PAN, ``full`` (lists of rows), and ``bands`` (RMSE of each band by method).

    Raises
    ------
    UnknownName
        No such method.
    OutputExists
        The folder has a bench already.
    BadInput
        No method could be run.
    """
    chosen = BenchSettings.make(settings)
    cards = [registry.card("sharpening", name) for name in methods] if methods else registry.methods("sharpening")
    folder = Path(out)
    if (folder / "report.html").exists() and not overwrite:
        raise OutputExists(f"{folder} has a bench already: ask to overwrite, or choose another folder")
    fine = as_pan(pan) if pan is not None else None
    if ratio is None:
        ratio = max(2, round(fine.sizes["x"] / scene.sizes["x"])) if fine is not None else 4
    bench = _Bench([c.name for c in cards], ratio, chosen, progress)
    bench.reduced(scene, fine, seed)
    if not bench.curves:
        raise BadInput(f"no method could be run: {'; '.join(sorted(set(bench.failed.values())))}")
    if fine is not None:
        bench.full(scene, fine, seed)
    return bench.write(folder, seed)


class _Bench:
    """One bench: what it has measured so far."""

    def __init__(self, names: list[str], ratio: int, settings: BenchSettings, progress: Progress) -> None:
        self.names, self.ratio, self.settings, self.progress = names, ratio, settings, progress
        self.failed: dict[str, str] = {}
        self.reports: list[Report] = []
        self.rows: dict[str, list[dict[str, Any]]] = {"reduced": [], "full": []}
        self.curves: dict[str, Any] = {}
        self.wavelength: np.ndarray = np.zeros(0)
        self.pictures: dict[str, xr.DataArray] = {}
        self.truth: xr.DataArray | None = None
        self.notes: list[str] = []

    def reduced(self, scene: xr.DataArray, pan: xr.DataArray | None, seed: int) -> None:
        """Wald's protocol, once a seed."""
        from torchspectral.metrics.score import score

        found: dict[str, list[dict[str, float]]] = {name: [] for name in self.names}
        reports: dict[str, Report] = {}
        for turn in range(self.settings.seeds):
            pair = simulate_wald(scene, self.ratio, pan, seed=seed + turn, snr=self.settings.snr)
            self.notes = [*pair.report.dropped, *pair.report.notes]
            for number, name in enumerate(self.names):
                self.progress(Step(f"reduced resolution {turn + 1}", number / len(self.names), name))
                result = self._run(name, pair["hs"], pair["pan"], seed + turn)
                if result is None:
                    continue
                crop = min(self.settings.crop, (min(pair["truth"].shape[-2:]) - 32) // 2)
                scored = score(result.primary, pair["truth"], ratio=self.ratio, crop=max(crop, 0))
                figures = scored.report.figures
                found[name].append({m: figures[m] for m in REDUCED if m in figures} | _cost(result.report))
                reports.setdefault(name, result.report)
                if turn == 0:
                    bands = figures["bands"]
                    self.curves[name] = np.array([np.nan if v is None else v for v in bands["RMSE"]], float)
                    self.wavelength = np.asarray(bands["wavelength"], float)
                    if len(self.pictures) < SHOWN:
                        self.pictures[name] = result.primary
            self.truth = pair["truth"] if self.truth is None else self.truth
            self.progress(Step(f"reduced resolution {turn + 1}", 1.0))
        self.rows["reduced"] = self._rows(found, reports)

    def full(self, scene: xr.DataArray, pan: xr.DataArray, seed: int) -> None:
        """Indexes without truth at the scene's own resolution."""
        found: dict[str, list[dict[str, float]]] = {name: [] for name in self.names}
        reports: dict[str, Report] = {}
        for number, name in enumerate(self.names):
            self.progress(Step("full resolution", number / len(self.names), name))
            result = self._run(name, scene, pan, seed)
            if result is not None:
                found[name].append(full_resolution(result.primary, scene, pan) | _cost(result.report))
                reports[name] = result.report
        self.progress(Step("full resolution", 1.0))
        self.rows["full"] = self._rows(found, reports)

    def _run(self, name: str, hs: xr.DataArray, pan: xr.DataArray, seed: int) -> Result | None:
        try:
            return sharpen(hs, pan, method=name, seed=seed, device=self.settings.device)
        except TorchspectralError as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            return None

    def _rows(self, found: dict[str, list[dict[str, float]]], reports: dict[str, Report]) -> list[dict[str, Any]]:
        rows = []
        for name in self.names:
            if not found[name]:
                continue
            self.reports.append(reports[name])
            keys = list(found[name][0])
            figures = {key: [turn[key] for turn in found[name] if key in turn] for key in keys}
            row = {key: values[0] if len(values) == 1 else mean_std(values) for key, values in figures.items()}
            rows.append({"method": name, **row, "run": len(self.reports)})
        return rows

    def write(self, folder: Path, seed: int) -> Result:
        """Tables, figures and the page."""
        folder.mkdir(parents=True, exist_ok=True)
        tables, paths = [], {}
        titles = {
            "reduced": f"Reduced resolution (Wald's protocol, ratio {self.ratio}; {', '.join(self.notes)})",
            "full": f"Full resolution (ratio {self.ratio}; no truth)",
        }
        for name, rows in self.rows.items():
            if not rows:
                continue
            table = Table([{k: v for k, v in row.items() if k != "run"} for row in rows], caption=titles[name])
            for suffix, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
                paths[f"{name}.{suffix}"] = str(write_whole(folder / f"{name}.{suffix}", text.encode()))
            tables.append((titles[name], rows))
        if self.failed:
            skipped = [{"method": name, "reason": reason} for name, reason in self.failed.items()]
            tables.append(("Not run", skipped))
        figures = self._figures()
        for caption, figure in figures:
            file = folder / f"{caption.split(':')[0].lower().replace(' ', '-')}.png"
            figure.savefig(file, dpi=150)
            paths[file.name] = str(file)
        page = {
            "title": "Sharpening",
            "text": "Each method was run with its defaults; the settings stand with each run below.",
            "figures": figures,
            "tables": tables,
            "provenance": self.reports,
        }
        paths["report"] = str(write_html(folder / "report.html", title="Sharpening bench", sections=[page]))
        report = Report(
            method="bench/sharpening", settings=self.settings.model_dump() | {"ratio": self.ratio}, seed=seed
        )
        report.notes = self.notes + [f"{name} was not run: {reason}" for name, reason in self.failed.items()]
        runs = [r.as_dict() for r in self.reports]
        write_whole(folder / "runs.json", json.dumps(runs, indent=1, default=str).encode())
        values = {name: rows for name, rows in self.rows.items() if rows} | {"bands": self.curves}
        return Result(values, report, paths)

    def _figures(self) -> list[tuple[str, Any]]:
        assert self.truth is not None
        truth = self.truth.values.astype(np.float32)
        errors = [
            (name, np.sqrt(np.nanmean((cube.values - truth) ** 2, axis=0))) for name, cube in self.pictures.items()
        ]
        unit = str(self.truth.attrs.get("units", "1"))
        panels = [("truth", self.truth), *self.pictures.items()]
        return [
            ("Pictures: natural colours at reduced resolution", rgb_panels(panels, columns=4)),
            ("Error maps: root mean square over the bands", error_maps(errors, label="RMSE", unit=unit)),
            (
                "Bands: error of each band",
                band_curves(self.curves, wavelength=self.wavelength, label="RMSE", unit=unit),
            ),
        ]


def full_resolution(fused: xr.DataArray, hs: xr.DataArray, pan: xr.DataArray) -> dict[str, float]:
    """Indexes that need no truth, those of `FULL`: see `metrics.full_resolution`.

    Parameters
    ----------
    fused : DataArray (band, R y, R x)
    hs : DataArray (band, y, x)
    pan : DataArray (1, R y, R x)
        Bands that are empty or hold nodata in `fused` or `hs` do not count.

    Raises
    ------
    BadInput
        No band is without nodata.
    GridMismatch
    """
    import torch

    from torchspectral.metrics import full_resolution as index

    arrays = [np.asarray(a.values, dtype=np.float64) for a in (fused, hs, pan)]
    whole = np.isfinite(arrays[0]).all((1, 2)) & np.isfinite(arrays[1]).all((1, 2))
    if not whole.any() or not np.isfinite(arrays[2]).all():
        raise BadInput("every band or the PAN holds nodata: cut a window without nodata for full-resolution indexes")
    f, h = (torch.from_numpy(np.ascontiguousarray(a[whole])) for a in arrays[:2])
    p = torch.from_numpy(arrays[2])
    rho = index.d_rho(f, p, index.ratio_of(f, h))
    found = index.qnr(f, h, p) | {"D_s": index.d_s(f, h, p), "D_rho": float(rho.mean())}
    return {name: float(found[name]) for name in FULL}


def _cost(report: Report) -> dict[str, float]:
    return {"seconds": float(report.seconds.get("total", 0.0)), "memory [MB]": report.peak_memory / 1e6}
