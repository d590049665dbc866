"""What the scan of a folder finds: patches with their labels, and how the folder looked when they were found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torchspectral.errors import BrokenProduct, ProductNotFound
from torchspectral.learn.splits import HELD_OUT, TRAIN

TEST = "test"
PARTS = ("", TRAIN, HELD_OUT, TEST)
"""Parts by number; "" where nothing says."""

HIDDEN = ".torchspectral"
"""Folder beside the patches that holds their index."""


@dataclass(slots=True)
class Entry:
    """One patch of a folder, before it is looked into.

    Attributes
    ----------
    path : str
        Its file, or the folder of its band files, below the root, with ``/``.
    size, time : int
        Bytes and time of change [ns] of that file.
    place : str
        Location; patches of one place show the same ground.
    date : int
        As 20220611; 0 where unknown.
    part : str
        "train", "held-out", "test" or "".
    mask : str
        File of the pixel labels; "" for none.
    label : int
        Number of the class; -1 for none.
    labels : tuple of int
        Numbers of several classes.
    targets : tuple of float
        For regression.
    later : str
        File of the same ground at another date, where a set pairs its patches.
    window : tuple of int
        Row, column, height, width in the file; () for all of it.
    """

    path: str
    size: int
    time: int
    place: str
    date: int = 0
    part: str = ""
    mask: str = ""
    label: int = -1
    labels: tuple[int, ...] = ()
    targets: tuple[float, ...] = ()
    later: str = ""
    window: tuple[int, ...] = ()


class Probed(NamedTuple):
    """What a look into a patch tells without its pixels.

    `key` is the same for patches of one kind (bands, type, nodata, wavelengths); `box` is west, south, east, north in
    `crs`, () where the patch lies nowhere.
    """

    bands: int
    height: int
    width: int
    dtype: str
    key: str
    box: tuple[float, ...] = ()
    crs: str = ""


class Found(NamedTuple):
    """One name in a folder."""

    name: str
    path: str
    size: int
    time: int


class Walk:
    """Lists folders below a root, in order, and remembers when each was changed last.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stamps: dict[str, int] = {}

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        where = self.root / folder
        try:
            self.stamps[folder] = where.stat().st_mtime_ns
            with os.scandir(where) as found:
                return sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            raise BrokenProduct(f"{where} cannot be listed: {error.strerror}") from None

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder."""
        return [e.name for e in self._list(folder) if e.is_dir()]

    def files(self, folder: str, *suffixes: str) -> Iterator[Found]:
        """Files in a folder that end in one of `suffixes` (small letters)."""
        for entry in self._list(folder):
            if entry.name.lower().endswith(suffixes) and entry.is_file():
                facts = entry.stat()
                yield Found(entry.name, join(folder, entry.name), facts.st_size, facts.st_mtime_ns)

    def below(self, folder: str, *suffixes: str) -> Iterator[Found]:
        """Files in a folder and in the folders in it, depth first."""
        names = self._list(folder)
        for entry in names:
            if entry.is_dir(follow_symlinks=False):
                yield from self.below(join(folder, entry.name), *suffixes)
            elif entry.name.lower().endswith(suffixes) and entry.is_file():
                facts = entry.stat()
                yield Found(entry.name, join(folder, entry.name), facts.st_size, facts.st_mtime_ns)

    def note(self, file: str) -> Path:
        """A file that the scan reads, such as a table of labels; the index follows its changes.

        Raises
        ------
        ProductNotFound
        """
        path = self.root / file
        try:
            self.stamps[file] = path.stat().st_mtime_ns
        except OSError:
            raise ProductNotFound(f"{path} does not exist") from None
        return path

    def has(self, name: str) -> bool:
        """Whether a file or folder is there."""
        return (self.root / name).exists()


def join(*parts: str) -> str:
    """A path below the root."""
    return "/".join(part for part in parts if part)
