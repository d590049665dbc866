"""Sharpening speed: ``python benchmarks/sharpening.py [--side N] [--bands B] [--ratio R] [--json]``.

Guided fusion (registration, regression, injection) on a scene of ``side x side`` coarse pixels through the engine, with
the machine's matrix product and copy speed beside it; the figures of the classical and of the zero-shot methods come
from ``sharpen_classical.py`` and ``sharpen_zero_shot.py``, where these stand beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from machine import measure
from torchspectral.geo import place


def pair(side: int, bands: int, ratio: int, guides: int, seed: int = 0) -> tuple[Any, Any]:
    """A cube and finer guides with texture in common, float32."""
    from affine import Affine

    random = np.random.default_rng(seed)
    fine = random.random((4, side * ratio, side * ratio)).astype(np.float32)
    for axis in (1, 2):
        fine = (fine + np.roll(fine, 1, axis) + np.roll(fine, -1, axis)) / 3
    low = fine.reshape(4, side, ratio, side, ratio).mean((2, 4))
    spectra, responses = random.random((4, bands)), random.random((4, guides))
    cube = ts.make_cube(
        np.einsum("kyx,kb->byx", low, spectra).astype(np.float32), wavelength=np.linspace(420, 2450, bands)
    )
    image = ts.make_cube(
        np.einsum("kyx,kb->byx", fine, responses).astype(np.float32), wavelength=np.linspace(490, 865, guides)
    )
    return place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), 32633), place(
        image, Affine(30 / ratio, 0, 4e5, 0, -30 / ratio, 5e6), 32633
    )


def guided(side: int, bands: int, ratio: int, guides: int) -> dict[str, Any]:
    """CPU seconds of guided fusion, seconds of its stages, and peak memory."""
    cube, image = pair(side, bands, ratio, guides)
    best: dict[str, Any] = {}
    for _ in range(3):
        start = time.process_time()
        report = ts.sharpen(cube, guides=image, device="cpu").report
        used = time.process_time() - start
        if not best or used < best["cpu_s"]:
            best = {"cpu_s": used, **{k: v for k, v in report.seconds.items() if k != "total"}}
            best["peak memory [MB]"] = report.peak_memory / 1e6
    return {"method": "guided", "coarse side": side, "bands": bands, "ratio": ratio, "guides": guides, **best}


QUICK = {
    "r-pnn": {"first_iterations": 2, "most_iterations": 2},
    "rho-pnn": {"ensemble": 1, "ensemble_epochs": 1, "epochs": 2, "sharpenings": 1, "eta": 0.0},
}
"""Schedules that touch all memory a band needs, a few times."""


def band_memory(method: str, bands: int, side: int = 48, ratio: int = 4) -> dict[str, Any]:
    """Peak memory of a band-wise method from file to file, in a process of its own."""
    code = (
        "import sys, tempfile, torch, torchspectral as ts; sys.path.insert(0, sys.argv[1]); import sharpening as b\n"
        "torch.set_num_threads(1); method, bands, side, ratio = sys.argv[2], *map(int, sys.argv[3:])\n"
        "folder = tempfile.TemporaryDirectory(); f = folder.name\n"
        "cube, image = b.pair(side, bands, ratio, 1); ts.save(cube, f + '/hs.tif'); ts.save(image, f + '/pan.tif')\n"
        "del cube, image\n"
        "from torchspectral.sharpening.zero_shot.networks import RPNNNetwork\n"
        "state = dict(RPNNNetwork().state_dict()) if method == 'r-pnn' else None\n"
        "r = ts.sharpen(ts.open(f + '/hs.tif'), ts.open(f + '/pan.tif'), method=method, settings=b.QUICK[method],\n"
        "               state=state, out=f + '/o.tif', check_shift=False)\n"
        "print('PEAK', r.report.peak_memory, r.report.seconds['total'])"
    )
    here = str(Path(__file__).resolve().parent)
    words = [sys.executable, "-c", code, here, method, str(bands), str(side), str(ratio)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    peak, seconds = done.stdout.split("PEAK")[1].split()
    return {
        "method": method, "coarse side": side, "bands": bands, "ratio": ratio,
        "seconds, short schedule": float(seconds), "peak memory [MB]": int(peak) / 1e6,
    }  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--bands", type=int, default=218)
    parser.add_argument("--ratio", type=int, default=3)
    parser.add_argument("--guides", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = [guided(options.side, options.bands, options.ratio, options.guides)]
    rows += [band_memory(method, bands) for method in QUICK for bands in (8, 32, 64)]
    for name in ("sharpen_classical", "sharpen_zero_shot"):
        if importlib.util.find_spec(name) is None:
            rows.append({"method": name, "note": "not beside this file"})
            continue
        module = importlib.import_module(name)
        rows += list(module.rows()) if hasattr(module, "rows") else [{"method": name, "note": "run it on its own"}]
    machine = measure()
    if options.json:
        print(json.dumps({"machine": asdict(machine), "rows": rows}, indent=1, default=str))
        return
    print(machine)
    for row in rows:
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
