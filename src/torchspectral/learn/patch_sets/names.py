"""What names of files and lists of splits say: dates, parts, classes."""

from __future__ import annotations

import re
from pathlib import Path

from torchspectral.errors import BadInput, UnknownName, closest
from torchspectral.learn.patch_sets.entries import TEST, Walk
from torchspectral.learn.splits import HELD_OUT, TRAIN

_DATE = re.compile(r"(?<!\d)(19\d\d|20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")


def date_of(name: str) -> int:
    """The first date in a name, as 20220611; 0 where there is none."""
    found = _DATE.search(name)
    return int("".join(found.groups())) if found else 0


_WORDS = {
    "train": TRAIN, "training": TRAIN, "val": HELD_OUT, "valid": HELD_OUT, "validation": HELD_OUT, "dev": HELD_OUT,
    "held-out": HELD_OUT, "test": TEST, "testing": TEST,
}  # fmt: skip  # fmt: skip


def part_of(word: str) -> str:
    """The part that a word stands for; "" for none."""
    return _WORDS.get(word.strip().lower(), "")


class SplitLists:
    """Published splits: text files named after the parts, one patch a line.

    Parameters
    ----------
    walk : Walk
    folders : sequence of str
        Where the files may be, below the root.
    prefix : sequence of str
        What lines may begin with before the name of the patch.
    suffixes : sequence of str
    """

    def __init__(
        self,
        walk: Walk,
        folders: tuple[str, ...] = ("", "splits"),
        prefix: tuple[str, ...] = (),
        suffixes: tuple[str, ...] = (".txt",),
    ) -> None:
        self.parts: dict[str, str] = {}
        self.found: list[str] = []
        self.used: set[str] = set()
        for folder in folders:
            if folder and not walk.has(folder):
                continue
            for file in walk.files(folder, *suffixes):
                part = part_of(re.split(r"[-_]", Path(file.name).stem)[-1])
                if part:
                    self._read(walk.note(file.path), part, prefix)
                    self.found.append(file.path)
            if self.parts:
                break

    def _read(self, path: Path, part: str, prefix: tuple[str, ...]) -> None:
        from torchspectral.io.safety import read_text

        for line in read_text(path).splitlines():
            name = line.split(",")[0].strip().strip('"').replace("\\", "/")
            if not name or name.startswith("#"):
                continue
            for word in prefix:
                name = name.removeprefix(f"{word}/")
            key = _stem(name)
            if self.parts.setdefault(key, part) != part:
                raise BadInput(
                    f"{path.name}: {name} is also in the list of another part: splits must not share patches"
                )

    def part(self, name: str) -> str:
        """Part of a patch by its path below the folder of images, or by its file's name."""
        for key in (_stem(name), _stem(name.rsplit("/", 1)[-1])):
            if key in self.parts:
                self.used.add(key)
                return self.parts[key]
        return ""

    def note(self, patches: int) -> list[str]:
        """What to tell of lists that do not fit the folder.

        Raises
        ------
        BadInput
            No patch is in them.
        """
        if not self.parts:
            return []
        if patches and not self.used:
            first = next(iter(self.parts))
            raise BadInput(
                f"{self.found[0]} lists {first} and others, and none of them is in this folder: are these the splits "
                "of another set?"
            )
        missing, outside = len(self.parts) - len(self.used), patches - len(self.used)
        notes = [f"{missing} patches of the split lists are not in this folder"] if missing else []
        return notes + ([f"{outside} patches are in no split list and left out"] if outside > 0 else [])


def _stem(name: str) -> str:
    head, dot, tail = name.rpartition(".")
    return head if dot and tail.lower() in ("tif", "tiff", "npz", "npy", "jpg", "jpeg", "png") else name


def class_number(name: str, classes: list[str], where: str) -> int:
    """Number of a class by its name.

    Raises
    ------
    UnknownName
    """
    if name not in classes:
        raise UnknownName(f"{where}: no class {name!r}: {closest(name, classes)}")
    return classes.index(name)
