"""The files of an AVIRIS flight line: which there are, what each holds, told by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from torchspectral.errors import BrokenProduct, MissingMetadata, ProductNotFound
from torchspectral.io.readers.envi.header import EnviHeader, find_header, looks_like_header, read_header

_FLIGHT = re.compile(
    r"^(?:f(?P<classic>\d{6})t\d{2}p\d{2}_?r\d{2}|ang(?P<ng>\d{8}t\d{6})|AV(?P<version>[35])(?P<later>\d{8}t\d{6})(?:_\d{3})?)",
    re.IGNORECASE,
)
# Words of a name, the first that is found decides: f130522t01p00r05rdn_e_obs_ort holds angles, not radiance.
_KINDS = {
    "glt": "glt", "igm": "igm", "loc": "loc", "obs": "obs", "unc": "uncertainty", "uncert": "uncertainty",
    "uncertainty": "uncertainty", "rflunc": "uncertainty", "rfluncert": "uncertainty", "h2o": "h2o", "wtr": "h2o",
    "rfl": "rfl", "refl": "rfl", "reflectance": "rfl", "corr": "rfl", "rdn": "rdn", "radiance": "rdn",
}  # fmt: skip
IMAGES = ("rfl", "rdn")
_MOST_FILES = 20_000


@dataclass(frozen=True)
class Flight:
    """A flight line.

    Attributes
    ----------
    name : str
        As its files begin, "ang20171108t184227".
    sensor : str
    acquired : str
        ISO 8601 UTC; the day where the name has no more.
    headers : dict of str to list of Path
        Headers of its files by what they hold: rfl, rdn, obs, loc, igm, glt, uncertainty, h2o.
    """

    name: str
    sensor: str
    acquired: str
    headers: dict[str, list[Path]] = field(default_factory=dict)

    def companion(self, kind: str, image: EnviHeader, match: bool = True) -> EnviHeader | None:
        """Header of the file of that kind that lies on the image's pixels, else (unless `match`) of any."""
        found = [read_header(path) for path in self.headers.get(kind, [])]
        same = [h for h in found if h.shape[1:] == image.shape[1:]]
        found = same or ([] if match else found)
        # The image itself is no companion, and of several versions the one named most alike is taken.
        found = [h for h in found if h.path != image.path]
        return max(found, key=lambda h: _alike(h.path.name, image.path.name), default=None)


def flight_name(path: Path) -> str:
    """Name of the flight line that a file belongs to; "" for other files."""
    match = _FLIGHT.match(path.name)
    return match[0] if match else ""


def kind_of(path: Path) -> str:
    """What a file of a flight line holds, by its name; "" where it does not say."""
    rest = path.name[len(flight_name(path)) :].lower()
    words = set(re.split(r"[^a-z0-9]+", rest))
    return next((kind for word, kind in _KINDS.items() if word in words), "")


def read_flight(path: Path) -> Flight:
    """The flight line of a file (or of a folder that holds one).

    Raises
    ------
    MissingMetadata
        The folder holds several.
    ProductNotFound
        The folder holds none.
    """
    folder = path if path.is_dir() else path.parent
    name = flight_name(path) if not path.is_dir() else _only_flight(path)
    headers: dict[str, list[Path]] = {}
    # Reflectance is handed out in a folder of its own, beside that of the geometry.
    beside = [p for p in _entries(folder.parent) if p.is_dir() and p != folder and flight_name(p) == name]
    for place in [folder, *sorted(beside)]:
        for entry in sorted(_entries(place)):
            if entry.suffix.lower() == ".hdr" and flight_name(entry) == name and looks_like_header(entry):
                headers.setdefault(kind_of(entry), []).append(entry)
    match = _FLIGHT.match(name)
    assert match is not None
    if match["classic"]:
        sensor, when, form = "AVIRIS-Classic", match["classic"], "%y%m%d"
    elif match["ng"]:
        sensor, when, form = "AVIRIS-NG", match["ng"], "%Y%m%dt%H%M%S"
    else:
        sensor, when, form = f"AVIRIS-{match['version']}", match["later"], "%Y%m%dt%H%M%S"
    try:
        time = datetime.strptime(when, form)
    except ValueError:
        acquired = ""
    else:
        acquired = time.strftime("%Y-%m-%d" if match["classic"] else "%Y-%m-%dT%H:%M:%SZ")
    return Flight(name, sensor, acquired, headers)


def image_of(path: Path, flight: Flight) -> Path:
    """The file to open: `path` itself, or the image of a folder (reflectance before radiance).

    Raises
    ------
    ProductNotFound, MissingMetadata
    """
    if not path.is_dir():
        if path.suffix.lower() == ".hdr" or find_header(path) is not None:
            return path
        raise BrokenProduct(f"{path.name} has no header: expected {path.name}.hdr or {path.stem}.hdr beside it")
    for kind in IMAGES:
        here = [p for p in flight.headers.get(kind, []) if p.parent == path]
        if len(here) > 1:
            raise MissingMetadata(
                f"{path.name} has several images, open one of them: {', '.join(p.name for p in here)}"
            )
        if here:
            return here[0]
    raise ProductNotFound(
        f"{path.name} has no image of {flight.name}: expected a header named *_rfl*, *_corr* or *_rdn*"
    )


def has_image(path: Path) -> bool:
    """Whether a folder holds images of flight lines."""
    return any(p.suffix.lower() == ".hdr" and flight_name(p) and kind_of(p) in IMAGES for p in _entries(path))


def gain_file(image: Path, flight: Flight) -> Path | None:
    """The ``.gain`` file of a radiance image of AVIRIS-Classic: the one named most alike."""
    found = [
        p for p in _entries(image.parent)
        if p.is_file() and flight_name(p) == flight.name and p.name.lower().endswith(("gain", ".gain.txt"))
    ]  # fmt: skip
    return max(found, key=lambda p: _alike(p.name, image.name), default=None)


def _alike(a: str, b: str) -> int:
    """Characters with which both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _only_flight(folder: Path) -> str:
    names = sorted({flight_name(p) for p in _entries(folder) if p.suffix.lower() == ".hdr" and flight_name(p)})
    if not names:
        raise ProductNotFound(f"{folder.name} holds no file of an AVIRIS flight line (ang..., f..., AV3...)")
    if len(names) > 1:
        raise MissingMetadata(f"{folder.name} holds several flight lines, open a file: {', '.join(names[:6])}")
    return names[0]


def _entries(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            for count, entry in enumerate(found):
                if count >= _MOST_FILES:
                    return
                yield folder / entry.name
    except OSError:
        return
