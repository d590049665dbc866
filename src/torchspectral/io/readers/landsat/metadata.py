"""What the MTL file of a Landsat product says: bands, files, coefficients, facts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchspectral.errors import BrokenProduct, MissingMetadata, TorchspectralError, UnsafeInput
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.readers.members import Members, members_of
from torchspectral.io.readers.odl import Groups, first_text, number_in, parse_odl

MTL = r"(?P<stem>L[A-Z]\w*?)_MTL\.(?:txt|json)"
_CONTENTS = ("PRODUCT_CONTENTS", "PRODUCT_METADATA")
_IMAGE = ("IMAGE_ATTRIBUTES", "PRODUCT_METADATA")
# Edges [nm] of bands that the catalogue of sensors leaves out: thermal ones, panchromatic ones, and those of the scanners
# of Landsat 1-5 (MSS), by the sensor's name in the MTL.
_EDGES: dict[str, dict[str, tuple[float, float]]] = {
    "TM": {"6": (10400, 12500)},
    "ETM": {"6": (10400, 12500), "6_VCID_1": (10400, 12500), "6_VCID_2": (10400, 12500), "8": (520, 900)},
    "OLI": {"8": (503, 676), "10": (10600, 11190), "11": (11500, 12510)},
    "MSS": {
        "1": (500, 600), "2": (600, 700), "3": (700, 800), "4": (800, 1100),
        "5": (600, 700), "6": (700, 800), "7": (800, 1100),
    },
}  # fmt: skip
_THERMAL = 3000.0


@dataclass(frozen=True)
class Band:
    """One band that the MTL names.

    Attributes
    ----------
    label : str
        As in the keys of the MTL: "1", "6_VCID_1".
    file : str
        Name of its file.
    wavelength, fwhm : float
        Centre and width [nm]; NaN where neither the catalogue nor the table knows them.
    """

    label: str
    file: str
    wavelength: float
    fwhm: float

    @property
    def number(self) -> int:
        """The product's band number."""
        return int(re.sub(r"\D.*", "", self.label) or 0)

    @property
    def thermal(self) -> bool:
        """Whether it sees emitted light."""
        return self.wavelength > _THERMAL


@dataclass(frozen=True)
class Coefficients:
    """physical = DN * scale + offset, in one of the quantities."""

    scale: float
    offset: float


