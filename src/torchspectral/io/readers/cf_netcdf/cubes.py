"""Which variables of a netCDF-4 or HDF5 file are cubes, which of their axes counts bands, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchspectral.errors import BadCube, BadSettings, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.hdf5 import text_attribute
from torchspectral.io.readers.netcdf import BAND_DIMS, X_DIMS, Y_DIMS, NetcdfFile

WAVES = (
    "wavelength", "wavelengths", "central_wavelength", "center_wavelength", "radiation_wavelength", "wavelength_3d", "wl",
    "Wavelength", "Wavelengths", "band_wavelength", "lambda",
)  # fmt: skip
# A variable for one band: what it holds, then its wavelength [nm], as rhos_443 or Rrs_412.5.
ONE_BAND = re.compile(r"^(?P<stem>[A-Za-z][A-Za-z0-9_]*?[A-Za-z])_?(?P<wave>\d{3,5}(?:\.\d+)?)(?:_?nm)?$")
_PREFERRED = ("reflectance", "surface_reflectance", "rrs", "rhos", "rhow", "rhot", "radiance", "dn")
_UNCERTAIN = re.compile(r"(?i)(unc|uncert|uncertainty|std|stdev|error|err)(_|$)")


_NO_BANDS = ("time", "t", "date", "epoch")


@dataclass(frozen=True)
class Candidate:
    """A cube of the file.

    Attributes
    ----------
    key : str
        As the option ``key`` names it.
    places : tuple of str
        One variable, or one a band.
    axes : tuple of int
        Which axis is band (-1 for one variable a band), y, x.
    """

    key: str
    places: tuple[str, ...]
    axes: tuple[int, int, int]

    @property
    def first(self) -> str:
        """The variable that speaks for the others."""
        return self.places[0]


def candidates(file: NetcdfFile) -> list[Candidate]:
    """Cubes of a file whose axes are known, in the order of the file."""
    found = []
    for place, item in file.variables.items():
        axes = _axes(file, place)
        if axes is not None and min(item.shape) > 0:
            found.append(Candidate(place, (place,), axes))
    return found + _stacks(file)


def choose(file: NetcdfFile, key: Any, band_axis: int | None) -> Candidate:
    """The cube that `key` names, or the only one.

    Raises
    ------
    UnknownName, MissingMetadata, BadCube
    """
    name = file.path.name
    known = {c.key: c for c in candidates(file)}
    loose = undecided(file)
    if key is not None:
        wanted = str(key).strip("/")
        fits = [k for k in (*known, *loose) if k == wanted or k.rsplit("/", 1)[-1] == wanted]
        exact = [k for k in fits if k == wanted] or fits
        if len(exact) > 1:
            raise MissingMetadata(f"{name} has several variables {wanted!r}: give key= (one of {', '.join(exact)})")
        if not exact:
            return _image(file, wanted, [*known, *loose])
        if exact[0] in loose or band_axis is not None:
            return _told(file, exact[0], band_axis)
        return known[exact[0]]
    if not known and len(loose) == 1:
        return _told(file, loose[0], band_axis)
    if not known:
        if loose:
            raise MissingMetadata(f"{name} has several cubes: give key= (one of {_some(loose)}) and band_axis=")
        listed = _some([f"{k} {tuple(v.shape)}" for k, v in file.variables.items()])
        raise BadCube(f"{name} has no 3-D variable of numbers: it has {listed or 'no numeric variables'}")
    plain_ones = [c for c in known.values() if not _UNCERTAIN.search(c.key.rsplit("/", 1)[-1])] or list(known.values())
    if len(plain_ones) > 1:
        for wanted in _PREFERRED:
            same = [c for c in plain_ones if c.key.rsplit("/", 1)[-1].lower() == wanted]
            if len(same) == 1:
                plain_ones = same
                break
    if len(plain_ones) > 1:
        waved = [c for c in plain_ones if c.axes[0] >= 0 and wave_place(file, c)]
        plain_ones = waved if len(waved) == 1 else plain_ones
    if len(plain_ones) > 1:
        raise MissingMetadata(f"{name} has several cubes: give key= (one of {_some([c.key for c in plain_ones])})")
    only = plain_ones[0]
    return only if band_axis is None or len(only.places) > 1 else _told(file, only.first, band_axis)


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def axis_option(options: Mapping[str, Any]) -> int | None:
    """The option ``band_axis``, checked.

    Raises
    ------
    BadSettings
    """
    axis = options.get("band_axis")
    if axis is not None and (isinstance(axis, bool) or axis not in (0, 1, 2)):
        raise BadSettings(f"got band_axis={axis!r}, expected 0, 1 or 2")
    return None if axis is None else int(axis)


def _image(file: NetcdfFile, key: str, known: Sequence[str]) -> Candidate:
    """A 2-D variable as a cube of one band.

    Raises
    ------
    UnknownName
    """
    fits = [p for p, v in file.variables.items() if p == key or p.rsplit("/", 1)[-1] == key]
    if len(fits) == 1 and file.file[fits[0]].ndim == 2:
        return Candidate(fits[0], (fits[0],), (-1, *pair_of(file.dims(fits[0]))))
    raise UnknownName(f"{file.path.name} has no cube {key!r}: {closest(key, list(known))}")


def _told(file: NetcdfFile, place: str, band_axis: int | None) -> Candidate:
    """A variable whose band axis the user names.

    Raises
    ------
    MissingMetadata
    """
    item = file.file[place]
    axes = [axis for axis in range(item.ndim) if item.shape[axis] != 1 or item.ndim == 3]
    if band_axis is None:
        raise MissingMetadata(
            f"{file.path.name}: nothing tells which axis of {place} {tuple(item.shape)} counts bands: give band_axis= "
            "(0, 1 or 2)"
        )
    others = [axis for axis in axes if axis != axes[band_axis]]
    names = file.dims(place)
    first, second = pair_of([names[axis] for axis in others])
    return Candidate(place, (place,), (axes[band_axis], others[first], others[second]))


def _three(item: Any) -> list[int] | None:
    """The three axes of a cube, leading axes of length 1 (time) left out; None for all else."""
    if item.ndim < 3 or item.dtype.kind not in "iuf":
        return None
    axes = list(range(item.ndim))
    while len(axes) > 3 and item.shape[axes[0]] == 1:
        axes.pop(0)
    return axes if len(axes) == 3 else None


def _axes(file: NetcdfFile, place: str) -> tuple[int, int, int] | None:
    """Which axis of a variable is band, y, x, by names of dimensions, else by a vector of wavelengths of its length."""
    item = file.file[place]
    axes = _three(item)
    if axes is None or "bounds" in place.rsplit("/", 1)[-1].lower():
        return None
    names = file.dims(place)
    band = next((axis for axis in axes if names[axis].lower() in BAND_DIMS), None)
    if band is None:
        band = next((axis for axis in axes if names[axis] and is_spectral(file, place, names[axis])), None)
    if band is None:
        rest = [axis for axis in axes if names[axis].lower() not in (*Y_DIMS, *X_DIMS, *_NO_BANDS)]
        band = rest[0] if len(rest) == 1 and all(names[axis] for axis in axes) else None
    if band is None:
        wave = file.near(place, WAVES) or _elsewhere(file)
        count = file.file[wave].size if wave else 0
        fits = [axis for axis in axes if item.shape[axis] == count]
        band = fits[0] if len(fits) == 1 else None
    if band is None:
        return None
    others = [axis for axis in axes if axis != band]
    first, second = pair_of([names[axis] for axis in others])
    return band, others[first], others[second]


def undecided(file: NetcdfFile) -> list[str]:
    """3-D variables none of whose axes is known to count bands."""
    return [
        p for p, v in file.variables.items() if _three(v) is not None and _axes(file, p) is None and min(v.shape) > 1
    ]


def is_spectral(file: NetcdfFile, place: str, dim: str) -> bool:
    """Whether the coordinate of a dimension calls itself a wavelength."""
    name = file.near(place, [dim])
    return bool(name) and text_attribute(file.file[name], "standard_name") == "radiation_wavelength"


def _elsewhere(file: NetcdfFile) -> str:
    """The only vector of wavelengths of the whole file."""
    found = [p for p, v in file.variables.items() if v.ndim == 1 and p.rsplit("/", 1)[-1] in WAVES]
    return found[0] if len(found) == 1 else ""


def pair_of(names: Sequence[str]) -> tuple[int, int]:
    """Which of two dimensions is y, which x; rows first where the names do not tell."""
    low = [name.lower() for name in names]
    return (1, 0) if low[0] in X_DIMS or low[1] in Y_DIMS else (0, 1)


def _stacks(file: NetcdfFile) -> list[Candidate]:
    """Sets of 2-D variables of one shape that are named by their wavelengths, sorted by these."""
    groups: dict[tuple[str, str, tuple[int, ...], str], list[tuple[float, str]]] = {}
    for place, item in file.variables.items():
        folder, _, last = place.rpartition("/")
        name = ONE_BAND.match(last)
        if item.ndim == 2 and name and 200 <= float(name["wave"]) <= 20000:
            where = (folder, name["stem"], tuple(item.shape), str(item.dtype))
            groups.setdefault(where, []).append((float(name["wave"]), place))
    found = []
    for (folder, stem, _, _), members in groups.items():
        if len(members) > 1:
            places = tuple(place for _, place in sorted(members))
            key = f"{folder}/{stem}".lstrip("/")
            found.append(Candidate(key, places, (-1, *pair_of(file.dims(places[0])))))
    return found


def wave_place(file: NetcdfFile, chosen: Candidate) -> str:
    """The vector with the centres of a cube's bands; "" where there is none."""
    item = file.file[chosen.first]
    count = int(item.shape[chosen.axes[0]])
    dim = file.dims(chosen.first)[chosen.axes[0]]
    places = [file.near(chosen.first, [name]) for name in (*WAVES, dim) if name]
    places += [p for p, v in file.variables.items() if v.ndim == 1 and p.rsplit("/", 1)[-1] in WAVES]
    for place in places:
        if place in file.variables and file.file[place].shape == (count,):
            spectral = place.rsplit("/", 1)[-1] in WAVES or is_spectral(file, chosen.first, dim)
            if spectral or file.file[place].dtype.kind == "f":
                return place
    return ""
