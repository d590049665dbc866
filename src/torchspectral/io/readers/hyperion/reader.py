"""Hyperion on EO-1, as USGS distributes it: L1T, L1Gst and L1Gs with one GeoTIFF a band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BrokenProduct, UnknownName, UnknownProduct, closest
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.detectors import OVERLAPS, average_overlap, bands_by_overlap
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.members import Members, members_of, unpacked_in
from torchspectral.io.readers.odl import Groups, number_in, parse_odl
from torchspectral.io.readers.stacks import StackArray, check_alike, ground_of

BAND = r"(?P<stem>EO1H\w+?)_B(?P<band>\d{3})_(?P<level>L1T|L1GST|L1GS|L1R)\.TIFF?"
MTL = r"(?P<stem>EO1H\w+?)_MTL(?:_(?P<level>\w+))?\.TXT"
L1R = r"EO1H\w+\.L1R"
BANDS, VNIR_BANDS = 242, 70
# Bands that USGS calibrates; the others hold no valid values.
CALIBRATED = np.r_[8:58, 77:225]
SCALES = {"vnir": 40.0, "swir": 80.0}
# Bright, calibrated bands of both detectors: where all are 0 the sensor did not look.
_PROBES = (20, 31, 50, 110)


class HyperionArray(StackArray):
    """Bands in files of their own; a pixel with DN 0 in bright bands of both detectors is nodata."""

    def __init__(self, handles: list[Handle], where: np.ndarray, probes: list[int], **more: Any) -> None:
        super().__init__(handles, where, **more)
        self.probes = probes

    def packing(self) -> dict[str, Any]:
        """Scale and offset; in packed form 0 stands for nodata also where only one band is 0."""
        return {**super().packing(), "nodata": 0}

    def invalid(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Pixels beside the strip that the sensor saw."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        gone = np.ones((rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for raster in self.probes:
            if gone.any():
                gone &= self.handles[raster].get().read(1, window=window) == 0
        return gone if gone.any() else None


class OutsideArray(HyperionArray):
    """True where the sensor did not look; shape (1, y, x)."""

    def __init__(self, handles: list[Handle], probes: list[int], **more: Any) -> None:
        super().__init__(handles, np.array([[probes[0], 1]]), probes, stored=np.bool_, decode=False, **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Whether each pixel is nodata."""
        gone = self.invalid(rows, cols)
        shape = (1, rows.stop - rows.start, cols.stop - cols.start)
        return np.zeros(shape, dtype=bool) if gone is None else gone[None]