class LandsatProduct:
    """A product by its MTL file and the files beside it.

    Parameters
    ----------
    path : Path
        The folder, or the MTL file.

    Raises
    ------
    BrokenProduct, UnsafeInput
        No MTL, several products, an MTL that is damaged or names files elsewhere.
    """

    def __init__(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        self.members: Members = members_of(folder)
        self.mtl = path.name if path.is_file() else _only_mtl(self.members)
        self.groups: Groups = parse_odl(self.members.text(self.mtl), self.mtl)
        self.spacecraft = first_text(self.groups, "SPACECRAFT_ID", *_IMAGE).strip().upper()
        self.sensor = first_text(self.groups, "SENSOR_ID", *_IMAGE).strip().upper()
        if not self.spacecraft.startswith("LANDSAT"):
            raise BrokenProduct(
                f"{self.mtl} names the spacecraft {self.spacecraft or '(none)'}, expected the MTL file of a Landsat product"
            )
        level = first_text(self.groups, "PROCESSING_LEVEL", *_CONTENTS)
        self.level = (level or first_text(self.groups, "DATA_TYPE", *_CONTENTS) or "L1").strip().upper()
        self.name = first_text(self.groups, "LANDSAT_PRODUCT_ID", *_CONTENTS) or self.mtl.rsplit("_MTL", 1)[0]
        self._files = {name.lower(): name for name in self.members.names}

    @property
    def surface(self) -> bool:
        """Whether the values are surface reflectance (Level 2)."""
        return self.level.startswith("L2")

    @property
    def contents(self) -> dict[str, str]:
        """Keys of the group that lists the product's own files."""
        return next((self.groups[g] for g in _CONTENTS if g in self.groups), {})

    def file(self, key: str) -> str:
        """Name of the file that a key of the contents names, where it is there; else "".

        Raises
        ------
        UnsafeInput
            The name leads out of the folder.
        """
        named = self.contents.get(key, "").strip()
        if not named:
            return ""
        if re.search(r"[\\/:]", named) or named.startswith("."):
            raise UnsafeInput(f"{self.mtl} names the file {named[:80]!r}, expected a plain name beside it")
        return self._files.get(named.lower(), "")

    def bands(self) -> list[Band]:
        """Bands that the MTL names, whether their files are there or not."""
        found = []
        for key, name in self.contents.items():
            match = re.fullmatch(r"FILE_NAME_BAND_(\d+(?:_VCID_\d)?)", key)
            if match and name:
                found.append(Band(match[1], self.file(key), *self._wavelength(match[1])))
        if not found:
            raise MissingMetadata(f"{self.mtl} lists no FILE_NAME_BAND_n, expected one for each band")
        return found

    def _wavelength(self, label: str) -> tuple[float, float]:
        from torchspectral.sensors import get

        family = next((name for name in _EDGES if self.sensor.startswith(name)), "")
        edges = _EDGES.get(family, {}).get(label)
        if edges is not None:
            return (edges[0] + edges[1]) / 2, edges[1] - edges[0]
        try:
            sensor = get(self.spacecraft)
        except TorchspectralError:
            return math.nan, math.nan
        at = next((i for i, name in enumerate(sensor.names) if name.upper() == f"B{label}"), None)
        if at is None or family == "MSS":
            return math.nan, math.nan
        return float(sensor.wavelength[at]), float(sensor.fwhm[at])

    def coefficients(self, label: str, quantity: str) -> Coefficients | None:
        """What the DN of a band mean in a quantity; None where the product does not say.

        Level 2 and Level 1 coefficients stand in groups of their own under the same keys: those of the product count.
        Top-of-atmosphere reflectance is divided by the sine of the sun's elevation, as USGS prescribes.
        """
        if self.surface:
            groups = ["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] if quantity == "reflectance" else []
        else:
            groups = ["LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING"]
        for group in groups:
            scale = number_in(self.groups, group, f"{quantity.upper()}_MULT_BAND_{label}")
            offset = number_in(self.groups, group, f"{quantity.upper()}_ADD_BAND_{label}")
            if scale is None or offset is None or scale == 0:
                continue
            if quantity == "reflectance" and not self.surface:
                elevation = number_in(self.groups, "IMAGE_ATTRIBUTES", "SUN_ELEVATION")
                if elevation is None or not 0 < elevation <= 90:
                    return None
                sine = math.sin(math.radians(elevation))
                scale, offset = scale / sine, offset / sine
            return Coefficients(scale, offset)
        return None

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        found: dict[str, Any] = {
            "sensor": self.spacecraft.replace("_", " ").title(),
            "platform": self.spacecraft.replace("_", " ").title(),
            "instrument": self.sensor,
            "level": self.level,
            "product": self.name,
        }
        day = first_text(self.groups, "DATE_ACQUIRED", *_IMAGE)
        clock = re.sub(r"(\.\d{6})\d*", r"\1", first_text(self.groups, "SCENE_CENTER_TIME", *_IMAGE))
        time = iso_time(f"{day}T{clock}" if clock else day)
        if time:
            found["acquired"] = time
        elevation = number_in(self.groups, "IMAGE_ATTRIBUTES", "SUN_ELEVATION")
        azimuth = number_in(self.groups, "IMAGE_ATTRIBUTES", "SUN_AZIMUTH")
        roll = number_in(self.groups, "IMAGE_ATTRIBUTES", "ROLL_ANGLE")
        if elevation is not None:
            found["sun_zenith"] = 90.0 - elevation
        if azimuth is not None:
            found["sun_azimuth"] = azimuth
        if roll is not None:
            found["view_zenith"] = abs(roll)
        cover = number_in(self.groups, "IMAGE_ATTRIBUTES", "CLOUD_COVER")
        if cover is not None and cover >= 0:
            found["cloud_cover"] = cover
        return found


def _only_mtl(members: Members) -> str:
    found: dict[str, str] = {}
    for name, match in members.match(MTL):
        # The text is what USGS calls the metadata; the JSON says the same.
        stem = match["stem"].upper()
        if stem not in found or name.lower().endswith(".txt"):
            found[stem] = name
    if not found:
        raise BrokenProduct(f"{members.root.name} holds no ..._MTL.txt or ..._MTL.json, expected one beside the bands")
    if len(found) > 1:
        names = ", ".join(sorted(found)[:3])
        raise BrokenProduct(
            f"{members.root.name} holds {len(found)} Landsat products ({names}): open one by its MTL file"
        )
    return next(iter(found.values()))
