"""DESIS L1B, L1C and L2A products (DLR, Teledyne)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.desis.metadata import RADIANCE, DesisBands, from_header, from_xml, merged
from torchspectral.io.readers.facts import read_options
from torchspectral.io.readers.members import Members, members_of, unpacked_in
from torchspectral.io.readers.stacks import FlagArray, StackArray, ground_of, raster_layer

PART = (
    r"(?P<stem>DESIS-HSI-(?P<level>L1A|L1B|L1C|L2A)-.+?)-(?P<kind>METADATA\.XML|SPECTRAL_IMAGE\.HDR"
    r"|SPECTRAL_IMAGE\.(?:TIFF?|GEOTIFF|BSQ|BIL|BIP)|QL_QUALITY(?:-2)?\.TIFF?)"
)
# Bands of QL_QUALITY-2 (L2A), 1-based, and the layer that they make.
QUALITY2: dict[str, tuple[int, ...]] = {
    "shadow": (1,), "land": (2,), "snow": (3,), "haze": (4, 5), "cloud": (6, 7), "water": (8,),
}  # fmt: skip
_ATMOSPHERE = {"aerosol_optical_thickness": 9, "water_vapour": 10}


class DesisReader(Reader):
    """Reader of DESIS products; takes the folder, the METADATA.xml, the image, its header or the ZIP."""

    name = "desis"
    title = "DESIS L1B, L1C, L2A"
    patterns = ("DESIS-HSI-*METADATA.xml", "DESIS-HSI-*SPECTRAL_IMAGE.tif", "DESIS-HSI-*.zip")
    options = ("scale", "nodata")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the names of the parts."""
        if path.is_dir() or (path.suffix.lower() == ".zip" and "DESIS" in path.name.upper()):
            return 0.95 if _Files(path).kinds.get("image") else 0.0
        match = re.fullmatch(PART, path.name, re.IGNORECASE)
        return 0.95 if match and not match["kind"].upper().startswith("QL_") else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open as a lazy cube: reflectance (L2A) or radiance [W m-2 sr-1 um-1] (L1B, L1C).

        Wavelengths, widths, gains and offsets come from the METADATA.xml and the header of the product, which must agree,
        and agree with the scale that the TIFF may carry.

        Parameters
        ----------
        scale : float
            Instead of the product's gains, value = DN * scale.
        nodata : float
            Instead of the product's.

        Raises
        ------
        BrokenProduct, BandMismatch, MissingMetadata
        """
        given = read_options({k: v for k, v in options.items() if k in ("scale", "nodata")})
        files = _Files(path)
        image = files.need("image")
        handle = files.members.handle(image)
        dataset = handle.get()
        facts, notes = files.bands(dataset.count)
        scale, offset, how = _scaling(dataset, facts, files.level, given)
        nodata = given.get("nodata", dataset.nodata if dataset.nodata is not None else facts.nodata)
        where = np.column_stack([np.zeros(dataset.count, int), np.arange(1, dataset.count + 1)])
        order = np.argsort(facts.wavelength, kind="stable")
        source = files.members.source(image)
        array = StackArray(
            [handle], where[order], source=source, scale=scale[order], offset=offset[order], nodata=nodata
        )
        attrs = {
            "sensor": "DESIS",
            "platform": "ISS",
            "level": files.level,
            "product": files.stem,
            **facts.attrs,
            "source": files.sources(),
            "history": [f"opened {files.stem} (DESIS {files.level})", *notes, *how],
        }
        if nodata is None:
            attrs["history"].append("the product states no nodata value")
        cube = as_cube(
            array,
            quantity="reflectance" if files.level == "L2A" else "radiance",
            raw=raw,
            attrs=attrs,
            wavelength=facts.wavelength[order],
            fwhm=facts.fwhm[order],
            good=facts.good[order],
            number=order + 1,
            detector=["vnir"] * dataset.count,
        )
        if dataset.rpcs is not None:
            cube.attrs["history"].append("the RPC model is not applied: orthorectify the image first")
        return ground_of(cube, dataset)

    def layers(self, path: Path) -> list[str]:
        """Flags of QL_QUALITY-2, and the quality rasters themselves."""
        files = _Files(path)
        names: list[str] = []
        if "quality2" in files.kinds:
            count = files.members.handle(files.kinds["quality2"]).get().count
            names += [name for name, bands in QUALITY2.items() if max(bands) <= count]
            names += [name for name, band in _ATMOSPHERE.items() if band <= count]
        return names + (["quality"] if "quality" in files.kinds else [])

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """A flag (bool) or a quality raster as stored, (y, x), or (layer, y, x) where it has several bands."""
        known = self.layers(path)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        files = _Files(path)
        file = files.kinds["quality" if name == "quality" else "quality2"]
        handle, source = files.members.handle(file), files.members.source(file)
        dataset = handle.get()
        image = files.members.handle(files.need("image")).get()
        if (dataset.height, dataset.width) != (image.height, image.width):
            raise BrokenProduct(
                f"{Path(file).name} has {dataset.height} x {dataset.width} pixels, expected {image.height} x "
                f"{image.width} as the spectral image"
            )
        if name in QUALITY2:
            where = np.array([[0, band] for band in QUALITY2[name]])
            array = FlagArray([handle], where, bits=-1, source=source)
            return ground_of(as_layer(array, name, {"source": [source]}), dataset)
        if name in _ATMOSPHERE:
            stored = StackArray([handle], np.array([[0, _ATMOSPHERE[name]]]), source=source, decode=False)
            return ground_of(as_layer(stored, name, {"source": [source], "long_name": "as stored"}), dataset)
        if dataset.count == 1:
            return raster_layer(handle, name, source)
        where = np.column_stack([np.zeros(dataset.count, int), np.arange(1, dataset.count + 1)])
        many = as_cube(StackArray([handle], where, source=source, decode=False), quantity="dn").rename(band="layer")
        many = many.drop_vars([n for n in many.coords if n not in ("x", "y")])
        many = many.assign_coords(layer=[f"quality_{n}" for n in range(1, dataset.count + 1)]).rename(name)
        many.attrs["source"] = [source]
        return ground_of(many, dataset)


class _Files:
    """Parts of one product."""

    def __init__(self, path: Path) -> None:
        inside = path.is_dir() or path.suffix.lower() == ".zip"
        self.members: Members = members_of(path if inside else path.parent)
        if path.is_dir() and not self.members.match(PART) and (inner := unpacked_in(path)) is not None:
            self.members = members_of(inner)
        found: dict[str, dict[str, str]] = {}
        self.level = ""
        for name, match in self.members.match(PART):
            kind = match["kind"].upper()
            key = {"METADATA.XML": "metadata", "SPECTRAL_IMAGE.HDR": "header"}.get(kind) or (
                "image" if kind.startswith("SPECTRAL") else "quality2" if "-2." in kind else "quality"
            )
            found.setdefault(match["stem"], {}).setdefault(key, name)
        if not inside:
            asked = re.fullmatch(PART, path.name, re.IGNORECASE)
            found = {asked["stem"]: found.get(asked["stem"], {})} if asked else {}
        if not found:
            raise BrokenProduct(f"{path.name} holds no DESIS product: expected DESIS-HSI-...-SPECTRAL_IMAGE.tif")
        if len(found) > 1:
            names = ", ".join(sorted(found)[:3])
            raise BrokenProduct(
                f"{path.name} holds {len(found)} DESIS products ({names}): open one by its METADATA.xml"
            )
        self.stem, self.kinds = next(iter(found.items()))
        self.level = self.stem.split("-")[2].upper()

    def need(self, kind: str) -> str:
        """Name of a part that must be there.

        Raises
        ------
        BrokenProduct
        """
        if kind not in self.kinds:
            there = ", ".join(sorted(self.kinds)) or "nothing"
            raise BrokenProduct(f"the {kind} is missing: expected {self.stem}-SPECTRAL_IMAGE.tif, found {there}")
        return self.kinds[kind]

    def sources(self) -> list[str]:
        """Paths of what the cube is made of."""
        if self.members.zipped:
            return [str(self.members.root)]
        return [self.members.source(self.kinds[k]) for k in ("metadata", "header", "image") if k in self.kinds]

    def bands(self, count: int) -> tuple[DesisBands, list[str]]:
        """Facts of the bands, and lines for the history."""
        xml = header = None
        if "metadata" in self.kinds:
            xml = from_xml(self.members.read(self.kinds["metadata"]), Path(self.kinds["metadata"]).name)
        if "header" in self.kinds:
            header = from_header(self.members.text(self.kinds["header"]), Path(self.kinds["header"]).name)
        return merged(xml, header, count, Path(self.kinds["image"]).name)


def _scaling(
    dataset: Any, facts: DesisBands, level: str, given: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scale and offset of each band, applied once."""
    bands = dataset.count
    if "scale" in given:
        return np.full(bands, float(given["scale"])), np.zeros(bands), [f"value = DN * {given['scale']:g} (given)"]
    factor = 1.0 if level == "L2A" else RADIANCE
    tiff = np.array([s or 1.0 for s in dataset.scales])
    shift = np.array([o or 0.0 for o in dataset.offsets])
    known = np.isfinite(facts.gain) & (facts.gain != 0)
    carried = (tiff != 1.0) | (shift != 0.0)
    offset = np.nan_to_num(facts.offset)
    differ = carried & known & ~(np.isclose(tiff, facts.gain, rtol=1e-5) & np.isclose(shift, offset, atol=1e-9))
    if differ.any():
        at = int(np.argmax(differ))
        raise BrokenProduct(
            f"band {at + 1}: the TIFF says value = DN * {tiff[at]:g} + {shift[at]:g}, the metadata DN * "
            f"{facts.gain[at]:g} + {offset[at]:g}: give scale= to say which is right"
        )
    if not (known | carried).all():
        at = int(np.argmin(known | carried)) + 1
        raise MissingMetadata(f"band {at} has no gain in METADATA.xml or header and no scale in the TIFF: give scale=")
    notes = ["value = DN * gain + offset of each band" + ("" if factor == 1 else ", mW cm-2 sr-1 um-1 times 10")]
    if carried.any():
        notes.append("the TIFF carries the same scale: applied once" if known.all() else "scale taken from the TIFF")
    return np.where(known, facts.gain, tiff) * factor, np.where(known, offset, shift) * factor, notes
