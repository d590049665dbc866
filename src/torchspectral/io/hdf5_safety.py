"""What an HDF5 or netCDF-4 file must not hold: ways out of it, unbounded chunks, heaps that never end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BrokenProduct, UnsafeInput
from torchspectral.io.safety import _short, check_block, limits

# A heap collection of version 1; then its size and its objects: index, references, reserved, size.
_HEAP = b"GCOL\x01\0\0\0"
_OBJECT = struct.Struct("<HHIQ")


def check_heaps(path: Path) -> None:
    """Refuse files whose heap of texts would keep the HDF5 library in an endless loop or make it ask for gigabytes.

    The library (2.0 and before) walks the objects of a heap by their sizes and never gets past one of size 0; and it
    reserves what a reference into a heap says the text's length is before it looks at the text. Files of more than
    `Limits.text_bytes` are not searched, since that would mean reading them.

    Raises
    ------
    BrokenProduct
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= limits().text_bytes else b""
    except OSError:
        return
    at = data.find(_HEAP)
    heaps: dict[int, set[int]] = {}
    while at >= 0:
        heaps[at] = set()
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        here = at + 16
        while here + 16 <= min(end, size):
            index, _, _, length = _OBJECT.unpack_from(data, here)
            step = (length if index == 0 else 16 + (length + 7) // 8 * 8) % 2**64
            if step == 0:
                raise BrokenProduct(
                    f"{path.name} has a damaged heap at byte {here}, which the HDF5 library cannot read"
                )
            heaps[at] |= {index} - {0}  # 0 is free space
            here += step
        at = data.find(_HEAP, at + len(_HEAP))
    _check_lengths(path, data, heaps)


def _check_lengths(path: Path, data: bytes, heaps: dict[int, set[int]]) -> None:
    """Refuse references into a heap (length, address, index: 4, 8, 4 bytes) of absurd length.

    Other bytes may look like one: the superblock, the end of a text before a number, pixels before a dark border. So it
    counts where the heap has an object of that index, and else only at multiples of 8, where headers of version 1 have
    their references; and never among the numbers of an array.
    """
    if not heaps:
        return
    base = max(data.find(b"\x89HDF\r\n\x1a\n"), 0)
    numbers: list[tuple[int, int]] | None = None
    known = {at - base: objects for at, objects in heaps.items()}
    for shift in range(4):
        words = np.frombuffer(data, "<u4", (len(data) - shift) // 4, shift)
        long = (words[:-3] > limits().text_bytes) & (words[2:-1] == 0)
        found = np.flatnonzero(long)
        for word in found[np.isin(words[1:-2][long], list(known))].tolist():
            at, (length, heap, _, index) = 4 * word + shift, words[word : word + 4].tolist()
            if index not in known[heap] and (at - base) % 8:
                continue
            numbers = _places_of_numbers(path, base) if numbers is None else numbers
            if not any(start <= at < stop for start, stop in numbers):
                raise BrokenProduct(f"{path.name} has a damaged text at byte {at}: it promises {length} characters")


def _places_of_numbers(path: Path, base: int) -> list[tuple[int, int]]:
    """First byte and end of the stored values of all arrays of plain numbers; opens the file, reads no values."""
    import h5py

    found: list[tuple[int, int]] = []

    def add(_: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iufb" or item.dtype.hasobject:
            return
        offset = item.id.get_offset()
        if offset is not None:
            found.append((offset + base, offset + base + item.id.get_storage_size()))
        elif item.chunks:
            for number in range(item.id.get_num_chunks()):
                chunk = item.id.get_chunk_info(number)
                if chunk.byte_offset is not None:
                    found.append((chunk.byte_offset + base, chunk.byte_offset + base + chunk.size))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(add)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return []
    return found


def check_hdf5(file: Any, most_objects: int = 100_000) -> None:
    """Walk an open h5py file and refuse whatever reaches outside it or cannot be bounded.

    Raises
    ------
    UnsafeInput
        An external link, external storage, a virtual dataset, or too many objects.
    BrokenProduct
        The file's structure is damaged.
    """
    import h5py

    name = Path(str(file.filename)).name
    count = 0
    try:
        for place, item in _walk_hdf5(file, h5py):
            count += 1
            if count > most_objects:
                raise UnsafeInput(f"{name} holds more than {most_objects} objects")
            if isinstance(item, h5py.ExternalLink):
                raise UnsafeInput(
                    f"{name}: {place} links to another file ({_short(item.filename, 60)}), which is refused"
                )
            if isinstance(item, h5py.Dataset):
                if item.external:
                    raise UnsafeInput(f"{name}: {place} keeps its values in another file, which is refused")
                if item.is_virtual:
                    raise UnsafeInput(f"{name}: {place} is a virtual dataset made of other files, which is refused")
                if item.chunks:
                    check_block(item.chunks, item.dtype, name)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise BrokenProduct(f"{name} has a damaged structure: {_short(str(error))}") from None


def _walk_hdf5(group: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """Objects and external links below `group`; soft links are not followed, hard links once."""
    seen: set[Any] = set()
    stack = [group]
    while stack:
        here = stack.pop()
        for key in here:
            place = f"{here.name.rstrip('/')}/{key}"
            link = here.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield place, link
                continue
            if isinstance(link, h5py.SoftLink):
                continue
            item = here.get(key)
            if item is None:
                continue
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield place, item
            if isinstance(item, h5py.Group):
                stack.append(item)
