"""The elements of MATLAB v5 files: which variables there are, and the values of full arrays of numbers."""

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

from torchspectral.errors import BrokenProduct, TooLarge
from torchspectral.io.safety import human, limits

MATRIX, _PACKED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
    10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64", 16: "function", 17: "opaque",
}  # fmt: skip
FULL = range(6, 16)
OPAQUE = 17
_HEAD = 4096
_MOST_VARIABLES = 100_000
_MOST_AXES = 32
_ZLIB_MOST = 1040
_COMPLEX, _LOGICAL = 0x0800, 0x0200


@dataclass(frozen=True)
class Head:
    """What an array says of itself before its values.

    Attributes
    ----------
    code : int
        Its class.
    kind : str
        The same as a word; "logical" and "complex" for numbers with those flags.
    shape : tuple of int
    name : str
    nbytes : int
        Size of the element without its tag.
    at : int
        Where its values begin.
    """

    code: int
    kind: str
    shape: tuple[int, ...]
    name: str
    nbytes: int
    at: int


@dataclass(frozen=True)
class Element:
    """One variable of the file.

    Attributes
    ----------
    name : str
    kind : str
        Its MATLAB class, "logical" or "complex".
    shape : tuple of int
    nbytes : int
        Size once unpacked [bytes].
    stored : numpy dtype or None
        Type of the stored numbers (not the class: doubles are often kept as small integers); None for anything but full
        arrays of real numbers.
    at, length : int
        Where it begins in the file, and its bytes there after the tag.
    packed : bool
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    nbytes: int
    stored: np.dtype | None
    at: int = 0
    length: int = 0
    packed: bool = False


def elements(path: Path) -> dict[str, Element]:
    """Variables of a v5 file; nothing but their heads is read.

    Raises
    ------
    BrokenProduct
    """
    return dict(_elements(str(path), path.stat().st_mtime_ns))


@lru_cache(maxsize=8)
def _elements(path: str, stamp: int) -> dict[str, Element]:
    file_name = Path(path).name
    with Path(path).open("rb") as file:
        start = file.read(128)
        if len(start) < 128 or start[126:128] not in (b"IM", b"MI"):
            raise BrokenProduct(f"{file_name} is no readable MATLAB file: its first 128 bytes are not those of one")
        found = {element.name: element for element in _walk(file, _order(start), file_name)}
    found.pop("", None)  # data that functions leave behind has no name
    return found


def _order(start: bytes) -> str:
    return "<" if start[126:128] == b"IM" else ">"


def _walk(file: BinaryIO, order: str, file_name: str) -> Iterator[Element]:
    end = file.seek(0, 2)
    file.seek(128)
    for _ in range(_MOST_VARIABLES):
        at = file.tell()
        tag = file.read(8)
        if len(tag) < 8:
            return
        code, length = struct.unpack(f"{order}II", tag)
        if at + 8 + length > end:
            raise BrokenProduct(
                f"the MATLAB file {file_name} is truncated: at byte {at} it promises {human(length)}, it has {human(end - at - 8)}"
            )
        head = file.read(min(length, _HEAD))
        try:
            if code == _PACKED:
                head = zlib.decompressobj().decompress(head, _HEAD)
            elif code == MATRIX:
                head = tag + head
            else:
                raise ValueError(f"has data of type {code} where a variable is expected")
            known = read_head(head, 0, order)
            stored = _stored(head, known, order)
            _check_size(known, stored, length if code == _PACKED else None)
        except (struct.error, zlib.error, ValueError) as error:
            raise BrokenProduct(f"{file_name} is no readable MATLAB file: at byte {at} it {error}") from None
        element = Element(known.name, known.kind, known.shape, known.nbytes, stored)
        yield replace(element, at=at, length=length, packed=code == _PACKED)
        file.seek(at + 8 + length)
    raise BrokenProduct(f"{file_name} holds more than {_MOST_VARIABLES} variables")


def read_head(data: bytes, at: int, order: str) -> Head:
    """The head of the array whose element begins at `at`.

    Raises
    ------
    ValueError, struct.error
        It makes no sense, or `data` ends.
    """
    code, nbytes = struct.unpack_from(f"{order}II", data, at)
    if code != MATRIX:
        raise ValueError(f"has data of type {code} where an array is expected")
    if nbytes == 0:
        return Head(6, "double", (0, 0), "", 0, at + 8)
    (flags,) = struct.unpack_from(f"{order}I", data, at + 16)
    kind = CLASSES.get(flags & 0xFF, "")
    if not kind:
        raise ValueError(f"has an array of class {flags & 0xFF}, which does not exist")
    here, shape = at + 24, ()
    if flags & 0xFF != OPAQUE:
        start, length, _, here = part(data, here, order)
        if length % 4 or not 2 <= length // 4 <= _MOST_AXES:
            raise ValueError(f"has an array of {length / 4:g} axes")
        shape = struct.unpack_from(f"{order}{length // 4}i", data, start)
        if min(shape) < 0:
            raise ValueError(f"has an array of shape {' x '.join(map(str, shape))}")
    start, length, _, here = part(data, here, order)
    if start + length > len(data):
        raise ValueError(f"has a name of {length} letters")
    name = data[start : start + length].decode("latin-1")
    if flags & 0xFF in FULL:
        kind = "complex" if flags & _COMPLEX else "logical" if flags & _LOGICAL else kind
    return Head(flags & 0xFF, kind, tuple(shape), name, nbytes, here)


def part(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Start, length and type of the data of a part, and where the next part begins."""
    first, second = struct.unpack_from(f"{order}II", data, at)
    if first >> 16:
        if first >> 16 > 4:
            raise ValueError(f"has a short part of {first >> 16} bytes")
        return at + 4, first >> 16, first & 0xFFFF, at + 8
    return at + 8, second, first, at + 8 + (second + 7) // 8 * 8


