"""ENVI headers (.hdr): parsing with the traps of real files, and the typed facts inside."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from torchspectral.errors import BrokenProduct, ProductNotFound
from torchspectral.io.safety import read_text

DTYPES = {
    1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
"""ENVI data type code to numpy type."""

DATA_SUFFIXES = ("", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".sli", ".hyspex", ".envi", ".bin", ".cube")
"""Endings that a data file may have beside its header."""

_KEY = re.compile(r"^\s*([^=;{}]+?)\s*=\s*(.*)$", re.DOTALL)
_MOST_VALUES = 2**62


@dataclass(frozen=True)
class EnviHeader:
    """A parsed header.

    Attributes
    ----------
    path : Path
        Of the .hdr file.
    fields : dict of str to str
        Lower-case key to the text of its value, without the outer braces.
    """

    path: Path
    fields: dict[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def text(self, key: str, default: str = "") -> str:
        """A value on one line."""
        return " ".join(self.fields.get(key, default).split())

    def items(self, key: str) -> list[str]:
        """A list's entries without surrounding white space; empty where the key is absent."""
        value = self.fields.get(key)
        if value is None or not value.strip():
            return []
        entries = [" ".join(part.split()) for part in value.split(",")]
        return entries[:-1] if len(entries) > 1 and not entries[-1] else entries

    def numbers(self, key: str) -> np.ndarray:
        """A list of numbers, float64.

        Raises
        ------
        BrokenProduct
            An entry is no number.
        """
        # Some programs separate entries by white space only.
        found = [word for entry in self.items(key) for word in entry.split()]
        try:
            return np.array([float(word) for word in found], dtype=np.float64)
        except ValueError:
            bad = next(word for word in found if not _is_number(word))
            raise BrokenProduct(f"{self.path.name}: {key} holds {bad[:40]!r}, expected numbers") from None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number.

        Raises
        ------
        BrokenProduct
            The key is absent and has no default, or is no whole number.
        """
        text = self.text(key)
        if not text:
            if default is None:
                raise BrokenProduct(f"{self.path.name} has no {key!r}, which every ENVI header needs")
            return default
        try:
            value = float(text)
            whole = int(text) if text.lstrip("+-").isdigit() else int(value)
        except (ValueError, OverflowError):
            raise BrokenProduct(f"{self.path.name}: {key} = {text[:40]!r}, expected a whole number") from None
        if whole != value and not text.lstrip("+-").isdigit():
            raise BrokenProduct(f"{self.path.name}: {key} = {text[:40]!r}, expected a whole number")
        return whole

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, lines, samples.

        Raises
        ------
        BrokenProduct
        """
        sizes = tuple(self.integer(key) for key in ("bands", "lines", "samples"))
        if min(sizes) < 1 or math.prod(sizes) > _MOST_VALUES:
            raise BrokenProduct(
                f"{self.path.name} states {sizes[0]} bands, {sizes[1]} lines, {sizes[2]} samples, "
                "expected at least one each"
            )
        return sizes  # type: ignore[return-value]

    @property
    def dtype(self) -> np.dtype:
        """Stored type, native byte order.

        Raises
        ------
        BrokenProduct
        """
        code = self.integer("data type")
        if code not in DTYPES:
            raise BrokenProduct(
                f"{self.path.name} has data type {code}, expected one of {', '.join(str(c) for c in DTYPES)}"
            )
        return np.dtype(DTYPES[code])

    @property
    def byteorder(self) -> str:
        """Byte order, "<" or ">"; little where the header does not say.

        Raises
        ------
        BrokenProduct
        """
        code = self.integer("byte order", 0)
        if code not in (0, 1):
            raise BrokenProduct(f"{self.path.name} has byte order {code}, expected 0 (little) or 1 (big)")
        return "<>"[code]

    @property
    def interleave(self) -> str:
        """bsq, bil or bip.

        Raises
        ------
        BrokenProduct
        """
        text = self.text("interleave").lower()
        if not text:
            if self.integer("bands") == 1:
                return "bsq"
            raise BrokenProduct(f"{self.path.name} has no 'interleave', which every ENVI header needs")
        if text not in ("bsq", "bil", "bip"):
            raise BrokenProduct(f"{self.path.name} has interleave {text[:20]!r}, expected bsq, bil or bip")
        return text

    @property
    def offset(self) -> int:
        """Bytes before the first value."""
        value = self.integer("header offset", 0)
        if value < 0:
            raise BrokenProduct(f"{self.path.name} has header offset {value}, expected zero or more")
        return value

    @property
    def file_type(self) -> str:
        """Lower case, "envi standard" where the header does not say."""
        return self.text("file type", "ENVI Standard").lower()

    @property
    def is_library(self) -> bool:
        """Whether this is a spectral library (samples are its bands, lines its spectra)."""
        return "spectral library" in self.file_type

    @property
    def is_classification(self) -> bool:
        """Whether the one band holds classes."""
        return "classification" in self.file_type

    def check(self) -> None:
        """Refuse what cannot be read as a plain array.

        Raises
        ------
        BrokenProduct
        """
        for key in ("major frame offsets", "minor frame offsets"):
            if key in self and np.any(self.numbers(key) != 0):
                raise BrokenProduct(
                    f"{self.path.name} has {key}, bytes between its lines that torchspectral does not skip: "
                    "rewrite the file without them"
                )
        if self.integer("file compression", 0):
            raise BrokenProduct(f"{self.path.name} says that its data are compressed: unpack the data file first")
        if any(word in self.file_type for word in ("tiff", "jpeg", "nitf", "hdf", "erdas", "pcidsk")):
            raise BrokenProduct(
                f"{self.path.name} only describes a file of type {self.text('file type')!r}: open that file instead"
            )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def looks_like_header(path: Path) -> bool:
    """Whether a file starts as ENVI headers do."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"ENVI")


def read_header(path: Path) -> EnviHeader:
    """Parse a header file.

    Raises
    ------
    BrokenProduct
        It does not start with "ENVI", or a list is not closed.
    """
    return parse_header(read_text(path), path)


def parse_header(text: str, path: Path) -> EnviHeader:
    """Parse the text of a header; `path` is for messages."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines) or not lines[start].strip().lstrip("\ufeff").startswith("ENVI"):
        raise BrokenProduct(f"{path.name} is no ENVI header: its first line does not start with 'ENVI'")
    fields: dict[str, str] = {}
    n = start + 1
    while n < len(lines):
        line = lines[n]
        n += 1
        if line.lstrip().startswith(";"):
            continue
        match = _KEY.match(line)
        if match is None:
            continue
        key, value = " ".join(match[1].lower().split()), match[2].strip()
        if value.startswith("{"):
            parts = [value]
            while not _closed(parts, lines[n] if n < len(lines) else None):
                if n >= len(lines):
                    raise BrokenProduct(f"{path.name}: the list of {key!r} is not closed by '}}'")
                if not lines[n].lstrip().startswith(";"):
                    parts.append(lines[n])
                n += 1
            joined = "\n".join(parts)
            value = joined[1 : joined.rindex("}")]
        fields[key] = value.strip()
    return EnviHeader(path, fields)