class HyperionReader(Reader):
    """Reader of Hyperion scenes; takes the folder, the MTL file, one band or the ZIP."""

    name = "hyperion"
    title = "Hyperion L1T, L1Gst, L1Gs"
    patterns = ("EO1H*_MTL_L1T.TXT", "EO1H*_B*_L1T.TIF", "EO1H*.ZIP")
    options = ("overlap",)
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the names of the files, which are those of EO-1, and the MTL's content."""
        if path.is_dir() or (path.name.upper().startswith("EO1H") and path.suffix.lower() == ".zip"):
            return 0.95 if _bands(_scene(path)) or _scene(path).match(L1R) else 0.0
        here = Members(path.parent, (path.name,))
        if here.match(L1R):
            return 0.95
        if here.match(BAND):
            return 0.9 if len(_bands(_scene(path))) > 1 else 0.0
        if here.match(MTL):
            with path.open("rb") as file:
                return 0.95 if b"HYPERION" in file.read(1 << 16).upper() else 0.0
        return 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the bands as one lazy cube of radiance [W m-2 sr-1 um-1], DN / 40 (VNIR) and DN / 80 (SWIR).

        All bands that have a file are kept; those that are not calibrated (1-7, 58-76, 225-242) are marked bad.
        Centres and widths are those of USGS for all scenes (see ``sensors.get("hyperion")``).

        Parameters
        ----------
        overlap : {"wavelength", "detector", "vnir", "swir", "average"}
            Where VNIR and SWIR both see (852-1058 nm): keep all bands, sorted by wavelength (default); all, VNIR before
            SWIR. "vnir", "swir" and "average" look at calibrated bands only, and drop the others of the overlap.

        Raises
        ------
        UnknownProduct
            L1R in HDF4, which this GDAL cannot read; the message says what to do.
        BrokenProduct, BadSettings
        """
        overlap = options.get("overlap", "wavelength")
        if overlap not in OVERLAPS:
            raise BadSettings(f"got overlap={overlap!r}, expected one of {', '.join(OVERLAPS)}")
        scene = _Scene(path)
        table = scene.table()
        numbers, detector = scene.numbers, ["vnir" if n <= VNIR_BANDS else "swir" for n in scene.numbers]
        wavelength, fwhm = table.wavelength[numbers - 1], table.fwhm[numbers - 1]
        scale = np.array([1.0 / scene.factors[d] for d in detector])
        good = np.isin(numbers, CALIBRATED)
        order, rule = _order(wavelength, detector, good, overlap)
        where = np.column_stack([np.arange(numbers.size), np.ones(numbers.size, int)])
        common: dict[str, Any] = {"probes": scene.probes, "source": scene.members.source(scene.files[0])}
        array: StoredArray
        if overlap == "average":
            every = HyperionArray(scene.handles, where, scale=scale, **common)
            usable = [d if ok else "" for d, ok in zip(detector, good, strict=True)]
            array, raw = average_overlap(every, wavelength, usable, order), False
        else:
            array = HyperionArray(scene.handles, where[order], scale=scale[order], **common)
        bad = [int(n) for n in numbers[order][~good[order]]]
        missing = BANDS - numbers.size
        history = [
            f"opened {scene.stem} (Hyperion {scene.level})",
            scene.how,
            "wavelengths and widths: spectral coverage table of USGS, the same for all scenes",
            f"{len(bad)} bands that are not calibrated marked bad",
            rule,
            "DN 0 in bright bands of both detectors is nodata",
        ]
        if missing:
            history.append(f"{missing} of {BANDS} bands have no file and are left out")
        cube = as_cube(
            array,
            quantity="radiance",
            raw=raw,
            attrs={**scene.attributes(), "history": history},
            wavelength=wavelength[order],
            fwhm=fwhm[order],
            good=good[order],
            number=numbers[order],
            detector=[detector[i] for i in order],
        )
        return ground_of(cube, scene.handles[0].get())

    def layers(self, path: Path) -> list[str]:
        """``nodata``."""
        return ["nodata"]

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """``nodata``: True beside the strip, (y, x)."""
        if name != "nodata":
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, ['nodata'])}")
        scene = _Scene(path)
        source = scene.members.source(scene.files[0])
        layer = as_layer(OutsideArray(scene.handles, scene.probes, source=source), name, {"source": [source]})
        return ground_of(layer, scene.handles[0].get())


class _Scene:
    """Files of a scene and what its MTL says.

    Raises
    ------
    UnknownProduct, BrokenProduct
    """

    def __init__(self, path: Path) -> None:
        self.members = _scene(path)
        found = _bands(self.members)
        if not found:
            packed = self.members.match(L1R)
            if packed:
                raise UnknownProduct(
                    f"{Path(packed[0][0]).name} is Hyperion L1R in HDF4, which the GDAL inside rasterio's wheel cannot "
                    "read: convert it with a GDAL that has HDF4 (conda-forge: gdal_translate -of ENVI), or take the "
                    "scene as L1T or L1Gst GeoTIFFs"
                )
            raise BrokenProduct(f"{path.name} holds no band of Hyperion, expected files named EO1H..._B001_L1T.TIF")
        stems = {stem for stem, _ in found}
        if len(stems) > 1:
            asked = next((s for s in stems if path.name.upper().startswith(s)), "")
            if not asked:
                raise BrokenProduct(f"{path.name} holds {len(stems)} Hyperion scenes: open one by its MTL file")
            found = {key: name for key, name in found.items() if key[0] == asked}
        self.stem = next(iter(found))[0]
        self.numbers = np.array(sorted(band for _, band in found))
        if self.numbers[0] < 1 or self.numbers[-1] > BANDS:
            raise BrokenProduct(f"{self.stem} has a band {self.numbers[-1]}, expected 1 to {BANDS}")
        self.files = [found[self.stem, int(n)] for n in self.numbers]
        self.handles = [self.members.handle(name) for name in self.files]
        check_alike(self.handles, self.files)
        mtl = [name for name, match in self.members.match(MTL) if match["stem"].upper() == self.stem]
        self.mtl = mtl[0] if mtl else ""
        self.groups: Groups = parse_odl(self.members.text(self.mtl), self.mtl) if mtl else {}
        self.level = _level(self.groups) or _level_of(self.files[0])
        self.factors, self.how = dict(SCALES), "value = DN / 40 (VNIR) or DN / 80 (SWIR), the factors of all scenes"
        for detector in SCALES:
            stated = number_in(self.groups, "RADIANCE_SCALING", f"SCALING_FACTOR_{detector.upper()}")
            if stated is not None and stated > 0:
                self.factors[detector] = stated
                self.how = "value = DN / SCALING_FACTOR of the MTL"
        at = [int(np.searchsorted(self.numbers, n)) for n in _PROBES if n in self.numbers]
        self.probes = at or list(range(min(3, self.numbers.size)))

    def table(self) -> Any:
        """The sensor."""
        from torchspectral.sensors import get

        return get("hyperion")

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        source = [self.members.source(name) for name in ([self.mtl] if self.mtl else []) + self.files[:1]]
        found: dict[str, Any] = {
            "sensor": "Hyperion", "platform": "EO-1", "level": self.level, "product": self.stem, "source": source,
        }  # fmt: skip
        day = next((g["ACQUISITION_DATE"] for g in self.groups.values() if "ACQUISITION_DATE" in g), "")
        clock = next((g["START_TIME"] for g in self.groups.values() if "START_TIME" in g), "").split()
        time = iso_time(f"{day}T{clock[-1]}" if clock and ":" in clock[-1] else day) or iso_time(day)
        if time:
            found["acquired"] = time
        for key, name, change in (
            ("sun_zenith", "SUN_ELEVATION", lambda v: 90.0 - v),
            ("sun_azimuth", "SUN_AZIMUTH", lambda v: v % 360.0),
            ("view_zenith", "SENSOR_LOOK_ANGLE", abs),
        ):
            value = next((v for g in self.groups if (v := number_in(self.groups, g, name)) is not None), None)
            if value is not None:
                found[key] = change(value)
        return found


def _scene(path: Path) -> Members:
    if path.is_dir():
        here = members_of(path)
        inner = None if _bands(here) or here.match(L1R) else unpacked_in(path)
        return here if inner is None else members_of(inner)
    return members_of(path) if path.suffix.lower() == ".zip" else members_of(path.parent)


def _bands(members: Members) -> dict[tuple[str, int], str]:
    return {(match["stem"].upper(), int(match["band"])): name for name, match in members.match(BAND)}


def _level(groups: Groups) -> str:
    return next((g["PRODUCT_TYPE"].strip().upper() for g in groups.values() if "PRODUCT_TYPE" in g), "")


def _level_of(name: str) -> str:
    return name.rsplit(".", 1)[0].rsplit("_", 1)[-1].upper()


def _order(wavelength: np.ndarray, detector: list[str], good: np.ndarray, overlap: str) -> tuple[np.ndarray, str]:
    """Bands to take; rules that drop bands go by the calibrated ones."""
    if overlap in ("wavelength", "detector"):
        return bands_by_overlap(wavelength, detector, overlap)
    usable = np.flatnonzero(good)
    order, rule = bands_by_overlap(wavelength[usable], [detector[i] for i in usable], overlap)
    kept = usable[order]
    low, high = wavelength[kept].min(), wavelength[kept].max()
    ends = np.flatnonzero(~good & ((wavelength < low) | (wavelength > high)))
    order = np.concatenate([kept, ends])
    return order[np.argsort(wavelength[order], kind="stable")], rule
