"""The element headers of MATLAB v5 files: stored types and sizes of variables without unpacking their values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MATRIX, _PACKED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Class codes whose values are numbers laid out one after the other.
_FULL = range(6, 16)
_HEAD = 4096
_MOST_VARIABLES = 100_000


@dataclass(frozen=True)
class Element:
    """One variable of the file.

    Attributes
    ----------
    name : str
    nbytes : int
        Size once unpacked, header included.
    stored : numpy dtype or None
        Type of the stored numbers (not the class: doubles are often kept as small integers); None for cells, structs,
        objects, sparse and complex arrays.
    """

    name: str
    nbytes: int
    stored: np.dtype | None


def elements(path: Path) -> dict[str, Element]:
    """Variables of a v5 file; those that cannot be understood are left out, a file that is no v5 has none."""
    return dict(_elements(str(path), path.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _elements(path: str, stamp: int) -> dict[str, Element]:
    with Path(path).open("rb") as file:
        start = file.read(128)
        if len(start) < 128 or start[126:128] not in (b"IM", b"MI"):
            return {}
        order = "<" if start[126:128] == b"IM" else ">"
        return {found.name: found for found in _walk(file, order)}


def _walk(file: BinaryIO, order: str) -> Iterator[Element]:
    for _ in range(_MOST_VARIABLES):
        at = file.tell()
        tag = file.read(8)
        if len(tag) < 8:
            return
        kind, nbytes = struct.unpack(f"{order}II", tag)
        head = file.read(min(nbytes, _HEAD))
        if kind == _PACKED:
            try:
                head = zlib.decompressobj().decompress(head, _HEAD)
            except zlib.error:
                head = b""
        elif kind == _MATRIX:
            head = tag + head
        else:
            head = b""
        found = _matrix(head, order)
        if found is not None:
            yield found
        file.seek(at + 8 + nbytes)


def _matrix(head: bytes, order: str) -> Element | None:
    """The variable whose element begins with `head`."""
    try:
        kind, nbytes = struct.unpack_from(f"{order}II", head, 0)
        (flags,) = struct.unpack_from(f"{order}I", head, 16)
        if kind != _MATRIX:
            return None
        _, _, at = _part(head, 24, order)
        text, length, at = _part(head, at, order)
        name = head[text : text + length].decode("latin-1")
        if flags & 0xFF not in _FULL or flags & 0x0800:
            return Element(name, nbytes, None)
        code = struct.unpack_from(f"{order}I", head, at)[0] & 0xFFFF
    except struct.error:
        return None
    return Element(name, nbytes, np.dtype(_TYPES[code]) if code in _TYPES else None)


def _part(head: bytes, at: int, order: str) -> tuple[int, int, int]:
    """Start and length of the data of a part, and where the next part begins."""
    first, second = struct.unpack_from(f"{order}II", head, at)
    if first >> 16:
        return at + 4, first >> 16, at + 8
    return at + 8, second, at + 8 + (second + 7) // 8 * 8
