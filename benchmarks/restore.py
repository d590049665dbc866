"""Classical denoisers on the seeded low-rank cube: PSNR, spectral angle and processor seconds for three kinds of noise.

python benchmarks/restore.py CUBE.py [--size 128,128,64] [--methods fast-eigen,mnf] [--seeds 7:1,8:2]

CUBE.py holds ``clean(rows, cols, bands, seed=)`` and ``noisy(cube, kind, seed)``; kinds are gaussian, noniid and mixture.
One thread; seconds are those of the processor. Methods whose rank the comparison of the literature gives get it: fast-eigen
finds its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import torch

import torchspectral as ts
from machine import measure
from torchspectral import registry
from torchspectral.errors import TorchspectralError

KINDS = ("gaussian", "noniid", "mixture")
GIVEN = {"wsrrr": {"rank": 5}, "otvca": {"features": 5}, "l1hymixde": {"k": 5}}


def main() -> None:
    """Print one row a method and pair of seeds, and which of them fast-eigen does not beat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cube", type=Path)
    parser.add_argument("--size", default="128,128,64")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--without", default="", help="methods to leave out, those that take minutes")
    parser.add_argument("--seeds", default="7:1", help="pairs clean:noise")
    given = parser.parse_args()
    spec = importlib.util.spec_from_file_location("cube", given.cube)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    torch.set_num_threads(1)
    print(measure())
    cards = [card.name for card in registry.methods("restoration") if "weights" not in card.needs]
    names = cards if given.methods == "all" else given.methods.split(",")
    names = [name for name in names if name not in given.without.split(",")]
    print(f"{'method':<18}" + "".join(f"{kind:>30}" for kind in KINDS))
    for pair in given.seeds.split(","):
        scene, noise = map(int, pair.split(":"))
        clean = recipe.clean(*map(int, given.size.split(",")), seed=scene)
        truth = clean.transpose(2, 0, 1).astype(np.float64)
        noisy = {kind: recipe.noisy(clean, kind, noise).transpose(2, 0, 1) for kind in KINDS}
        row = "".join(f"{psnr(noisy[k], truth):>8.2f} dB {angle(noisy[k], truth):6.2f} deg          " for k in KINDS)
        print(f"{'noisy ' + pair:<18}{row}")
        found = {name: _row(name, noisy, truth) for name in names}
        if "fast-eigen" in found:
            best = found["fast-eigen"]
            above = [f"{n} ({k})" for n, r in found.items() for k in r if k in best and r[k] > best[k]]
            print(f"above fast-eigen: {', '.join(above) or 'none'}", flush=True)


def _row(name: str, noisy: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """Print and return the PSNR of a method for each kind of noise."""
    row, found = "", {}
    for kind, values in noisy.items():
        cube = ts.make_cube(values, quantity="reflectance")
        start = time.process_time()
        try:
            out = ts.restore(cube, method=name, settings=GIVEN.get(name))["cube"].values
        except TorchspectralError as error:
            row += f"{str(error)[:28]:>30}"
            continue
        seconds = time.process_time() - start
        found[kind] = psnr(out, truth)
        row += f"{found[kind]:>8.2f} dB {angle(out, truth):6.2f} deg {seconds:6.2f} s"
    print(f"{name:<18}{row}", flush=True)
    return found


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Over the whole cube, peak 1 [dB]."""
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Mean spectral angle [degrees]."""
    norms = np.sqrt((one.astype(np.float64) ** 2).sum(0) * (other**2).sum(0))
    return float(np.degrees(np.arccos(np.clip((one * other).sum(0) / np.maximum(norms, 1e-12), -1, 1))).mean())


if __name__ == "__main__":
    main()
