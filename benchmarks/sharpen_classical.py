"""CPU seconds of the classical sharpening methods: the benchmark's table, and a whole scene through the engine.

One thread; CPU time, so that other work on the machine counts as little as it can.

``python benchmarks/sharpen_classical.py [--scene METHOD ...]``; `benchmarks/sharpening.py` calls the functions.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from affine import Affine

import torchspectral as ts
from machine import measure
from torchspectral.geo import place
from torchspectral.ops.mtf import mtf_filter
from torchspectral.sharpening import fuse

REFERENCE = {
    "gsa": 0.09,
    "bt-h": 0.64,
    "bdsd-pc": 1.3,
    "pracs": 0.4,
    "awlp": 0.5,
    "mtf-glp-fs": 8.3,
    "mtf-glp-hpm": 10.6,
    "mtf-glp-hpm-r": 5.7,
    "mf": 0.06,
    "sr-d": 10.0,
    "hysure": 70.0,
}
"""Seconds of the published toolbox for 12 bands, 34 x 34 to 204 x 204 pixels, one core; TV has no figure."""

WANTED = {"mtf-glp-fs": 10.0, "bdsd-pc": 10.0}
"""How many times faster; 3 for the others that take over 0.3 s."""


def best_cpu(repeats: int, call: Callable[[], object]) -> float:
    """Shortest CPU time of a call [s]."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def pair(bands: int, side: int, ratio: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random scene seen through the MTF, (band, y, x) float32, and its PAN."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(6, side * ratio, side * ratio, generator=generator)
    for _ in range(3):
        fine = torch.nn.functional.avg_pool2d(fine[None], 7, 1, 3, count_include_pad=False)[0]
    mix = torch.rand(bands, 6, generator=generator)
    low = torch.einsum("bk,kyx->byx", mix, mtf_filter(fine, ratio, normalize=True, decimated=True))
    pan = torch.einsum("k,kyx->yx", mix[: bands // 2].mean(0), fine)[None]
    return (low * 4000 + 200).contiguous(), pan * 4000 + 200


def table(repeats: int = 3, iterations: int | None = None) -> list[tuple[str, float, float, float]]:
    """Rows of (method, seconds of the reference, ours, times faster) at the size of the published figures; CPU time."""
    low, pan = pair(12, 34, 6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    try:
        for method, reference in {**REFERENCE, "tv": float("nan")}.items():
            slow = method in ("hysure", "tv")
            settings = {"iterations": iterations} if slow and iterations else {}
            run = lambda m=method, s=settings: fuse(low, pan, m, s)  # noqa: E731
            run()
            ours = best_cpu(1 if slow else repeats, run)
            found.append((method, reference, ours, reference / ours))
    finally:
        torch.set_num_threads(threads)
    return found


def rows() -> list[dict[str, object]]:
    """The table as mappings."""
    names = ("method", "reference_s", "seconds", "times_faster")
    return [dict(zip(names, row, strict=True)) for row in table()]


def scene(method: str, bands: int = 159, side: int = 200, ratio: int = 6, **options: object) -> dict[str, float]:
    """Seconds and peak memory [GB] of a scene of (ratio * side)^2 x bands through the engine, written as Zarr."""
    low, fine = pair(bands, side, ratio)
    cube = ts.make_cube(low.numpy(), wavelength=np.linspace(400, 2500, bands))
    cube = place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), "EPSG:32633")
    pan = place(ts.make_cube(fine.numpy()), Affine(30 / ratio, 0, 4e5, 0, -30 / ratio, 5e6), "EPSG:32633")
    with tempfile.TemporaryDirectory() as folder:
        start, used = time.perf_counter(), time.process_time()
        ts.sharpen(cube, pan, method=method, out=Path(folder) / "out.zarr", **options)  # type: ignore[arg-type]
        seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": seconds, "cpu_seconds": used, "peak_gb": peak}


def main() -> None:
    """Print the table, or scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", nargs="*", default=[], help="methods to run on 1200 x 1200 x 159 pixels")
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    print(measure())
    for method in chosen.scene:
        found = scene(method, workers=chosen.workers)
        print(
            f"{method:14} {found['seconds']:8.1f} s  {found['cpu_seconds']:8.1f} s CPU  {found['peak_gb']:6.2f} GB peak so far",
            flush=True,
        )
    if not chosen.scene:
        print(f"{'method':14} {'reference':>10} {'ours':>8} {'faster':>8} {'wanted':>7}")
        for method, reference, ours, faster in table():
            wanted = WANTED.get(method, 3.0 if reference > 0.3 else 0.0)
            print(f"{method:14} {reference:8.2f} s {ours:6.3f} s {faster:6.1f} x {wanted:5.0f} x", flush=True)


if __name__ == "__main__":
    main()
