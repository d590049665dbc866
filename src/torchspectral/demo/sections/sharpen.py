"""AVIRIS Indian Pines: open, report, simulate a pair, sharpen with one method of each family, score."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 10
RATIO = 4
METHODS = {
    "exp": "interpolation",
    "gsa": "component substitution",
    "mtf-glp-hpm": "multiresolution",
    "hyperpnn": "network",
}
PIXELS = ((20, 30), (100, 20), (125, 60))


def run(context: Context) -> Part:
    """Sharpen the part of the scene that the shipped network has not seen."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.charts import band_curves
    from torchspectral.report.figures import error_maps, rgb_panels, spectra_at_pixels

    scene, labels = indian_pines()
    grid = scene.hsi.grid
    context.say(
        f"   {scene.attrs.get('sensor')}: {scene.sizes['band']} bands, {grid.height} x {grid.width} pixels, "
        f"{scene.attrs['quantity']}, {float(scene['wavelength'].min()):.0f} to {float(scene['wavelength'].max()):.0f} nm, "
        f"{len(labels.attrs['class_names']) - 1} classes, grid: {grid.kind}"
    )
    pair = ts.simulate_wald(scene, RATIO)
    fused: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    reports = []
    held = held_out_rows(pair["truth"].sizes["y"])
    for method, family in METHODS.items():
        target = context.folder / f"{method}.tif"
        result = ts.sharpen(pair["hs"], pair["pan"], method=method, out=target, overwrite=True, seed=context.seed)
        scored = ts.score(
            result.primary.isel(y=held), pair["truth"].isel(y=held), ratio=RATIO,
            metrics=["ERGAS", "SAM", "Q2n", "PSNR"],
        )  # fmt: skip
        figures = scored.report.figures
        reports.append(result.report)
        fused[method] = result.primary
        curves[method] = np.array([np.nan if v is None else v for v in scored["bands"].get("PSNR", [])], float)
        rows.append(
            {
                "method": method,
                "family": family,
                **{name: figures[name] for name in ("ERGAS", "SAM", "Q2n", "PSNR")},
                "bands": result.primary.sizes["band"],
                "seconds": result.report.seconds["total"],
                "run": len(reports),
            }
        )
        context.say(f"   {method}: ERGAS {figures['ERGAS']:.3f}, SAM {figures['SAM']:.2f} degrees")
    truth = pair["truth"].values.astype(np.float32)
    errors = [(name, np.sqrt(np.nanmean((cube.values - truth) ** 2, axis=0))) for name, cube in fused.items()]
    pictures = [("truth", pair["truth"]), ("coarse input", pair["hs"]), *fused.items()]
    wavelength = scored["bands"]["wavelength"].to_numpy()
    return Part(
        title="Sharpening Indian Pines",
        text=(
            f"AVIRIS Indian Pines (145 x 145 pixels, 200 bands of raw counts) seen through the sensor's MTF and decimated "
            f"by {RATIO} (Wald's protocol), with a PAN made of its own bands: {'; '.join(pair.report.notes)}. "
            f"{'; '.join(pair.report.dropped)}. The figures are those of rows {held.start} to {held.stop - 1}, which "
            "the shipped network was not trained on. One method of each family, with its defaults."
        ),
        figures=[
            ("natural colours", rgb_panels(pictures, pixels=PIXELS)),
            ("root mean square error over all bands", error_maps(errors, label="RMSE", unit="counts", columns=4)),
            ("spectra at the marked pixels", spectra_at_pixels({"truth": pair["truth"], **fused}, PIXELS)),
            ("PSNR of each band", band_curves(curves, wavelength=wavelength, label="PSNR", unit="dB")),
        ],
        tables=[("Reduced resolution, held-out rows", rows)],
        reports=reports,
        files=[context.folder / f"{method}.tif" for method in METHODS],
    )


def held_out_rows(rows: int) -> slice:
    """Rows that the shipped network was not trained on."""
    return slice(rows // 4 * 3, rows)
