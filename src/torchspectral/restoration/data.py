"""Data sets of restoration and super-resolution: where their images lie, what they hold, and who trains on which.

A folder that a user has downloaded is opened image by image, lazily, as cubes with wavelengths. Nothing is downloaded.

References
----------
Arad, Ben-Shahar, "Sparse recovery of hyperspectral signal from natural RGB images", ECCV 2016 (ICVL). Yasuma et al.,
"Generalized assorted pixel camera", IEEE TIP 19 (2010) (CAVE). Chakrabarti, Zickler, "Statistics of real-world
hyperspectral images", CVPR 2011 (Harvard). Yokoya, Iwasaki, "Airborne hyperspectral data over Chikusei", 2016. Arad
et al., "NTIRE 2022 spectral recovery challenge", CVPRW 2022 (ARAD).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from torchspectral.cube import make_cube, with_history
from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, ProductNotFound, UnknownName, closest
from torchspectral.synth.scenes import low_rank_cube


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes
    ----------
    name, title : str
    kind : {"mat", "png"}
        MATLAB files, or a folder of one PNG a band for each image.
    pattern : str
        Of the files, or of the folders, by name.
    key : str
        Variable of the cube.
    bands : int
    wavelength : (float, float)
        First and last [nm], evenly spaced.
    scale : float
        Stored values over it are 0..1; 0: the largest value of the image.
    crop : tuple of int, optional
        First row, last row + 1, first column, last column + 1 of the part that is used.
    tiles : dict of str to list
        Windows (row, column, rows, columns) of the crop by split, for data sets of one scene.
    splits : dict of str to list of str
        Names of images by split, without their suffix.
    """

    name: str
    title: str
    kind: str
    pattern: str
    bands: int
    wavelength: tuple[float, float]
    key: str = ""
    scale: float = 0.0
    crop: tuple[int, int, int, int] | None = None
    tiles: dict[str, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)


@lru_cache(maxsize=1)
def datasets() -> dict[str, Dataset]:
    """Every data set by name."""
    text = resources.files("torchspectral.restoration").joinpath("datasets.yaml").read_text(encoding="utf-8")
    found = {}
    for row in yaml.safe_load(text):
        for name in ("wavelength", "crop"):
            if row.get(name):
                row[name] = tuple(row[name])
        row["tiles"] = {split: [tuple(w) for w in windows] for split, windows in (row.get("tiles") or {}).items()}
        found[row["name"]] = Dataset(**row)
    return found


def dataset(name: str) -> Dataset:
    """A data set by name.

    Raises
    ------
    UnknownName
    """
    known = datasets()
    if name not in known:
        raise UnknownName(f"no data set {name!r}: {closest(str(name), tuple(known))}")
    return known[name]


def open_dataset(
    folder: Path | str, name: str, split: str = "all", *, missing: str = "refuse"
) -> Iterator[tuple[str, xr.DataArray]]:
    """Open the images of a data set one by one.

    Parameters
    ----------
    folder : path
        With the images as they are distributed, in it or below it.
    name : str
        See `datasets`: icvl, cave, harvard, chikusei, pavia-centre, pavia-university, arad.
    split : str
        "all", or a split of the data set.
    missing : {"refuse", "skip"}
        What to do where an image of the split is not in the folder.

    Yields
    ------
    name : str
        Of the image; of a tile with its number.
    cube : DataArray, dims (band, y, x)
        Lazy, in 0..1 where the data set has a fixed scale, else raw numbers; with wavelengths.

    Raises
    ------
    UnknownName, BadSettings
    ProductNotFound
        The folder, or an image of the split, is not there.
    BrokenProduct, BandMismatch
        An image is damaged, or not of this data set.
    """
    facts = dataset(name)
    if missing not in ("refuse", "skip"):
        raise BadSettings(f"got missing={missing!r}, expected refuse or skip")
    wanted = _wanted(facts, split)
    files = _files(Path(folder), facts)
    if facts.tiles:
        return _tiles(next(iter(files.items())), facts, split)
    chosen = list(files) if wanted is None else [n for n in wanted if n in files]
    absent = [n for n in wanted or () if n not in files]
    if (absent and missing == "refuse") or not chosen:
        raise ProductNotFound(
            f"{folder} lacks {len(absent)} of {len(wanted or ())} images of {name} {split}, the first of them "
            f"{absent[0] if absent else '-'}: download them, or take missing='skip'"
        )
    return ((n, _image(files[n], facts)) for n in chosen)


