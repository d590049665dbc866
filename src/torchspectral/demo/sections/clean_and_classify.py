"""AVIRIS Indian Pines: MNF denoising, and a spectral-angle map from labelled pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.demo.runner import Context, Part

ORDER = 30
BLOCK, GUARD = 16, 2


def run(context: Context) -> Part:
    """Denoise the scene, learn class means in every other block of it, and score the map in the blocks between."""
    import torchspectral as ts
    from torchspectral.io.samples import indian_pines
    from torchspectral.report.figures import class_map, rgb_panels

    scene, labels = indian_pines()
    clean = ts.restore(scene, method="mnf", out=context.folder / "clean.tif", overwrite=True, seed=context.seed)
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
    for name, cube in {"raw": scene, "MNF": clean.primary}.items():
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
    noisy = int(np.argmin(_snr(scene.values)))
    wave = float(scene["wavelength"].values[noisy])
    names = dict(enumerate(labels.attrs["class_names"]))
    colours = {i: "#{:02x}{:02x}{:02x}".format(*c) for i, c in enumerate(labels.attrs["class_colors"])}
    grey = [_grey(scene.values[noisy]), _grey(clean.primary.values[noisy])]
    return Part(
        title="Denoising and a class map of Indian Pines",
        text=(
            "MNF keeps the components above the noise. The spectral angle mapper learns class means from the labels in "
            f"every other block of {BLOCK} x {BLOCK} pixels and is scored in the blocks between, {GUARD} pixels away from "
            "what it learnt from."
        ),
        figures=[
            (f"the noisiest band, {wave:.0f} nm", rgb_panels([("raw", grey[0]), ("MNF", grey[1])], columns=2)),
            ("labels", class_map(classes, names, colours=colours)),
            ("spectral-angle map after MNF", class_map(maps["MNF"], names, colours=colours)),
        ],
        tables=[("Class map, scored in blocks that were not learnt from", rows)],
        reports=reports,
        files=sorted(p for p in context.folder.iterdir() if p.is_file()),
    )


def _blocks(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the blocks to learn from and, less a guard, of those to test on."""
    rows, cols = np.indices(shape)
    odd = (rows // BLOCK + cols // BLOCK) % 2 == 1
    inside = [(n % BLOCK >= GUARD) & (n % BLOCK < BLOCK - GUARD) for n in (rows, cols)]
    return ~odd, odd & inside[0] & inside[1]


def _snr(values: np.ndarray) -> np.ndarray:
    """Mean over shift-difference noise of each band."""
    values = values.astype(np.float32)
    noise = np.diff(values, axis=2).std(axis=(1, 2)) / np.sqrt(2)
    return values.mean(axis=(1, 2)) / np.maximum(noise, 1e-9)


def _grey(plane: np.ndarray) -> np.ndarray:
    low, high = np.nanpercentile(plane, (2, 98))
    return np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
