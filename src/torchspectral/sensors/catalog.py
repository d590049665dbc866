"""Which sensors are known, and which of them a cube comes from."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import metadata, resources
from typing import Any

import numpy as np
import xarray as xr
import yaml

from torchspectral.errors import TorchspectralError, UnknownName, closest
from torchspectral.log import get_logger
from torchspectral.sensors.sensor import Sensor, from_mapping

_MIN_SHARE = 0.25  # a cube with fewer of a sensor's bands than this is not recognised by wavelengths alone


@lru_cache(maxsize=1)
def _catalog() -> dict[str, Sensor]:
    """Sensors by name: our own, then those of entry points in ``torchspectral.sensors``.

    An entry point names a package that holds YAML files, or a `Sensor`; a broken one warns and is skipped.
    """
    found: dict[str, Sensor] = {}
    folder = resources.files("torchspectral.sensors").joinpath("data")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            sensor = from_mapping(_parsed(file), where=file.name)
            found[sensor.name] = sensor
    for entry in metadata.entry_points(group="torchspectral.sensors"):
        try:
            for sensor in _of_entry(entry):
                if sensor.name in found:
                    get_logger("sensors").warning("sensor %s of %s is hidden by ours", sensor.name, entry.value)
                else:
                    found[sensor.name] = sensor
        except Exception as error:  # a broken plugin must not break the catalogue
            get_logger("sensors").warning("plugin %s skipped: %s", entry.name, error)
    return found


def _parsed(file: Any) -> Any:
    # libyaml reads the catalogue ten times as fast as the pure Python parser; some builds of PyYAML lack it.
    return yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _of_entry(entry: metadata.EntryPoint) -> list[Sensor]:
    thing = entry.load()
    if isinstance(thing, Sensor):
        return [thing]
    folder = resources.files(thing)
    return [
        from_mapping(_parsed(file), where=f"{entry.value}/{file.name}")
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".yaml")
    ]


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for sensor in _catalog().values():
        for word in (sensor.name, *sensor.aliases):
            names.setdefault(_key(word), sensor.name)
    return names


def list_sensors() -> list[Sensor]:
    """All known sensors, by name."""
    return [_catalog()[name] for name in sorted(_catalog())]


def get(name: str) -> Sensor:
    """Sensor by name or alias; case, spaces and dashes do not matter.

    Raises
    ------
    UnknownName
        No such sensor; the message has the closest names.
    """
    found = _names().get(_key(str(name)))
    if found is None:
        raise UnknownName(f"no sensor {str(name)!r}: {closest(str(name).lower(), sorted(_catalog()))}")
    return _catalog()[found]


def match(cube: xr.DataArray) -> Sensor | None:
    """Sensor that a cube comes from, or None.

    Trusts ``attrs["sensor"]`` and ``attrs["platform"]`` first. Else compares band centres: a cube with all bands of a
    sensor, in its order or sorted, may differ by the sensor's `drift`; a subset of the bands must agree to a fifth of
    the band spacing. None also where two sensors fit equally well.

    Parameters
    ----------
    cube : DataArray
        With coordinate ``wavelength`` [nm] on ``band``; only coordinates and attributes are looked at.
    """
    for attribute in ("sensor", "platform"):
        try:
            name = str(cube.attrs.get(attribute) or "")
            if name:
                return get(name)
        except TorchspectralError:
            continue
    if "wavelength" not in cube.coords:
        return None
    centres = np.asarray(cube["wavelength"].values, dtype=np.float64)
    centres = centres[np.isfinite(centres)]
    scored = sorted((_gap(centres, sensor), sensor.name) for sensor in list_sensors())
    (gap, best), (next_gap, _) = scored[:2]
    # Landsat 8 and 9, or the first bands of WorldView-2 and -3, cannot be told apart by their bands.
    return _catalog()[best] if np.isfinite(gap) and next_gap - gap > 1e-3 else None


def _gap(centres: np.ndarray, sensor: Sensor) -> float:
    """Mean difference of band centres [nm]; infinite where the sensor does not fit."""
    own = sensor.wavelength
    if centres.size == own.size:
        for a, b in ((centres, own), (np.sort(centres), np.sort(own))):
            gap = np.abs(a - b)
            if gap.max() <= sensor.drift:
                return float(gap.mean())
        return float("inf")
    if centres.size > own.size or centres.size < max(3, _MIN_SHARE * own.size):
        return float("inf")
    gaps = np.abs(centres[:, None] - own[None, :])
    nearest = gaps.argmin(axis=1)
    if np.unique(nearest).size < centres.size:
        return float("inf")
    gap = gaps[np.arange(centres.size), nearest]
    spacing = np.median(np.abs(np.diff(np.sort(own)))) if own.size > 20 else 2 * sensor.drift
    return float(gap.mean()) if gap.max() <= 0.2 * float(spacing) else float("inf")
