"""Land cover on real EnMAP tiles: `python benchmarks/land_cover.py TILES -o OUT` (``TILES/images``, ``TILES/labels``).

An encoder is pretrained by one of our recipes on generated patches of EnMAP's bands: it sees no pixel of the tiles. Then
encoder and head meet the tiles in folds: a fold tests whole tiles, and learns (head, and mean and deviation of the bands)
from tiles that touch none of them, not even at a corner; the tiles between are left out. The embedding of a pixel is the
encoder's feature (class token) of the crop of 4 x 4 pixels around it. The encoder is frozen; the head is the same for the
pretrained encoder and for the one with random weights: the 20 nearest labelled embeddings vote, which tells embeddings
apart that a linear head evens out. Figures are over all labelled pixels of all folds.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import torchspectral as ts
from torchspectral.backbones.base import Backbone
from torchspectral.cube import make_cube
from torchspectral.metrics.representation import dsmi
from torchspectral.synth.patch_sets import PatchSettings, eye, land_patch

TILE = 32
BANDS = [*range(126), *range(141, 160), *range(167, 224)]
"""SpectralEarth's 202 of EnMAP's 224."""
FOLDS = (
    ((2, 1), (3, 0), (3, 1), (4, 0), (4, 1)),
    ((5, 2), (6, 2), (6, 3)),
    ((4, 4), (5, 4), (5, 5)),
    ((3, 3), (4, 3), (5, 3)),
)
"""Tiles that are tested together, by column and row in tiles: neighbours go together, so that few are left out."""
MODEL = "enmap-vit-t"
SIZES = {"dim": 96, "depth": 3, "heads": 4, "patch_size": 1, "image_size": 4}
METHOD = "spectralearth-moco"
RECIPE: dict[str, Any] = {
    "backbone": MODEL,
    "network": {k: v for k, v in SIZES.items() if k != "image_size"},
    "patch": 8, "stride": 8, "view": 4, "batch": 96, "steps": 250,
    "crop_least": 0.2, "crop_most": 0.5, "jitter": 0.2, "spectral_jitter": 0.1, "blur": 0.0,
    "queue": 0, "symmetric": True, "hidden": 256, "outputs": 64, "temperature": 0.2, "momentum": 0.99,
    "learning_rate": 0.1, "decay": "cosine", "warm_up": 0.1, "clip": 1.0,
    "validate_every": 10_000, "checkpoint_every": 10_000, "validate_patches": 192, "statistics_patches": 1000,
}  # fmt: skip
PLACES = 256
MOST_DSMI = 600


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels: crops (n, bands, 4, 4) of reflectance, classes from 1 (n,), tiles (n, 2)."""

    crops: np.ndarray
    labels: np.ndarray
    tiles: np.ndarray

    def of(self, tiles: Iterable[tuple[int, int]]) -> np.ndarray:
        """Indices of the pixels of some tiles."""
        known = set(tiles)
        return np.array([i for i, t in enumerate(map(tuple, self.tiles.tolist())) if t in known], dtype=int)

    @property
    def spectra(self) -> np.ndarray:
        """Of the pixels themselves, (n, bands)."""
        return self.crops[:, :, 2, 2]


