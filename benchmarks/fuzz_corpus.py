"""Products that `fuzz.py` damages: the real samples where they are present, and every miniature of the tests."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
LARGEST = 4 << 20
"""Larger files are left out: copying them would take the time."""


@dataclass(frozen=True)
class Product:
    """One product.

    Attributes
    ----------
    name : str
    root : Path
        Folder that is copied.
    files : tuple of Path
        All its files.
    victims : tuple of Path
        Those that are damaged.
    entry : str
        What is opened, relative to `root`.
    kind : {"product", "library", "labels"}
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    victims: tuple[Path, ...]
    entry: str
    kind: str = "product"

    def use(self, path: Path) -> None:
        """Do what a user does."""
        {"product": use_product, "library": use_library, "labels": use_labels}[self.kind](path)


def use_product(path: Path) -> None:
    """Open, describe, read a window of the cube and of each layer."""
    import xarray as xr

    from torchspectral.errors import TorchspectralError
    from torchspectral.io import describe, list_layers, open_product

    describe(path)
    opened = open_product(path)
    first = opened if isinstance(opened, xr.DataArray) else next(iter(opened.data_vars.values()))
    _window(first)
    for name in list_layers(path)[:8]:
        try:
            layered = open_product(path, layers=(name,))
            _window(layered[name])
        except TorchspectralError:
            continue


def _window(value: Any) -> None:
    value.isel({d: slice(0, 3) for d in value.dims}).load()
    if value.ndim == 3:
        value.isel(dict.fromkeys(value.dims, -1)).load()


def use_library(path: Path) -> None:
    """Read spectra."""
    from torchspectral.io.libraries import read_library

    read_library(path)


def use_labels(path: Path) -> None:
    """Read labels onto a small scene."""
    import numpy as np
    from affine import Affine

    import torchspectral as ts
    from torchspectral.geo import place
    from torchspectral.io.labels import read_labels

    cube = ts.make_cube(np.zeros((1, 145, 145), np.float32))
    on_map = path.suffix in (".geojson", ".gpkg", ".shp")
    read_labels(path, like=place(cube, Affine(0.01, 0, 0, 0, -0.01, 1), "EPSG:4326") if on_map else cube)


def build(folder: Path) -> list[Product]:
    """All products; miniatures are written below `folder`."""
    folder.mkdir(parents=True)
    return [*_samples(folder / "samples"), *_miniatures(folder / "miniatures")]


def _product(name: str, root: Path, entry: str = "", kind: str = "product") -> Product | None:
    files = tuple(sorted(f for f in root.rglob("*") if f.is_file()))
    victims = tuple(f for f in files if 0 < f.stat().st_size <= LARGEST)
    return Product(name, root, files, victims, entry, kind) if victims else None


def _samples(folder: Path) -> list[Product]:
    """Real files, each with those that share its stem."""
    source = Path(os.environ.get("TORCHSPECTRAL_SAMPLES", REPOSITORY.parent / "shared" / "data"))
    out = []
    for pattern, kind in (
        ("enmap/images/*_128_96.tif", "product"), ("enmap/*landcover.tif", "labels"), ("emit/*.nc", "product"),
        ("aviris/*.mat", "product"), ("aviris/pixels/*_rdn.hdr", "product"), ("aviris/pixels/Beckman*.txt", "library"),
        ("hydice/*.mat", "product"), ("casi/*.mat", "product"), ("rosis/*.mat", "product"), ("neon/*.h5", "product"),
        ("headwall/*.hdr", "product"), ("landsat/*.tif", "product"), ("envi_headers/*.hdr", "product"),
        ("labels/Ind*.mat", "labels"), ("speclib/library_berlin.hdr", "library"), ("speclib/*.asd", "library"),
        ("speclib/library_berlin.csv", "library"), ("unmixing/emit/*.hdr", "product"), ("unmixing/*/*.mat", "product"),
    ):  # fmt: skip
        for file in sorted(source.glob(pattern))[:3]:
            root = folder / f"{len(out)}"
            root.mkdir(parents=True)
            for part in file.parent.glob(f"{file.stem}*"):
                if part.is_file():
                    shutil.copyfile(part, root / part.name)
            out.append(_product(f"real {file.name}"[:28], root, file.name, kind))
    return [p for p in out if p is not None]


def _miniatures(folder: Path) -> list[Product]:
    """Miniatures of the tests, each in a folder of its own, and outputs of our own writers."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "io"))
    from fuzz_makers import MAKERS

    out = []
    for name, make in MAKERS.items():
        root = folder / name
        root.mkdir(parents=True)
        entry = Path(make(root))
        kind = next((k for k in ("library", "labels") if k in name), "product")
        out.append(_product(name, root, str(entry.relative_to(root)), kind))
    return [p for p in out if p is not None]
