"""The element headers of MATLAB v5 files: stored types and sizes of variables without unpacking their values."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from torchspectral.errors import BrokenProduct

_MATRIX, _PACKED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Class codes whose values are numbers laid out one after the other.
_FULL = range(6, 16)
_HEAD = 4096
_MOST_VARIABLES = 100_000
_SPARSE = 5
_DEEPEST = 32


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
    at : int
        Where it begins in the file.
    """

    name: str
    nbytes: int
    stored: np.dtype | None
    at: int = 0


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
            yield replace(found, at=at)
        file.seek(at + 8 + nbytes)


def check_nested(path: Path, element: Element) -> None:
    """Refuse a struct or cell in which some part promises more entries than it has bytes.

    Raises
    ------
    BrokenProduct
    """
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:128] == b"IM" else ">"
        file.seek(element.at)
        tag = file.read(8)
        kind, nbytes = struct.unpack(f"{order}II", tag)
        data = file.read(min(nbytes, element.nbytes + 8))
    try:
        whole = tag + data if kind != _PACKED else zlib.decompressobj().decompress(data, element.nbytes + 8)
        _check_matrix(whole, 0, order, 0)
    except (struct.error, zlib.error) as error:
        raise BrokenProduct(f"{path.name}: {element.name} is damaged ({error})") from None
    except ValueError as error:
        raise BrokenProduct(f"{path.name}: {element.name} {error}") from None


def _check_matrix(data: bytes, at: int, order: str, depth: int) -> None:
    kind, nbytes = struct.unpack_from(f"{order}II", data, at)
    if kind != _MATRIX or nbytes == 0:
        return
    if depth > _DEEPEST:
        raise ValueError(f"is nested more than {_DEEPEST} deep")
    (flags,) = struct.unpack_from(f"{order}I", data, at + 16)
    start, length, at_next = _part(data, at + 24, order)
    sizes = struct.unpack_from(f"{order}{length // 4}i", data, start)
    if min(sizes, default=0) < 0 or (flags & 0xFF != _SPARSE and math.prod(sizes) > nbytes):
        raise ValueError(f"promises {' x '.join(map(str, sizes[:8]))} entries in {nbytes} bytes")
    end = min(at + 8 + nbytes, len(data))
    while at_next + 8 <= end:
        kind, inner = struct.unpack_from(f"{order}II", data, at_next)
        if kind == _MATRIX:
            _check_matrix(data, at_next, order, depth + 1)
            at_next += 8 + inner
        else:
            _, _, at_next = _part(data, at_next, order)


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