def _stored(data: bytes, head: Head, order: str) -> np.dtype | None:
    if head.code not in FULL or head.kind == "complex":
        return None
    if math.prod(head.shape) == 0:
        return np.dtype(np.uint8)
    _, _, code, _ = part(data, head.at, order)
    return np.dtype(TYPES[code]) if code in TYPES else None


def _check_size(head: Head, stored: np.dtype | None, packed: int | None) -> None:
    if packed is not None and head.nbytes > packed * _ZLIB_MOST + 1024:
        raise ValueError(f"promises {human(head.nbytes)} packed into {human(packed)}")
    if stored is not None and math.prod(head.shape) * stored.itemsize > head.nbytes:
        raise ValueError(f"promises {' x '.join(map(str, head.shape))} numbers of {stored} in {human(head.nbytes)}")


def read_numbers(path: Path, element: Element) -> np.ndarray:
    """Values of a full array of real numbers, in their stored type and native byte order.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    data, order = read_element(path, element)
    try:
        return numbers(data, read_head(data, 0, order), order)
    except (struct.error, ValueError) as error:
        raise BrokenProduct(f"{path.name}: {element.name} cannot be read: it {error}") from None


def numbers(data: bytes, head: Head, order: str) -> np.ndarray:
    """The numbers of an array within `data`.

    Raises
    ------
    ValueError, struct.error
        Not as many as its shape says, or of no known type.
    """
    size = math.prod(head.shape)
    if size == 0:
        return np.zeros(head.shape, np.uint8)
    start, length, code, _ = part(data, head.at, order)
    if code not in TYPES:
        raise ValueError(f"has numbers of type {code}, which does not exist")
    stored = np.dtype(TYPES[code])
    if length != size * stored.itemsize or start + length > len(data):
        raise ValueError(
            f"promises {' x '.join(map(str, head.shape))} numbers of {stored} in {min(length, len(data) - start)} bytes"
        )
    values = np.frombuffer(data, np.dtype(f"{order}{TYPES[code]}"), count=size, offset=start)
    return values.astype(stored, copy=False).reshape(head.shape, order="F")


def read_element(path: Path, element: Element, most: int | None = None) -> tuple[bytes, str]:
    """All bytes of an element, unpacked, and the byte order.

    Raises
    ------
    BrokenProduct
        Damaged, or not as long as it says.
    TooLarge
        More than `most`, by default than one read may return.
    """
    most = limits().read_bytes if most is None else most
    if element.nbytes > most:
        raise TooLarge(f"{path.name}: {element.name} unpacks to {human(element.nbytes)}, more than {human(most)}")
    with path.open("rb") as file:
        order = _order(file.read(128))
        file.seek(element.at + (8 if element.packed else 0))
        data = file.read(element.length + (0 if element.packed else 8))
    if element.packed:
        unpack = zlib.decompressobj()
        try:
            # One byte more than promised lets the checksum at the end be read, and betrays what is longer.
            data = unpack.decompress(data, element.nbytes + 9)
        except zlib.error as error:
            raise BrokenProduct(f"{path.name}: {element.name} cannot be unpacked: {error}") from None
        if not unpack.eof:
            raise BrokenProduct(f"{path.name}: {element.name} is truncated or longer than it says")
    if len(data) < element.nbytes + 8:
        raise BrokenProduct(
            f"{path.name}: {element.name} promises {human(element.nbytes)}, it has {human(len(data) - 8)}"
        )
    return data, order
