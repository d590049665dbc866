"""Products that `fuzz.py` damages: the real samples where they are present, and every miniature of the tests."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
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

    def use(self, path: Path, rng: Random) -> None:
        """Do what a user does."""
        if self.kind == "product":
            use_product(path, rng)
        else:
            {"library": use_library, "labels": use_labels}[self.kind](path)


def use_product(path: Path, rng: Random) -> None:
    """Find the reader, open with two of the layers, read windows; describe and open all layers now and then."""
    import xarray as xr

    from torchspectral.errors import TorchspectralError
    from torchspectral.io import describe, list_layers, open_product
    from torchspectral.io.opening import find_reader

    reader = find_reader(path)[0].name
    if rng.random() < 0.2:
        describe(path, reader=reader)
    problem: TorchspectralError | None = None
    try:
        names = list_layers(path, reader=reader)
    except TorchspectralError as error:
        names, problem = [], error
    names = rng.sample(names, min(len(names), 12 if rng.random() < 0.02 else 2))
    try:
        opened = open_product(path, reader=reader, layers=names)
    except TorchspectralError as error:
        opened, problem = open_product(path, reader=reader), error
    for value in [opened] if isinstance(opened, xr.DataArray) else opened.data_vars.values():
        try:
            _window(value)
        except TorchspectralError as error:
            problem = error
    if problem is not None:
        raise problem


def _window(value: Any) -> None:
    value.isel({d: slice(0, 3) for d in value.dims}).load()
    if value.ndim == 3:
        value.variable.isel(dict.fromkeys(value.dims, -1)).load()


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
            if file.suffix == ".mat":
                _crop_matlab(root / file.name)
            out.append(_product(f"real {file.name}"[:28], root, file.name, kind))
    return [p for p in out if p is not None]


def _crop_matlab(path: Path) -> None:
    """Cut its images to a few pixels and store them unpacked: a damaged packed stream only ever fails its checksum."""
    import scipy.io

    try:
        found = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    except NotImplementedError:  # v7.3
        return
    small = {k: v[:12, :10] if v.ndim == 3 else v for k, v in found.items() if v.ndim == 3 or v.nbytes < 1 << 16}
    if any(v.ndim == 3 or min(v.shape) <= 1 for v in small.values()):
        scipy.io.savemat(path, small)


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