def read_tiles(root: Path, most: int = 14) -> Pixels:
    """All labelled pixels of the first tiles; crops are mirrored at a tile's edge, so that nothing comes from another tile."""
    crops, labels, tiles = [], [], []
    for path in sorted((root / "images").glob("*.tif"))[:most]:
        found = re.search(r"_(\d+)_(\d+)\.tif$", path.name)
        assert found is not None
        place = (int(found[1]) // TILE, int(found[2]) // TILE)
        image = ts.open(path).isel(band=BANDS).values.astype(np.float32)
        marks = ts.open(root / "labels" / path.name).values.reshape(TILE, TILE).astype(int)
        rows, cols = np.nonzero(marks > 0)
        wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        crops += [wide[:, r : r + 4, c : c + 4] for r, c in zip(rows, cols, strict=True)]
        labels.append(marks[rows, cols])
        tiles += [place] * len(rows)
    return Pixels(np.stack(crops), np.concatenate(labels), np.array(tiles))


def touching(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two tiles share an edge or a corner, or are one."""
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 1


def folds(pixels: Pixels) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of the training and the test pixels of each fold."""
    tiles = sorted({(int(a), int(b)) for a, b in pixels.tiles})
    assert sorted(t for fold in FOLDS for t in fold) == tiles
    made = []
    for test in FOLDS:
        train = [t for t in tiles if not any(touching(t, held) for held in test)]
        made.append((pixels.of(train), pixels.of(test)))
    return made


def generated(places: int = PLACES) -> xr.DataArray:
    """Generated patches of 32 x 32 pixels of EnMAP's bands, side by side; the patches of 8 that are cut never span two."""
    settings = PatchSettings.make({"size": TILE, "holes": 0.0, "second": 0.0, "grain": 5.0})
    wide = int(places**0.5)
    days = np.random.default_rng(5).integers(date(2022, 5, 1).toordinal(), date(2022, 9, 30).toordinal(), wide * wide)
    made = [land_patch(p, date.fromordinal(int(days[p])), "enmap", settings).values for p in range(wide * wide)]
    rows = [np.concatenate(made[k * wide : (k + 1) * wide], axis=2) for k in range(wide)]
    sees = eye("enmap")
    return make_cube(
        np.concatenate(rows, axis=1).astype(np.float32),
        wavelength=sees.wavelength, fwhm=sees.fwhm, quantity="reflectance",
    )  # fmt: skip


def pretrained(cube: xr.DataArray, seed: int, out: Path, **changed: Any) -> Backbone:
    """Pretrain an encoder, or take the one of an earlier run."""
    made: Any = ts.create_model(MODEL, **SIZES)
    if not (out / "weights.safetensors").is_file():
        ts.train("pretrain", METHOD, cube, out=out, overwrite=True, seed=seed, settings={**RECIPE, **changed})
    from torchspectral.weights import load

    load(out, model=made)
    return made  # type: ignore[no-any-return]


def fresh(seed: int) -> Backbone:
    """The same encoder with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Any = ts.create_model(MODEL, **SIZES)
    return made


@torch.no_grad()
def embedded(encoder: Backbone, crops: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Class token of each crop, (n, dim)."""
    encoder.eval()
    parts = []
    for start in range(0, len(crops), 512):
        x = encoder.as_input(torch.from_numpy(crops[start : start + 512]), mean.tolist(), std.tolist())
        parts.append(encoder.forward_features(x))
    return torch.cat(parts).double().numpy()


Head = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def linear(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Linear discriminants of standardised features, covariance shrunk by a twentieth."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, std = x.mean(0), x.std(0) + 1e-9
    head = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05).fit((x - mean) / std, y)
    found: np.ndarray = head.predict((test - mean) / std)
    return found


def nearest(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Votes of the 20 nearest by cosine, of standardised features."""
    from sklearn.neighbors import KNeighborsClassifier

    mean, std = x.mean(0), x.std(0) + 1e-9
    head = KNeighborsClassifier(20, metric="cosine", weights="distance").fit((x - mean) / std, y)
    found: np.ndarray = head.predict((test - mean) / std)
    return found


def baseline(method: str, seed: int) -> Head:
    """A classifier of single spectra of the classification room."""

    def predict(x: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
        made: Any = ts.registry.create("classification", method, {})
        state = made.learn_spectra(x, y, seed=seed)
        found: np.ndarray = np.asarray(state["class_numbers"])[made.predict(test, state).argmax(1)]
        return found

    return predict


def scores(truth: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """OA, kappa and mean F1 over the classes."""
    from sklearn.metrics import cohen_kappa_score, f1_score

    return {
        "OA": float((truth == said).mean()),
        "kappa": float(cohen_kappa_score(truth, said)),
        "F1": float(f1_score(truth, said, average="macro", zero_division=0)),
    }


def of_encoder(encoder: Backbone, pixels: Pixels, heads: dict[str, Head]) -> dict[str, dict[str, float]]:
    """Figures under each head, and DSMI with the classes of the test pixels (mean over the folds, by their pixels)."""
    said = {name: np.zeros_like(pixels.labels) for name in heads}
    information = 0.0
    for train, test in folds(pixels):
        seen = pixels.spectra[train].astype(np.float64)
        mean, std = seen.mean(0), seen.std(0)
        x, z = (embedded(encoder, pixels.crops[index], mean, std) for index in (train, test))
        for name, head in heads.items():
            said[name][test] = head(x, pixels.labels[train], z)
        some = np.random.default_rng(0).permutation(len(test))[:MOST_DSMI]
        bits = float(dsmi(z[some], clusters=pixels.labels[test][some], sigma="median"))
        information += bits * len(test) / len(pixels.labels)
    return {name: {**scores(pixels.labels, said[name]), "DSMI": information} for name in heads}


def of_spectra(method: str, pixels: Pixels, seed: int) -> dict[str, float]:
    """Figures of a classifier of single spectra."""
    said = np.zeros_like(pixels.labels)
    for train, test in folds(pixels):
        said[test] = baseline(method, seed)(pixels.spectra[train], pixels.labels[train], pixels.spectra[test])
    return scores(pixels.labels, said)


def study(
    tiles: Path,
    out: Path,
    seeds: Sequence[int],
    baselines: Sequence[str] = ("pca-lda", "svm", "random-forest"),
    heads: Sequence[str] = ("20 nearest", "linear"),
    **changed: Any,
) -> dict[str, list[dict[str, float]]]:
    """Figures of every row and seed."""
    pixels = read_tiles(tiles)
    chosen = {name: {"linear": linear, "20 nearest": nearest}[name] for name in heads}
    rows: dict[str, list[dict[str, float]]] = {}
    cube = generated()
    for seed in seeds:
        for name, encoder in (
            ("pretrained", pretrained(cube, seed, out / f"run-{seed}", **changed)),
            ("random", fresh(seed)),
        ):
            for head, figures in of_encoder(encoder, pixels, chosen).items():
                rows.setdefault(f"{name}, {head}", []).append(figures)
                print(seed, name, head, {k: round(v, 3) for k, v in figures.items()}, flush=True)
    for method in baselines:
        for seed in seeds if method != "pca-lda" else seeds[:1]:
            rows.setdefault(method, []).append(of_spectra(method, pixels, seed))
        print(method, {k: round(v, 3) for k, v in rows[method][-1].items()}, flush=True)
    return rows


def apart(rows: dict[str, list[dict[str, float]]], head: str = "20 nearest") -> dict[str, float]:
    """By how many standard deviations pretrained and random differ: mean difference over the larger of the two."""
    first, second = (rows[f"{name}, {head}"] for name in ("pretrained", "random"))
    found = {}
    for figure in first[0]:
        a, b = (np.array([r[figure] for r in part]) for part in (first, second))
        wide = max(a.std(ddof=1), b.std(ddof=1), 1e-9) if len(a) > 1 else float("nan")
        found[figure] = float((a.mean() - b.mean()) / wide)
    return found


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Mean and deviation over the seeds, as Markdown."""
    lines = ["| | OA | kappa | mean F1 | DSMI [bit] |", "| --- | --- | --- | --- | --- |"]
    for name, runs in rows.items():
        cells = []
        for figure in ("OA", "kappa", "F1", "DSMI"):
            values = np.array([r[figure] for r in runs if figure in r])
            spread = f" +- {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}" if len(values) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tiles", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="setting of the recipe, FIELD=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    from torchspectral.settings import parse_pairs

    found = study(given.tiles, given.out, range(given.seeds), **parse_pairs(given.set))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "land-cover.json").write_text(json.dumps(found, indent=1))
    print(table(found))
    for head in ("20 nearest", "linear"):
        print(
            f"pretrained - random, {head}, in standard deviations:",
            {k: round(v, 1) for k, v in apart(found, head).items()},
        )
