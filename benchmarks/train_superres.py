"""A small checkpoint of ESSAformer: 16 neighbouring bands, x4, for any sensor in groups of bands.

``python benchmarks/train_superres.py RUN [--steps N]`` trains it on Indian Pines (rows 0 to 107, groups of 16 bands) and
generated scenes, then scores rows 108 to 143 of Indian Pines against bicubic interpolation.
"""

from __future__ import annotations

import argparse

import numpy as np
import xarray as xr

import torchspectral as ts
from torchspectral.io.samples import indian_pines
from torchspectral.superresolution import degrade, quality
from torchspectral.synth.scenes import mixed_scene

BANDS, SCALE, GROUND = 16, 4, slice(0, 108)


def scenes() -> list[xr.DataArray]:
    """Cubes of 16 bands without wavelengths, divided by their scene's largest value."""
    pines = indian_pines()[0].isel(y=GROUND).values.astype(np.float32)
    found = [pines[first : first + BANDS] / pines.max() for first in [*range(0, 184, 23), 184]]
    for seed in range(4):
        made = mixed_scene(BANDS, 96, 96, grain=6.0, texture=0.02, seed=seed).values
        found.append(made / made.max())
    return [ts.make_cube(np.ascontiguousarray(values), quantity="reflectance") for values in found]


def held_out(weights: str) -> dict[str, dict[str, float]]:
    """Figures on ground that trained nothing: degraded by 4 and super-resolved."""
    import torch

    truth = indian_pines()[0].isel(y=slice(108, 144), x=slice(0, 144))
    truth = (truth / float(indian_pines()[0].max())).astype(np.float32).assign_attrs(quantity="reflectance")
    low = degrade(truth, SCALE)
    found = {}
    for name, settings in (("interpolation", {}), ("essaformer", {"band_groups": True, "gain": 1.0})):
        fine = ts.superres(
            low, scale=SCALE, method=name, settings=settings, weights=weights if settings else None, check=False
        )["cube"]
        pair = (torch.from_numpy(np.asarray(cube.values)) for cube in (fine, truth))
        found[name] = {key: round(value, 4) for key, value in quality(*pair, ratio=SCALE).items()}
    return found


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    settings = {
        "dim": 32, "scale": SCALE, "residual": "bicubic", "quiet_start": True, "dropout": 0.0, "patch": 32, "batch": 4, "stride": 8, "guard": 4,
        "learning_rate": 5e-4, "decay": "cosine", "clip": 1.0, "validate_every": 100, "checkpoint_every": 50, "gain": 1.0,
    }  # fmt: skip
    card = {
        "name": "essaformer.generated-16",
        "quantity": "any",
        "wavelengths": "any",
        "scale": {"rule": "max"},
        "licence": "Apache-2.0",
        "commercial": "free, also commercially; name the authors of the data",
        "source": "trained for torchspectral",
        "attribution": "Data: Baumgardner, Biehl, Landgrebe, 220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992 "
        "Indian Pine Test Site 3 (2015), doi:10.4231/R7RX991C, CC BY 3.0; used as distributed with the package tensorly "
        "(200 bands), degraded bicubically",
        "trained_on": "AVIRIS Indian Pines, rows 0 to 107 of 145, in groups of 16 neighbouring bands, and four generated "
        "scenes: one place only, expect it to be near bicubic interpolation elsewhere",
        "preprocessing": "scenes divided by their largest value, degraded bicubically, antialiased, by 4",
        "command": f"python benchmarks/train_superres.py RUN --steps {given.steps}",
    }
    result = ts.train(
        "superres", "essaformer", scenes(), out=given.run, steps=given.steps, device="cpu", settings=settings, card=card
    )
    print(result.report.figures)
    print(held_out(given.run))


if __name__ == "__main__":
    main()
