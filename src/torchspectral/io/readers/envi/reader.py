"""ENVI images, classifications and spectral libraries: a text header and a flat binary file."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import BadCube, BadSettings, BrokenProduct, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.raw import INTERLEAVES, RawArray, is_streaming
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.envi.header import (
    EnviHeader,
    crs_of,
    find_data,
    find_header,
    looks_like_header,
    read_header,
    transform_of,
)
from torchspectral.io.readers.facts import BandFacts, Values, band_facts, guess_quantity, read_options, sun_facts
from torchspectral.io.readers.handles import Handle, forget
from torchspectral.io.readers.payload import fits, from_text, restore
from torchspectral.io.safety import check_scene

_PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "real": np.real,
    "imag": np.imag,
    "magnitude": np.abs,
    "phase": np.angle,
}
_FOREIGN = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89HDF", b"CDF", b"PK\x03\x04", b"MATLAB 5.0")


OTHER_FILES = (".gpkg", ".csv", ".json", ".geojson", ".txt", ".xml", ".yaml", ".png", ".jpg", ".shp", ".dbf", ".prj")
"""Files that lie beside a header of the same stem without being its pixels."""

MAP_BYTES = 32 << 20
"""Largest window that is read through a read-only map of the file [bytes]; 0 turns maps off.

