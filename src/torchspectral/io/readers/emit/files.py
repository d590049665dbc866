"""Which EMIT product a file is, and which of its companions lie beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchspectral.io.readers.hdf5 import is_numeric, text_attribute

_NAME = re.compile(
    r"(?i)^EMIT_(?P<level>L\d[AB])_(?P<kind>[A-Z0-9]+)_(?P<version>\d{3})_(?P<scene>\d{8}T\d{6}(?:_\w+)?)(?P<tail>\.\w+)$"
)
# Product -> level, main variable and title; the first variable that a file has tells what it is.
KINDS = {
    "RFL": ("L2A", "reflectance", "surface reflectance"),
    "RFLUNCERT": ("L2A", "reflectance_uncertainty", "uncertainty of surface reflectance"),
    "RAD": ("L1B", "radiance", "radiance at sensor"),
    "OBS": ("L1B", "obs", "observation parameters"),
    "MASK": ("L2A", "mask", "masks"),
    "MINUNCERT": ("L2B", "group_1_band_depth_unc", "uncertainty of mineral identification"),
    "MIN": ("L2B", "group_1_mineral_id", "mineral identification"),
}
COMPANIONS = {"RAD": ("OBS", "MASK"), "RFL": ("RFLUNCERT", "MASK", "OBS"), "MIN": ("MINUNCERT",)}
"""Companions that are looked for beside a product."""

# GeoTIFF products of greenhouse gases: kind -> name of the layer, title, units.
GASES = {
    f"{gas}{part}": (f"{word}_{layer}", f"{word} {title}", units)
    for gas, word in (("CH4", "methane"), ("CO2", "carbon_dioxide"))
    for part, layer, title, units in (
        ("ENH", "enhancement", "enhancement", "ppm m"),
        ("PLM", "plume", "plume complex, enhancement", "ppm m"),
        ("UNCERT", "uncertainty", "uncertainty of the enhancement", "ppm m"),
        ("SENS", "sensitivity", "sensitivity of the enhancement", "1"),
    )
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Companion:
    """A product that belongs to another one: its kind, the name looked for, and the file, where it is there."""

    kind: str
    pattern: str
    path: Path | None


def kind_of(file: Any) -> str:
    """The product that an open HDF5 file is; "" where it is none of EMIT."""
    location = file.get("location")
    positions = hasattr(location, "keys") and "lon" in location and "lat" in location
    said = " ".join(text_attribute(file, name) for name in ("instrument", "sensor", "title"))
    # What other tools make of EMIT products (maps on latitude and longitude) has neither group.
    if not positions and not ("EMIT" in said and "sensor_band_parameters" in file):
        return ""
    found = [kind for kind, (_, variable, _) in KINDS.items() if is_numeric(file.get(variable))]
    return found[0] if found else ""


def gas_of(path: Path) -> str:
    """The gas product that a GeoTIFF is by its name; "" for others."""
    name = _NAME.match(path.name)
    kind = name["kind"].upper() if name else ""
    if kind not in GASES or not path.is_file():
        return ""
    with path.open("rb") as file:
        return kind if file.read(4) in _TIFF else ""


def companions(path: Path, kind: str) -> list[Companion]:
    """Companions of a product, by name: same time, orbit and scene; the same version where it is there, else the last.

    Files whose names are not those of the provider have none.
    """
    name = _NAME.match(path.name)
    if name is None:
        return []
    found = []
    for other in COMPANIONS.get(kind, ()):
        level = KINDS[other][0]
        pattern = f"EMIT_{level}_{other}_*_{name['scene']}{name['tail']}"
        matches = []
        for candidate in sorted(path.parent.iterdir()):
            parts = _NAME.match(candidate.name)
            if (
                parts is not None
                and (parts["level"].upper(), parts["kind"].upper()) == (level, other)
                and parts["scene"].lower() == name["scene"].lower()
                and candidate.is_file()
            ):
                matches.append((parts["version"] == name["version"], parts["version"], candidate))
        found.append(Companion(other, pattern, max(matches)[2] if matches else None))
    return found
