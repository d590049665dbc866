"""AVIRIS Indian Pines: endmembers by VCA, abundances by FCLS, held against the labelled classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 20
COUNT = 8


def run(context: Context) -> Part:
    """Unmix, and name each endmember by the class whose mean spectrum is nearest."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.charts import spectra_lines
    from torchspectral.report.figures import abundance_maps

    scene, labels = indian_pines()
    result = ts.unmix(scene, k=COUNT, out=f"{context.folder}/", overwrite=True, seed=context.seed)
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
    return Part(
        title="Unmixing Indian Pines",
        text=(
            f"VCA finds {COUNT} endmembers in the scene, FCLS their abundances (at least 0, summing to 1 in each pixel); "
            f"the root mean square of what is left is {residual:.1f} counts. No abundances are known for this scene: the "
            "table holds each endmember against the labelled class whose mean spectrum is nearest."
        ),
        figures=[
            ("abundances", abundance_maps(abundances, names=named)),
            ("endmembers", spectra_lines(endmembers.assign_coords(spectrum=named))),
            ("what is left", abundance_maps(rmse, label="RMSE", unit="counts", limits=None)),
        ],
        tables=[("Endmembers and the nearest labelled class", rows)],
        reports=[result.report],
        files=sorted(p for p in context.folder.iterdir() if p.is_file()),
    )


def _unit(spectra: np.ndarray) -> np.ndarray:
    return spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
