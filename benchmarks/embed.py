"""Memory and time of embedding scenes of 202 bands: each run is a process of its own, whose peak resident memory is asked.

    python benchmarks/embed.py [ROWSxCOLS ...] [--backbone spec-vit-t] [--folder DIR]

Bounds: less than 3 GB for 1000 x 1000 pixels, less than 2 GB for 300 x 300, and a result on the scene's CRS.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BANDS = 202
BOUNDS = {(300, 300): 2e9, (1000, 1000): 3e9}
CORNER = (600000.0, 5000000.0)


def waves() -> np.ndarray:
    """Of SpectralEarth's 202 bands [nm]."""
    from torchspectral.backbones.spectralearth.bands import enmap_bands

    return np.asarray(enmap_bands().wavelengths)


def write_scene(path: Path, rows: int, cols: int) -> None:
    """A tiled GeoTIFF of int16 reflectance x 10000: smooth fields of four spectra, with a corner of nodata."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng, wave = np.random.default_rng(0), waves()
    pure = rng.random((4, BANDS)).cumsum(1) / BANDS * 4000 + 800
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": BANDS, "height": rows, "width": cols, "dtype": "int16", "nodata": -32768,
        "crs": "EPSG:32632", "transform": from_origin(*CORNER, 30, 30), "tiled": True, "blockxsize": 128,
        "blockysize": 128, "interleave": "pixel",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as data:
        for band in range(BANDS):
            micrometres = {"CENTRAL_WAVELENGTH_UM": f"{wave[band] / 1000:.6f}", "FWHM_UM": "0.008"}
            data.update_tags(band + 1, ns="IMAGERY", **micrometres)
            data.update_tags(band + 1, wavelength=repr(float(wave[band])), wavelength_units="Nanometers")
        data.scales, data.offsets = (1e-4,) * BANDS, (0.0,) * BANDS
        data.update_tags(quantity="reflectance")
        for row in range(0, rows, 128):
            y, x = np.mgrid[row : min(row + 128, rows), :cols].astype(float)
            shares = np.stack([np.sin(x / 31) + 2, np.cos(y / 23) + 2, np.sin((x + y) / 47) + 2, np.ones_like(x)])
            block = np.einsum("kb,kyx->byx", pure, shares / shares.sum(0))
            block += rng.normal(0, 20, block.shape[1:])
            block = block.astype(np.int16)
            block[:, (y < 40) & (x < 40)] = -32768
            data.write(block, window=Window(0, row, cols, block.shape[1]))


def write_weights(path: Path, backbone: str) -> None:
    """Weights for the memory's sake: random ones, with a card as a training writes it."""
    import torch

    import torchspectral as ts
    from torchspectral.weights.card import WeightsCard
    from torchspectral.weights.files import save

    torch.manual_seed(0)
    card = WeightsCard(
        name=f"{backbone}.benchmark", model=backbone, wavelengths=waves().tolist(), quantity="reflectance",
        mean=[0.2] * BANDS, std=[0.1] * BANDS,
    )  # fmt: skip
    save(path, ts.create_model(backbone).state_dict(), card)


def child(scene: Path, weights: Path, out: Path) -> None:
    """One run; prints what it took."""
    import rasterio

    import torchspectral as ts

    begun, clock = time.perf_counter(), time.process_time()
    result = ts.embed(ts.open(scene), weights=weights, out=f"{out}/")
    wall, cpu = time.perf_counter() - begun, time.process_time() - clock
    with rasterio.open(scene) as a, rasterio.open(result.paths["embedding"]) as b:
        same = a.crs == b.crs and (a.transform.c, a.transform.f) == (b.transform.c, b.transform.f)
        shape = [b.count, b.height, b.width]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "wall": wall, "cpu": cpu, "same": same, "shape": shape, **result.report.seconds}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", default=["300x300", "1000x300", "1000x600", "1000x1000"])
    parser.add_argument("--backbone", default="spec-vit-t")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_weights(folder / "weights.safetensors", given.backbone)
        for size in given.sizes:
            rows, cols = (int(n) for n in size.split("x"))
            scene, out = folder / f"{size}.tif", folder / f"out-{size}"
            write_scene(scene, rows, cols)
            command = [sys.executable, __file__, "--child", str(scene), str(folder / "weights.safetensors"), str(out)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            scene.unlink()
            bound = BOUNDS.get((rows, cols))
            met = (
                "" if bound is None else f" (bound {bound / 1e9:g} GB: {'met' if found['peak'] < bound else 'NOT MET'})"
            )
            print(
                f"{given.backbone} {rows} x {cols} x {BANDS}: peak {found['peak'] / 1e9:.2f} GB{met}, {found['cpu']:.0f} s of "
                f"CPU, {found['wall']:.0f} s; {found['shape']} on the scene's CRS and corner: {found['same']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
