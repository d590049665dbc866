"""Sharpening: a method of each family on AVIRIS Indian Pines, guided fusion on EnMAP and Sentinel-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 10
RATIO = 4
METHODS = {
    "guided": "several guide bands",
    "exp": "interpolation",
    "gsa": "component substitution",
    "mtf-glp-hpm": "multiresolution",
    "sr-d": "sparse, variational",
    "hyperpnn": "network",
}
ZERO_SHOT = "rho-pnn"
ZERO_SHOT_BANDS = {"blue": 480.0, "red": 660.0, "near infrared": 860.0, "short-wave infrared": 1650.0}
ZERO_SHOT_SIDE = 64
"""Pixels of the scene that the zero-shot network learns on: a learning curve, no comparison."""
PIXELS = ((20, 30), (100, 20), (125, 60))
METRICS = ("ERGAS", "SAM", "Q2n", "PSNR")
ENMAP_TILES = ("128_96", "128_128", "160_96", "160_128")
ENMAP_RATIO = 3
SHIFT = (0.72, -0.54)
SNR = 40.0


def run(context: Context) -> Part:
    """Guided fusion on what real samples there are, a method of each family, a network that learns on the scene."""
    part = Part(title="Sharpening", text="")
    for show in (guided_enmap, guided_sentinel, families, zero_shot):
        show(context, part)
    part.text = part.text.strip()
    return part


def families(context: Context, part: Part) -> None:
    """One method of each family on a simulated pair."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.charts import band_curves
    from torchspectral.report.figures import error_maps, rgb_panels, spectra_at_pixels
    from torchspectral.sharpening.guided.simulation import COARSE_BANDS, simulate_guides

    scene, labels = indian_pines()
    grid = scene.hsi.grid
    context.say(
        f"   {scene.attrs.get('sensor')}: {scene.sizes['band']} bands, {grid.height} x {grid.width} pixels, "
        f"{scene.attrs['quantity']}, {float(scene['wavelength'].min()):.0f} to {float(scene['wavelength'].max()):.0f} nm, "
        f"{len(labels.attrs['class_names']) - 1} classes, grid: {grid.kind}"
    )
    pair = ts.simulate_wald(scene, RATIO)
    guides = simulate_guides(pair["truth"], coarse_bands=COARSE_BANDS)
    fused: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    held = held_out_rows(pair["truth"].sizes["y"])
    for method, family in METHODS.items():
        target = context.folder / f"{method}.tif"
        finer: dict[str, Any] = {"guides": list(guides.values())} if method == "guided" else {"pan": pair["pan"]}
        result = ts.sharpen(pair["hs"], **finer, method=method, out=target, overwrite=True, seed=context.seed)
        scored = ts.score(result.primary.isel(y=held), pair["truth"].isel(y=held), ratio=RATIO, metrics=list(METRICS))
        figures = scored.report.figures
        part.reports.append(result.report)
        fused[method] = result.primary
        curves[method] = np.array([np.nan if v is None else v for v in scored["bands"].get("PSNR", [])], float)
        rows.append(
            {
                "method": method,
                "family": family,
                **{name: figures[name] for name in METRICS},
                "bands": result.primary.sizes["band"],
                "seconds": result.report.seconds["total"],
                "run": len(part.reports),
            }
        )
        context.say(f"   {method}: ERGAS {figures['ERGAS']:.3f}, SAM {figures['SAM']:.2f} degrees")
    truth = pair["truth"].values.astype(np.float32)
    errors = [(name, np.sqrt(np.nanmean((cube.values - truth) ** 2, axis=0))) for name, cube in fused.items()]
    pictures = [("truth", pair["truth"]), ("coarse input", pair["hs"]), *fused.items()]
    wavelength = scored["bands"]["wavelength"].to_numpy()
    part.text += (
        " AVIRIS Indian Pines (145 x 145 pixels, 200 bands of raw counts) seen through the sensor's MTF and decimated "
        f"by {RATIO} (Wald's protocol), with a PAN made of its own bands: {'; '.join(pair.report.notes)}. "
        f"{'; '.join(pair.report.dropped)}. The figures are those of rows {held.start} to {held.stop - 1}, which "
        "the shipped network was not trained on. One method of each family, with its defaults; guided fusion sees "
        "the bands of Sentinel-2 instead of the PAN, made of the scene's bands too."
    )
    part.figures += [
        ("natural colours", rgb_panels(pictures, pixels=PIXELS)),
        ("root mean square error over all bands", error_maps(errors, label="RMSE", unit="counts", columns=4)),
        ("spectra at the marked pixels", spectra_at_pixels({"truth": pair["truth"], **fused}, PIXELS)),
        ("PSNR of each band", band_curves(curves, wavelength=wavelength, label="PSNR", unit="dB")),
    ]
    part.tables.append(("Reduced resolution, held-out rows", rows))
    part.files += [context.folder / f"{method}.tif" for method in METHODS]