def _wanted(facts: Dataset, split: str) -> list[str] | None:
    if split == "all":
        return None
    known = {**facts.splits, **facts.tiles}
    if split not in known:
        raise UnknownName(f"{facts.name} has no split {split!r}: {closest(split, ('all', *known))}")
    return facts.splits.get(split)


def _files(folder: Path, facts: Dataset) -> dict[str, Path]:
    """Files or folders of the images by name; the list is in order of the names."""
    if not folder.exists():
        raise ProductNotFound(f"{folder} does not exist: expected the folder of {facts.title}")
    pattern = re.compile(facts.pattern, re.IGNORECASE)
    found: dict[str, Path] = {}
    places = [folder, *sorted(p for p in folder.rglob("*") if not p.name.startswith("."))]
    for path in places:
        if not pattern.fullmatch(path.name):
            continue
        if facts.kind == "png" and not (path.is_dir() and _planes(path)):
            continue
        if facts.kind == "mat" and not path.is_file():
            continue
        found.setdefault(path.name if facts.kind == "png" else path.stem, path)
    if not found:
        raise ProductNotFound(f"{folder} holds no image of {facts.title}: expected names like {facts.pattern}")
    return dict(sorted(found.items()))


def _image(path: Path, facts: Dataset) -> xr.DataArray:
    """One image as a cube with wavelengths, in its scale."""
    from torchspectral.io import open_product

    wave = np.linspace(*facts.wavelength, facts.bands)
    if facts.kind == "png":
        cube = _png(path, facts, wave)
    else:
        options: dict[str, Any] = {"key": facts.key} if facts.key else {}
        if facts.scale > 0:
            options |= {"quantity": "reflectance", "scale": 1 / facts.scale}
        cube = open_product(path, reader="matlab", **options)
        _check_bands(cube.sizes["band"], path, facts)
        cube = cube.assign_coords(wavelength=("band", wave))
    if facts.crop is not None:
        top, bottom, left, right = facts.crop
        rows, cols = cube.sizes["y"], cube.sizes["x"]
        if rows < bottom or cols < right:
            raise BrokenProduct(f"{path.name} has {rows} x {cols} pixels, expected at least {bottom} x {right}")
        cube = cube.isel(y=slice(top, bottom), x=slice(left, right))
    return with_history(cube, f"{facts.title}: wavelengths {wave[0]:g} to {wave[-1]:g} nm, evenly spaced")


def _check_bands(count: int, path: Path, facts: Dataset) -> None:
    if count != facts.bands:
        raise BandMismatch(f"{path.name} has {count} bands, expected the {facts.bands} of {facts.title}")


def _planes(folder: Path) -> list[Path]:
    """PNG files of the bands, in order of the number at the end of their names."""
    numbered = [(re.search(r"_(\d+)$", p.stem), p) for p in folder.glob("*.png")]
    return [p for _, p in sorted((int(m.group(1)), p) for m, p in numbered if m)]


def _open_png(path: str) -> Any:
    from torchspectral.io.safety import open_raster

    return open_raster(path, ("PNG",))


def _png(folder: Path, facts: Dataset, wave: np.ndarray) -> xr.DataArray:
    """Bands that lie in a PNG each; of files with colours (CAVE's watercolors) the first channel."""
    from torchspectral.geo.grids import place
    from torchspectral.io.readers.base import as_cube
    from torchspectral.io.readers.handles import Handle
    from torchspectral.io.readers.stacks import StackArray
    from torchspectral.io.safety import check_raster

    planes = _planes(folder)
    _check_bands(len(planes), folder, facts)
    handles = [Handle(_open_png, path, per_thread=True) for path in planes]
    kinds = set()
    for handle in handles:
        image = handle.get()
        check_raster(image)
        kinds.add((image.height, image.width, image.dtypes[0]))
    if len(kinds) > 1:
        raise BrokenProduct(f"the bands of {folder.name} differ in size or type: {', '.join(map(str, sorted(kinds)))}")
    top = float(np.iinfo(np.dtype(kinds.pop()[2])).max)
    array = StackArray(
        handles,
        np.stack([np.arange(len(handles)), np.ones(len(handles), dtype=np.int64)], axis=1),
        source=str(folder),
        scale=np.full(len(handles), 1 / top),
        offset=np.zeros(len(handles)),
    )
    attrs = {"source": [str(path) for path in planes], "history": [f"opened {folder.name} (PNG a band)"]}
    return place(as_cube(array, quantity="reflectance", attrs=attrs, wavelength=wave), None)


