"""Sharpening methods compared on one scene: reduced resolution with truth, full resolution without.

Reduced resolution follows Wald's protocol (`sharpening.protocol`); full resolution needs a PAN or guides of the scene
and uses indexes that know no truth. Each method is run by the engine as a user would run it. What a method has done is
kept in the folder, so that a bench that was stopped goes on, and a method that cannot be run on the scene stands in
the table with the reason.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import yaml

from torchspectral import registry
from torchspectral.bench.shared import (
    bench_folder,
    colours,
    cost,
    key_of,
    rows_of,
    windows,
    write_figures,
    write_tables,
)
from torchspectral.bench.store import Measured, Store
from torchspectral.errors import BadInput, BadSettings, GridMismatch, TorchspectralError
from torchspectral.log import Progress, Step, no_progress
from torchspectral.report.charts import band_curves
from torchspectral.report.figures import error_maps, rgb_panels
from torchspectral.report.files import write_whole
from torchspectral.report.html import write_html
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.base import as_pan, sharpen
from torchspectral.sharpening.protocol import degraded_guides, simulate_wald

REDUCED = ("ERGAS", "SAM", "Q2n", "PSNR", "SSIM")
FULL = ("D_lambda", "D_s", "D_sR", "D_rho", "QNR")
COMPARED = ("ERGAS", "SAM", "Q2n")
SHOWN = 8
"""Methods in the pictures."""
PARTS = "parts"


class BenchSettings(Settings):
    """Settings of the sharpening bench."""

    crop: int = setting(10, "pixels left out at each edge of the fine grid", unit="pixel", ge=0)
    protocol: Literal["normalised", "toolbox"] = setting(
        "normalised",
        "toolbox: kernels that do not sum to 1, whole counts, one more pixel cropped at the end, outputs clipped to "
        "0..65536, as in the published benchmark",
    )
    snr: float | None = setting(None, "noise added to the simulated pair, below the rms of each band", unit="dB")
    seeds: int = setting(1, "repetitions with other seeds; figures are then mean and deviation", ge=1)
    tiles: int = setting(
        1, "parts along each side that are scored on their own; figures are then mean and deviation", ge=1
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def bench_sharpening(
    scene: xr.DataArray,
    pan: xr.DataArray | None = None,
    *,
    guides: Any = None,
    bbox: Sequence[float] | None = None,
    methods: Sequence[str] | None = None,
    ratio: int | None = None,
    out: str | Path,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    method_settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Compare sharpening methods; writes tables (CSV, Markdown, LaTeX), figures and an HTML page.

    Parameters
    ----------
    scene : DataArray, dims (band, y, x)
        The truth of the reduced-resolution table, and the input of the full-resolution one.
    pan : DataArray, optional
        The scene's PAN; without one a PAN is made of the scene's bands, and the full-resolution table holds guided
        methods only, if any.
    guides : DataArray or a list of them, optional
        Finer images of several bands for the guided methods; at reduced resolution they are degraded as the PAN is,
        and without them they are made of the scene's bands.
    bbox : (west, south, east, north), optional
        Part of the scene to work on, in its CRS; PAN and guides are cut to it. Of a scene that lies nowhere: left, top,
        right and bottom pixel edges.
    methods : sequence of str, optional
        Cards of the room; all by default.
    ratio : int, optional
        By default that of scene and PAN or guides, else 4.
    out : path
        Folder.
    seed : int
        Of the first repetition.
    overwrite, resume : bool
        What to do with a bench that the folder has: begin anew, or keep what it has measured under the same settings.
    method_settings : mapping of method to settings, optional
        Settings that are not the defaults, to shorten slow fits for example; they stand in the report.
    **settings
        Fields of `BenchSettings`.

    Returns
    -------
    Result
        ``reduced`` and, with a PAN or guides, ``full`` (lists of rows; a method that failed has a ``note`` instead of
        figures), ``bands`` (RMSE of each band by method) and ``spectral`` (by method that guards its bands, the columns
        of what it says of each: spectral loss against the interpolated band's and the target, iterations).

    Raises
    ------
    UnknownName
        No such method.
    OutputExists
        The folder has a bench already.
    BadInput
        No method could be run.
    GridMismatch
        The box lies outside the scene.
    """
    chosen = BenchSettings.make(settings)
    cards = [registry.card("sharpening", name) for name in methods] if methods else registry.methods("sharpening")
    names = [card.name for card in cards]
    special = {name: dict(values) for name, values in (method_settings or {}).items()}
    for name in special:
        registry.card("sharpening", name)
        if name not in names:
            raise BadSettings(f"got settings of {name}, which is not compared: add it to the methods")
    folder = bench_folder(out, overwrite=overwrite, resume=resume, written="report.html")
    fine = as_pan(pan) if pan is not None else None
    scene, fine, cut = _cut(scene, fine, bbox)
    if ratio is None:
        finer = fine if fine is not None else (_first(guides) if guides is not None else None)
        ratio = max(2, _ratio_of(finer, scene)) if finer is not None else 4
    guided = [card.name for card in cards if "guides" in card.needs]
    store = Store(
        folder / PARTS, keep=resume, key=key_of((scene, fine), ratio, chosen.model_dump(exclude={"seeds", "device"}))
    )
    bench = _Bench(names, guided, ratio, chosen, special, store, progress)
    bench.cut = cut
    bench.reduced(scene, fine, guides, seed)
    if not bench.curves:
        raise BadInput(f"no method could be run: {'; '.join(sorted(set(bench.failed['reduced'].values())))}")
    if fine is not None or (guides is not None and guided):
        bench.full(scene, fine, guides, seed)
    return bench.write(folder, seed)