def zero_shot(context: Context, part: Part) -> None:
    """A network that learns on the scene itself: spectral loss of a few named bands against the target."""
    import torchspectral as ts
    from torchspectral import registry
    from torchspectral.io.samples import indian_pines

    if not any(card.name == ZERO_SHOT for card in registry.methods("sharpening")):
        context.say(f"   {ZERO_SHOT} is not installed: left out")
        return
    scene = indian_pines()[0].isel(y=slice(0, ZERO_SHOT_SIDE), x=slice(0, ZERO_SHOT_SIDE))
    wave = scene["wavelength"].values
    bands = [int(np.nanargmin(np.abs(wave - w))) for w in ZERO_SHOT_BANDS.values()]
    pair = ts.simulate_wald(scene, RATIO)
    result = ts.sharpen(
        pair["hs"], pair["pan"], method=ZERO_SHOT, bands=bands, settings={"resolution": "reduced"}, seed=context.seed,
        check_shift=False,
    )  # fmt: skip
    plain = ts.sharpen(pair["hs"], pair["pan"], method="exp", bands=bands, check_shift=False)
    scores = [
        ts.score(r["cube"].isel(band=bands), pair["truth"].isel(band=bands), ratio=RATIO, metrics=["ERGAS", "SAM"])
        for r in (result, plain)
    ]
    part.reports.append(result.report)
    rows = [
        {"method": name, **{m: s.report.figures[m] for m in ("ERGAS", "SAM")}, "seconds": r.report.seconds["total"]}
        for name, s, r in zip((ZERO_SHOT, "exp"), scores, (result, plain), strict=True)
    ]
    table, trace = result["bands"], result["trace"]
    part.tables.append((f"{ZERO_SHOT}: each band against its target", table.to_dict("records")))
    part.figures.append((f"{ZERO_SHOT}: spectral loss of each band against its target", loss_figure(table, trace)))
    where = f"rows and columns 0 to {ZERO_SHOT_SIDE - 1}"
    part.tables.append((f"{ZERO_SHOT}: cut to {where}, {len(bands)} bands", rows))
    reached = int((table["spectral_ratio"] <= table["target_ratio"]).sum())
    part.text += (
        f" {ZERO_SHOT} learned on a crop ({where}, to save time) with the full schedule of its reduced-resolution set, "
        f"bands {', '.join(ZERO_SHOT_BANDS)}; {reached} of {len(bands)} bands ended below the target, "
        f"{float(table['target_ratio'].iloc[0]):g} of the interpolated band's spectral loss."
    )
    context.say(
        f"   {ZERO_SHOT}: ERGAS {rows[0]['ERGAS']:.3f} (interpolation {rows[1]['ERGAS']:.3f}), SAM "
        f"{rows[0]['SAM']:.2f} ({rows[1]['SAM']:.2f}) degrees"
    )