def _tiles(image: tuple[str, Path], facts: Dataset, split: str) -> Iterator[tuple[str, xr.DataArray]]:
    """Parts of the one scene of a data set."""
    name, path = image
    cube = _image(path, facts)
    if split == "all":
        yield name, cube
        return
    for number, (row, col, rows, cols) in enumerate(facts.tiles[split], start=1):
        yield f"{name}_{number}", cube.isel(y=slice(row, row + rows), x=slice(col, col + cols))


def generated_scenes(count: int = 16, bands: int = 31, side: int = 128, seed: int = 0) -> list[xr.DataArray]:
    """Clean cubes of low rank to train on where no data are at hand, in 0..1, ranks 3 to 8.

    Raises
    ------
    BadSettings
        A number below one.
    """
    if min(count, bands, side) < 1:
        raise BadSettings(f"got {count} cubes of {bands} bands and {side} pixels, expected at least 1 of each")
    wave = np.linspace(400.0, 1000.0, bands)
    return [
        make_cube(
            low_rank_cube(bands, side, side, rank=3 + number % 6, seed=1000 * seed + number + 1),
            wavelength=wave,
            quantity="reflectance",
            attrs={"source": [f"generated cube {number + 1}"]},
        )
        for number in range(count)
    ]


def training_data(words: Sequence[str], seed: int = 0) -> list[Any]:
    """Scenes that a command line names in words.

    ``generated`` or ``generated:COUNTxBANDSxSIDE`` are `generated_scenes`; ``NAME:SPLIT:FOLDER`` is a split of a data
    set, such as ``cave:train:/data/CAVE``; anything else is a path, and is handed back as one.

    Raises
    ------
    BadSettings, UnknownName, ProductNotFound
    """
    found: list[Any] = []
    for word in words:
        text = str(word)
        name, colon, rest = text.partition(":")
        if Path(text).exists() or (name != "generated" and (not colon or name not in datasets())):
            found.append(Path(text))
        elif name == "generated":
            sizes = rest.lower().split("x") if rest else []
            if len(sizes) not in (0, 3) or not all(size.isdigit() for size in sizes):
                raise BadSettings(
                    f"cannot read {text!r}: expected generated:COUNTxBANDSxSIDE such as generated:16x31x128"
                )
            count, bands, side = (int(size) for size in sizes or (16, 31, 128))
            found += generated_scenes(count, bands, side, seed)
        else:
            split, colon, folder = rest.partition(":")
            if not colon or not folder:
                raise BadSettings(f"cannot read {text!r}: expected {name}:SPLIT:FOLDER, such as {name}:all:data/")
            found += [cube for _, cube in open_dataset(folder, name, split, missing="skip")]
    return found


def icvl_patches(
    image: np.ndarray,
    rng: np.random.Generator | None = None,
    *,
    size: int = 64,
    crop: int = 1024,
    scales: Sequence[float] = (1.0, 0.5, 0.25),
    strides: Sequence[int] = (64, 32, 32),
) -> np.ndarray:
    """Training patches of one image as the published builders cut them: 530 of an ICVL image.

    The image is brought to 0..1, its middle is cut out, zoomed by splines to each scale and cut into patches; each
    patch is turned or mirrored in one of eight ways and, every second time, has its bands reversed.

    Parameters
    ----------
    image : ndarray, shape (band, y, x)
    rng : Generator, optional
        Of the augmentation; None: none.
    size, crop : int
        Of patches, and of the middle [pixel].
    scales, strides : sequence
        Strides are counted on the zoomed image.

    Returns
    -------
    ndarray, shape (n, band, size, size), float32

    Raises
    ------
    BadInput
        The image is smaller than `crop`, or constant.
    BadSettings
        As many strides as scales are needed, and patches that fit.
    """
    from scipy import ndimage

    from torchspectral.restoration.protocol import centre_crop, min_max

    if len(scales) != len(strides):
        raise BadSettings(f"got {len(scales)} scales and {len(strides)} strides, expected as many")
    whole = centre_crop(min_max(image), crop)
    found = []
    for scale, stride in zip(scales, strides, strict=True):
        scaled = whole if scale == 1 else ndimage.zoom(whole, (1, scale, scale))
        if min(scaled.shape[1:]) < size:
            raise BadSettings(f"got patches of {size} pixels in an image of {scaled.shape[1:]} at scale {scale:g}")
        windows = np.lib.stride_tricks.sliding_window_view(scaled, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        found.append(windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(image), size, size).astype(np.float32))
    patches = np.concatenate(found)
    if rng is None:
        return patches
    for patch in patches:
        turned = np.rot90(patch, int(rng.integers(4)), axes=(-2, -1))
        turned = turned[..., ::-1] if rng.random() < 0.5 else turned
        patch[:] = turned[::-1] if rng.random() < 0.5 else turned
    return patches