def fingerprint(truth: xr.DataArray) -> str:
    """Shape and checksum of a scene's values as whole numbers."""
    values = np.nan_to_num(np.asarray(truth.values, dtype=np.float64)).round().astype("<i4")
    return f"{'x'.join(map(str, truth.shape))}-{zlib.crc32(np.ascontiguousarray(values).tobytes()):08x}"


def published(truth: xr.DataArray, ratio: int, settings: BenchSettings) -> tuple[dict[str, dict[str, float]], str]:
    """Figures that others give for this very scene, ratio and protocol, by method, and where they come from."""
    text = resources.files("torchspectral.bench").joinpath("published_sharpening.yaml").read_text(encoding="utf-8")
    rows = [r for r in yaml.safe_load(text) if r["protocol"] == settings.protocol and ratio in r["ratios"]]
    rows = [r for r in rows if r["ratios"][ratio]["crop"] == settings.crop and settings.snr is None]
    if not any(r["fingerprint"].startswith("x".join(map(str, truth.shape))) for r in rows):
        return {}, ""
    own = fingerprint(truth)
    for row in rows:
        if row["fingerprint"] == own:
            return {k: v for k, v in row["ratios"][ratio].items() if k != "crop"}, f"{row['scene']}: {row['source']}"
    return {}, ""


