"""The small checkpoints of super-resolution: ``python benchmarks/train_superres.py essaformer|spectral-mixup RUN``.

Both enlarge 4 times. ESSAformer's has 16 bands of any sensor and takes scenes in groups of neighbouring bands; that of
spectral mixup has 31 bands from 400 to 700 nm. They learn from rows 0 to 107 of Indian Pines, from two photographs that
come with scikit-learn, turned into mixtures of generated spectra (ESSAformer alone), and from
generated fields with sharp edges. Scored
are rows 108 to 143 of Indian Pines, which trained nothing, and any scene named with ``--also``, against bicubic
interpolation.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import ndimage
from scipy.spatial import cKDTree

import torchspectral as ts
from torchspectral.io.samples import indian_pines
from torchspectral.ops.resize import imresize
from torchspectral.superresolution import degrade, quality
from torchspectral.synth.scenes import material_spectra, smooth_maps
from torchspectral.weights import load, save

SCALE, GROUND = 4, 108
GROUP = 16
VISIBLE = np.arange(400.0, 701.0, 10.0)
PINES = (
    "Data: Baumgardner, Biehl, Landgrebe, 220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992 Indian Pine Test "
    "Site 3 (2015), doi:10.4231/R7RX991C, CC BY 3.0, as distributed with the package tensorly, degraded bicubically"
)
PHOTOGRAPHS = "; photographs china.jpg and flower.jpg of the package scikit-learn, danielbuechele and vultilion on Flickr, CC BY 2.0"


def pines(rows: slice, wavelength: np.ndarray | None = None) -> np.ndarray:
    """Rows of Indian Pines over the whole scene's largest value, (band, y, x); at some wavelengths where they are given."""
    cube = indian_pines()[0]
    values = cube.values.astype(np.float32) / float(cube.max())
    if wavelength is not None:
        own = cube["wavelength"].values
        order = np.argsort(own)
        place = np.interp(wavelength, own[order], np.arange(own.size))
        low = np.minimum(place.astype(int), own.size - 2)
        share = (place - low).astype(np.float32)[:, None, None]
        values = values[order]
        values = (1 - share) * values[low] + share * values[low + 1]
        values = values / values.max()
    return values[:, rows, :144]


def photographs() -> list[np.ndarray]:
    """Two photographs at half their size, linear light, (3, y, x) in 0..1."""
    from sklearn.datasets import load_sample_images

    found = []
    for image in load_sample_images().images:
        values = torch.from_numpy((image.astype(np.float32) / 255) ** 2.2).permute(2, 0, 1)
        found.append(imresize(values[:, :424], 0.5).clamp(0, 1).numpy())
    return found


