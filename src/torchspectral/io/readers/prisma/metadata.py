"""Root attributes of PRISMA products: bands, scales, corners."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from torchspectral.errors import BandMismatch, BrokenProduct, GridMismatch, MissingMetadata
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.readers.handles import Handle
from torchspectral.io.safety import check_scene, open_hdf5

LEVELS = ("L2D", "L2C", "L2B", "L1")
ANCHORS = ("auto", "center", "edge")
PIXEL, PAN_RATIO = 30.0, 6
# Bands of the hyperspectral pansharpening toolbox, counted from 0 in [VNIR ascending | SWIR ascending].
TOOLBOX159 = np.concatenate(
    [np.arange(7, 63), np.arange(71, 86), np.arange(89, 107), np.arange(120, 150), np.arange(176, 216)]
)
_COUNTS = (66, 173)


def open_prisma(path: str) -> Any:
    """Checked h5py file."""
    return open_hdf5(path)


def level_of(file: Any) -> str:
    """Processing level by the swath groups; "" where the file is no PRISMA product."""
    swaths = file.get("HDFEOS/SWATHS")
    if swaths is None or not hasattr(swaths, "keys"):
        return ""
    names = [str(name) for name in swaths]
    return next((level for level in LEVELS if any(n.startswith(f"PRS_{level}_") for n in names)), "")


def attribute(file: Any, name: str) -> Any:
    """One root attribute as a plain text, number or array; None where it is absent."""
    if name not in file.attrs:
        return None
    value = file.attrs[name]
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    return value


def number(file: Any, name: str) -> float:
    """One root attribute as a number; NaN where it is absent or none."""
    value = attribute(file, name)
    try:
        return float(value) if value is not None else math.nan
    except (TypeError, ValueError):
        return math.nan


@dataclass
class PrismaBands:
    """Bands of both cubes as stored: VNIR, then SWIR.

    Attributes
    ----------
    wavelength, fwhm : ndarray, shape (band,)
        [nm]; 0 where the product does not use a band.
    used : ndarray of bool
    detector : list of str
    where : ndarray of int, shape (band, 2)
        Cube (0 VNIR, 1 SWIR) and 0-based band in it.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    used: np.ndarray
    detector: list[str]
    where: np.ndarray

    def toolbox(self) -> np.ndarray:
        """Indices of the toolbox's 159 bands.

        Raises
        ------
        BandMismatch
            The product has not 66 and 173 bands.
        """
        counts = tuple(int(np.sum(self.where[:, 0] == cube)) for cube in (0, 1))
        if counts != _COUNTS:
            raise BandMismatch(
                f"preset toolbox159 counts in 66 + 173 bands, this product has {counts[0]} + {counts[1]}"
            )
        stored_backwards = np.concatenate([np.arange(65, -1, -1), np.arange(66 + 172, 65, -1)])
        return stored_backwards[TOOLBOX159]