def _closed(parts: list[str], following: str | None) -> bool:
    """Whether a value ends here: with a brace, and balanced or before the next key."""
    end = parts[-1].rfind("}")
    rest = parts[-1][end + 1 :].strip()
    if end < 0 or (rest and not rest.startswith(";")):
        return False
    balance = sum(part.count("{") - part.count("}") for part in parts)
    return balance <= 0 or following is None or _KEY.match(following) is not None


def find_header(data: Path) -> Path | None:
    """Header of a data file: ``file.img.hdr`` or ``file.hdr``, whatever the case."""
    for name in (data.name + ".hdr", data.stem + ".hdr"):
        found = _any_case(data.parent, name)
        if found is not None and found != data and looks_like_header(found):
            return found
    return None


def find_data(header: EnviHeader) -> Path:
    """Data file of a header.

    Raises
    ------
    ProductNotFound
        None of the usual names exists, and no other file beside it has the right size.
    """
    path = header.path
    stem = path.name[: -len(path.suffix)] if path.suffix.lower() == ".hdr" else path.name
    for suffix in DATA_SUFFIXES:
        found = _any_case(path.parent, stem + suffix)
        if found is not None and found != path and found.is_file():
            return found
    wanted = header.offset + math.prod(header.shape) * header.dtype.itemsize
    same = [
        other
        for other in sorted(path.parent.glob("*"))
        if other.is_file() and other != path and other.stem == stem and other.stat().st_size == wanted
    ]
    if len(same) == 1:
        return same[0]
    raise ProductNotFound(
        f"the data file of {path.name} does not exist: expected {stem} or {stem}.img, .dat, .raw, .bsq, .bil, .bip "
        f"of {wanted} bytes beside it"
    )