def pictured(photo: np.ndarray, wavelength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cube of generated spectra whose shares and light follow a photograph."""
    materials = int(rng.integers(3, 7))
    spectra = material_spectra(wavelength, materials, rng)
    colours = np.sqrt(photo)
    scores = np.tensordot(rng.normal(0, 6, (materials, 3)), colours - colours.mean((1, 2), keepdims=True), 1)
    scores += rng.normal(0, 0.5, (materials, 1, 1))
    shares = np.exp(scores - scores.max(0))
    cube = np.tensordot(spectra.T, shares / shares.sum(0), 1) * (0.3 + photo.mean(0))
    return (cube / cube.max()).astype(np.float32)


def fields(wavelength: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Fields with straight, sharp edges, rows, paths and a little texture; made twice as fine and averaged."""
    fine = 2 * side
    materials = int(rng.integers(4, 9))
    spectra = material_spectra(wavelength, materials, rng)
    row, col = np.mgrid[:fine, :fine].astype(float)
    places = rng.uniform(0, fine, (int(rng.integers(20, 200)), 2))
    stretch = rng.uniform(0.5, 2.0, 2)
    owner = cKDTree(places * stretch).query(np.stack([row, col], -1).reshape(-1, 2) * stretch)[1].reshape(fine, fine)
    kind = rng.integers(0, materials, len(places))[owner]
    shares = 0.8 * np.eye(materials)[kind].transpose(2, 0, 1) + 0.2 * smooth_maps(materials, fine, fine, 12.0, rng)
    light = rng.uniform(0.75, 1.25, len(places))[owner]
    turn, period = rng.uniform(0, np.pi, len(places))[owner], rng.uniform(5, 16, len(places))[owner]
    light *= 1 + 0.08 * rng.uniform(0, 1, len(places))[owner] * np.cos(
        2 * np.pi * (row * np.cos(turn) + col * np.sin(turn)) / period
    )
    light *= 1 + 0.05 * ndimage.gaussian_filter(rng.standard_normal((fine, fine)), rng.uniform(0.8, 3)) * 3
    for _ in range(int(rng.integers(2, 8))):  # paths
        angle, off, width = rng.uniform(0, np.pi), rng.uniform(0, fine), rng.uniform(1, 4)
        near = abs((row - off) * np.cos(angle) + (col - fine / 2) * np.sin(angle)) < width
        shares[:, near] = np.eye(materials)[int(rng.integers(materials))][:, None]
    cube = np.tensordot(spectra.T, shares, 1) * light
    cube = cube.reshape(len(wavelength), side, 2, side, 2).mean((2, 4))
    cube = cube / cube.max() + rng.uniform(0.001, 0.008) * rng.standard_normal(cube.shape)
    return np.clip(cube, 0, None).astype(np.float32)


def essaformer_scenes(pictures: int = 4) -> list[xr.DataArray]:
    """Cubes of 16 bands without wavelengths; each photograph with some sets of spectra."""
    rng = np.random.default_rng(0)
    real = pines(slice(0, GROUND))
    found = [real[first : first + GROUP] for first in [*range(0, 200 - GROUP, 8), 200 - GROUP]]
    for number in range(8):
        start, width = rng.uniform(400, 2200), rng.uniform(100, 200)
        wavelength = np.linspace(start, start + width, GROUP)
        found += [pictured(photo, wavelength, rng) for photo in photographs()] if number < pictures else []
        found.append(fields(wavelength, 128, rng))
    return [ts.make_cube(np.ascontiguousarray(values), quantity="reflectance") for values in found]


def mixup_scenes() -> list[xr.DataArray]:
    """Cubes of 31 bands from 400 to 700 nm."""
    rng = np.random.default_rng(0)
    # Two thirds of the patches are real: where generated spectra prevail, angles of real ones become worse than bicubic.
    found = [pines(slice(0, GROUND), VISIBLE)] * 12
    found += [fields(VISIBLE, 128, rng) for _ in range(4)]
    return [ts.make_cube(np.ascontiguousarray(values), wavelength=VISIBLE, quantity="reflectance") for values in found]


def held_out(weights: str, method: str, also: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of scenes that trained nothing, degraded by 4 and super-resolved, by scene and method."""
    rows = slice(GROUND, GROUND + 36)
    if method == "essaformer":
        truths = {"Indian Pines, rows 108 to 143": ts.make_cube(pines(rows), quantity="reflectance")}
    else:
        truths = {
            "Indian Pines, rows 108 to 143": ts.make_cube(
                pines(rows, VISIBLE), wavelength=VISIBLE, quantity="reflectance"
            )
        }
    for path in also:
        cube = ts.open(path)
        good = np.asarray(cube["good"].values, bool) if "good" in cube.coords else np.ones(cube.sizes["band"], bool)
        values = np.asarray(cube.isel(band=np.flatnonzero(good)).values, np.float32)
        rows_, cols = (n // SCALE * SCALE for n in values.shape[1:])
        truths[Path(path).stem] = ts.make_cube(values[:, :rows_, :cols] / np.nanmax(values), quantity="reflectance")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, truth in truths.items():
        low = degrade(truth, SCALE)
        for kind, given in (("interpolation", None), (method, weights)):
            own = {"band_groups": True} if given and method == "essaformer" else {}
            fine = ts.superres(low, scale=SCALE, method=kind, weights=given, settings=own, check=False)["cube"]
            pair = [torch.from_numpy(np.asarray(cube.values, np.float32)) for cube in (fine, truth)]
            made = quality(*pair, ratio=SCALE)
            found.setdefault(name, {})[kind] = {key: round(value, 4) for key, value in made.items()}
    return found


def ship(run: str, folder: Path, figures: dict[str, dict[str, dict[str, float]]]) -> Path:
    """Write a run's weights, with figures on their card; layers that trained nothing are left out."""
    loaded = load(run)
    place = next(iter(figures))
    known = {"steps": loaded.card.metrics["steps"]} if "steps" in loaded.card.metrics else {}
    for kind, made in figures[place].items():
        name = "bicubic" if kind == "interpolation" else "network"
        known |= {f"indian_pines_{name}_{key}": made[key] for key in ("MPSNR", "MSSIM", "SAM", "ERGAS")}
    card = loaded.card.model_copy(update={"metrics": known, "optional_keys": [r".*_RGB\..*"]})
    return save(folder / card.name, {k: v for k, v in loaded.state.items() if "_RGB." not in k}, card, overwrite=True)


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("method", choices=("essaformer", "spectral-mixup"))
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument(
        "--start",
        default="",
        help="a run of essaformer to go on from, at a lower rate and with relative errors",
    )
    parser.add_argument("--also", nargs="*", default=[], help="scenes to score, too")
    parser.add_argument("--score-only", action="store_true")
    parser.add_argument("--ship", type=Path, help="folder for the weights with their card")
    given = parser.parse_args()
    if given.start and given.method != "essaformer":
        parser.error("--start is for essaformer: spectral mixup is trained in one go")
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "scale": SCALE, "patch": 64, "batch": 4, "stride": 16, "guard": 4, "quiet_start": True, "jitter": 0.4, "held_out": 0.1,
        "learning_rate": 1e-3, "decay": "cosine", "clip": 1.0, "validate_every": 300, "checkpoint_every": 300, "gain": 1.0,
        "precision": "bf16-mixed",
    }  # fmt: skip
    if given.method == "essaformer":
        name, scenes = "essaformer.generated-16", partial(essaformer_scenes, 1 if given.start else 4)
        settings |= {"dim": 32, "residual": "bicubic", "dropout": 0.0}
        if given.start:
            settings |= {"start": given.start, "quiet_start": False, "relative": True, "learning_rate": 5e-4}
        bands = {"wavelengths": "any"}
        seen = "in groups of 16 neighbouring bands; generated spectra in the pattern of two photographs, and"
    else:
        name, scenes = "spectral-mixup.generated-31", mixup_scenes
        # The auxiliary tasks share the branches and, at this rate and length, disturb what they are to help.
        settings |= {"n_feats": 32, "block": 144, "mixups": 1, "rgb_batches": 0, "unlabelled_batches": 0}
        settings |= {"spectral_jitter": 0.2}
        bands = {}
        seen = "interpolated to 31 bands from 400 to 700 nm; generated spectra"
    card = bands | {
        "name": name,
        "quantity": "any",
        "scale": {"rule": "max"},
        "licence": "Apache-2.0",
        "commercial": "free, also commercially; name the authors of the data",
        "source": "trained for torchspectral, shipped with it",
        "attribution": PINES + (PHOTOGRAPHS if given.method == "essaformer" else ""),
        "trained_on": f"AVIRIS Indian Pines, rows 0 to 107 of 145, {seen} in generated fields with sharp edges: one real "
        "place only",
        "preprocessing": "scenes divided by their largest value, degraded bicubically, antialiased, by 4",
        "command": (
            f"python benchmarks/train_superres.py {given.method} BEFORE --steps 2400, then " if given.start else ""
        )
        + f"python benchmarks/train_superres.py {given.method} RUN --steps {given.steps}"
        + (" --start BEFORE" if given.start else ""),
    }
    if not given.score_only:
        result = ts.train(
            "superres",
            given.method,
            scenes(),
            out=given.run,
            steps=given.steps,
            device="cpu",
            settings=settings,
            card=card,
        )
        print(result.report.figures)
        curves = result["curves"]
        print(curves[[c for c in ("step", "psnr", "psnr_bicubic", "sam") if c in curves]].dropna().to_string())
    figures = held_out(given.run, given.method, given.also)
    print(json.dumps(figures, indent=1))
    if given.ship:
        print(ship(given.run, given.ship, figures))


if __name__ == "__main__":
    main()
