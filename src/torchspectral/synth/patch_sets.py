"""Patches of land as a satellite would deliver them: coherent cover, seasons, noise, nodata; the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from torchspectral import sensors
from torchspectral.errors import BadSettings
from torchspectral.sensors import Sensor
from torchspectral.settings import Settings, setting
from torchspectral.synth.land_cover import COVERS, MATERIALS, greenness, material

GRID = np.arange(380.0, 2551.0, 2.0)
"""Wavelengths at which materials are made before a sensor sees them [nm]."""
_LAYOUT, _PARCELS, _SPECTRA, _DATES, _NOISE, _HOLES = range(6)
# SpectralEarth's bands of EnMAP: positions among all sorted by wavelength.
_ENMAP = (*range(126), *range(141, 160), *range(167, 224))


class PatchSettings(Settings):
    """Settings of a generated patch set."""

    size: int = setting(128, "side of a patch", unit="pixel", ge=8, le=1024)
    second: float = setting(0.175, "share of the places that have a second date, in another season", ge=0, le=1)
    grain: float = setting(10.0, "size of what is covered alike", unit="pixel", gt=0)
    mixing: float = setting(0.15, "most of a pixel that other materials cover", ge=0, lt=1)
    texture: float = setting(0.08, "brightness varies by this share, alike in all bands", ge=0, lt=1)
    snr: float = setting(150.0, "signal to noise at reflectance 0.3 in the visible; half of it beyond 1000 nm", gt=0)
    holes: float = setting(0.1, "share of the patches with nodata: the edge of a scene, or clouds", ge=0, le=1)
    regions: int = setting(8, "regions, whose covers differ in how common they are", ge=1)
    labels: Literal["pixels", "single"] = setting(
        "pixels", "pixels: a mask a patch, and the classes in it; single: patches of one main cover, in metadata.csv"
    )


@dataclass(frozen=True)
class LandPatch:
    """One patch at one date.

    Attributes
    ----------
    values : ndarray, shape (band, y, x), float32
        Reflectance; NaN where nodata.
    cover : ndarray, shape (y, x), uint8
        Number of the main cover of each pixel, into `COVERS`; also where `values` is NaN.
    main : int
        The cover of most pixels.
    present : tuple of int
        Covers of at least 2 % of the pixels.
    day : date
    """

    values: np.ndarray
    cover: np.ndarray
    main: int
    present: tuple[int, ...]
    day: date


@dataclass(frozen=True, eq=False)
class Eye:
    """What a generated sensor sees: centres, widths [nm] and the weight of each wavelength of `GRID` in each band."""

    name: str
    wavelength: np.ndarray
    fwhm: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=8)
def eye(sensor: str) -> Eye:
    """Bands of a sensor in the order of their wavelengths, those that see the ground; of EnMAP SpectralEarth's 202.

    Raises
    ------
    UnknownName
    BadSettings
        No band lies between 380 and 2550 nm.
    """
    found: Sensor = sensors.get(sensor)
    order = np.argsort(found.wavelength, kind="stable")
    if found.name == "enmap":
        order = order[list(_ENMAP)]
    else:
        seen = found.good & (found.wavelength >= GRID[0]) & (found.wavelength <= GRID[-1])
        order = order[seen[order]]
    if not order.size:
        raise BadSettings(f"{found.name} has no band between {GRID[0]:.0f} and {GRID[-1]:.0f} nm")
    weights = np.stack([found.response_of(int(band), GRID) for band in order])
    # Bands narrower than the grid see what lies at their centre.
    for k in np.flatnonzero(weights.sum(1) < 1e-3):
        weights[k, np.abs(GRID - found.wavelength[order[k]]).argmin()] = 1.0
    weights = weights / weights.sum(1, keepdims=True)
    return Eye(found.name, found.wavelength[order].astype(float), found.fwhm[order].astype(float), weights)


def dates_of(place: int, settings: PatchSettings, seed: int) -> list[date]:
    """The one or two days at which a place was seen, in order."""
    rng = np.random.default_rng([seed, place, _DATES])
    first = date(2022, 4, 15) + timedelta(days=int(rng.integers(0, 700)))
    if rng.random() >= settings.second:
        return [first]
    return sorted([first, first + timedelta(days=int(rng.integers(80, 250)))])


def land_patch(place: int, day: date, sensor: str, settings: PatchSettings, seed: int = 0) -> LandPatch:
    """What a sensor sees of a place at a day.

    Parameters
    ----------
    place : int
        Number of the place: decides cover, parcels and materials, alike at every date.
    day : date
        Decides what is green, the light and the noise.
    sensor : str
    settings : PatchSettings
    seed : int

    Raises
    ------
    UnknownName, BadSettings
    """
    sees = eye(sensor)
    cover, cells, early = _ground(place, settings, seed)
    shares = _shares(cover, cells, early, day, settings, np.random.default_rng([seed, place, _PARCELS, 1]))
    rng = np.random.default_rng([seed, place, _SPECTRA])
    spectra = np.stack([material(name, GRID, rng) for name in MATERIALS]) @ sees.weights.T
    clean = np.tensordot(spectra.T.astype(np.float32), shares.astype(np.float32), axes=1)
    rng = np.random.default_rng([seed, place, _NOISE, day.toordinal()])
    light = 1 + settings.texture * _smooth(rng, cover.shape, 1.5) + 0.05 * rng.standard_normal()
    clean *= light.astype(np.float32)
    falling = np.where(sees.wavelength > 1000, 2.0, 1.0)
    sigma = (np.sqrt(0.09 + 0.03 * sees.wavelength / 1000) * falling / settings.snr).astype(np.float32)
    values = clean + sigma[:, None, None] * rng.standard_normal(clean.shape, dtype=np.float32)
    values[:, _holes(place, day, settings, seed)] = np.nan
    counts = np.bincount(cover.ravel(), minlength=len(COVERS))
    present = tuple(int(k) for k in np.flatnonzero(counts >= max(0.02 * cover.size, 1)))
    return LandPatch(values, cover, int(counts.argmax()), present, day)


def region_of(place: int, settings: PatchSettings) -> int:
    """Region of a place; places are dealt out in turn."""
    return place % settings.regions


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), grain, mode="reflect")
    found: np.ndarray = noise / max(float(noise.std()), 1e-9)
    return found


def _ground(place: int, s: PatchSettings, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cover and parcel of each pixel, and how many days early each parcel is."""
    region = np.random.default_rng([seed, region_of(place, s), _LAYOUT, 99])
    rng = np.random.default_rng([seed, place, _LAYOUT])
    common = region.normal(0, 0.7, len(COVERS))
    if s.labels == "single":
        common[place // s.regions % len(COVERS)] += 4.0
    fields = np.stack([_smooth(rng, (s.size, s.size), s.grain) for _ in COVERS])
    heights = fields + (common + rng.normal(0, 0.4, len(COVERS)))[:, None, None]
    parcels = max(int((s.size / s.grain) ** 2), 4)
    points = rng.uniform(0, s.size, (parcels, 2))
    rows, cols = np.mgrid[: s.size, : s.size] + 0.5
    cells = cKDTree(points).query(np.column_stack([rows.ravel(), cols.ravel()]))[1].reshape(s.size, s.size)
    # Fields and quarters have straight edges: their covers are decided a parcel at a time.
    pixels = np.maximum(np.bincount(cells.ravel(), minlength=parcels), 1)
    whole = np.stack([np.bincount(cells.ravel(), h.ravel(), parcels) for h in heights]) / pixels
    straight = np.array([c.green in ("crop", "grass", "soil", "roof") for c in COVERS])
    heights = np.where(straight[:, None, None], whole[:, cells], heights)
    return heights.argmax(0).astype(np.uint8), cells, rng.normal(0, 14, parcels)


def _shares(
    cover: np.ndarray, cells: np.ndarray, early: np.ndarray, day: date, s: PatchSettings, rng: np.random.Generator
) -> np.ndarray:
    """Share of each material in each pixel."""
    shares = np.zeros((len(MATERIALS), *cover.shape))
    of_year = day.timetuple().tm_yday
    built = ndimage.uniform_filter(rng.random(cover.shape), 2)
    for number, kind in enumerate(COVERS):
        here = cover == number
        if not here.any():
            continue
        green = greenness(kind, of_year, early[cells[here]]) if kind.season else np.ones(int(here.sum()))
        if kind.name == "built-up":
            green = np.clip(1.8 * built[here] - 0.4, 0, 1)
        shares[MATERIALS.index(kind.green)][here] += green
        if kind.bare:
            shares[MATERIALS.index(kind.bare)][here] += 1 - green
    shares = ndimage.gaussian_filter(shares, (0, 0.6, 0.6), mode="nearest")
    foreign = s.mixing * rng.random(cover.shape)
    spread = shares.mean((1, 2), keepdims=True)
    found: np.ndarray = (1 - foreign) * shares + foreign * spread
    return found / found.sum(0, keepdims=True)


def _holes(place: int, day: date, s: PatchSettings, seed: int) -> np.ndarray:
    """Where nothing was measured: beyond a slanting edge, or under clouds."""
    rng = np.random.default_rng([seed, place, _HOLES, day.toordinal()])
    if rng.random() >= s.holes:
        return np.zeros((s.size, s.size), dtype=bool)
    if rng.random() < 0.5:
        rows, cols = np.mgrid[: s.size, : s.size] / s.size
        angle = rng.uniform(0, 2 * np.pi)
        found: np.ndarray = (rows - 0.5) * np.sin(angle) + (cols - 0.5) * np.cos(angle) > rng.uniform(0.15, 0.45)
        return found
    clouds: np.ndarray = _smooth(rng, (s.size, s.size), s.size / 12) > rng.uniform(1.0, 2.0)
    return clouds
