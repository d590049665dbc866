"""Super-resolution methods compared on scenes that are made coarser, as the field does.

Each scene is divided by its largest value and degraded by MATLAB's bicubic ``imresize``; what a method makes of that is
held against the scene. Bicubic, Lanczos and interpolated principal components always stand in the table: a network that
is not above them has learned nothing. Methods without weights stand in it with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral import registry
from torchspectral.bench.shared import (
    bench_folder,
    colours,
    cost,
    key_of,
    plain_name,
    rows_of,
    windows,
    write_figures,
    write_tables,
)
from torchspectral.bench.store import Measured, Store
from torchspectral.cube import check_cube
from torchspectral.errors import BadInput, BadSettings, TorchspectralError
from torchspectral.log import Progress, Step, no_progress
from torchspectral.report.charts import band_curves
from torchspectral.report.figures import error_maps, rgb_panels
from torchspectral.report.files import write_whole
from torchspectral.report.html import write_html
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting
from torchspectral.superresolution.base import ROOM, method_of, superres
from torchspectral.superresolution.protocol import degrade, quality

SHOWN = 8
"""Methods in the pictures."""
PARTS = "parts"
FLOOR = "bicubic"
BASELINES: dict[str, dict[str, Any]] = {
    FLOOR: {"kernel": "bicubic"},
    "lanczos": {"kernel": "lanczos"},
    "pca-bicubic": {"kernel": "bicubic", "components": 10},
}
"""Rows of the method "interpolation" and their settings."""


class SuperresBenchSettings(Settings):
    """Settings of the super-resolution bench."""

    scale: int = setting(4, "ratio of the pixels", ge=2, le=64)
    crop: int = setting(0, "pixels left out at each edge of the fine grid", unit="pixel", ge=0)
    tiles: int = setting(1, "parts along each side that are scored on their own", ge=1)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def bench_superresolution(
    scenes: Sequence[xr.DataArray],
    *,
    names: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    weights: Mapping[str, str | Path] | Sequence[str | Path] | None = None,
    out: str | Path,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    method_settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Compare super-resolution methods; writes tables (CSV, Markdown, LaTeX), figures and an HTML page.

    Parameters
    ----------
    scenes : sequence of DataArray, dims (band, y, x)
        The truth. Read into memory one at a time; bands that are marked bad or hold no value are left out.
    names : sequence of str, optional
        Of the scenes; "scene 1", "scene 2", ... by default.
    methods : sequence of str, optional
        Cards of the room; all by default. "interpolation" is always among them, as three rows.
    weights : mapping of method to file or name, or a list of these, optional
        A list says by itself which methods they are for. Methods without weights, and without ones of their own, are
        skipped.
    out : path
        Folder.
    seed : int
    overwrite, resume : bool
        What to do with a bench that the folder has: begin anew, or keep what it has measured under the same settings.
    method_settings : mapping of method to settings, optional
        Settings that are not the defaults.
    **settings
        Fields of `SuperresBenchSettings`.

    Returns
    -------
    Result
        ``scores`` (a list of rows with mean and deviation over all scenes and parts), ``scenes`` (the same by scene) and
        ``bands`` (RMSE of each band of the first scene by method). Columns: ``MPSNR`` [dB], ``MSSIM``, ``SAM`` [deg],
        ``ERGAS``, ``CrossCorrelation``, ``RMSE``, of values divided by the scene's largest; ``seconds``; ``memory
        [MB]``. A method that was not run has a ``note``.

    Raises
    ------
    UnknownName, OutputExists, BadSettings
    BadInput
        No scene, or one that no method can be scored on.

    References
    ----------
    Jiang, Sun, Liu and Ma, "Learning spatial-spectral prior for super-resolution of hyperspectral imagery", IEEE TCI 6,
    2020 (degradation and figures).
    """
    chosen = SuperresBenchSettings.make(settings)
    if not scenes:
        raise BadInput("got no scene to compare methods on, expected at least one")
    titles = list(names) if names is not None else [f"scene {n + 1}" for n in range(len(scenes))]
    if len(titles) != len(scenes) or len(set(titles)) != len(titles):
        raise BadSettings(f"got names {', '.join(titles)} for {len(scenes)} scenes, expected one each, none twice")
    cards = [registry.card(ROOM, name) for name in methods] if methods else registry.methods(ROOM)
    given = _weights(weights)
    special = {name: dict(values) for name, values in (method_settings or {}).items()}
    for name in {*given, *special}:
        if registry.card(ROOM, name).name not in {card.name for card in cards}:
            raise BadSettings(f"got weights or settings of {name}, which is not compared: add it to the methods")
    folder = bench_folder(out, overwrite=overwrite, resume=resume)
    bench = _Bench(chosen, special, given, [card.name for card in cards], seed, progress)
    for number, (title, scene) in enumerate(zip(titles, scenes, strict=True)):
        bench.scene(scene, title, folder, number / len(scenes), 1 / len(scenes), resume)
    return bench.write(folder)


