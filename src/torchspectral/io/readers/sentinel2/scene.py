"""What a Sentinel-2 scene is, wherever it comes from: its rasters, what their numbers mean, its facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine

from torchspectral.errors import BadSettings, BrokenProduct, MissingMetadata, TorchspectralError
from torchspectral.io.readers.base import StoredArray
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.stacks import StackArray, check_alike

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""In the order of the mission's band numbers (``bandId`` 0..12)."""
NATIVE: dict[int, tuple[str, ...]] = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
    60: ("B01", "B09", "B10"),
}
"""Bands by the pixel size [m] at which they are sensed."""
NODATA, SATURATED = 0, 65535


@dataclass(frozen=True)
class Raster:
    """One image file."""

    handle: Handle
    source: str


@dataclass(frozen=True)
class Angles:
    """A coarse grid of an angle [deg]; values at its nodes."""

    values: np.ndarray
    transform: Affine
    crs: Any


@dataclass
class Scene:
    """One scene.

    Attributes
    ----------
    name, level, platform : str
        Level is "L1C" or "L2A".
    images : dict of dict of Raster
        By band (or SCL, AOT, WVP, ...), then by pixel size [m].
    scale, offset : dict of float
        reflectance = DN * scale + offset, by band.
    centres : dict of (float, float)
        Wavelength and width [nm] that the product states, by band; NaN where it does not.
    angles : dict of Angles
    ground : dict
        Transform and CRS by pixel size, where the files themselves do not say.
    attrs : dict
    source : list of str
    notes : list of str
    """

    name: str
    level: str
    platform: str
    images: dict[str, dict[int, Raster]]
    scale: dict[str, float]
    offset: dict[str, float]
    centres: dict[str, tuple[float, float]] = field(default_factory=dict)
    angles: dict[str, Angles] = field(default_factory=dict)
    ground: dict[int, tuple[Affine, Any]] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    source: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def native(self, resolution: int) -> list[str]:
        """Bands that are sensed at a pixel size and are there at it."""
        return [b for b in NATIVE[resolution] if resolution in self.images.get(b, {})]

    def wavelengths(self, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray, str]:
        """Centres and widths [nm] of bands, and a line for the history: the product's, else the sensor's."""
        from torchspectral.sensors import get

        stated = [self.centres.get(b, (np.nan, np.nan)) for b in bands]
        wave, width = np.array([s[0] for s in stated]), np.array([s[1] for s in stated])
        try:
            sensor = get(self.platform)
        except TorchspectralError:
            sensor = None
        if sensor is None:
            known = np.isfinite(wave).all()
            return wave, width, "wavelengths as the product states them" if known else "no wavelengths are known"
        at = [BANDS.index(b) for b in bands]
        if np.isfinite(wave).all():
            return wave, np.where(np.isfinite(width), width, sensor.fwhm[at]), "wavelengths as the product states them"
        return sensor.wavelength[at], sensor.fwhm[at], f"wavelengths: catalogue of sensors, {sensor.name}"

    def array(self, bands: Sequence[str], resolution: int) -> SentinelArray:
        """Bands at a pixel size, lazy.

        Raises
        ------
        BrokenProduct, MissingMetadata
            They differ in size or place, or what their numbers mean is not known.
        """
        rasters = [self.images[b][resolution] for b in bands]
        handles = [r.handle for r in rasters]
        check_alike(handles, [r.source for r in rasters])
        if handles[0].get().dtypes[0] != "uint16":
            raise BrokenProduct(
                f"{rasters[0].source} holds {handles[0].get().dtypes[0]}, expected uint16 as all Sentinel-2 bands"
            )
        missing = [b for b in bands if b not in self.scale]
        if missing:
            raise MissingMetadata(f"{self.name} does not say what the numbers of {missing[0]} mean: give boa_offset=")
        return SentinelArray(
            handles,
            np.column_stack([np.arange(len(bands)), np.ones(len(bands), int)]),
            source=rasters[0].source,
            scale=np.array([self.scale[b] for b in bands]),
            offset=np.array([self.offset[b] for b in bands]),
            nodata=NODATA,
        )

    def place(self, resolution: int, dataset: Any) -> tuple[Affine | None, Any]:
        """Transform and CRS of an image, by itself or else by the tile's metadata."""
        if not (dataset.transform.is_identity and dataset.crs is None):
            return dataset.transform, dataset.crs
        return self.ground.get(resolution, (None, None))


class SentinelArray(StackArray):
    """Bands in files of their own; saturated numbers have no value and become NaN."""

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window; for values 65535 counts as nodata."""
        block = super().read(bands, rows, cols)
        if self.decode:
            block[block == SATURATED] = NODATA
        return block


class AnyArray(StoredArray):
    """True where any of some arrays of bool is; shape (1, y, x)."""

    def __init__(self, arrays: Sequence[StoredArray]) -> None:
        self.arrays = list(arrays)
        first = self.arrays[0]
        super().__init__(first.shape, np.bool_, source=first.source, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Whether any flag is set."""
        out = np.zeros((1, rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for array in self.arrays:
            out |= array.read(slice(0, 1), rows, cols)
        return out


def check_resolution(value: Any) -> int:
    """The option ``resolution``.

    Raises
    ------
    BadSettings
    """
    if isinstance(value, bool) or value not in NATIVE:
        raise BadSettings(
            f"got resolution={value!r}, expected 10, 20 or 60 (metres, the pixel size bands are sensed at)"
        )
    return int(value)


def settled_offset(value: Any) -> float | None:
    """The option ``boa_offset``: DN added before the division, or None.

    Raises
    ------
    BadSettings
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise BadSettings(f"got boa_offset={value!r}, expected a number that is added to DN, such as -1000 or 0")
    return float(value)
