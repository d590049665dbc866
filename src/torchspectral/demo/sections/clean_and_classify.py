"""AVIRIS Indian Pines: its noisiest bands before and after fast-eigen, and a spectral-angle map from labelled pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 30
BLOCK, GUARD = 16, 2
NOISIEST = 3


def run(context: Context) -> Part:
    """Denoise the scene, learn class means in every other block of it, and score the map in the blocks between."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.figures import class_map, rgb_panels

    scene, labels = indian_pines()
    clean = ts.restore(
        scene,
        method="fast-eigen",
        out=context.folder / "clean.tif",
        overwrite=True,
        seed=context.seed,
    )
    classes = np.asarray(labels.values).reshape(scene.shape[-2:])
    learn, test = _blocks(classes.shape)
    train = np.where(learn, classes, 0)
    # Only classes that were learnt can be tried.
    common = np.intersect1d(np.unique(train), np.unique(classes[test]))
    test &= np.isin(classes, common[common > 0])
    learnt = labels.copy(data=train.reshape(labels.shape))
    rows: list[dict[str, Any]] = []
    reports = [clean.report]
    maps = {}
    for name, cube in {"raw": scene, "fast-eigen": clean.primary}.items():
        mapped = ts.classify(
            cube, method="sam", labels=learnt, out=context.folder / f"classes-{name.lower()}.tif", overwrite=True
        )
        reports.append(mapped.report)
        maps[name] = np.asarray(mapped.primary.values).reshape(classes.shape)
        right = maps[name][test] == classes[test]
        each = [float((maps[name][test & (classes == c)] == c).mean()) for c in common if c > 0]
        rows.append(
            {
                "method": "sam",
                "input": name,
                "overall accuracy": float(right.mean()),
                "mean of classes": float(np.mean(each)),
                "classes": len(each),
                "test pixels": int(right.size),
                "bands": scene.sizes["band"],
                "seconds": mapped.report.seconds["total"],
                "run": len(reports),
            }
        )
        context.say(f"   SAM on {name}: overall accuracy {right.mean():.3f} in the held-out blocks")
    account = clean["account"].sort_values("snr_before").head(NOISIEST)
    bands = [
        {
            "method": "fast-eigen",
            "band": int(row.band),
            "wavelength [nm]": float(row.wavelength),
            "SNR before [dB]": float(row.snr_before),
            "SNR after [dB]": float(row.snr_after),
            "likeness": float(row.likeness),
            "run": 1,
        }
        for row in account.itertuples()
    ]
    context.say(
        f"   fast-eigen: median SNR {clean.report.figures['median_snr_before']:.1f} to "
        f"{clean.report.figures['median_snr_after']:.1f} dB, mean angle {clean.report.figures['sam']:.2f} degrees"
    )
    names = dict(enumerate(labels.attrs["class_names"]))
    colours = {i: "#{:02x}{:02x}{:02x}".format(*c) for i, c in enumerate(labels.attrs["class_colors"])}
    panels = []
    for band in bands:
        place = int(np.flatnonzero(scene["number"].values == band["band"])[0])
        limits = np.nanpercentile(scene.values[place], (2, 98))
        where = f"{band['wavelength [nm]']:.0f} nm"
        panels.append((f"{where}, raw", _grey(scene.values[place], limits)))
        panels.append((f"{where}, fast-eigen", _grey(clean.primary.values[place], limits)))
    return Part(
        title="Denoising and a class map of Indian Pines",
        text=(
            "Fast-eigen divides each band by its noise, keeps the components above it, and filters their images together. "
            "The likeness of a band is the correlation of neighbouring pixels in what was removed: near 0 where that is "
            "noise, large where the scene is in it. The spectral angle mapper learns class means from the labels in "
            f"every other block of {BLOCK} x {BLOCK} pixels and is scored in the blocks between, {GUARD} pixels away from "
            "what it learnt from."
        ),
        figures=[
            (f"the {NOISIEST} noisiest bands before and after", rgb_panels(panels, columns=2)),
            ("labels", class_map(classes, names, colours=colours)),
            ("spectral-angle map after fast-eigen", class_map(maps["fast-eigen"], names, colours=colours)),
        ],
        tables=[
            ("Noisiest bands, before and after", bands),
            ("Class map, scored in blocks that were not learnt from", rows),
        ],
        reports=reports,
        files=sorted(p for p in context.folder.iterdir() if p.is_file()),
    )


def _blocks(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the blocks to learn from and, less a guard, of those to test on."""
    rows, cols = np.indices(shape)
    odd = (rows // BLOCK + cols // BLOCK) % 2 == 1
    inside = [(n % BLOCK >= GUARD) & (n % BLOCK < BLOCK - GUARD) for n in (rows, cols)]
    return ~odd, odd & inside[0] & inside[1]


def _grey(plane: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The band between the limits of the raw one, so that both look alike."""
    low, high = limits
    return np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