def _weights(weights: Mapping[str, str | Path] | Sequence[str | Path] | None) -> dict[str, str | Path]:
    """Weights by method."""
    if weights is None:
        return {}
    if isinstance(weights, Mapping):
        return dict(weights)
    found: dict[str, str | Path] = {}
    for one in weights:
        name = method_of(one)
        if name in found:
            raise BadSettings(f"got two sets of weights for {name}, {found[name]} and {one}: bench them one by one")
        found[name] = one
    return found


class _Bench:
    """One bench: what it has measured so far."""

    def __init__(
        self,
        settings: SuperresBenchSettings,
        special: dict[str, dict[str, Any]],
        weights: dict[str, str | Path],
        methods: list[str],
        seed: int,
        progress: Progress,
    ) -> None:
        self.settings, self.special, self.weights, self.seed = settings, special, weights, seed
        self.progress = progress
        trained = [name for name in methods if name != "interpolation"]
        self.rows = [*BASELINES, *trained]
        self.measured: dict[str, dict[str, Measured]] = {name: {} for name in self.rows}
        self.first: tuple[str, xr.DataArray] | None = None
        self.notes: list[str] = []

    def scene(self, scene: xr.DataArray, title: str, folder: Path, done: float, share: float, resume: bool) -> None:
        """All methods on one scene."""
        truth, peak = self._truth(check_cube(scene), title)
        if self.first is None:
            self.first = title, truth
        low = degrade(truth, self.settings.scale)
        facts = (self.settings.model_dump(exclude={"device"}), self.seed)
        store = Store(folder / PARTS / plain_name(title), keep=resume, key=key_of([truth], *facts))
        for number, name in enumerate(self.rows):
            self.progress(Step(f"{title} {name}", done + share * number / len(self.rows)))
            self.measured[name][title] = self._measure(name, low, truth, peak, store)
        self.progress(Step(title, done + share))

    def _truth(self, scene: xr.DataArray, title: str) -> tuple[xr.DataArray, float]:
        """Whole coarse pixels of the bands that have values, in the scene's units, and the largest value."""
        scale = self.settings.scale
        rows, cols = (scene.sizes[d] // scale * scale for d in ("y", "x"))
        if min(rows, cols) < 2 * scale:
            raise BadInput(
                f"{title} has {scene.sizes['y']} x {scene.sizes['x']} pixels, expected at least {2 * scale} x {2 * scale} "
                f"to degrade {scale} times"
            )
        good = np.asarray(scene["good"].values, bool) if "good" in scene.coords else np.ones(scene.sizes["band"], bool)
        truth = scene[:, :rows, :cols].isel(band=np.flatnonzero(good)).load()
        nodata = truth.attrs.get("nodata")
        if nodata is not None and truth.dtype.kind in "iu":
            truth = truth.where(truth != nodata)
            truth.attrs = {k: v for k, v in scene.attrs.items() if k != "nodata"}
        live = np.isfinite(truth.values).any((1, 2))
        truth = truth.isel(band=np.flatnonzero(live)).astype(np.float32)
        peak = float(np.nanmax(truth.values)) if live.any() else 0.0
        if peak <= 0:
            raise BadInput(f"{title} has no positive value: there is nothing to compare")
        if (rows, cols) != (scene.sizes["y"], scene.sizes["x"]):
            self.notes.append(f"{title}: cut to {rows} x {cols} pixels, whole coarse ones")
        if truth.sizes["band"] < scene.sizes["band"]:
            self.notes.append(f"{title}: {scene.sizes['band'] - truth.sizes['band']} bands without use left out")
        return truth, peak

    def _measure(self, name: str, low: xr.DataArray, truth: xr.DataArray, peak: float, store: Store) -> Measured:
        method = "interpolation" if name in BASELINES else name
        special = {**self.special.get(method, {}), **BASELINES.get(name, {})}
        if "components" in special:
            special["components"] = min(special["components"], truth.sizes["band"])
        weights = self.weights.get(name)
        facts = special | ({"weights": str(weights)} if weights else {})
        known = store.get(name, facts)
        if known is not None:
            return known
        try:
            made = superres(
                low,
                scale=self.settings.scale,
                method=method,
                settings=special,
                weights=weights,
                seed=self.seed,
                device=self.settings.device,
                check=False,
            )
            found = self._scored(made, truth, peak)
        except TorchspectralError as error:
            found = Measured(error=f"{type(error).__name__}: {error}")
        store.put(name, facts, found)
        return found

    def _scored(self, made: Result, truth: xr.DataArray, peak: float) -> Measured:
        fine = made["cube"]
        crop = max(0, min(self.settings.crop, (min(truth.shape[1:]) - 32) // 2))
        inner = {d: slice(crop, truth.sizes[d] - crop) for d in ("y", "x")}
        found = Measured(report=made.report.as_dict())
        one, other = fine.isel(inner), truth.isel(inner)
        for window in windows(other, self.settings.tiles):
            p, t = (torch.from_numpy(np.asarray(c.isel(window).values, np.float32)) / peak for c in (one, other))
            valid = (p.isfinite() & t.isfinite()).all(0)
            if not bool(valid.any()):
                continue
            figures = quality(p.nan_to_num(), t.nan_to_num(), float(self.settings.scale), valid=valid)
            found.figures.append(figures | cost(made.report))
        if not found.figures:
            raise BadInput("no pixel has values in all bands of the result and the truth")
        difference = (np.asarray(fine.values, np.float32) - truth.values) / peak
        found.curve, found.error_map = _rms(difference, (1, 2)), _rms(difference, 0)
        found.picture = np.asarray(fine.isel(band=colours(truth)).values, np.float32)
        return found

    def write(self, folder: Path) -> Result:
        """Tables, figures and the page."""
        assert self.first is not None
        title, truth = self.first
        reports: list[Report] = []
        failed: dict[str, str] = {}
        scores = rows_of({name: list(found.values()) for name, found in self.measured.items()}, reports, failed)
        scenes: list[dict[str, Any]] = []
        for scene in self.measured[FLOOR]:
            rows = rows_of({name: [found[scene]] for name, found in self.measured.items()}, [], {})
            scenes += [{"scene": scene, **{k: v for k, v in row.items() if k != "run"}} for row in rows]
        if all(name in failed for name in BASELINES):
            raise BadInput(f"no method could be run: {failed[FLOOR]}")
        scale = self.settings.scale
        caption = f"Super-resolution x{scale}, {len(self.measured[FLOOR])} scenes degraded by bicubic imresize"
        paths = write_tables(folder, "scores", scores, caption=caption, digits=4)
        paths |= write_tables(folder, "scenes", scenes, caption=f"{caption}: each scene", digits=4)
        shown = [n for n in self.rows if self.measured[n][title].picture is not None]
        first = {name: self.measured[name][title] for name in shown}
        three = truth.isel(band=colours(truth))
        panels = [("truth", three), *((n, three.copy(data=first[n].picture)) for n in shown[:SHOWN])]
        wavelength = np.asarray(truth["wavelength"].values, float)
        curves = {name: first[name].curve for name in shown}
        figures = [
            (f"Pictures: natural colours, {title}", rgb_panels(panels, columns=4)),
            (
                f"Error maps: root mean square over the bands, {title}",
                error_maps([(n, first[n].error_map) for n in shown[:SHOWN]], label="RMSE", unit="1"),
            ),
            (
                f"Bands: error of each band, {title}",
                band_curves(curves, wavelength=wavelength, label="RMSE", unit="1"),
            ),
        ]
        paths |= write_figures(folder, figures)
        page = {
            "title": f"Super-resolution, {scale} times",
            "text": "Values are divided by each scene's largest. A method is worth its cost where it is above the row "
            f"{FLOOR}.",
            "figures": figures,
            "tables": [(caption, scores), ("Each scene", scenes)],
            "provenance": reports,
        }
        paths["report"] = str(write_html(folder / "report.html", title="Super-resolution bench", sections=[page]))
        runs = [report.as_dict() for report in reports]
        write_whole(folder / "runs.json", json.dumps(runs, indent=1, default=str).encode())
        report = Report(method="bench/superres", settings=self.settings.model_dump(), seed=self.seed, notes=self.notes)
        report.notes += [f"{name} was skipped: {why}" for name, why in failed.items()]
        report.figures = {"methods": shown, "scenes": len(self.measured[FLOOR])}
        return Result({"scores": scores, "scenes": scenes, "bands": curves}, report, paths)


def _rms(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Root mean square of the finite values along axes, NaN where there are none."""
    known = np.isfinite(values)
    count = known.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: np.ndarray = np.sqrt((np.where(known, values, 0) ** 2).sum(axis) / count)
    return out
