"""Sentinel-2 L1C and L2A: SAFE folders and ZIPs, and cloud-optimised copies with a STAC item."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BrokenProduct, TorchspectralError, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, StoredArray, as_cube
from torchspectral.io.readers.members import members_of
from torchspectral.io.readers.sentinel2.catalogue import is_sentinel_item, read_catalogue
from torchspectral.io.readers.sentinel2.layers import layer_names, open_named_layer
from torchspectral.io.readers.sentinel2.safe import MTD, read_safe
from torchspectral.io.readers.sentinel2.scene import BANDS, NATIVE, Scene, check_resolution, settled_offset
from torchspectral.io.readers.stacks import JoinedArray, on_zoom

_ITEM_BYTES = 2 << 20
RESAMPLE = ("none", "repeat", "product")


class Sentinel2Reader(Reader):
    """Reader of Sentinel-2 scenes."""

    name = "sentinel2"
    title = "Sentinel-2 L1C, L2A"
    patterns = ("*.SAFE", "S2*_MSIL*.zip", "MTD_MSIL*.xml", "S2*.json")
    options = ("resolution", "resample", "boa_offset")
    layer_options = ("resolution", "boa_offset")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the names of the metadata, or the content of a STAC item."""
        if path.is_dir():
            if _safe_inside(path):
                return 0.95
            return 0.9 if _item_inside(path) is not None else 0.0
        if re.fullmatch(MTD, path.name, re.IGNORECASE):
            return 0.95
        if path.suffix.lower() == ".zip":
            return 0.95 if members_of(path).match(MTD) else 0.0
        return 0.9 if path.suffix.lower() in (".json", ".geojson") and is_sentinel_item(path) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the bands of one pixel size as a lazy cube of reflectance, sorted by wavelength.

        The bands sensed at other pixel sizes are the layers ``bands_10m``, ``bands_20m``, ``bands_60m``. Numbers of 0 are
        nodata, saturated ones (65535) have no value: both are NaN; the layer ``saturated`` tells them apart.

        Parameters
        ----------
        resolution : {10, 20, 60}
            Pixel size [m] whose bands make the cube: 4, 6, or 2 (3 for L1C). 10 by default.
        resample : {"none", "repeat", "product"}
            "repeat" adds the bands of other pixel sizes: coarser pixels repeated, finer ones averaged (values, also with
            `raw`). "product" adds the copies that ESA has resampled, as far as an L2A product has them at this size.
        boa_offset : float
            DN that are added before the division, where the product does not say or is wrong: -1000 or 0.

        Raises
        ------
        BrokenProduct, MissingMetadata, BadSettings, UnsafeInput
        """
        resolution = check_resolution(options.get("resolution", 10))
        resample = options.get("resample", "none")
        if resample not in RESAMPLE:
            raise BadSettings(f"got resample={resample!r}, expected one of {', '.join(RESAMPLE)}")
        scene = read_scene(path, settled_offset(options.get("boa_offset")))
        native = scene.native(resolution)
        if not native:
            sizes = [s for s in NATIVE if scene.native(s)]
            raise BrokenProduct(
                f"{scene.name} has no bands of {resolution} m, expected {', '.join(NATIVE[resolution])}; it has those of "
                f"{', '.join(f'{s} m' for s in sizes) or 'no size'}: give resolution="
            )
        array: StoredArray = scene.array(native, resolution)
        bands, notes = list(native), []
        if resample == "product":
            copies = [b for b in BANDS if b not in native and resolution in scene.images.get(b, {})]
            if not copies:
                raise BadSettings(f"{scene.name} has no copies resampled to {resolution} m: use resample='repeat'")
            bands += copies
            array = scene.array(bands, resolution)
            notes.append(f"resampled to {resolution} m by ESA: {', '.join(copies)}")
        elif resample == "repeat":
            array, bands, notes = _joined(scene, array, native, resolution)
            raw = False
        wave, width, how = scene.wavelengths(bands)
        order = np.argsort(wave, kind="stable")
        bands = [bands[i] for i in order]
        if isinstance(array, JoinedArray):
            array = JoinedArray(array.arrays, array.where[order])
        else:
            array = scene.array(bands, resolution)
        others = [b for b in BANDS if b in scene.images and b not in bands]
        history = [
            f"opened {scene.name} (Sentinel-2 {scene.level})",
            f"bands of {resolution} m",
            *notes,
            *scene.notes,
            how,
            "0 is nodata, 65535 (saturated) has no value",
        ]
        if others:
            history.append(f"bands of other pixel sizes are layers: {', '.join(others)}")
        cube = as_cube(
            array,
            quantity="reflectance",
            raw=raw,
            attrs={
                "sensor": f"{scene.platform} MSI",
                "platform": scene.platform,
                "level": scene.level,
                "product": scene.name,
                **scene.attrs,
                "source": [
                    *scene.source,
                    *(scene.images[b][s].source for b in bands for s in _size(scene, b, resolution)),
                ],
                "history": history,
            },
            wavelength=wave[order],
            fwhm=width[order],
            number=[BANDS.index(b) + 1 for b in bands],
        )
        cube = cube.assign_coords(name=("band", bands))
        return place(cube, *scene.place(resolution, scene.images[native[0]][resolution].handle.get()))

    def layers(self, path: Path) -> list[str]:
        """Flags, scene classification, aerosol and water maps, probabilities, angles, bands of each pixel size."""
        return layer_names(read_scene(path, 0.0))

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One layer; flags lie on the grid of the cube opened with the same ``resolution``, the others on their own."""
        resolution = check_resolution(options.get("resolution", 10))
        offset = settled_offset(options.get("boa_offset"))
        scene = read_scene(path, offset if name.startswith("bands_") else 0.0)
        known = layer_names(scene)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        return open_named_layer(scene, name, resolution)


