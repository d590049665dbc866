"""EnMAP L1B, L1C and L2A products (DLR)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.detectors import OVERLAPS, average_overlap, bands_by_overlap
from torchspectral.io.readers.enmap.files import EnmapFiles, find_files, looks_like_enmap
from torchspectral.io.readers.enmap.metadata import EnmapMetadata, parse_metadata
from torchspectral.io.readers.facts import read_options
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.stacks import FlagArray, StackArray, ground_of

BAD_BANDS = ("auto", "metadata", "scan")

# Layer -> kind of the quality raster and what its values mean.
QUALITY: dict[str, tuple[str, dict[str, Any]]] = {
    "classes": (
        "QL_QUALITY_CLASSES",
        {"flag_values": [1, 2, 3], "flag_meanings": ["land", "water", "background"]},
    ),
    "cloud": ("QL_QUALITY_CLOUD", {"flag_values": [0, 1], "flag_meanings": ["clear", "cloud"]}),
    "shadow": ("QL_QUALITY_CLOUDSHADOW", {"flag_values": [0, 1], "flag_meanings": ["clear", "cloud shadow"]}),
    "cirrus": (
        "QL_QUALITY_CIRRUS",
        {"flag_values": [0, 1, 2, 3], "flag_meanings": ["none", "thin", "medium", "thick"]},
    ),
    "haze": ("QL_QUALITY_HAZE", {"flag_values": [0, 1], "flag_meanings": ["clear", "haze"]}),
    "snow": ("QL_QUALITY_SNOW", {"flag_values": [0, 1], "flag_meanings": ["none", "snow"]}),
    "testflags": ("QL_QUALITY_TESTFLAGS", {}),
    "testflags_vnir": ("QL_QUALITY_TESTFLAGS_VNIR", {}),
    "testflags_swir": ("QL_QUALITY_TESTFLAGS_SWIR", {}),
    "pixelmask": ("QL_PIXELMASK", {}),
    "pixelmask_vnir": ("QL_PIXELMASK_VNIR", {}),
    "pixelmask_swir": ("QL_PIXELMASK_SWIR", {}),
    "quicklook_vnir": ("QL_VNIR", {}),
    "quicklook_swir": ("QL_SWIR", {}),
}
# Layers made of the classes: True where the class is the number.
_OF_CLASSES = {"water": 2, "nodata": 3}


class EnmapReader(Reader):
    """Reader of EnMAP products; takes the folder, the METADATA.XML, a spectral image or the ZIP."""

    name = "enmap"
    title = "EnMAP L1B, L1C, L2A"
    patterns = ("ENMAP01-*METADATA.XML", "ENMAP01-*SPECTRAL_IMAGE*.TIF", "ENMAP01-*.ZIP")
    options = ("overlap", "bad_bands", "scale", "nodata")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the names of the parts and the content of the XML."""
        return looks_like_enmap(path)

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open as a lazy cube: reflectance (L2A) or radiance [W m-2 sr-1 um-1] (L1B, L1C).

        Parameters
        ----------
        overlap : {"wavelength", "detector", "vnir", "swir", "average"}
            What to do where VNIR and SWIR both see (900-1000 nm): keep all bands, sorted by wavelength (default); all,
            VNIR before SWIR; all of VNIR and the SWIR bands beyond it; all of SWIR and the VNIR bands before it; the
            VNIR bands there as means of both detectors (values, also with `raw`: nothing stored is a mean).
        bad_bands : {"auto", "metadata", "scan"}
            How bands without data are found: by the XML's statistics (or ``bbl`` tags), by reading pixels, or by
            reading only where the metadata has neither (default).
        scale : float
            Instead of the gain of XML and TIFF, value = DN * scale.
        nodata : float
            Instead of the TIFF's.

        Raises
        ------
        BrokenProduct, BandMismatch, MissingMetadata
            Parts that are absent or contradict each other; an image alone that says nothing about its bands.
        """
        overlap = options.get("overlap", "wavelength")
        bad_bands = options.get("bad_bands", "auto")
        for name, value, known in (("overlap", overlap, OVERLAPS), ("bad_bands", bad_bands, BAD_BANDS)):
            if value not in known:
                raise BadSettings(f"got {name}={value!r}, expected one of {', '.join(known)}")
        given = read_options({k: v for k, v in options.items() if k in ("scale", "nodata")})
        files = find_files(path)
        if not files.metadata:
            return _without_xml(files, path, raw, given, overlap)
        metadata = parse_metadata(files.metadata_bytes(), Path(files.metadata).name)
        if not files.images:
            listed = next(
                (n for n in metadata.names if "SPECTRAL_IMAGE" in n.upper()), f"{files.stem}-SPECTRAL_IMAGE.TIF"
            )
            found = ", ".join(sorted(files.rasters)) or "no raster"
            raise BrokenProduct(f"the spectral image is missing: expected {listed} beside the XML, found {found}")
        handles, where, detector = _parts(files, metadata)
        numbers = np.arange(1, len(where) + 1)
        alone = _one_detector(path, files)
        if alone is not None:
            own = np.flatnonzero(where[:, 0] == alone)
            metadata, numbers = metadata.take(own), numbers[own]
            handles, where = [handles[alone]], np.column_stack([np.zeros(own.size, int), where[own, 1]])
            detector = [detector[i] for i in own]
            files.rasters = {files.images[alone]: files.rasters[files.images[alone]]}
        _check_equal(handles, files)
        scale, offset, notes = _scaling(handles, where, metadata, given)
        nodata, note = _nodata(handles[0].get(), metadata, given)
        notes += [note] if note else []
        array = StackArray(
            handles, where, source=files.source(files.images[0]), scale=scale, offset=offset, nodata=nodata
        )
        good, how = _good(array, metadata, bad_bands)
        if overlap == "average" and len(files.images) == 2:
            raise BadSettings(
                "overlap='average' mixes pixels of both detectors, which in L1B are not registered: open L1C"
            )
        order, rule = bands_by_overlap(metadata.wavelength, detector, overlap)
        chosen: StoredArray
        if overlap == "average":
            chosen, raw = average_overlap(array, metadata.wavelength, detector, order), False
        else:
            chosen = StackArray(
                handles, where[order], source=array.source, scale=scale[order], offset=offset[order], nodata=nodata
            )
        attrs = {
            **metadata.attrs,
            "product": files.stem,
            "source": [str(files.archive)]
            if files.archive
            else [files.metadata, *(files.source(k) for k in files.images)],
            "history": [f"opened {files.stem} (EnMAP {metadata.level})", *metadata.notes, *notes, how, rule],
        }
        if len(files.images) == 2:
            attrs["history"].append("L1B: VNIR and SWIR are not registered to each other; RPC are not applied")
        if metadata.rpc:
            attrs["rpc"] = {str(n): metadata.rpc[n] for n in numbers[order].tolist() if n in metadata.rpc}
        cube = as_cube(
            chosen,
            quantity="reflectance" if metadata.level.startswith("L2") else "radiance",
            raw=raw,
            attrs=attrs,
            wavelength=metadata.wavelength[order],
            fwhm=metadata.fwhm[order],
            good=good[order],
            number=numbers[order],
            detector=[detector[i] for i in order],
        )
        return ground_of(cube, handles[0].get())

    def layers(self, path: Path) -> list[str]:
        """Quality rasters that the product has, by the common names of `torchspectral.io.masks` where they have one."""
        files = find_files(path)
        names = [name for name, (kind, _) in QUALITY.items() if kind in files.rasters]
        return names + (list(_OF_CLASSES) if "classes" in names else [])

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One quality raster, (y, x), or (layer, y, x) where it has several bands; stored integers or bool."""
        files = find_files(path)
        known = self.layers(path)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        kind, meaning = QUALITY["classes"] if name in _OF_CLASSES else QUALITY[name]
        handle = files.handle(kind)
        dataset = handle.get()
        self._check_size(files, kind, dataset)
        source = files.source(kind)
        if name in _OF_CLASSES:
            layer = as_layer(FlagArray([handle], np.array([[0, 1]]), equal=[_OF_CLASSES[name]], source=source), name)
        elif dataset.count == 1:
            layer = as_layer(StackArray([handle], np.array([[0, 1]]), source=source, decode=False), name, meaning)
        else:
            where = np.column_stack([np.zeros(dataset.count, int), np.arange(1, dataset.count + 1)])
            array = StackArray([handle], where, source=source, decode=False)
            layer = as_cube(array, quantity="dn").rename(band="layer")
            layer = layer.drop_vars([n for n in layer.coords if n not in ("x", "y")])
            layer = layer.assign_coords(layer=[f"{name}_{n}" for n in range(1, dataset.count + 1)]).rename(name)
        layer.attrs["source"] = [source]
        return ground_of(layer, dataset)

    @staticmethod
    def _check_size(files: EnmapFiles, kind: str, dataset: Any) -> None:
        for image in files.images[:1]:
            cube = files.handle(image).get()
            if "QL_VNIR" != kind != "QL_SWIR" and (cube.height, cube.width) != (dataset.height, dataset.width):
                raise BrokenProduct(
                    f"{kind} has {dataset.height} x {dataset.width} pixels, expected {cube.height} x {cube.width} "
                    "as the spectral image: is it of another scene?"
                )


