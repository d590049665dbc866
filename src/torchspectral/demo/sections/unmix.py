"""AVIRIS Indian Pines: endmembers by VCA, abundances by FCLS, held against the classes; Samson against its truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 20
COUNT = 8
LABELLED = ("vca-fcls", "l12-nmf")


def run(context: Context) -> Part:
    """Unmix, and name each endmember by the class whose mean spectrum is nearest."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.charts import spectra_lines
    from torchspectral.report.figures import abundance_maps
    from torchspectral.report.unmixing import composite_map

    scene, labels = indian_pines()
    result = ts.unmix(scene, k=COUNT, out=f"{context.folder}/", overwrite=True, seed=context.seed, pictures=False)
    endmembers, abundances, rmse = result["endmembers"], result["abundances"], result["rmse"]
    classes = np.asarray(labels.values).reshape(scene.shape[-2:])
    names = labels.attrs["class_names"]
    present = [c for c in range(1, len(names)) if (classes == c).any()]
    means = np.stack([scene.values[:, classes == c].mean(axis=1) for c in present])
    angles = np.degrees(np.arccos(np.clip(_unit(endmembers.values) @ _unit(means).T, -1, 1)))
    maps = np.asarray(abundances.values)
    rows: list[dict[str, Any]] = []
    for k in range(COUNT):
        nearest = int(angles[k].argmin())
        inside = classes == present[nearest]
        rows.append(
            {
                "endmember": str(endmembers["spectrum"].values[k]),
                "nearest class": names[present[nearest]],
                "angle [degrees]": float(angles[k, nearest]),
                "abundance in class": float(maps[k][inside].mean()),
                "abundance elsewhere": float(maps[k][~inside].mean()),
                "bands": scene.sizes["band"],
                "seconds": result.report.seconds["total"],
                "run": 1,
            }
        )
    residual = float(np.sqrt(np.nanmean(np.asarray(rmse.values, float) ** 2)))
    context.say(f"   {COUNT} endmembers, reconstruction RMSE {residual:.1f} counts")
    named = [f"{k}: {row['nearest class']}" for k, row in enumerate(rows, start=1)]
    labelled = _labelled(context)
    return Part(
        title="Unmixing Indian Pines",
        text=(
            f"VCA finds {COUNT} endmembers in the scene, FCLS their abundances (at least 0, summing to 1 in each pixel); "
            f"the root mean square of what is left is {residual:.1f} counts. No abundances are known for this scene: the "
            "table holds each endmember against the labelled class whose mean spectrum is nearest."
            + (f"\n\n{labelled.text}" if labelled else "")
        ),
        figures=[
            ("composite", composite_map(abundances.assign_coords(layer=named))),
            ("abundances", abundance_maps(abundances, names=named)),
            ("endmembers", spectra_lines(endmembers.assign_coords(spectrum=named))),
            ("what is left", abundance_maps(rmse, label="RMSE", unit="counts", limits=None)),
            *(labelled.figures if labelled else []),
        ],
        tables=[("Endmembers and the nearest labelled class", rows), *(labelled.tables if labelled else [])],
        reports=[result.report, *(labelled.reports if labelled else [])],
        files=sorted(p for p in context.folder.iterdir() if p.is_file()),
    )


def _labelled(context: Context) -> Part | None:
    """Samson, whose abundances are known, where the samples are there: VCA-FCLS and an NMF that starts from it."""
    import torchspectral as ts
    from torchspectral.report.unmixing import unmixing_comparison
    from torchspectral.unmixing.scenes import load_scene
    from torchspectral.unmixing.scoring import score

    folder = context.samples / "unmixing/samson" if context.samples else None
    if folder is None or not folder.is_dir():
        return None
    scene = load_scene(folder)
    assert scene.endmembers is not None and scene.abundances is not None
    truth, true_maps = scene.endmembers.values, scene.abundances.values
    shown, rows, reports = [("truth", true_maps, truth)], [], []
    for method in LABELLED:
        found = ts.unmix(scene.cube, k=scene.k, method=method, seed=context.seed)
        given = score(found["endmembers"], found["abundances"], truth, true_maps, names=scene.names)
        order = [mine for mine, _ in given.pairs]
        shown.append((method, found["abundances"].values[order], found["endmembers"].values[order]))
        reports.append(found.report)
        angles = {f"angle of {name} [rad]": value for name, value in given.angle.items()}
        rows.append(
            {
                "method": method,
                **angles,
                "RMSE of abundances": given.figures["rmse"],
                "bands": scene.cube.sizes["band"],
                "seconds": found.report.seconds["total"],
                "run": 1 + len(reports),
            }
        )
    drawn = unmixing_comparison(shown, scene.names, wavelength=scene.cube["wavelength"].values)
    return Part(
        title="Samson",
        text="Samson (95 x 95 pixels, 156 bands) has abundances that are held to be true, the second of the two sets that "
        f"circulate: VCA with FCLS comes to within {rows[0]['RMSE of abundances']:.3f} of them (RMSE).",
        figures=[("Samson, truth and estimates", drawn)],
        tables=[("Samson against its truth", rows)],
        reports=reports,
    )


def _unit(spectra: np.ndarray) -> np.ndarray:
    return spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