A narrow window of a wide image is thousands of short runs: reading each costs a call, and reading across the gaps moves
many times the bytes. Larger reads, and all reads within `raw.streaming`, go through `RawArray` and never map anything."""

MAP_KEEP = 512 << 20
"""Bytes that windows of a larger file may span before its map is made anew, so that it never holds much of it."""


def open_map(path: str) -> np.ndarray:
    """All bytes of a file, mapped read-only."""
    with Path(path).open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


class EnviArray(StoredArray):
    """Lazy array over a flat file; complex numbers are handed out as one of their parts."""

    def __init__(self, raw: RawArray, part: str = "", **more: Any) -> None:
        self.raw = raw
        self.part = part
        self.map = Handle(open_map, raw.path)
        self.spanned = 0
        stored = raw.dtype if not part else np.dtype("f4" if raw.dtype.itemsize == 8 else "f8")
        super().__init__(raw.shape, stored, source=raw.path, split="band" if raw.interleave == "bsq" else "y", **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        block = self.raw.read(rows, cols, bands)
        return _PARTS[self.part](block).astype(self.stored) if self.part else block

    def view(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray | None:
        """The window in a map of the file, where it is small and in many short runs."""
        raw, item = self.raw, self.raw.dtype.itemsize
        count, height, width = self.shape
        chosen = bands.stop - bands.start if isinstance(bands, slice) else len(bands)
        tall, across = rows.stop - rows.start, cols.stop - cols.start
        short = tall * across > 512 and 2 * across <= width and chosen * tall * across * item <= MAP_BYTES
        if is_streaming() or not short or self.part or not isinstance(bands, slice) or bands.step not in (None, 1):
            return None
        end = raw.offset + count * height * width * item
        if end > MAP_KEEP:
            self.spanned += (chosen if raw.interleave == "bsq" else count) * tall * width * item
            if self.spanned > MAP_KEEP:
                self.spanned = 0
                forget(self.map.path)
        try:
            # A file that was cut short would end the process at the first touch.
            values = self.map.get()
            if raw.path.stat().st_size < end or values.size < end:
                return None
        except (OSError, ValueError):
            return None
        order = INTERLEAVES[raw.interleave]
        cube = values[raw.offset : end].view(raw.dtype.newbyteorder(raw.byteorder))
        return cube.reshape([raw.shape[a] for a in order]).transpose(np.argsort(order))[bands, rows, cols]


class EnviReader(Reader):
    """Reader of ENVI files; takes the header or the data file."""

    name = "envi"
    title = "ENVI image or spectral library (.hdr and data file)"
    patterns = ("*.hdr", "*.img", "*.dat", "*.raw", "*.bsq", "*.bil", "*.bip", "*.sli", "*.hyspex", "*.envi")
    options = ("wavelength", "wavelength_units", "quantity", "scale", "nodata", "part")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """High for a header, or a data file that has one and is nothing else by its first bytes."""
        if not path.is_file():
            return 0.0
        if path.suffix.lower() == ".hdr":
            return 0.9 if looks_like_header(path) else 0.0
        if path.suffix.lower() in OTHER_FILES or find_header(path) is None:
            return 0.0
        with path.open("rb") as file:
            return 0.3 if file.read(10).startswith(_FOREIGN) else 0.9

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open an image as a lazy cube, or a spectral library as spectra.

        Parameters
        ----------
        part : {"real", "imag", "magnitude", "phase"}, optional
            Part of complex numbers to hand out.

        Raises
        ------
        BrokenProduct, ProductNotFound, BandMismatch, MissingMetadata, BadCube
        """
        header, data = files_of(path)
        if header.is_library:
            return self._open_library(header, data, options)
        given = read_options(options)
        bands = header.shape[0]
        own = from_text(header.fields.get("torchspectral", ""))
        if own and not given and fits(own, bands):
            array = EnviArray(raw_array(header, data), part_of(header, options.get("part")))
            return restore(array, own, raw=raw, transform=transform_of(header), crs=crs_of(header))
        attrs = attributes_of(header, data)
        facts, values = facts_of(header, given), values_of(header, data, bands, given)
        array = EnviArray(
            raw_array(header, data),
            part_of(header, options.get("part")),
            scale=values.scale,
            offset=values.offset,
            nodata=values.nodata,
        )
        attrs["history"] = [f"opened {data.name} (ENVI)", *facts.notes, *values.notes]
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **facts.coords())
        if facts.names is not None:
            cube = cube.assign_coords(name=("band", facts.names))
        return place(cube, transform_of(header), crs_of(header))

    def layers(self, path: Path) -> list[str]:
        """``labels`` for a classification."""
        header, _ = files_of(path)
        return ["labels"] if header.is_classification else []

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """Classes of a classification, (y, x), with ``class_names`` (entry i is value i) and ``class_colors``."""
        if name not in self.layers(path):
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, self.layers(path))}")
        header, data = files_of(path)
        array = EnviArray(raw_array(header, data), decode=False)
        layer = as_layer(array, name, _classes(header))
        return place(layer, transform_of(header), crs_of(header))

    def _open_library(self, header: EnviHeader, data: Path, options: dict[str, Any]) -> xr.DataArray:
        given = read_options(options)
        if header.shape[0] != 1:
            raise BrokenProduct(f"{header.path.name} is a spectral library of {header.shape[0]} bands, expected 1")
        _, lines, samples = header.shape
        values = values_of(header, data, 1, given)
        array = raw_array(header, data).read(slice(None), slice(None))[0]
        spectra = array.astype(array.dtype if array.dtype.kind == "f" else np.float32)
        if values.nodata is not None:
            spectra[spectra == values.nodata] = np.nan
        if values.scale[0] != 1.0 or values.offset[0] != 0.0:
            spectra = (spectra * values.scale[0] + values.offset[0]).astype(spectra.dtype)
        facts = band_facts(
            samples,
            header.path.name,
            wavelength=header.numbers("wavelength"),
            units=header.text("wavelength units"),
            fwhm=header.numbers("fwhm"),
            good=header.numbers("bbl"),
            names=[],
            given=given,
        )
        notes = list(facts.notes)
        names = header.items("spectra names")
        if len(names) != lines:
            if names:
                notes.append(f"{len(names)} names for {lines} spectra: numbered instead")
            names = [f"spectrum {n + 1}" for n in range(lines)]
        attrs = {
            **attributes_of(header, data),
            "quantity": values.quantity,
            "history": [f"opened {data.name} (ENVI spectral library)", *notes, *values.notes],
        }
        out = make_spectra(spectra, names, wavelength=facts.wavelength, fwhm=facts.fwhm, attrs=attrs)
        return out.assign_coords(good=("band", facts.good))


def files_of(path: Path) -> tuple[EnviHeader, Path]:
    """Header and data file from either of them, checked against each other.

    Raises
    ------
    BrokenProduct, ProductNotFound, TooLarge
    """
    if path.suffix.lower() == ".hdr":
        header = read_header(path)
        header.check()
        data = find_data(header)
    else:
        found = find_header(path)
        if found is None:
            raise BrokenProduct(f"{path.name} has no header: expected {path.name}.hdr or {path.stem}.hdr beside it")
        header, data = read_header(found), path
        header.check()
    dtype = header.dtype
    need = check_scene(header.shape, dtype, header.path) + header.offset
    have = data.stat().st_size
    if have < need:
        raise BrokenProduct(
            f"{data.name} has {have} bytes, expected {need} for {header.shape} (band, y, x) of {dtype} after "
            f"{header.offset} bytes as {header.path.name} states: the file is truncated or the header is wrong"
        )
    return header, data