def _parts(files: EnmapFiles, metadata: EnmapMetadata) -> tuple[list[Handle], np.ndarray, list[str]]:
    """Rasters, where each band of the XML lies in them, and the detectors."""
    handles = [files.handle(kind) for kind in files.images]
    datasets = [handle.get() for handle in handles]
    counts = [dataset.count for dataset in datasets]
    bands = metadata.wavelength.size
    names = " and ".join(Path(files.rasters[k]).name for k in files.images)
    if sum(counts) != bands:
        raise BandMismatch(f"{names} has {sum(counts)} bands but the XML describes {bands}: are they of one product?")
    where = np.concatenate([np.column_stack([np.full(n, i), np.arange(1, n + 1)]) for i, n in enumerate(counts)])
    if len(files.images) == 1:
        return handles, where, metadata.detector
    return handles, where, ["vnir"] * counts[0] + ["swir"] * counts[1]


def _one_detector(path: Path, files: EnmapFiles) -> int | None:
    """Which image of an L1B product was asked for by its own name; None where the whole product was."""
    kinds = files.images
    if len(kinds) < 2 or files.archive is not None or path.is_dir():
        return None
    return next((i for i, kind in enumerate(kinds) if Path(files.rasters[kind]) == path), None)


def _check_equal(handles: list[Handle], files: EnmapFiles) -> None:
    sizes = [(d.height, d.width, d.dtypes[0]) for d in (handle.get() for handle in handles)]
    if len(set(sizes)) > 1:
        raise BrokenProduct(
            f"the VNIR image has size and type {sizes[0]}, the SWIR image {sizes[1]}, so they make no one cube: open "
            f"{Path(files.rasters[files.images[0]]).name} or the other by its own name"
        )


