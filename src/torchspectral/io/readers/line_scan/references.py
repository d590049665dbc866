"""Dark and white references beside a raw cube: found by name, as each camera's software names them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from torchspectral.errors import BandMismatch
from torchspectral.io.readers.envi.header import EnviHeader, looks_like_header, read_header

ROLES = ("dark", "white", "white_dark")
"""Dark frames of the scene; frames of the white panel; dark frames taken with the panel's integration time."""

_MOST_FILES = 20_000
_PREFIX = {"darkref_": "dark", "whiteref_": "white", "whitedarkref_": "white_dark"}
_GENERAL = (
    (re.compile(r"^white[ _-]?dark(?:[ _-]?ref(?:erence)?)?$"), "white_dark"),
    (re.compile(r"^dark(?:[ _-]?(?:ref(?:erence)?|current|frames?|signal))?$"), "dark"),
    (re.compile(r"^white(?:[ _-]?(?:ref(?:erence)?|panel|tile|frames?))?$"), "white"),
)


@dataclass(frozen=True)
class Reference:
    """A file that goes with a raw cube."""

    role: str
    header: Path

    def open(self, image: EnviHeader) -> EnviHeader:
        """Its header, checked to see the same columns and bands as the image.

        Raises
        ------
        BandMismatch
        """
        found = read_header(self.header)
        (bands, _, samples), (expected, _, width) = found.shape, image.shape
        if (bands, samples) != (expected, width):
            raise BandMismatch(
                f"{self.header.name} has {bands} bands and {samples} samples, expected {expected} bands and {width} "
                f"samples as {image.path.name}: the camera was set otherwise, or one of the files is a cut-out"
            )
        return found


def role_of(path: Path) -> str:
    """Role of a file that is a reference by its own name; "" for scenes."""
    stem = _stem(path)
    for prefix, role in _PREFIX.items():
        if stem.startswith(prefix):
            return role
    return next((role for pattern, role in _GENERAL if pattern.match(stem)), "")


def find_references(header: Path) -> dict[str, Reference]:
    """References of a raw cube, by role; none for a file that is a reference itself.

    A file named after the cube goes first (``DARKREF_NAME``, ``NAME_dark``), then one that is named after none
    (``darkReference``), in the folder of the cube, and in ``calibration`` or ``capture`` beside or below it.
    """
    if role_of(header):
        return {}
    stem = _stem(header)
    own: dict[str, Reference] = {}
    common: dict[str, list[Reference]] = {}
    for folder in (header.parent, *_near(header.parent)):
        for path in sorted(_headers(folder)):
            name = _stem(path)
            if name == stem or not looks_like_header(path):
                continue
            role = _role_for(name, stem)
            if role:
                own.setdefault(role, Reference(role, path))
                continue
            role = next((r for pattern, r in _GENERAL if pattern.match(name)), "")
            if role:
                common.setdefault(role, []).append(Reference(role, path))
    found = {role: refs[0] for role, refs in common.items()} | own
    return {role: found[role] for role in ROLES if role in found}


def _role_for(name: str, stem: str) -> str:
    """Role of a file that is named after the cube."""
    for prefix, role in _PREFIX.items():
        if name == prefix + stem:
            return role
    for rest in (name.removeprefix(stem), name.removesuffix(stem)):
        if rest != name:
            word = rest.strip(" _-.")
            return next((role for pattern, role in _GENERAL if pattern.match(word)), "")
    return ""


def _stem(path: Path) -> str:
    """Lower-case name without .hdr and the ending of the data file: NAME.bil.hdr is NAME."""
    name = path.name[:-4] if path.suffix.lower() == ".hdr" else path.name
    return re.sub(r"\.(raw|img|dat|bil|bip|bsq|hyspex|bin|cube|log)$", "", name.lower())


def _near(folder: Path) -> list[Path]:
    places = [folder / "capture", folder / "calibration", folder.parent / "calibration", folder.parent / "capture"]
    return [place for place in places if place.is_dir() and place != folder]


def _headers(folder: Path) -> list[Path]:
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= _MOST_FILES:
                    break
                if entry.name.lower().endswith(".hdr"):
                    found.append(folder / entry.name)
    except OSError:
        return []
    return found
