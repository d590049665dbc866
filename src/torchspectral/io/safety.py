"""Input is hostile until read: the checks that every reader goes through before it trusts a file."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from torchspectral.errors import BrokenProduct, ProductNotFound, TooLarge, UnsafeInput

# A scheme of at least two letters (one is a drive), also where pathlib has collapsed its slashes.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

RASTER_DRIVERS = ("GTiff",)
"""GDAL drivers that may open a file unless a reader names others; never VRT, STAC lists or anything remote."""

LONGEST_AXIS = 1 << 24
"""Most values along one axis: coordinates of every pixel are made at opening, even where a file stores none of them."""


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 16 << 30


@dataclass(frozen=True)
class Limits:
    """How much a file may promise.

    Attributes
    ----------
    scene_bytes : int
        Decoded size of one array that may be opened lazily [bytes]; ``TORCHSPECTRAL_MAX_SCENE_BYTES``.
    read_bytes : int
        Most bytes one read may return; the machine's memory; ``TORCHSPECTRAL_MAX_READ_BYTES``.
    block_bytes : int
        Decoded size of one stored block (tile, chunk) [bytes]; ``TORCHSPECTRAL_MAX_BLOCK_BYTES``.
    zip_bytes, zip_members, zip_ratio : int
        Unpacked size of an archive [bytes], its entries, and unpacked bytes per packed byte of large entries.
    text_bytes : int
        Size of a header or XML file [bytes].
    """

    scene_bytes: int = 16 << 40
    read_bytes: int = 0
    block_bytes: int = 2 << 30
    zip_bytes: int = 256 << 30
    zip_members: int = 10_000
    zip_ratio: int = 200
    text_bytes: int = 64 << 20


_limits = Limits()


def limits() -> Limits:
    """The limits in force: defaults, then ``TORCHSPECTRAL_MAX_*`` of the environment, then `set_limits`."""
    current = _limits
    for field, variable in (
        ("scene_bytes", "TORCHSPECTRAL_MAX_SCENE_BYTES"),
        ("read_bytes", "TORCHSPECTRAL_MAX_READ_BYTES"),
        ("block_bytes", "TORCHSPECTRAL_MAX_BLOCK_BYTES"),
    ):
        text = os.environ.get(variable, "")
        if text.isdigit() and getattr(_limits, field) == getattr(Limits, field):
            current = replace(current, **{field: int(text)})
    return current if current.read_bytes else replace(current, read_bytes=_physical_memory())


def set_limits(**changes: int) -> Limits:
    """Change limits of this process, see `Limits`; without arguments back to the defaults."""
    global _limits
    _limits = replace(_limits, **changes) if changes else Limits()
    return limits()


def human(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def existing_path(path: Any) -> Path:
    """The path as a `Path`, if it is a local file or folder.

    Raises
    ------
    UnsafeInput
        A URL or a GDAL virtual path.
    ProductNotFound
        Nothing is there.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if text is None or not str(text).strip():
        raise ProductNotFound(f"got {path!r} as a path, expected the path of a file or folder")
    text = str(text)
    if _REMOTE.match(text) or "://" in text or text.startswith("/vsi"):
        raise UnsafeInput(f"{_short(text)} is remote or virtual: fetch it first and open the local file")
    if "\x00" in text:
        raise ProductNotFound("the path holds a zero byte, expected the path of a file or folder")
    found = Path(text).expanduser()
    try:
        there = found.exists()
    except OSError as error:
        raise ProductNotFound(f"{_short(text)} cannot be looked up: {error.strerror}") from None
    if not there:
        raise ProductNotFound(f"{_short(text)} does not exist: check the path")
    return found