class PrismaProduct:
    """An open product: where its arrays lie and what its attributes say.

    Parameters
    ----------
    registered : bool
        Whether to take the swaths whose detectors are co-registered (HCO, PCO), or those that are not (HRC, PRC).

    Raises
    ------
    BrokenProduct
        No PRISMA product, or a cube is missing or of the wrong shape.
    """

    def __init__(self, path: Path, registered: bool = True) -> None:
        self.path = path
        self.handle = Handle(open_prisma, path)
        self.file = self.handle.get()
        self.level = level_of(self.file)
        if not self.level:
            raise BrokenProduct(
                f"{path.name} has no group HDFEOS/SWATHS/PRS_*, expected a PRISMA L1, L2B, L2C or L2D file"
            )
        kind = "CO" if registered else "RC"
        self.swath, self.pan_swath = (f"HDFEOS/SWATHS/PRS_{self.level}_{first}{kind}" for first in "HP")
        self.cubes = tuple(f"{self.swath}/Data Fields/{name}_Cube" for name in ("VNIR", "SWIR"))

    def shape(self, place: str) -> tuple[int, ...]:
        """Shape of a dataset; () where it is absent."""
        found = self.file.get(place)
        return tuple(int(n) for n in getattr(found, "shape", ()))

    def has(self, place: str) -> bool:
        """Whether a dataset is there."""
        return len(self.shape(place)) > 0

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the cubes."""
        self.check()
        rows, _, cols = self.shape(self.cubes[0])
        return rows, cols

    def check(self) -> None:
        """See that both cubes are there and fit together.

        Raises
        ------
        BrokenProduct, TooLarge
        """
        shapes = [self.shape(place) for place in self.cubes]
        for place, shape in zip(self.cubes, shapes, strict=True):
            if len(shape) != 3:
                found = ", ".join(sorted(self.file["HDFEOS/SWATHS"]))
                raise BrokenProduct(
                    f"{self.path.name} has no 3-D {place}, expected (y, band, x); its swaths are {found}"
                )
            check_scene(shape, self.file[place].dtype, self.path)
            if self.file[place].dtype.kind not in "iu":
                raise BrokenProduct(f"{place} has type {self.file[place].dtype}, expected unsigned 16-bit integers")
        if shapes[0][::2] != shapes[1][::2] or self.file[self.cubes[0]].dtype != self.file[self.cubes[1]].dtype:
            raise BrokenProduct(f"VNIR has shape {shapes[0]} and SWIR {shapes[1]}, expected equal rows and columns")

    def bands(self) -> PrismaBands:
        """Centres, widths and places of all stored bands.

        Raises
        ------
        MissingMetadata, BandMismatch
        """
        wave, width, used, detector, where = [], [], [], [], []
        for cube, name in enumerate(("Vnir", "Swir")):
            count = self.shape(self.cubes[cube])[1]
            centres = attribute(self.file, f"List_Cw_{name}")
            if centres is None:
                raise MissingMetadata(
                    f"{self.path.name} has no root attribute List_Cw_{name}, which holds the centres of its bands"
                )
            centres = np.asarray(centres, dtype=np.float64).reshape(-1)
            if centres.size != count:
                raise BandMismatch(
                    f"List_Cw_{name} has {centres.size} centres, the cube {count} bands: they must agree"
                )
            widths = np.asarray(attribute(self.file, f"List_Fwhm_{name}"), dtype=np.float64).reshape(-1)
            flags = attribute(self.file, f"List_Cw_{name}_Flags")
            flag = np.asarray(1 if flags is None else flags).reshape(-1)
            wave.append(centres)
            width.append(widths if widths.size == count else np.full(count, np.nan))
            used.append((centres > 0) & ((flag != 0) if flag.size == count else True))
            detector += [name.lower()] * count
            where.append(np.column_stack([np.full(count, cube), np.arange(count)]))
        return PrismaBands(
            np.concatenate(wave), np.concatenate(width), np.concatenate(used), detector, np.concatenate(where)
        )

    def scaling(self, names: list[str]) -> dict[str, tuple[float, float]]:
        """Scale and offset of "Vnir", "Swir" or "Pan": value = DN * scale + offset.

        L1: DN / ScaleFactor - Offset. L2: Min + DN (Max - Min) / 65535.

        Raises
        ------
        MissingMetadata
        """
        found = {}
        for name in names:
            if self.level == "L1":
                factor, offset = number(self.file, f"ScaleFactor_{name}"), number(self.file, f"Offset_{name}")
                if not (math.isfinite(factor) and factor != 0):
                    raise MissingMetadata(
                        f"{self.path.name} has no usable root attribute ScaleFactor_{name}: use raw=True"
                    )
                found[name] = (1.0 / factor, -(offset if math.isfinite(offset) else 0.0))
                continue
            low, high = (number(self.file, f"L2Scale{name}{end}") for end in ("Min", "Max"))
            if not (math.isfinite(low) and math.isfinite(high) and high > low):
                raise MissingMetadata(
                    f"{self.path.name} has no usable root attributes L2Scale{name}Min and -Max: use raw=True"
                )
            found[name] = ((high - low) / 65535.0, low)
        return found

    def ground(self, anchor: str) -> tuple[Affine | None, Any, list[str]]:
        """Transform and CRS of an L2D product from its corner attributes, and lines for the history.

        Raises
        ------
        GridMismatch
            The corners fit neither pixel centres nor outer edges.
        """
        rows, cols = self.grid_shape
        corner = {
            (c, axis): number(self.file, f"Product_{c}corner_{axis}")
            for c in ("UL", "UR", "LL", "LR")
            for axis in ("easting", "northing")
        }
        west, north = corner["UL", "easting"], corner["UL", "northing"]
        east = corner["LR", "easting"] if math.isfinite(corner["LR", "easting"]) else corner["UR", "easting"]
        south = corner["LR", "northing"] if math.isfinite(corner["LR", "northing"]) else corner["LL", "northing"]
        if not all(math.isfinite(v) for v in (west, north, east, south)):
            return None, None, ["no corner attributes: the pixels are placed nowhere"]
        found, steps = _anchor(anchor, (east - west) / PIXEL, (north - south) / PIXEL, cols, rows, self.path.name)
        size_x, size_y = (east - west) / (cols - steps), (north - south) / (rows - steps)
        half_x, half_y = (size_x / 2, size_y / 2) if found == "center" else (0.0, 0.0)
        transform = Affine(size_x, 0.0, west - half_x, 0.0, -size_y, north + half_y)
        note = f"corner attributes taken as {'pixel centres' if found == 'center' else 'outer edges'} ({anchor})"
        crs = self._crs()
        return transform, crs, [note] if crs else [note, "no Epsg_Code: the scene has coordinates but no CRS"]

    def _crs(self) -> Any:
        code = number(self.file, "Epsg_Code")
        return int(code) if math.isfinite(code) and code > 0 else None

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        found: dict[str, Any] = {
            "sensor": "PRISMA",
            "platform": "PRISMA",
            "level": self.level,
            "product": self.path.stem,
            "source": [str(self.path)],
        }
        time = iso_time(attribute(self.file, "Product_StartTime"))
        if time:
            found["acquired"] = time
        for key, name in (("sun_zenith", "Sun_zenith_angle"), ("sun_azimuth", "Sun_azimuth_angle")):
            value = number(self.file, name)
            if math.isfinite(value):
                found[key] = value
        version = attribute(self.file, "Processor_Version")
        if isinstance(version, str) and version:
            found["revision"] = version
        return found


def _anchor(anchor: str, across: float, down: float, cols: int, rows: int, name: str) -> tuple[str, int]:
    """What the corners mean, and how many steps fewer than pixels lie between them (1 for centres)."""
    if cols < 2 or rows < 2:
        raise GridMismatch(f"{name} has {rows} x {cols} pixels, too few to place them by corners")
    fits = {
        "center": abs(across + 1 - cols) < 0.25 and abs(down + 1 - rows) < 0.25,
        "edge": abs(across - cols) < 0.25 and abs(down - rows) < 0.25,
    }
    if anchor == "auto":
        chosen = next((kind for kind, fit in fits.items() if fit), "")
        if not chosen:
            raise GridMismatch(
                f"the corners of {name} lie {across:g} x {down:g} pixels apart, expected "
                f"{cols - 1} x {rows - 1} (pixel centres) or {cols} x {rows} (edges): "
                "give pixel_anchor='center' or 'edge'"
            )
    else:
        chosen = anchor
    return chosen, 1 if chosen == "center" else 0