def facts_of(header: EnviHeader, given: dict[str, Any]) -> BandFacts:
    """Band coordinates of an image.

    Raises
    ------
    BandMismatch, MissingMetadata, BrokenProduct
    """
    bands = header.shape[0]
    names = header.items("band names")
    return band_facts(
        bands,
        header.path.name,
        wavelength=header.numbers("wavelength"),
        units=header.text("wavelength units"),
        fwhm=header.numbers("fwhm"),
        good=header.numbers("bbl"),
        names=names if len(names) == bands else [],
        given=given,
    )


def raw_array(header: EnviHeader, data: Path) -> RawArray:
    """The pixels of an image."""
    return RawArray(data, header.shape, header.dtype, header.interleave, header.offset, header.byteorder)


def part_of(header: EnviHeader, part: Any) -> str:
    """The option ``part``, checked against the stored type; "" for real numbers.

    Raises
    ------
    BadSettings, BadCube
    """
    if header.dtype.kind != "c":
        if part is not None:
            raise BadSettings(f"part={part!r} is for complex numbers, {header.path.name} holds {header.dtype}")
        return ""
    if part is None:
        raise BadCube(
            f"{header.path.name} holds complex numbers, expected real ones: give part=real, imag, magnitude or phase"
        )
    if part not in _PARTS:
        raise BadSettings(f"got part={part!r}, expected one of {', '.join(_PARTS)}")
    return str(part)


def values_of(header: EnviHeader, data: Path, bands: int, given: dict[str, Any]) -> Values:
    """Scale, offset, nodata and quantity."""
    nodata = None
    text = header.text("data ignore value")
    if text:
        try:
            nodata = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        except ValueError:
            raise BrokenProduct(f"{header.path.name}: data ignore value = {text[:40]!r}, expected a number") from None
    scale, offset = np.ones(bands), np.zeros(bands)
    quantity, notes = "", []
    plots = " ".join(header.text(key) for key in ("data units", "y plot titles", "z plot titles"))
    factor = header.numbers("reflectance scale factor")
    gains, offsets = header.numbers("data gain values"), header.numbers("data offset values")
    times = re.search(r"\[?\s*[*x]\s*(10+)\b\.?0*\s*\]?", plots, re.IGNORECASE)
    if factor.size and factor[0] not in (0.0, 1.0):
        scale = np.full(bands, 1.0 / factor[0])
        quantity = "reflectance"
        notes.append(f"reflectance = stored / {factor[0]:g} (reflectance scale factor)")
    elif gains.size or offsets.size:
        for name, found, target in (("data gain values", gains, scale), ("data offset values", offsets, offset)):
            if found.size not in (0, 1, bands):
                raise BrokenProduct(
                    f"{header.path.name} has {found.size} {name} for {bands} bands, expected one a band"
                )
            if found.size:
                target[:] = found
        notes.append("value = stored * gain + offset (data gain values, data offset values)")
    elif times and "reflectance" in plots.lower():
        scale = np.full(bands, 1.0 / float(times[1]))
        notes.append(f"reflectance = stored / {times[1]} (plot titles)")
    if factor.size and factor[0] == 1.0:
        quantity = "reflectance"
    scaled = bool(np.any(scale != 1.0) or np.any(offset != 0.0))
    return guess_quantity(
        Values(scale, offset, nodata, quantity, notes),
        words=plots,
        hints=f"{data.stem} {header.text('description')}",
        floats=header.dtype.kind == "f" or scaled,
        given=given,
    )


def attributes_of(header: EnviHeader, data: Path) -> dict[str, Any]:
    """Attributes of a cube that a header states."""
    attrs: dict[str, Any] = {"source": [str(data), str(header.path)]}
    for key, name in (("sensor type", "sensor"), ("description", "description")):
        text = header.text(key)
        if text and text.lower() not in ("unknown", "none"):
            attrs[name] = text
    attrs |= sun_facts(
        acquired=header.text("acquisition time"),
        elevation=header.text("sun elevation"),
        azimuth=header.text("sun azimuth"),
    )
    default = [int(v) for v in header.numbers("default bands") if v >= 1] if "default bands" in header else []
    if default:
        attrs["default_bands"] = default
    return attrs | _classes(header)


def _classes(header: EnviHeader) -> dict[str, Any]:
    """Names (index = value) and colours of a classification."""
    if not header.is_classification:
        return {}
    found: dict[str, Any] = {}
    names = header.items("class names")
    if names:
        found["class_names"] = names
    lookup = header.numbers("class lookup").astype(int).tolist()
    if lookup and len(lookup) % 3 == 0:
        found["class_colors"] = [lookup[n : n + 3] for n in range(0, len(lookup), 3)]
    return found