def _short(text: str, length: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"


def decoded_bytes(shape: Sequence[int], dtype: Any) -> int:
    """Bytes of an array, without overflow."""
    size = int(np.dtype(dtype).itemsize)
    for n in shape:
        size *= int(n)
    return size


def check_scene(shape: Sequence[int], dtype: Any, source: Any, *, stored: int | None = None, ratio: int = 0) -> int:
    """Refuse arrays that are empty or larger than allowed, before anything is read.

    Parameters
    ----------
    stored : int, optional
        Bytes on disk; with `ratio` the most that they can unpack to is known.

    Returns
    -------
    int
        Decoded size [bytes].

    Raises
    ------
    BrokenProduct
        An axis is empty or negative, or the file is too short for what its header promises.
    TooLarge
        More than `Limits.scene_bytes`, or an axis longer than `LONGEST_AXIS`.
    """
    name = Path(str(source)).name
    if not shape or any(int(n) < 1 for n in shape):
        raise BrokenProduct(
            f"{name} promises an array of shape {tuple(shape)}, expected at least one value on each axis"
        )
    if max(int(n) for n in shape) > LONGEST_AXIS:
        raise TooLarge(f"{name} promises {max(int(n) for n in shape)} values along an axis, more than {LONGEST_AXIS}")
    size = decoded_bytes(shape, dtype)
    if stored is not None and ratio and size > stored * ratio + (1 << 20):
        raise BrokenProduct(
            f"{name} promises {human(size)} but has {human(stored)} on disk, which cannot hold it: the header is wrong"
        )
    if size > limits().scene_bytes:
        raise TooLarge(
            f"{name} promises {human(size)}, more than the allowed {human(limits().scene_bytes)}: if that is "
            "right, raise TORCHSPECTRAL_MAX_SCENE_BYTES"
        )
    return size


def check_read(shape: Sequence[int], dtype: Any, source: Any) -> None:
    """Refuse a read that cannot fit into memory.

    Raises
    ------
    TooLarge
        More than `Limits.read_bytes`.
    """
    size = decoded_bytes(shape, dtype)
    if size < (1 << 28) and _limits.read_bytes == 0 and "TORCHSPECTRAL_MAX_READ_BYTES" not in os.environ:
        return
    most = limits().read_bytes
    if size > most:
        raise TooLarge(
            f"asked for {human(size)} of {Path(str(source)).name} at once, the machine has {human(most)}: read "
            "windows, or let the engine stream it"
        )


def check_block(shape: Sequence[int], dtype: Any, source: Any) -> None:
    """Refuse files whose single blocks unpack to more than `Limits.block_bytes`.

    Raises
    ------
    TooLarge
    """
    size, most = decoded_bytes(shape, dtype), limits().block_bytes
    if size > most:
        raise TooLarge(
            f"{Path(str(source)).name} is stored in blocks of {human(size)}, more than the allowed {human(most)}: "
            "if that is right, raise TORCHSPECTRAL_MAX_BLOCK_BYTES"
        )


def read_text(path: Path) -> str:
    """Text of a small file: UTF-8, else Latin-1.

    Raises
    ------
    ProductNotFound, BrokenProduct, TooLarge
        Missing, unreadable, or larger than `Limits.text_bytes`.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_bytes(path: Path) -> bytes:
    """All bytes of a small file, see `read_text`."""
    try:
        size = path.stat().st_size
        if size > limits().text_bytes:
            raise TooLarge(f"{path.name} has {human(size)}, more than a header or metadata file may have")
        return path.read_bytes()
    except FileNotFoundError:
        raise ProductNotFound(f"{path} does not exist") from None
    except OSError as error:
        raise BrokenProduct(f"{path.name} cannot be read: {error.strerror}") from None


def parse_xml(source: Path | bytes | str, name: str = "") -> Element:
    """Root of an XML document, read without document types, entities or outside references.

    Parameters
    ----------
    source : Path, or the document itself

    Raises
    ------
    UnsafeInput
        The document declares a type or entities.
    BrokenProduct
        It is no XML.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    label = name or (source.name if isinstance(source, Path) else "the XML")
    text = read_bytes(source) if isinstance(source, Path) else source
    if len(text) > limits().text_bytes:
        raise TooLarge(f"{label} has {human(len(text))}, more than a metadata file may have")
    try:
        return fromstring(text, forbid_dtd=True)
    except DefusedXmlException:
        raise UnsafeInput(f"{label} declares a document type or entities, which product metadata never needs") from None
    except (ParseError, ValueError, LookupError) as error:
        raise BrokenProduct(f"{label} is no readable XML: {error}") from None


def refuse_unsafe(path: Path) -> None:
    """Say of a file that no reader takes why it is never opened, whatever its name.

    Raises
    ------
    UnsafeInput
        A GDAL VRT, which points at other files; a pickle, which is code; an archive that `safe_zip_members` refuses.
    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return
    if b"<VRTDataset" in start:
        raise UnsafeInput(
            f"{path.name} is a virtual raster (VRT), which points at other files: make a GeoTIFF of it "
            f"(gdal_translate {path.name} OUT.tif)"
        )
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise UnsafeInput(f"{path.name} is a Python pickle, which is never loaded: save its arrays as .npy or .npz")
    if start[:4] == b"PK\3\4":
        safe_zip_members(path)


def safe_zip_members(path: str | Path) -> list[zipfile.ZipInfo]:
    """Entries of an archive, after names, kinds, sizes and ratios were checked; nothing is unpacked.

    Raises
    ------
    UnsafeInput
        A name leaves the archive or comes twice, an entry is a link or encrypted, or the archive is a bomb.
    BrokenProduct
        Not a readable ZIP.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BrokenProduct(f"{path.name} is no readable ZIP: {error}") from None
    most = limits()
    if len(entries) > most.zip_members:
        raise UnsafeInput(f"{path.name} has {len(entries)} entries, more than the allowed {most.zip_members}")
    seen: set[str] = set()
    total = 0
    for entry in entries:
        name = entry.filename
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or not name.strip("/"):
            raise UnsafeInput(f"{path.name} holds an entry named {_short(name, 80)!r}, which leads out of the archive")
        if name.lower() in seen:
            raise UnsafeInput(f"{path.name} holds {_short(name, 80)!r} twice")
        seen.add(name.lower())
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UnsafeInput(f"{path.name} holds a link named {_short(name, 80)!r}, expected plain files")
        if entry.flag_bits & 1:
            raise UnsafeInput(f"{path.name} holds the encrypted entry {_short(name, 80)!r}: unpack it yourself")
        total += entry.file_size
        if entry.file_size > (64 << 20) and entry.file_size > most.zip_ratio * max(entry.compress_size, 1):
            raise UnsafeInput(
                f"{path.name}: {_short(name, 80)!r} unpacks {human(entry.compress_size)} to {human(entry.file_size)}, "
                f"more than {most.zip_ratio} times"
            )
    if total > most.zip_bytes:
        raise UnsafeInput(f"{path.name} unpacks to {human(total)}, more than the allowed {human(most.zip_bytes)}")
    return entries


def open_raster(path: str | Path, drivers: Sequence[str] = RASTER_DRIVERS, **options: Any) -> Any:
    """Open a local file with rasterio and an explicit list of GDAL drivers.

    Returns
    -------
    rasterio.DatasetReader

    Raises
    ------
    ProductNotFound, UnsafeInput
        See `existing_path`.
    BrokenProduct
        GDAL cannot open it.
    """
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    found = existing_path(path).resolve()
    problem = ""
    # No listing of the folder: sidecars are looked up by name, and other files never join in.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE", GDAL_CACHEMAX=256), warnings.catch_warnings():
        # An image that lies nowhere is a grid kind of its own here.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for driver in drivers:
            try:
                return rasterio.open(found, driver=driver, **options)
            except (RasterioError, OSError, ValueError) as error:
                problem = problem or _short(str(error))
    refuse_unsafe(found)
    raise BrokenProduct(f"{found.name} cannot be opened as {' or '.join(drivers)}: {problem}")


def check_raster(dataset: Any) -> None:
    """Bound what an open rasterio dataset promises: size of the scene, of a block, and of the file behind it.

    Raises
    ------
    TooLarge, BrokenProduct
    """
    dtype = dataset.dtypes[0]
    check_scene((dataset.count, dataset.height, dataset.width), dtype, dataset.name)
    rows, cols = dataset.block_shapes[0]
    check_block((rows, cols), dtype, dataset.name)


def _opened(h5py: Any, found: Path) -> Any:
    """The library's own way of locking first: a file cannot be open twice in one process with different ones."""
    try:
        return h5py.File(found, "r")
    except OSError as error:
        # Read-only media and some network drives know no locks; a user's open file may have been opened without.
        if "lock" not in str(error):
            raise
        return h5py.File(found, "r", locking=False)


def open_hdf5(path: str | Path) -> Any:
    """Open an HDF5 or netCDF-4 file read-only, after its links and storage were checked.

    Returns
    -------
    h5py.File

    Raises
    ------
    UnsafeInput
        External links, external storage or virtual datasets.
    BrokenProduct
        h5py cannot open it, or would never come back.
    """
    import h5py

    from torchspectral.io.hdf5_safety import check_hdf5, check_heaps

    found = existing_path(path)
    check_heaps(found)
    try:
        file = _opened(h5py, found)
    except (OSError, ValueError, RuntimeError) as error:
        raise BrokenProduct(f"{found.name} is no readable HDF5 file: {_short(str(error))}") from None
    try:
        check_hdf5(file)
    except BaseException:
        file.close()
        raise
    return file