class _Bench:
    """One bench: what it has measured so far."""

    def __init__(
        self,
        names: list[str],
        guided: list[str],
        ratio: int,
        settings: BenchSettings,
        special: dict[str, dict[str, Any]],
        store: Store,
        progress: Progress,
    ) -> None:
        self.names, self.guided, self.ratio, self.settings = names, guided, ratio, settings
        self.special, self.store, self.progress = special, store, progress
        self.failed: dict[str, dict[str, str]] = {"reduced": {}, "full": {}}
        self.reports: list[Report] = []
        self.rows: dict[str, list[dict[str, Any]]] = {"reduced": [], "full": []}
        self.curves: dict[str, Any] = {}
        self.wavelength: np.ndarray = np.zeros(0)
        self.pictures: dict[str, np.ndarray] = {}
        self.errors: dict[str, np.ndarray] = {}
        self.truth: xr.DataArray | None = None
        self.notes: list[str] = []
        self.cut: list[str] = []
        self.spectral: dict[str, dict[str, list[Any]]] = {}

    @property
    def toolbox(self) -> bool:
        """Whether the published benchmark is followed to the letter."""
        return self.settings.protocol == "toolbox"

    def reduced(self, scene: xr.DataArray, pan: xr.DataArray | None, guides: Any, seed: int) -> None:
        """Wald's protocol, once a seed."""
        measured: dict[str, list[Measured]] = {name: [] for name in self.names}
        for turn in range(self.settings.seeds):
            wald: dict[str, Any] = {"normalize": False, "rounding": "round"} if self.toolbox else {}
            pair = simulate_wald(scene, self.ratio, pan, seed=seed + turn, snr=self.settings.snr, **wald)
            self.truth = pair["truth"] if self.truth is None else self.truth
            self.notes = [*self.cut, *pair.report.dropped, *pair.report.notes]
            finer, why = self._guides(scene, pair["truth"], guides, seed + turn) if self.guided else (None, "")
            for number, name in enumerate(self.names):
                self.progress(Step(f"reduced resolution {turn + 1}", number / len(self.names), name))
                given = {"guides": finer} if name in self.guided else {"pan": pair["pan"]}
                if name in self.guided and finer is None:
                    measured[name].append(Measured(error=why))
                    continue
                measured[name].append(
                    self._measure("reduced", turn, name, seed + turn, pair["hs"], given, self._scored(pair["truth"]))
                )
            self.progress(Step(f"reduced resolution {turn + 1}", 1.0))
        for name, found in measured.items():
            first = next((m for m in found if m.curve is not None), None)
            if first is None:
                continue
            self.curves[name] = first.curve
            if "spectral_ratio" in first.bands:
                self.spectral[name] = first.bands
            if len(self.pictures) < SHOWN and first.picture is not None and first.error_map is not None:
                self.pictures[name], self.errors[name] = first.picture, first.error_map
        assert self.truth is not None
        self.wavelength = np.asarray(self.truth["wavelength"].values, float)
        self.rows["reduced"] = rows_of(measured, self.reports, self.failed["reduced"])
        theirs, source = published(self.truth, self.ratio, self.settings)
        if theirs:
            self.notes.append(f"columns with 'paper' hold the figures of {source}")
            for row in self.rows["reduced"]:
                known = theirs.get(str(row["method"]), {})
                row |= {f"{metric} (paper)": known.get(metric) for metric in COMPARED}

    def _guides(self, scene: xr.DataArray, truth: xr.DataArray, guides: Any, seed: int) -> tuple[Any, str]:
        """Guides of the truth, and why there are none."""
        from torchspectral.sharpening.guided.simulation import COARSE_BANDS, simulate_guides

        try:
            if guides is not None:
                made, note = degraded_guides(scene, guides, self.ratio, seed=seed, snr=self.settings.snr)
                self.notes.append(note)
                return made, ""
            found = simulate_guides(truth, coarse_bands=COARSE_BANDS, snr=self.settings.snr, seed=seed)
        except TorchspectralError as error:
            return None, f"{type(error).__name__}: {error}"
        count = sum(v.sizes["band"] for v in found.values())
        self.notes.append(f"guided methods see {count} bands of Sentinel-2, made of the scene's bands")
        return list(found.values()), ""

    def _scored(self, truth: xr.DataArray) -> Any:
        """Function that scores a fused cube on each part of the scene."""

        def scored(result: Result) -> Measured:
            from torchspectral import metrics
            from torchspectral.metrics.score import score

            cube = result.primary
            kinds: Any = list(REDUCED)
            last = 1 if self.toolbox else 0
            if self.toolbox:
                cube = cube.clip(0, 65536, keep_attrs=True)
                kinds = [metrics.ERGAS(self.ratio), metrics.SAM(), metrics.Q2n(rounding=True), "PSNR", "SSIM"]
            crop = max(0, min(self.settings.crop, (min(truth.shape[-2:]) - 32 - last) // 2))
            rows, cols = (truth.sizes[d] - crop - last for d in ("y", "x"))
            inner = cube.isel(y=slice(crop, rows), x=slice(crop, cols))
            wanted = truth.isel(y=slice(crop, rows), x=slice(crop, cols))
            found = Measured(report=result.report.as_dict())
            if "bands" in result:
                found.bands = {str(name): list(values) for name, values in result["bands"].to_dict("list").items()}
            for window in windows(wanted, self.settings.tiles):
                parts = _whole_windows(inner.isel(window), wanted.isel(window), kinds, self.ratio, score)
                found.figures.append(parts | cost(result.report))
            whole = score(inner, wanted, metrics=["RMSE"])
            bands = whole.report.figures["bands"]
            curve = np.full(truth.sizes["band"], np.nan)
            curve[np.asarray(bands["band"], dtype=int) - 1] = [np.nan if v is None else v for v in bands["RMSE"]]
            found.curve = curve
            difference = np.asarray(cube.values, np.float32) - np.asarray(truth.values, np.float32)
            with np.errstate(invalid="ignore"):
                found.error_map = np.sqrt(np.nanmean(difference**2, axis=0))
            found.picture = np.asarray(cube.isel(band=colours(truth)).values, np.float32)
            return found

        return scored

    def full(self, scene: xr.DataArray, pan: xr.DataArray | None, guides: Any, seed: int) -> None:
        """Indexes without truth at the scene's own resolution."""
        measured: dict[str, list[Measured]] = {name: [] for name in self.names}
        for number, name in enumerate(self.names):
            self.progress(Step("full resolution", number / len(self.names), name))
            sees = "guides" if name in self.guided and guides is not None else "pan"
            if sees == "pan" and pan is None:
                measured[name].append(Measured(error="there is no PAN of the scene"))
                continue
            given = {"guides": guides} if sees == "guides" else {"pan": pan}
            measured[name].append(
                self._measure("full", 0, name, seed, scene, given, lambda r: self._unscored(r, scene, pan, guides))
            )
        self.progress(Step("full resolution", 1.0))
        self.rows["full"] = rows_of(measured, self.reports, self.failed["full"])

    def _unscored(self, result: Result, scene: xr.DataArray, pan: xr.DataArray | None, guides: Any) -> Measured:
        if pan is None:
            from torchspectral.sharpening.guided.stack import assemble
            from torchspectral.sharpening.pairs import Done

            # A PAN of the guides themselves, for indexes that know one image only.
            image = assemble(scene, guides, resample=True, done=Done()).image
            pan = as_pan(image.mean("band", keep_attrs=True))
        figures = full_resolution(result.primary, scene, pan)
        return Measured([figures | cost(result.report)], result.report.as_dict())

    def _measure(
        self, stage: str, turn: int, name: str, seed: int, hs: xr.DataArray, given: dict[str, Any], scored: Any
    ) -> Measured:
        special = self.special.get(name, {})
        key = f"{stage}-{seed}-{name}"
        known = self.store.get(key, special)
        if known is not None:
            return known
        try:
            fused = sharpen(
                hs, **given, method=name, settings=special, seed=seed, device=self.settings.device, check_shift=False,
                resample=stage == "full",
            )  # fmt: skip
            found: Measured = scored(fused)
        except TorchspectralError as error:
            found = Measured(error=f"{type(error).__name__}: {error}")
        self.store.put(key, special, found)
        return found

    def write(self, folder: Path, seed: int) -> Result:
        """Tables, figures and the page."""
        import pandas as pd  # type: ignore[import-untyped]

        folder.mkdir(parents=True, exist_ok=True)
        tables, paths = [], {}
        titles = {
            "reduced": f"Reduced resolution (Wald's protocol, ratio {self.ratio}; {', '.join(self.notes)})",
            "full": f"Full resolution (ratio {self.ratio}; no truth)",
        }
        for name, columns in self.spectral.items():
            text = pd.DataFrame(columns).to_csv(index=False)
            file = write_whole(folder / f"spectral-{name}.csv", text.encode())
            paths[file.name] = str(file)
        for name, rows in self.rows.items():
            if not rows:
                continue
            paths |= write_tables(folder, name, rows, caption=titles[name])
            tables.append((titles[name], rows))
        figures = self._figures()
        paths |= write_figures(folder, figures)
        page = {
            "title": "Sharpening",
            "text": "Each method was run with its defaults unless the settings that stand with its run say otherwise.",
            "figures": figures,
            "tables": tables,
            "provenance": self.reports,
        }
        paths["report"] = str(write_html(folder / "report.html", title="Sharpening bench", sections=[page]))
        report = Report(
            method="bench/sharpening", settings=self.settings.model_dump() | {"ratio": self.ratio}, seed=seed
        )
        report.notes = list(self.notes)
        for stage, failed in self.failed.items():
            report.notes += [f"{name} was not run ({stage} resolution): {why}" for name, why in failed.items()]
        runs = [r.as_dict() for r in self.reports]
        write_whole(folder / "runs.json", json.dumps(runs, indent=1, default=str).encode())
        curves = {name: [None if np.isnan(v) else float(v) for v in curve] for name, curve in self.curves.items()}
        held = {"wavelength": [float(w) if np.isfinite(w) else None for w in self.wavelength], "RMSE": curves}
        paths["bands.json"] = str(write_whole(folder / "bands.json", json.dumps(held).encode()))
        values = {name: rows for name, rows in self.rows.items() if rows} | {"bands": self.curves}
        values |= {"spectral": self.spectral} if self.spectral else {}
        return Result(values, report, paths)

    def _figures(self) -> list[tuple[str, Any]]:
        return [*self._images(), *([self._spectral()] if self.spectral else [])]

    def _spectral(self) -> tuple[str, Any]:
        curves: dict[str, Any] = {}
        for name, columns in self.spectral.items():
            curves |= {name: columns["spectral_ratio"], f"{name}, target": columns["target_ratio"]}
        caption = "Spectral loss: each band's, in units of the interpolated band's, against the target"
        return caption, band_curves(curves, wavelength=self.wavelength, label="spectral loss / interpolated band's")

    def _images(self) -> list[tuple[str, Any]]:
        assert self.truth is not None
        unit = str(self.truth.attrs.get("units", "1"))
        three = self.truth.isel(band=colours(self.truth))
        panels = [("truth", three), *((name, three.copy(data=image)) for name, image in self.pictures.items())]
        return [
            ("Pictures: natural colours at reduced resolution", rgb_panels(panels, columns=4)),
            (
                "Error maps: root mean square over the bands",
                error_maps(list(self.errors.items()), label="RMSE", unit=unit),
            ),
            (
                "Bands: error of each band",
                band_curves(self.curves, wavelength=self.wavelength, label="RMSE", unit=unit),
            ),
        ]


def _cut(
    scene: xr.DataArray, pan: xr.DataArray | None, bbox: Sequence[float] | None
) -> tuple[xr.DataArray, xr.DataArray | None, list[str]]:
    """Scene and PAN of a box, and a sentence about it."""
    if bbox is None:
        return scene, pan, []
    from torchspectral.geo import crop, grid_of

    if grid_of(scene).kind == "none":
        return _cut_pixels(scene, pan, bbox)
    part = crop(scene, bbox)
    if pan is not None and grid_of(pan).kind != "none":
        pan = crop(pan, grid_of(part).bounds)
    box = ", ".join(f"{v:.10g}" for v in bbox)
    return part, pan, [f"cut to {part.sizes['y']} x {part.sizes['x']} pixels (west, south, east, north {box})"]


def _cut_pixels(
    scene: xr.DataArray, pan: xr.DataArray | None, box: Sequence[float]
) -> tuple[xr.DataArray, xr.DataArray | None, list[str]]:
    """The same for scenes that lie nowhere: left, top, right and bottom pixel edges."""
    left, top, right, bottom = (round(v) for v in box)
    if not (0 <= left < right <= scene.sizes["x"] and 0 <= top < bottom <= scene.sizes["y"]):
        raise GridMismatch(
            f"got the box {left}, {top}, {right}, {bottom}, expected left, top, right and bottom pixel edges within "
            f"{scene.sizes['x']} x {scene.sizes['y']} (columns x rows), for this scene lies nowhere"
        )
    part = scene.isel(y=slice(top, bottom), x=slice(left, right))
    if pan is not None:
        zoom = max(1, pan.sizes["x"] // scene.sizes["x"])
        pan = pan.isel(y=slice(top * zoom, bottom * zoom), x=slice(left * zoom, right * zoom))
    return part, pan, [f"cut to rows {top + 1} to {bottom} and columns {left + 1} to {right}"]


def _whole_windows(out: xr.DataArray, truth: xr.DataArray, kinds: Any, ratio: int, score: Any) -> dict[str, float]:
    """Figures of one part; a metric whose window is larger than the part is left out."""
    found: dict[str, float] = {}
    for kind in kinds:
        try:
            figures = score(out, truth, metrics=[kind], ratio=ratio).report.figures
        except BadInput:
            continue
        found |= {k: float(v) for k, v in figures.items() if k != "bands"}
    return {name: found[name] for name in REDUCED if name in found}


def _first(guides: Any) -> xr.DataArray:
    """The finest of the guide images."""
    images = list(guides) if isinstance(guides, list | tuple) else [guides]
    images = [g["cube"] if isinstance(g, xr.Dataset) else g for g in images]
    from torchspectral.geo import grid_of

    finest: xr.DataArray = min(images, key=lambda g: grid_of(g).resolution[0])
    return finest


def _ratio_of(fine: xr.DataArray, scene: xr.DataArray) -> int:
    from torchspectral.geo import grid_of

    here, there = grid_of(fine), grid_of(scene)
    if here.kind in ("map", "rotated") and there.kind in ("map", "rotated") and here.crs == there.crs:
        return round(there.resolution[0] / here.resolution[0])
    return round(fine.sizes["x"] / scene.sizes["x"])


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
