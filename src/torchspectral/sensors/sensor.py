"""What is known about one sensor, and how its YAML file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from torchspectral.errors import BadSettings, ProductNotFound

RESPONSES = ("gaussian", "flat_top", "table")
FLAT_TOP_ORDER = 6.0


@dataclass(frozen=True)
class Source:
    """Where a number comes from: the field it is about, how far to trust it, and the origin in words."""

    of: str
    confidence: str
    text: str


@dataclass(frozen=True)
class Pan:
    """Panchromatic band.

    Attributes
    ----------
    name : str
    range : tuple of float
        Band edges [nm].
    mtf : float
        Amplitude at the Nyquist frequency of the multispectral grid, 0..1, as pansharpening protocols use it.
    ratio : int
        Panchromatic pixels per multispectral pixel on each side.
    gsd : float or None
        Pixel size [m].
    """

    name: str
    range: tuple[float, float]
    mtf: float
    ratio: int
    gsd: float | None = None


@dataclass(frozen=True, eq=False)
class Sensor:
    """One imaging instrument.

    Attributes
    ----------
    name, title, platform : str
    aliases : tuple of str
        Other spellings that `get` and ``attrs["sensor"]`` may use.
    wavelength, fwhm : ndarray, shape (bands,)
        Centres and widths [nm], in the product's band order (not always ascending).
    names : tuple of str
        Band names ("B8A"); "1".. where the sensor has none.
    detector : tuple of str
        Detector of each band, "" where there is one only.
    shape : {"gaussian", "flat_top", "table"}
        Form of the response where `response` has no measured table to use.
    srf : tuple of (ndarray, ndarray) or None
        Measured response of each band: wavelengths [nm] and relative values.
    mtf : ndarray, shape (bands,)
        Amplitude at Nyquist of each band, 0..1.
    gsd : ndarray, shape (bands,)
        Ground sampling distance [m].
    pan : Pan or None
    bad_ranges : tuple of (float, float)
        Wavelengths [nm] that see no surface (water vapour, cirrus).
    rgb : tuple of float
        Wavelengths of a natural-colour picture [nm]; empty where the sensor sees no visible light.
    quantities : dict of str to str
        Quantity of the values by processing level (a hint for readers).
    drift : float
        How far band centres may differ from these for the sensor still to be recognised [nm].
    nominal : bool
        Whether centres and widths follow a rule or rounded edges and are not calibrated values.
    sources : tuple of Source
    """

    name: str
    title: str
    platform: str
    aliases: tuple[str, ...]
    wavelength: np.ndarray
    fwhm: np.ndarray
    names: tuple[str, ...]
    detector: tuple[str, ...]
    shape: str
    mtf: np.ndarray
    gsd: np.ndarray
    rgb: tuple[float, ...]
    bad_ranges: tuple[tuple[float, float], ...] = ()
    srf: tuple[tuple[np.ndarray, np.ndarray], ...] | None = None
    pan: Pan | None = None
    quantities: Mapping[str, str] = field(default_factory=dict)
    drift: float = 5.0
    nominal: bool = False
    sources: tuple[Source, ...] = ()

    @property
    def bands(self) -> int:
        """Number of bands."""
        return int(self.wavelength.size)

    @property
    def good(self) -> np.ndarray:
        """False for bands whose centre lies in a bad range, shape (bands,)."""
        keep = np.ones(self.bands, dtype=bool)
        for low, high in self.bad_ranges:
            keep &= ~((self.wavelength >= low) & (self.wavelength <= high))
        return keep

    def response(self, grid: np.ndarray) -> np.ndarray:
        """Relative spectral response of each band, peak about 1.

        Parameters
        ----------
        grid : ndarray, shape (n,)
            Wavelengths [nm].

        Returns
        -------
        ndarray, shape (bands, n)
            Measured tables where the sensor has them, else Gaussians or flat-topped curves of the bands' FWHM.
        """
        return np.stack([self.response_of(band, grid) for band in range(self.bands)])

    def response_of(self, band: int, grid: np.ndarray) -> np.ndarray:
        """Response of one band (0-based) at wavelengths `grid` [nm], shape of `grid`."""
        grid = np.asarray(grid, dtype=np.float64)
        if self.srf is not None:
            return np.interp(grid, *self.srf[band], left=0.0, right=0.0)
        offset = np.abs(grid - self.wavelength[band]) / (self.fwhm[band] / 2)
        return np.exp2(-(offset ** (FLAT_TOP_ORDER if self.shape == "flat_top" else 2.0)))

    def support_of(self, band: int) -> tuple[float, float]:
        """Wavelengths [nm] outside which the response of one band (0-based) is below 1e-4 of its peak."""
        if self.srf is not None:
            x, y = self.srf[band]
            inside = np.flatnonzero(y > 1e-4 * y.max())
            return float(x[max(inside[0] - 1, 0)]), float(x[min(inside[-1] + 1, x.size - 1)])
        reach = float(self.fwhm[band]) * (0.8 if self.shape == "flat_top" else 2.0)
        return float(self.wavelength[band]) - reach, float(self.wavelength[band]) + reach

    def __repr__(self) -> str:
        low, high = self.wavelength.min(), self.wavelength.max()
        pan = f", PAN 1:{self.pan.ratio}" if self.pan else ""
        return f"<Sensor {self.name}: {self.bands} bands, {low:.0f}-{high:.0f} nm{pan}>"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Segment(_Strict):
    detector: str = ""
    first: float = Field(gt=0)
    last: float = Field(gt=0)
    count: int = Field(ge=1, le=10_000)
    fwhm: float = Field(gt=0)


class _Curve(_Strict):
    first: float = Field(gt=0)
    step: float = Field(gt=0)
    values: list[float] = Field(min_length=2)


class _Bands(_Strict):
    nominal: bool = False
    wavelength: list[float] = []
    fwhm: list[float] = []
    segments: list[_Segment] = []
    ranges: list[tuple[float, float]] = []
    names: list[str] = []
    detector: dict[str, int] = {}

    @model_validator(mode="after")
    def _one_rule(self) -> _Bands:
        if sum(bool(rule) for rule in (self.wavelength, self.segments, self.ranges)) != 1:
            raise ValueError("give exactly one of wavelength, segments, ranges")
        if len(self.fwhm) != len(self.wavelength):
            raise ValueError(f"{len(self.wavelength)} wavelengths but {len(self.fwhm)} FWHM")
        if (self.segments or self.ranges) and not self.nominal:
            raise ValueError("bands made by a rule must say nominal: true")
        return self


class _Pan(_Strict):
    name: str = "PAN"
    range: tuple[float, float]
    mtf: float = Field(gt=0, lt=1)
    ratio: int = Field(ge=1)
    gsd: float | None = Field(default=None, gt=0)


class _SourceRow(_Strict):
    of: str
    confidence: Literal["high", "medium", "low"]
    text: str = Field(min_length=1)


class _File(_Strict):
    name: str = Field(min_length=1)
    title: str = ""
    aliases: list[str] = []
    platform: str = ""
    quantities: dict[str, Literal["reflectance", "radiance", "dn"]] = {}
    gsd: float | list[float]
    bands: _Bands
    response: Literal["gaussian", "flat_top", "table"] = "gaussian"
    srf: list[_Curve] = []
    drift: float = Field(default=5.0, gt=0)
    mtf: float | list[float] = 0.3
    pan: _Pan | None = None
    bad_ranges: list[tuple[float, float]] = []
    rgb: list[float] = []
    sources: list[_SourceRow] = []


def from_yaml(path: str | Path) -> Sensor:
    """Read a sensor from its YAML file.

    Raises
    ------
    ProductNotFound
        No such file.
    BadSettings
        Not YAML, or a field is missing, unknown or out of range; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ProductNotFound(f"sensor file {path} does not exist: give the path of a YAML file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise BadSettings(f"sensor file {path} is not YAML: expected the fields of docs 'add a sensor'") from None
    return from_mapping(values, where=str(path))


def from_mapping(values: Any, *, where: str = "sensor") -> Sensor:
    """Build a sensor from the mapping that its YAML file holds.

    Raises
    ------
    BadSettings
        A field is missing, unknown or out of range; the message names it.
    """
    if not isinstance(values, Mapping):
        raise BadSettings(f"{where}: got {type(values).__name__}, expected a mapping with name, gsd and bands")
    try:
        given = _File.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "sensor"
        raise BadSettings(f"{where}: {place}: {first['msg']}") from None
    wavelength, fwhm, detector = _expand(given.bands)
    n = wavelength.size
    if not np.isfinite(wavelength).all() or wavelength.min() < 100 or not (fwhm > 0).all():
        raise BadSettings(f"{where}: bands: expected wavelengths above 100 nm and positive FWHM")
    if given.response == "table" and len(given.srf) != n:
        raise BadSettings(f"{where}: srf: got {len(given.srf)} curves for {n} bands, expected one a band")
    if given.bands.names and len(given.bands.names) != n:
        raise BadSettings(f"{where}: bands.names: got {len(given.bands.names)} names for {n} bands")
    mtf = _per_band(given.mtf, n, f"{where}: mtf")
    if not ((mtf > 0) & (mtf < 1)).all():
        raise BadSettings(f"{where}: mtf: expected amplitudes between 0 and 1")
    for index, curve in enumerate(given.srf):
        if not np.isfinite(curve.values).all() or max(curve.values) <= 0:
            raise BadSettings(f"{where}: srf.{index}: expected finite values with a positive peak")
    curves = tuple(
        (_frozen(c.first + c.step * np.arange(len(c.values))), _frozen(np.clip(c.values, 0.0, None))) for c in given.srf
    )
    return Sensor(
        name=given.name,
        title=given.title or given.name,
        platform=given.platform,
        aliases=tuple(given.aliases),
        wavelength=_frozen(wavelength),
        fwhm=_frozen(fwhm),
        names=tuple(given.bands.names) or tuple(str(i + 1) for i in range(n)),
        detector=detector,
        shape=given.response,
        mtf=mtf,
        gsd=_per_band(given.gsd, n, f"{where}: gsd"),
        rgb=tuple(given.rgb),
        bad_ranges=tuple((min(r), max(r)) for r in given.bad_ranges),
        srf=curves if given.response == "table" else None,
        pan=Pan(**given.pan.model_dump()) if given.pan else None,
        quantities=dict(given.quantities),
        drift=given.drift,
        nominal=given.bands.nominal,
        sources=tuple(Source(**row.model_dump()) for row in given.sources),
    )


def _expand(bands: _Bands) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if bands.segments:
        wavelength = np.concatenate([np.linspace(s.first, s.last, s.count) for s in bands.segments])
        fwhm = np.concatenate([np.full(s.count, s.fwhm) for s in bands.segments])
        return wavelength, fwhm, tuple(s.detector for s in bands.segments for _ in range(s.count))
    if bands.ranges:
        edges = np.asarray(bands.ranges, dtype=np.float64)
        wavelength, fwhm = edges.mean(axis=1), edges[:, 1] - edges[:, 0]
    else:
        wavelength, fwhm = np.asarray(bands.wavelength), np.asarray(bands.fwhm)
    detector = tuple(name for name, count in bands.detector.items() for _ in range(count))
    if detector and len(detector) != wavelength.size:
        raise BadSettings(f"bands.detector counts {len(detector)} bands, expected {wavelength.size}")
    return wavelength, fwhm, detector or ("",) * wavelength.size


def _per_band(value: float | list[float], bands: int, what: str) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim and array.size != bands:
        raise BadSettings(f"{what}: got {array.size} values for {bands} bands, expected one number or one a band")
    return _frozen(np.broadcast_to(array, (bands,)).copy())


def _frozen(array: Any) -> np.ndarray:
    out = np.array(array, dtype=np.float64)
    out.setflags(write=False)
    return out
