"""Reflectance of land: a few materials as smooth functions of wavelength, and what covers are made of in each season.

Absorptions sit where leaves, water and clay have them (chlorophyll at 450 and 672 nm, red edge at 715 nm, water at 970,
1200, 1450 and 1940 nm, cellulose at 2100 nm, clay at 2205 nm); their depths are drawn, so that no two places are alike.
They are made for tests and first runs and are no measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cover:
    """One land cover.

    Attributes
    ----------
    name : str
    colour : tuple of int
    green, bare : str
        Material in the growing season and out of it.
    season : tuple of float
        First and last day of the year that is green; () for all year.
    """

    name: str
    colour: tuple[int, int, int]
    green: str
    bare: str = ""
    season: tuple[float, ...] = ()


COVERS = (
    Cover("water", (43, 108, 176), "water"),
    Cover("coniferous forest", (20, 83, 45), "needle"),
    Cover("broad-leaved forest", (74, 155, 60), "leaf", "litter", (115.0, 295.0)),
    Cover("grassland", (178, 207, 92), "grass", "straw", (75.0, 320.0)),
    Cover("winter crops", (240, 205, 80), "crop", "soil", (70.0, 185.0)),
    Cover("summer crops", (214, 140, 40), "crop", "soil", (170.0, 270.0)),
    Cover("bare soil", (139, 94, 60), "soil"),
    Cover("built-up", (150, 30, 45), "roof", "asphalt"),
    Cover("sand and rock", (190, 190, 190), "sand"),
)
MATERIALS = ("water", "needle", "leaf", "grass", "crop", "litter", "straw", "soil", "roof", "asphalt", "sand")


def _bump(wave: np.ndarray, centre: float, width: float) -> np.ndarray:
    found: np.ndarray = np.exp(-0.5 * ((wave - centre) / width) ** 2)
    return found


def _rise(wave: np.ndarray, centre: float, width: float) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-(wave - centre) / width))
    return found


def _moist(wave: np.ndarray, depth: float) -> np.ndarray:
    """Transmission of liquid water in leaves or soil."""
    bands = ((970, 28, 0.12), (1200, 40, 0.25), (1450, 65, 0.75), (1940, 75, 0.9), (2500, 250, 0.7))
    out = np.ones_like(wave)
    for centre, width, strength in bands:
        out = out * (1 - min(depth * strength, 0.97) * _bump(wave, centre, width))
    return out


def _plant(
    wave: np.ndarray, rng: np.random.Generator, plateau: float, chlorophyll: float, moisture: float
) -> np.ndarray:
    plateau, chlorophyll, moisture = (v * rng.uniform(0.88, 1.12) for v in (plateau, chlorophyll, moisture))
    edge = _rise(wave, 713 + 6 * chlorophyll + rng.uniform(-3, 3), 13)
    visible = 0.035 + 0.075 * (1 - 0.5 * chlorophyll) * _bump(wave, 552, 32) + 0.02 * (1 - chlorophyll)
    slope = np.where(wave > 1300, 0.62, 1.0) * (1 - 0.28 * _rise(wave, 1350, 60)) / np.where(wave > 1300, 0.62, 1.0)
    dry = 1 - 0.08 * _bump(wave, 2100, 45) - 0.05 * _bump(wave, 2300, 45)
    found: np.ndarray = (visible * (1 - edge) + plateau * edge * slope * dry) * _moist(wave, moisture)
    return found


def _brown(wave: np.ndarray, rng: np.random.Generator, level: float, cellulose: float) -> np.ndarray:
    ramp = 0.3 + 0.7 * _rise(wave, 750, 190) * rng.uniform(0.92, 1.08)
    found: np.ndarray = level * ramp * (1 - cellulose * _bump(wave, 2100, 50)) * _moist(wave, rng.uniform(0.1, 0.25))
    return found


def _ground(wave: np.ndarray, rng: np.random.Generator, level: float, clay: float, iron: float) -> np.ndarray:
    ramp = 0.25 + 0.75 * _rise(wave, 640 + rng.uniform(-60, 60), 170)
    clay, iron = clay * rng.uniform(0.5, 1.5), iron * rng.uniform(0.5, 1.5)
    depths = (
        (1 - clay * _bump(wave, 2205, 22)) * (1 - iron * _bump(wave, 880, 90)) * _moist(wave, rng.uniform(0.15, 0.5))
    )
    found: np.ndarray = level * rng.uniform(0.8, 1.2) * ramp * depths
    return found


def material(name: str, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reflectance of a material as it is at one place.

    Parameters
    ----------
    name : str
        One of `MATERIALS`.
    wave : ndarray, shape (n,)
        [nm].
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n,)
        0.001 to 0.9.
    """
    if name == "water":
        turbid = rng.uniform(0.2, 1.0)
        found = (0.02 + 0.05 * turbid * _bump(wave, 560, 60)) * (1 - _rise(wave, 700 + 30 * turbid, 25)) + 0.004
    elif name in ("needle", "leaf", "grass", "crop"):
        plateau, chlorophyll, moisture = {
            "needle": (0.24, 1.0, 0.9), "leaf": (0.46, 0.8, 0.8), "grass": (0.38, 0.6, 0.6), "crop": (0.5, 0.75, 0.95)
        }[name]  # fmt: skip
        found = _plant(wave, rng, plateau, chlorophyll, moisture)
    elif name in ("litter", "straw"):
        found = _brown(wave, rng, 0.22 if name == "litter" else 0.42, 0.1 if name == "litter" else 0.22)
    elif name == "soil":
        found = _ground(wave, rng, 0.3, 0.12, 0.08)
    elif name == "sand":
        found = _ground(wave, rng, 0.52, 0.05, 0.03) * (1 - 0.12 * rng.uniform() * _bump(wave, 2340, 25))
    elif name == "roof":
        found = rng.uniform(0.15, 0.35) * (0.4 + 0.6 * _rise(wave, 590, 25)) * (1 - 0.12 * _bump(wave, 880, 110))
    else:
        found = rng.uniform(0.07, 0.14) * (0.75 + 0.25 * wave / 2500) * (1 - 0.08 * _bump(wave, 2310, 35))
    clipped: np.ndarray = np.clip(found, 0.001, 0.9)
    return clipped


def greenness(cover: Cover, day: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Share of a cover that is in its growing season, 0..1.

    Parameters
    ----------
    day : float
        Of the year.
    shift : float or ndarray
        Days by which parcels are early.
    """
    if not cover.season:
        return np.ones_like(np.asarray(shift, dtype=np.float64))
    start, stop = cover.season
    now = day + np.asarray(shift, dtype=np.float64)
    rising = 1 / (1 + np.exp(-(now - start) / 8))
    falling = 1 / (1 + np.exp((now - stop) / 8))
    found: np.ndarray = 0.05 + 0.9 * rising * falling
    return found
