"""Train the small denoisers that are shipped: ``python benchmarks/train_denoisers.py hsdt-s|man-s OUT [--minutes M]``.

Everything is generated: mixtures of a few smooth spectra by smooth maps, by regions with sharp edges, or by waves and
boxes, brought to 0..1 and moved within it, with Gaussian noise of one level or of a level a band. Adam, mean squared
error over a power of the noise's deviation (with power 0 a patch with little noise counts nothing), cosine decay over
the given minutes of one thread. OUT gets a safetensors file with its card; the held-out
figures on it are of cubes with other seeds.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from torchspectral.synth.scenes import low_rank_cube, material_spectra, smooth_maps
from torchspectral.weights import WeightsCard, load, save

CUBES = 96
"""Of each number of bands."""
NOISE = (2.0, 75.0)
"""Standard deviations in training, of 255."""


def clean_cube(bands: int, side: int, seed: int) -> np.ndarray:
    """A cube in 0..1, (band, y, x)."""
    rng = np.random.default_rng(seed)
    start, width = rng.uniform(400, 1400), rng.uniform(300, 1000)
    materials = int(rng.integers(2, 9))
    spectra = material_spectra(np.linspace(start, start + width, bands), materials, rng)
    kind = rng.integers(0, 3)
    if kind == 2:
        maps = np.stack([_waves(side, rng) for _ in range(materials)])
    else:
        maps = smooth_maps(materials, side, side, rng.uniform(1.0, 8.0), rng)
        if kind == 1:
            maps = 0.8 * (maps == maps.max(0)) + 0.2 * maps
    light = 1 + rng.uniform(0, 0.15) * rng.uniform(-1, 1, (side, side))
    cube = np.tensordot(spectra.T, maps, axes=1) * light
    cube = (cube - cube.min()) / max(float(np.ptp(cube)), 1e-9)
    return cube.astype(np.float32)


def _waves(side: int, rng: np.random.Generator) -> np.ndarray:
    row, col = np.meshgrid(np.arange(side) / side, np.arange(side) / side, indexing="ij")
    down, across = rng.uniform(0.3, 4, 2)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (down * row + across * col) + rng.uniform(0, 2 * np.pi))
    middle, reach = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.35, 2)
    box = (abs(row - middle[0]) < reach[0]) & (abs(col - middle[1]) < reach[1])
    found: np.ndarray = wave * np.where(box, 1.6, 0.6)
    return found


def batch(cubes: list[np.ndarray], size: int, side: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean volumes, (n, 1, band, y, x)."""
    found = []
    for _ in range(size):
        cube = cubes[int(rng.integers(len(cubes)))]
        row, col = rng.integers(0, cube.shape[1] - side + 1, 2)
        part = np.rot90(cube[:, row : row + side, col : col + side], int(rng.integers(4)), (1, 2))
        part = part[::-1] if rng.random() < 0.5 else part
        gain = rng.uniform(0.4, 1.0)
        found.append(gain * part + rng.uniform(0, 1 - gain))
    clean = torch.from_numpy(np.stack(found).astype(np.float32))[:, None]
    level = np.exp(rng.uniform(*np.log(NOISE), (size, 1)))
    spread = np.where(rng.random((size, 1)) < 0.5, 1.0, rng.uniform(0.3, 1.7, (size, clean.shape[2])))
    sigma = torch.from_numpy((level * spread / 255).astype(np.float32))[:, None, :, None, None]
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    return clean + sigma * noise, clean


def gain(network: torch.nn.Module, bands: int, sigma: float, seeds: range) -> tuple[float, float]:
    """Mean PSNR of held-out cubes before and after [dB], peak 1."""
    before, after = [], []
    for seed in seeds:
        clean = torch.from_numpy(clean_cube(bands, 64, seed))[None, None]
        noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(clean.shape, dtype=np.float32))
        noisy = clean + sigma * noise
        with torch.no_grad():
            out = network(noisy)
        for image, into in ((noisy, before), (out, after)):
            into.append(-10 * math.log10(float((image - clean).square().mean())))
    return float(np.mean(before)), float(np.mean(after))


def train(
    model: str,
    minutes: float,
    rate: float,
    side: int,
    power: float,
    low_rank: int = 0,
    start_from: Path | None = None,
    seed: int = 0,
    size: int = 4,
) -> tuple[torch.nn.Module, int]:
    """The trained network in evaluation mode, and the steps taken."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = ts.create_model(model).train()
    if start_from is not None:
        load(start_from, model=network)
    choices = (31,) if model.startswith("hsdt") else (16, 31, 48)
    pools = {bands: [clean_cube(bands, 80, 1000 * bands + k) for k in range(CUBES - low_rank)] for bands in choices}
    for bands, pool in pools.items():
        pool += [low_rank_cube(bands, 80, 80, rank=3 + k % 6, seed=k + 1).astype(np.float32) for k in range(low_rank)]
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    start, used, steps = time.process_time(), 0.0, 0
    while used < 60 * minutes:
        share = used / (60 * minutes)
        optimiser.param_groups[0]["lr"] = (
            rate * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2) * min(1, (steps + 1) / 20)
        )
        noisy, clean = batch(pools[choices[int(rng.integers(len(choices)))]], size, side, rng)
        off, noise = ((image - clean).square().mean((1, 2, 3, 4)) for image in (network(noisy), noisy))
        loss = (off / noise ** (power / 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        steps, used = steps + 1, time.process_time() - start
        if steps % 25 == 0:
            print(f"{model} step {steps} {used:.0f} s loss {float(loss):.5f}", flush=True)
    return network.eval(), steps


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", choices=("hsdt-s", "man-s"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate")
    parser.add_argument("--side", type=int, default=32, help="of patches [pixels]")
    parser.add_argument(
        "--power", type=float, default=1.0, help="of the noise's deviation, which the error is held over"
    )
    parser.add_argument("--low-rank", type=int, default=0, help=f"cubes of low rank among the {CUBES}")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, steps = train(
        options.model, options.minutes, options.rate, options.side, options.power, options.low_rank, options.start
    )
    metrics: dict[str, Any] = {"steps": steps}
    for sigma in (10, 25, 50):
        before, after = gain(network, 31, sigma / 255, range(900_000, 900_006))
        metrics[f"psnr_noisy_sigma{sigma}"], metrics[f"psnr_sigma{sigma}"] = round(before, 2), round(after, 2)
    print(metrics)
    hsdt = options.model.startswith("hsdt")
    card = WeightsCard(
        name=f"{options.model}.generated",
        model=options.model,
        constructor={"bands": 31} if hsdt else {},
        noise=(0.0, NOISE[1]),
        licence="Apache-2.0",
        commercial="free, also commercially",
        source="trained for torchspectral, shipped with it",
        attribution="the torchspectral authors",
        metrics=metrics,
        trained_on=(
            f"generated cubes of {'31' if hsdt else '16, 31 and 48'} bands, Gaussian noise of 2 to 75 (of 255), alike in "
            "all bands or a level a band; no real scene, no stripes, dead lines or impulses"
        ),
        preprocessing="values between the scene's extremes lie in 0..1",
        command=(
            f"python benchmarks/train_denoisers.py {options.model} OUT --minutes {options.minutes:g} --rate {options.rate:g} "
            f"--side {options.side} --power {options.power:g} --low-rank {options.low_rank}"
            + (f" --start {options.start.name}" if options.start else "")
        ),
    )
    print(save(options.out / card.name, dict(network.state_dict()), card, overwrite=True))


if __name__ == "__main__":
    main()
