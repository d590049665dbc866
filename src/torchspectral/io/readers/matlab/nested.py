"""Cells, structs and text of MATLAB v5 files as lists, dictionaries and str; every length is checked before it is used."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BrokenProduct
from torchspectral.io.readers.matlab.elements import FULL, Element, Head, numbers, part, read_element, read_head
from torchspectral.io.safety import limits

_DEEPEST = 32
_MOST_PARTS = 100_000
_CELL, _STRUCT, _CHAR = 1, 2, 4
_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_nested(path: Path, element: Element) -> Any:
    """A cell array as a list, a struct array as a list of dictionaries, text as str, numbers as an array.

    Lists run down the columns. What is none of these (objects, functions, sparse and complex numbers) is None.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    data, order = read_element(path, element, limits().text_bytes)
    try:
        return _Parser(data, order).array(0, element.nbytes + 8, 0)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        text = "holds text that cannot be read" if isinstance(error, UnicodeDecodeError) else str(error)
        raise BrokenProduct(f"{path.name}: {element.name} cannot be read: it {text}") from None


class _Parser:
    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order = data, order
        self.parts = 0

    def array(self, at: int, end: int, depth: int) -> Any:
        """The array whose element begins at `at` and must not reach beyond `end`."""
        self.parts += 1
        if depth > _DEEPEST or self.parts > _MOST_PARTS:
            raise ValueError(f"holds more than {_MOST_PARTS} arrays, or is nested more than {_DEEPEST} deep")
        head = read_head(self.data, at, self.order)
        if at + 8 + head.nbytes > end:
            raise ValueError(f"promises an array of {head.nbytes} bytes where {end - at - 8} are left")
        end = at + 8 + head.nbytes
        if head.code in (_CELL, _STRUCT, _CHAR, *FULL) and math.prod(head.shape) > head.nbytes:
            raise ValueError(f"promises {' x '.join(map(str, head.shape))} entries in {head.nbytes} bytes")
        if head.code == _CELL:
            return self._entries(head.at, end, math.prod(head.shape), depth)[0]
        if head.code == _STRUCT:
            return self._struct(head, end, depth)
        if head.code == _CHAR:
            return self._text(head)
        return numbers(self.data, head, self.order) if head.code in FULL and head.kind != "complex" else None

    def _entries(self, at: int, end: int, count: int, depth: int) -> tuple[list[Any], int]:
        found = []
        for _ in range(count):
            found.append(self.array(at, end, depth + 1))
            at += 8 + struct.unpack_from(f"{self.order}I", self.data, at + 4)[0]
        return found, at

    def _struct(self, head: Head, end: int, depth: int) -> list[dict[str, Any]]:
        start, length, _, at = part(self.data, head.at, self.order)
        if length != 4:
            raise ValueError("does not say how long its field names are")
        (width,) = struct.unpack_from(f"{self.order}i", self.data, start)
        start, length, _, at = part(self.data, at, self.order)
        if width < 1 or length % width or start + length > end:
            raise ValueError(f"has field names of {width} letters in {length} bytes")
        names = [
            self.data[k : k + width].split(b"\0")[0].decode("latin-1") for k in range(start, start + length, width)
        ]
        found = []
        for _ in range(math.prod(head.shape) if names else 0):
            values, at = self._entries(at, end, len(names), depth)
            found.append(dict(zip(names, values, strict=True)))
        return found

    def _text(self, head: Head) -> str:
        count = math.prod(head.shape)
        if count == 0:
            return ""
        start, length, code, _ = part(self.data, head.at, self.order)
        if code not in _CODECS or start + length > len(self.data):
            raise ValueError(f"has text of type {code} and {length} bytes")
        codec = _CODECS[code]
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self.order == "<" else "-be"
        letters = list(self.data[start : start + length].decode(codec))
        if len(letters) != count:
            raise ValueError(f"promises {' x '.join(map(str, head.shape))} letters and has {len(letters)}")
        rows = np.array(letters).reshape(head.shape[0], -1, order="F")
        return " ".join("".join(row).rstrip() for row in rows).strip()