def read_scene(path: Path, boa_offset: float | None) -> Scene:
    """The scene that a path belongs to."""
    if path.is_dir() and not _safe_inside(path):
        item = _item_inside(path)
        if item is not None:
            return read_catalogue(item, boa_offset)
    if path.suffix.lower() in (".json", ".geojson"):
        return read_catalogue(path, boa_offset)
    return read_safe(path, boa_offset)


def _joined(
    scene: Scene, array: StoredArray, native: list[str], resolution: int
) -> tuple[JoinedArray, list[str], list[str]]:
    """All bands on the grid of one pixel size."""
    arrays, bands, where = [array], list(native), [(0, i) for i in range(len(native))]
    notes = []
    for size in NATIVE:
        more = scene.native(size) if size != resolution else []
        if not more:
            continue
        arrays.append(on_zoom(scene.array(more, size), (array.shape[1], array.shape[2]), f"the grid of {size} m"))
        where += [(len(arrays) - 1, i) for i in range(len(more))]
        bands += more
        how = "pixels repeated" if size > resolution else "pixels averaged"
        notes.append(f"resampled from {size} m, {how}: {', '.join(more)}")
    return JoinedArray(arrays, np.array(where)), bands, notes


def _size(scene: Scene, band: str, resolution: int) -> list[int]:
    return [resolution] if resolution in scene.images[band] else sorted(scene.images[band])[:1]


def _safe_inside(path: Path) -> bool:
    """Whether a folder is a SAFE product, or holds one; looked for by name only."""
    try:
        names = [p.name for p in path.iterdir()]
    except OSError:
        return False
    return any(re.fullmatch(MTD, n, re.IGNORECASE) or n.upper().endswith(".SAFE") for n in names)


def _item_inside(path: Path) -> Path | None:
    """The one STAC item of Sentinel-2 in a folder."""
    try:
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in (".json", ".geojson"))
    except OSError:
        return None
    items = []
    for file in found[:32]:
        try:
            small = file.stat().st_size <= _ITEM_BYTES
            if small and b"entinel-2" in file.read_bytes() and is_sentinel_item(file):
                items.append(file)
        except (TorchspectralError, OSError):  # another JSON
            continue
    return items[0] if len(items) == 1 else None