def _scaling(
    handles: list[Handle], where: np.ndarray, metadata: EnmapMetadata, given: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scale and offset of each band, applied once: XML and TIFF must agree where both state them."""
    bands = len(where)
    if "scale" in given:
        return np.full(bands, float(given["scale"])), np.zeros(bands), [f"value = DN * {given['scale']:g} (given)"]
    gain, offset = metadata.gain.copy(), np.nan_to_num(metadata.offset)
    factor = 1.0 if metadata.level.startswith("L2") else 1000.0
    stated = [(handle.get().scales, handle.get().offsets) for handle in handles]
    tiff = np.array([stated[i][0][n - 1] or 1.0 for i, n in where])
    shift = np.array([stated[i][1][n - 1] or 0.0 for i, n in where])
    in_tiff = (tiff != 1.0) | (shift != 0.0)
    known = np.isfinite(gain) & (gain != 0)
    notes = []
    for band in np.flatnonzero(in_tiff & known):
        same = any(
            np.isclose(tiff[band], gain[band] * f, rtol=1e-5) and np.isclose(shift[band], offset[band] * f, atol=1e-9)
            for f in (1.0, factor)
        )
        if not same:
            raise BrokenProduct(
                f"band {band + 1}: the TIFF says value = DN * {tiff[band]:g} + {shift[band]:g}, the XML DN * "
                f"{gain[band]:g} + {offset[band]:g}: give scale= to say which is right"
            )
    if not (known | in_tiff).all():
        missing = int(np.argmin(known | in_tiff)) + 1
        raise MissingMetadata(f"band {missing} has no GainOfBand in the XML and no scale in the TIFF: give scale=")
    scale = np.where(known, gain * factor, tiff)
    offset = np.where(known, offset * factor, shift)
    unit = "" if factor == 1 else ", W m-2 sr-1 nm-1 times 1000"
    if in_tiff.any():
        notes.append(
            "the TIFF carries the XML's scale too: applied once" if known.all() else "scale taken from the TIFF"
        )
    if np.dtype(handles[0].get().dtypes[0]).kind == "f":
        notes.append("stored as floats, taken as DN: give scale=1 where they are physical already")
    low, high = float(scale.min()), float(scale.max())
    text = f"{low:g}" if low == high else f"{low:g}..{high:g}"
    return scale, offset, [f"value = DN * {text} + offset (gain of the XML{unit})", *notes]


def _nodata(dataset: Any, metadata: EnmapMetadata, given: dict[str, Any]) -> tuple[float | None, str]:
    if "nodata" in given:
        return given["nodata"], ""
    if dataset.nodata is not None:
        return float(dataset.nodata), ""
    if metadata.nodata is not None:
        return metadata.nodata, f"nodata {metadata.nodata:g} (backgroundValue of the XML)"
    if metadata.level.startswith("L2") and dataset.dtypes[0] in ("int16", "float32"):
        return -32768.0, "the image states no nodata: -32768 taken, as in all L2A products"
    return None, "the product states no nodata value"


def _good(array: StackArray, metadata: EnmapMetadata, how: str) -> tuple[np.ndarray, str]:
    """Bands that hold data, and how that was found out."""
    empty = metadata.empty.copy()
    flags = np.ones(empty.size, dtype=bool)
    tagged = False
    for band, (raster, number) in enumerate(array.where):
        text = array.handles[int(raster)].get().tags(int(number)).get("bbl", "").strip()
        if text:
            tagged = True
            flags[band] = text not in ("0", "0.0")
    if how == "scan" or (how == "auto" and not (metadata.has_statistics or tagged)):
        empty |= ~_with_data(array)
        source = "found by reading pixels"
    else:
        source = "by the XML's statistics" if metadata.has_statistics else "by the image's tags"
    good = flags & ~empty
    bad = np.flatnonzero(~good) + 1
    text = f"bands without data: {', '.join(map(str, bad)) or 'none'} ({source})"
    return good, text


def _with_data(array: StackArray) -> np.ndarray:
    """Whether each band has a valid pixel; reads each only until the first is found."""
    _, height, width = array.shape
    rows = max(1, (4 << 20) // (width * array.stored.itemsize))
    out = np.zeros(array.shape[0], dtype=bool)
    for band in range(out.size):
        for start in range(0, height, rows):
            block = array.read(np.array([band]), slice(start, min(start + rows, height)), slice(0, width))
            valid = np.isfinite(block) if block.dtype.kind == "f" else np.ones(block.shape, bool)
            if array.nodata is not None:
                valid &= block != array.nodata
            if valid.any():
                out[band] = True
                break
    return out


def _without_xml(files: EnmapFiles, path: Path, raw: bool, given: dict[str, Any], overlap: str) -> xr.DataArray:
    """An image alone: whatever its own tags say."""
    from torchspectral.io.readers.enmap.metadata import guess_detectors
    from torchspectral.io.readers.geotiff import GeoTiffReader

    expected = f"{files.stem}-METADATA.XML"
    if files.archive is not None:
        raise BrokenProduct(f"{path.name} holds a spectral image without its XML: expected {expected} in it")
    where = path if path.is_file() else Path(files.rasters[files.images[0]])
    if where.suffix.lower() not in (".tif", ".tiff", ".geotiff", ".gtiff"):
        raise BrokenProduct(f"{where.name} has no {expected} beside it, which says what its bands are")
    cube = GeoTiffReader().open(where, raw=raw, **given)
    wavelength = cube["wavelength"].values if "band" in cube.dims else np.empty(0)
    if not wavelength.size or not np.isfinite(wavelength).all():
        raise MissingMetadata(
            f"no wavelengths for {where.name}: searched {expected} beside it, the band tags and the band descriptions; "
            "put the XML beside the image, or use reader='geotiff' with wavelength="
        )
    detector, how = guess_detectors(wavelength, cube["fwhm"].values)
    if overlap == "average":
        raise MissingMetadata(f"overlap='average' needs {expected}, which is not beside {where.name}")
    order, rule = bands_by_overlap(wavelength, detector, overlap)
    cube = cube.assign_coords(detector=("band", np.asarray(detector))).isel(band=order)
    facts = {"sensor": "EnMAP", "platform": "EnMAP", "product": files.stem}
    lines = [f"no {expected} beside the image: taken as its own tags say", f"detectors {how}", rule]
    cube.attrs = {**cube.attrs, **facts, "history": [*cube.attrs.get("history", []), *lines]}
    return cube
