"""Cubes in NumPy files (.npy, .npz), as benchmark scenes are passed on; pickled objects are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.lib import format as npy

from torchspectral.errors import BadCube, BadSettings, BrokenProduct, MissingMetadata, UnknownName, UnsafeInput, closest
from torchspectral.geo.grids import place
from torchspectral.io.raw import RawArray
from torchspectral.io.readers.base import LIBRARY_ERRORS, Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity, read_options
from torchspectral.io.safety import check_read, check_scene, safe_zip_members

AXES = ("yxb", "byx", "ybx")
"""Orders of rows (y), columns (x) and bands (b) that the option ``axes`` takes."""

_MAGIC = b"\x93NUMPY"
_ZLIB_MOST = 1040
_VECTORS = {"wavelength": ("wavelengths", "wavelength", "wl"), "fwhm": ("fwhm",), "good": ("bbl", "good")}
_INTERLEAVES = {"yxb": "bip", "byx": "bsq", "ybx": "bil"}


@dataclass(frozen=True)
class Stored:
    """One array: its shape, type and order; where its numbers begin (.npy) or in which entry they lie (.npz)."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int
    entry: str = ""


class NpyArray(StoredArray):
    """Lazy (band, y, x) array over a .npy file, read in windows.

    Parameters
    ----------
    stored : Stored
    axes : str
        Order of its axes, one of `AXES`; "yx" for a plane.
    """

    def __init__(self, path: Path, stored: Stored, axes: str, **more: Any) -> None:
        sizes = dict(zip(axes, stored.shape, strict=True)) | ({"b": 1} if len(axes) == 2 else {})
        shape = (sizes["b"], sizes["y"], sizes["x"])
        kind = np.dtype(np.uint8) if stored.dtype.kind == "b" else stored.dtype
        # Fortran order is C order of the reversed axes; then columns may lie before rows.
        order = (axes if len(axes) == 3 else f"b{axes}")[:: -1 if stored.fortran else 1]
        order = order if len(axes) == 3 or not stored.fortran else f"b{axes[::-1]}"
        self.swapped = order.index("x") < order.index("y")
        order = order.translate(str.maketrans("xy", "yx")) if self.swapped else order
        on_disk = (shape[0], shape[2], shape[1]) if self.swapped else shape
        byteorder = ">" if kind.byteorder == ">" else "<"
        self.raw = RawArray(path, on_disk, kind, _INTERLEAVES[order], stored.offset, byteorder)
        super().__init__(shape, kind.newbyteorder("="), source=path, split="" if self.swapped else "y", **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        if self.swapped:
            return self.raw.read(cols, rows, bands).swapaxes(1, 2)
        return self.raw.read(rows, cols, bands)


class NpzArray(StoredArray):
    """(band, y, x) array over an entry of a .npz file, unpacked when it is first read."""

    def __init__(self, path: Path, stored: Stored, axes: str, **more: Any) -> None:
        sizes = dict(zip(axes, stored.shape, strict=True)) | ({"b": 1} if len(axes) == 2 else {})
        self.path, self.entry, self.axes = str(path), stored, axes
        kind = np.dtype(np.uint8) if stored.dtype.kind == "b" else stored.dtype.newbyteorder("=")
        super().__init__((sizes["b"], sizes["y"], sizes["x"]), kind, source=path, **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        data = load(self.path, self.entry)
        data = data[None] if len(self.axes) == 2 else data.transpose([self.axes.index(a) for a in "byx"])
        return np.array(data[bands][:, rows, cols], dtype=self.stored)


class NumpyReader(Reader):
    """Reader of arrays saved by NumPy."""

    name = "numpy"
    title = "NumPy array (.npy, .npz)"
    patterns = ("*.npy", "*.npz")
    options = ("key", "axes", "wavelength", "wavelength_units", "quantity", "scale", "nodata")
    layer_options = ("key", "axes")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the first bytes; a ZIP by entries that end with .npy."""
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            start = file.read(6)
        if start == _MAGIC:
            return 0.85
        if start[:4] != b"PK\x03\x04" or path.suffix.lower() != ".npz":
            return 0.0
        return 0.85

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the one cube of the file, or the array ``key``.

        Parameters
        ----------
        key : str, optional
            Which array of a .npz.
        axes : {"yxb", "byx", "ybx"}
            Order of rows, columns and bands; benchmark scenes have bands last, which is the default.

        Raises
        ------
        UnsafeInput
            The array holds pickled objects.
        MissingMetadata, UnknownName, BadCube, BadSettings, BrokenProduct
        """
        given = read_options(options)
        known = arrays(path)
        stored = _find(path, known, options.get("key"))
        axes, note = _axes(stored, options.get("axes"))
        array = _array(path, stored, axes)
        bands = array.shape[0]
        vectors = _vectors(path, known, bands)
        facts = band_facts(
            bands, path.name, given=given, searched="arrays named wavelengths and the option wavelength=", **vectors
        )
        values = guess_quantity(
            Values(np.ones(bands), np.zeros(bands), None, "", []), floats=array.stored.kind == "f", given=given
        )
        array.set_meaning(values.scale, values.offset, values.nodata)
        what = f"{stored.name} of {path.name}" if stored.entry else path.name
        history = [f"opened {what} (NumPy)", *note, *facts.notes, *values.notes]
        attrs = {"source": [str(path)], "history": history}
        return place(as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **facts.coords()), None)

    def layers(self, path: Path) -> list[str]:
        """Other planes of a .npz that are as large as the cube."""
        return list(self._planes(path, {}))

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One of them, (y, x)."""
        found = self._planes(path, options)
        if name not in found:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, list(found))}")
        array = _array(path, found[name], "yx")
        array.decode = False
        return place(as_layer(array, name), None)

    def _planes(self, path: Path, options: Mapping[str, Any]) -> dict[str, Stored]:
        known = arrays(path)
        try:
            stored = _find(path, known, options.get("key"))
            axes, _ = _axes(stored, options.get("axes"))
        except (MissingMetadata, BadCube):
            return {}
        if len(axes) == 2:
            return {}
        size = tuple(stored.shape[axes.index(a)] for a in "yx")
        return {
            "labels" if n.lower() in ("gt", "labels", "label", "y") else n: s
            for n, s in known.items()
            if s.shape == size and s.dtype.kind in "iufb"
        }


def arrays(path: Path) -> dict[str, Stored]:
    """All arrays of a file, without their values.

    Raises
    ------
    UnsafeInput
        One holds pickled objects, or the archive is not safe.
    BrokenProduct, TooLarge
    """
    with path.open("rb") as file:
        packed = file.read(6) != _MAGIC
        if not packed:
            file.seek(0)
            found = _header(file, path, path.stem)
            need = check_scene(found.shape or (1,), found.dtype, path) + found.offset
            have = path.stat().st_size
            if have < need:
                raise BrokenProduct(
                    f"{path.name} has {have} bytes, expected {need} for {found.shape} of {found.dtype}: it is truncated"
                )
            return {found.name: found}
    listed: dict[str, Stored] = {}
    entries = [e for e in safe_zip_members(path) if e.filename.endswith(".npy")]
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                with archive.open(entry) as member:
                    found = _header(member, path, entry.filename[:-4], entry.filename)  # type: ignore[arg-type]
                if found.shape and 0 not in found.shape:
                    check_scene(found.shape, found.dtype, path, stored=entry.compress_size, ratio=_ZLIB_MOST)
                listed[found.name] = found
    except (zipfile.BadZipFile, NotImplementedError, *LIBRARY_ERRORS) as error:
        if isinstance(error, (UnsafeInput, BrokenProduct)):
            raise
        raise BrokenProduct(f"{path.name} is no readable .npz: {' '.join(str(error).split())[:120]}") from None
    return listed


def _header(file: BinaryIO, path: Path, name: str, entry: str = "") -> Stored:
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"format version {version[0]}.{version[1]}")
        shape, fortran, dtype = read(file, max_header_size=10_000)
    except MemoryError:
        raise
    except Exception as error:  # numpy parses the header as Python text and raises of everything on damaged ones
        raise BrokenProduct(f"{path.name} is no readable NumPy file: {' '.join(str(error).split())[:120]}") from None
    if dtype.hasobject:
        raise UnsafeInput(
            f"{path.name}: {name} holds pickled objects, which are never loaded: save it as an array of numbers"
        )
    if any(int(n) < 0 for n in shape):
        raise BrokenProduct(f"{path.name}: {name} has the shape {tuple(shape)}")
    return Stored(name, tuple(int(n) for n in shape), dtype, bool(fortran), file.tell(), entry)


def load(path: str, stored: Stored) -> np.ndarray:
    """Values of an entry, kept for the next call."""
    return _load(path, Path(path).stat().st_mtime_ns, stored)


@lru_cache(maxsize=2)
def _load(path: str, stamp: int, stored: Stored) -> np.ndarray:
    check_read(stored.shape, stored.dtype, path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(stored.entry) as member:
            return npy.read_array(member, allow_pickle=False, max_header_size=10_000)
    except (zipfile.BadZipFile, *LIBRARY_ERRORS) as error:
        raise BrokenProduct(f"{Path(path).name}: {stored.name} cannot be read: {str(error)[:120]}") from None


def _array(path: Path, stored: Stored, axes: str) -> NpyArray | NpzArray:
    return NpzArray(path, stored, axes) if stored.entry else NpyArray(path, stored, axes)


def _find(path: Path, known: dict[str, Stored], key: Any) -> Stored:
    listing = ", ".join(f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}" for s in list(known.values())[:12])
    if key is not None:
        if key not in known:
            raise UnknownName(f"{path.name} has no array {key!r}: it has {listing or 'none'}")
        chosen = [known[key]]
    else:
        chosen = [s for s in known.values() if len(s.shape) == 3] or [s for s in known.values() if len(s.shape) == 2]
        if len(chosen) > 1:
            raise MissingMetadata(f"{path.name} has no single cube: give key= (it has {listing})")
    if not chosen or len(chosen[0].shape) not in (2, 3) or chosen[0].dtype.kind not in "iufb":
        raise BadCube(f"{path.name} holds no 2-D or 3-D array of real numbers: it has {listing or 'none'}")
    return chosen[0]


def _axes(stored: Stored, axes: Any) -> tuple[str, list[str]]:
    if axes is not None and axes not in AXES:
        raise BadSettings(f"got axes={axes!r}, expected one of {', '.join(AXES)}")
    if len(stored.shape) == 2:
        return "yx", []
    note = [] if axes else ["axes taken as rows, columns, bands: give axes= where that is wrong"]
    return axes or "yxb", note


def _vectors(path: Path, known: dict[str, Stored], bands: int) -> dict[str, Any]:
    """Wavelengths, widths and flags among the arrays of a .npz."""
    found = {}
    for role, names in _VECTORS.items():
        for stored in known.values():
            if (
                stored.entry
                and stored.name.lower() in names
                and stored.shape == (bands,)
                and stored.dtype.kind in "iufb"
            ):
                found[role] = np.asarray(load(str(path), stored), dtype=np.float64)
    return found