def _any_case(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if exact.is_file():
        return exact
    stem, dot, suffix = name.rpartition(".")
    for other in (f"{stem}{dot}{suffix.upper()}", f"{stem}{dot}{suffix.lower()}", name.upper(), name.lower()):
        if dot and (folder / other).is_file():
            return folder / other
    return None


def transform_of(header: EnviHeader) -> Affine | None:
    """Outer pixel corners to map coordinates from ``map info``; None where it is absent or only counts pixels.

    The reference pixel counts from 1 at the outer corner of the first pixel; ``rotation`` turns the image
    counter-clockwise [deg], as GDAL reads it.

    Raises
    ------
    BrokenProduct
    """
    items = header.items("map info")
    if len(items) < 7:
        return None
    try:
        col, row, east, north, dx, dy = (float(v) for v in items[1:7])
    except ValueError:
        raise BrokenProduct(
            f"{header.path.name}: map info = {header.text('map info')[:80]!r}, expected numbers in places 2 to 7"
        ) from None
    if dx == 0 or dy == 0 or not all(map(math.isfinite, (col, row, east, north, dx, dy))):
        raise BrokenProduct(f"{header.path.name}: map info has pixels of size {dx:g} x {dy:g}")
    turn = math.radians(float(option) if (option := map_option(items, "rotation")) and _is_number(option) else 0.0)
    if items[0].lower() == "arbitrary" and (dx, dy) == (1.0, 1.0) and not turn:
        return None
    if not turn:
        return Affine(dx, 0.0, east - (col - 1) * dx, 0.0, -dy, north + (row - 1) * dy)
    cos, sin = math.cos(-turn), math.sin(-turn)
    linear = Affine(cos * dx, -sin * dx, 0.0, -sin * dy, -cos * dy, 0.0)
    return Affine.translation(east, north) * linear * Affine.translation(1 - col, 1 - row)


def map_option(items: list[str], name: str) -> str:
    """Value of ``name=value`` among the entries of map info."""
    for item in items:
        key, equals, value = item.partition("=")
        if equals and key.strip().lower() == name:
            return value.strip()
    return ""


_UTM_BASE = {
    "wgs84": (32600, 32700), "nad83": (26900, 0), "northamerica1983": (26900, 0), "nad27": (26700, 0),
    "northamerica1927": (26700, 0), "etrs89": (25800, 0), "ed50": (23000, 0), "european1950": (23000, 0),
}  # fmt: skip
_GEOGRAPHIC = {
    "wgs84": 4326, "nad83": 4269, "northamerica1983": 4269, "nad27": 4267, "northamerica1927": 4267, "etrs89": 4258,
}  # fmt: skip


def crs_of(header: EnviHeader) -> CRS | None:
    """CRS from ``coordinate system string``, else from the projection and datum of ``map info``.

    Raises
    ------
    BrokenProduct
        The string is no WKT.
    """
    wkt = header.fields.get("coordinate system string", "").strip()
    if wkt:
        try:
            return _known(CRS.from_wkt(wkt))
        except CRSError as error:
            raise BrokenProduct(
                f"{header.path.name}: the coordinate system string is no WKT ({str(error).splitlines()[0][:80]})"
            ) from None
    items = header.items("map info")
    if not items:
        return None
    plain = [re.sub(r"[^a-z0-9]", "", item.lower()) for item in items]
    projection = plain[0]
    datum = next((p for p in plain[7:] if p in _UTM_BASE or p in _GEOGRAPHIC), "wgs84")
    if projection == "utm" and len(items) >= 9 and items[7].lstrip("-").isdigit():
        zone = abs(int(items[7]))
        south = plain[8].startswith("south") or items[7].startswith("-")
        base = _UTM_BASE.get(datum, (0, 0))[1 if south else 0]
        if 1 <= zone <= 60 and base:
            return _from_epsg(base + zone)
        return None
    if projection.startswith("geographic") and datum in _GEOGRAPHIC:
        return _from_epsg(_GEOGRAPHIC[datum])
    return None


def _from_epsg(code: int) -> CRS | None:
    try:
        return CRS.from_epsg(code)
    except CRSError:
        return None


def _known(crs: CRS) -> CRS:
    """The EPSG definition that an ESRI string names, where the two are the same system."""
    code = crs.to_epsg(min_confidence=70)
    if code is not None:
        known = _from_epsg(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PROJ strings lose names, which do not matter here
            if known is not None and known.is_geographic == crs.is_geographic and known.to_dict() == crs.to_dict():
                return known
    return crs


def plain_value(text: str) -> Any:
    """A number where the text is one, else the text."""
    return float(text) if _is_number(text) else text
