"""Patches of 202 x 128 x 128 int16: indexing, reading GeoTIFFs, reading them packed. Seconds of one core.

python benchmarks/patch_sets.py [COUNT]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import rasterio
from rasterio.transform import from_origin

from torchspectral.learn.patch_sets import open_patch_set, pack

SHAPE = (202, 128, 128)


def write(root: Path, count: int, **options: str) -> None:
    rng = np.random.default_rng(0)
    smooth = rng.normal(0, 3, SHAPE).cumsum(1).cumsum(2) + 2000
    values = smooth.clip(0, 10000).astype(np.int16)
    for number in range(count):
        path = root / "enmap" / f"loc{number:05d}" / "a_20220601.tif"
        path.parent.mkdir(parents=True)
        with rasterio.open(
            path, "w", driver="GTiff", count=SHAPE[0], height=SHAPE[1], width=SHAPE[2], dtype="int16", nodata=-32768,
            crs="EPSG:32632", transform=from_origin(4e5 + 4e3 * number, 5e6, 30, 30), **options,
        ) as data:  # fmt: skip
            data.write(values)


def timed(function) -> tuple[float, float]:
    begun, clock = process_time(), perf_counter()
    function()
    return process_time() - begun, perf_counter() - clock


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        block = np.random.default_rng(0).integers(0, 9999, SHAPE).astype(np.int16)
        copies = timed(lambda: [block.copy() for _ in range(100)])[0]
        print(f"copy: {100 * block.nbytes / copies / 1e9:.1f} GB/s; {count} patches of {block.nbytes / 1e6:.1f} MB")
        for name, options in (("uncompressed", {}), ("deflate", {"compress": "deflate"})):
            write(root / name, count, **options)
            cpu, wall = timed(lambda name=name: open_patch_set(root / name))
            again, _ = timed(lambda name=name: open_patch_set(root / name))
            patches = open_patch_set(root / name)
            stored, _ = timed(lambda p=patches: [p.stored(int(row)) for row in p.rows])
            physical, _ = timed(lambda p=patches: [p.values(int(row)) for row in p.rows[: max(count // 10, 1)]])
            print(
                f"{name}: index {cpu:.2f} s ({wall:.2f} wall), opened again {again:.2f} s, read {stored:.1f} s "
                f"({1000 * stored / count:.1f} ms each), to reflectance {10 * physical:.1f} s"
            )
        cpu, wall = timed(lambda: pack(open_patch_set(root / "uncompressed"), root / "patches.zarr"))
        packed = open_patch_set(root / "patches.zarr")
        size = sum(f.stat().st_size for f in (root / "patches.zarr").rglob("*") if f.is_file())
        stored, _ = timed(lambda: [packed.stored(int(row)) for row in packed.rows])
        print(
            f"packed: written {cpu:.1f} s, {size / count / 1e6:.1f} MB each, read {stored:.1f} s ({1000 * stored / count:.1f} ms each)"
        )


if __name__ == "__main__":
    main()
