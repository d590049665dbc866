"""Classical denoisers on the seeded low-rank cube: PSNR and processor seconds for three kinds of noise.

python benchmarks/restore.py CUBE.py [--size 128,128,64] [--methods fast-eigen,mnf]

CUBE.py holds ``clean(rows, cols, bands)`` and ``noisy(cube, kind, seed)``; kinds are gaussian, noniid and mixture.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import torch

import torchspectral as ts
from torchspectral import registry

KINDS = ("gaussian", "noniid", "mixture")


def main() -> None:
    """Print one row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cube", type=Path)
    parser.add_argument("--size", default="128,128,64")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    spec = importlib.util.spec_from_file_location("cube", given.cube)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    torch.set_num_threads(1)
    clean = recipe.clean(*map(int, given.size.split(",")))
    truth = clean.transpose(2, 0, 1).astype(np.float64)
    noisy = {kind: recipe.noisy(clean, kind, given.seed).transpose(2, 0, 1) for kind in KINDS}
    print(f"{'method':<18}" + "".join(f"{kind:>20}" for kind in KINDS))
    print(f"{'noisy':<18}" + "".join(f"{psnr(noisy[kind], truth):>12.2f} dB     " for kind in KINDS))
    cards = [card.name for card in registry.methods("restoration") if "weights" not in card.needs]
    for name in cards if given.methods == "all" else given.methods.split(","):
        row = ""
        for kind in KINDS:
            cube = ts.make_cube(noisy[kind], quantity="reflectance")
            start = time.process_time()
            found = ts.restore(cube, method=name)["cube"].values
            row += f"{psnr(found, truth):>10.2f} ({time.process_time() - start:6.2f} s)"
        print(f"{name:<18}{row}", flush=True)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Over the whole cube, peak 1 [dB]."""
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))


if __name__ == "__main__":
    main()