def loss_figure(table: Any, trace: Any) -> Any:
    """Spectral loss of each band, as a share of the interpolated band's, on the way and at the end, with the target."""
    from torchspectral.report.style import LINE_STYLES, MARKERS, new_figure, styled

    with styled():
        figure = new_figure(8.0, 3.0)
        way, end = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for number, row in enumerate(table.to_dict("records")):
            steps = trace[trace["band"] == row["band"]]
            share = steps["spectral"].to_numpy(float) / row["interpolated_loss"]
            style = LINE_STYLES[number // 10 % len(LINE_STYLES)]
            way.plot(steps["iteration"], share, style, color=f"C{number % 10}", label=f"{row['wavelength']:.0f} nm")
            mark = MARKERS[number % len(MARKERS)]
            end.plot(row["wavelength"], row["spectral_ratio"], mark, color=f"C{number % 10}", ls="none")
        end.plot(table["wavelength"], table["target_ratio"], "k--", marker="_", label="target")
        way.axhline(float(table["target_ratio"].iloc[0]), color="k", ls="--", lw=1)
        for axes in (way, end):
            axes.axhline(1.0, color="0.6", lw=1, label="interpolation" if axes is end else None)
            axes.grid(True)
        way.set(xlabel="iteration of the band", ylabel="spectral loss / interpolated band's", ylim=(0, 1.3))
        end.set(xlabel="wavelength [nm]")
        way.legend(loc="upper right", ncols=2)
        end.legend(loc="upper right")
    return figure


def guided_enmap(context: Context, part: Part) -> None:
    """EnMAP with Sentinel-2 guides that are noisy and lie beside it, against a PAN method."""
    import torchspectral as ts
    from torchspectral.report.figures import rgb_panels
    from torchspectral.sharpening.guided.simulation import COARSE_BANDS, simulate_guides

    truth = enmap_block(context.samples)
    if truth is None:
        context.say("   no EnMAP sample here: guided fusion on it is left out")
        return
    pair = ts.simulate_wald(truth, ENMAP_RATIO)
    guides = simulate_guides(truth, coarse_bands=COARSE_BANDS, snr=SNR, shift=SHIFT, seed=context.seed)
    target = context.folder / "enmap-guided"
    runs = {
        "guided": ts.sharpen(pair["hs"], guides=list(guides.values()), out=f"{target}/", overwrite=True),
        "mtf-glp-fs": ts.sharpen(pair["hs"], pair["pan"], method="mtf-glp-fs"),
        "exp": ts.sharpen(pair["hs"], pair["pan"], method="exp", check_shift=False),
    }
    rows = []
    for method, result in runs.items():
        scored = ts.score(result["cube"], truth, ratio=ENMAP_RATIO, crop=3, metrics=list(METRICS))
        part.reports.append(result.report)
        figures = {name: scored.report.figures[name] for name in METRICS}
        rows.append({"method": method, **figures, "seconds": result.report.seconds["total"], "run": len(part.reports)})
    told = runs["guided"].report.figures
    part.tables.append(
        (f"EnMAP Potsdam, ratio {ENMAP_RATIO}; guides with {SNR:g} dB and a shift of {SHIFT} pixels", rows)
    )
    confidence = runs["guided"]["confidence"].values
    pictures = [("truth", truth), ("coarse input", pair["hs"]), *((n, r["cube"]) for n, r in runs.items())]
    pictures.append(("confidence of guided, mean", confidence.mean(0)))
    part.figures.append(("EnMAP: guided fusion and a PAN method", rgb_panels(pictures)))
    part.files += [target / "cube.tif", target / "confidence.tif"]
    part.text += (
        f" EnMAP Potsdam, ratio {ENMAP_RATIO}, cut to 60 x 60 pixels: the guides lie {SHIFT} fine pixels off, which guided fusion measured as "
        f"({told['shift_rows']:.2f}, {told['shift_cols']:.2f}); the PAN of the other methods is clean and in place."
    )
    context.say(f"   EnMAP: guided ERGAS {rows[0]['ERGAS']:.2f}, mtf-glp-fs {rows[1]['ERGAS']:.2f}")


def guided_sentinel(context: Context, part: Part) -> None:
    """A real case: the 20 m bands of Sentinel-2 sharpened by its 10 m bands."""
    import torchspectral as ts
    from torchspectral.bench.sharpening import full_resolution
    from torchspectral.report.figures import rgb_panels

    product = context.samples / "sentinel2" if context.samples else None
    if product is None or not product.is_dir():
        context.say("   no Sentinel-2 sample here: left out")
        return
    coarse = ts.open(product, resolution=20).isel(y=slice(200, 328), x=slice(200, 328)).load()
    fine = ts.open(product).isel(y=slice(400, 656), x=slice(400, 656)).load()
    pan = fine.isel(band=[3])
    target = context.folder / "sentinel2-10m.tif"
    runs = {
        "guided": ts.sharpen(coarse, guides=fine, out=target, overwrite=True),
        "mtf-glp-fs (band 8 as PAN)": ts.sharpen(coarse, pan, method="mtf-glp-fs", check_shift=False),
        "exp": ts.sharpen(coarse, pan, method="exp", check_shift=False),
    }
    rows = []
    for method, result in runs.items():
        part.reports.append(result.report)
        figures = full_resolution(result["cube"], coarse, pan)
        rows.append({"method": method, **figures, "seconds": result.report.seconds["total"], "run": len(part.reports)})
    part.tables.append(("Sentinel-2, 20 m bands by 10 m bands, no truth (indexes against band 8)", rows))
    three = [4, 3, 0]
    pictures: list[tuple[str, Any]] = [("20 m", _stretched(coarse, three))]
    pictures += [(name, _stretched(result["cube"], three, coarse)) for name, result in runs.items()]
    part.figures.append(("Sentinel-2: bands 11, 8A and 5 at 20 m and at 10 m", rgb_panels(pictures, columns=2)))
    part.files.append(target)
    part.text += (
        " Sentinel-2 (sample at a tenth of its resolution, cut to rows and columns 200 to 327 of the 20 m grid): its six "
        "20 m bands by its four 10 m bands, ratio 2, a real case without truth."
    )
    context.say(f"   Sentinel-2: guided D_rho {rows[0]['D_rho']:.3f}, interpolation {rows[-1]['D_rho']:.3f}")


def enmap_block(samples: Path | None) -> Any:
    """60 x 60 pixels of the EnMAP sample, good bands, or None."""
    import torchspectral as ts
    from torchspectral.geo import mosaic

    files = [samples / "enmap" / "images" / f"enmap_potsdam_tile_{t}.tif" for t in ENMAP_TILES] if samples else []
    if not files or not all(f.is_file() for f in files):
        return None
    scene = mosaic([ts.open(f) for f in files]).hsi.drop_bad()
    return scene.isel(y=slice(0, 60), x=slice(0, 60)).load()


def _stretched(cube: Any, bands: list[int], like: Any = None) -> np.ndarray:
    """Three bands as a picture (y, x, 3), between percentiles of `like`."""
    image = np.asarray(cube.values[bands], np.float64)
    limits = np.asarray((cube if like is None else like).values[bands], np.float64)
    low, high = (np.nanpercentile(limits, q, axis=(1, 2), keepdims=True) for q in (2, 98))
    return np.nan_to_num(np.clip((image - low) / (high - low), 0, 1)).transpose(1, 2, 0)


def held_out_rows(rows: int) -> slice:
    """Rows that the shipped network was not trained on."""
    return slice(rows // 4 * 3, rows)
