"""GeoTIFF and COG, with the band metadata that hyperspectral tools put into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BrokenProduct, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.envi.header import EnviHeader, find_header, read_header
from torchspectral.io.readers.facts import BandFacts, Values, band_facts, guess_quantity, iso_time, read_options
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.payload import fits, from_tags, restore
from torchspectral.io.safety import check_raster, open_raster

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIME_TAGS = ("acquired", "acquisition_time", "ACQUISITION_TIME", "ACQUISITIONDATETIME", "start_time")


def open_tiff(path: str) -> Any:
    """Open dataset of a checked TIFF."""
    dataset = open_raster(path)
    check_raster(dataset)
    return dataset


class RasterArray(StoredArray):
    """Lazy array over a raster that rasterio opens; one call reads all bands of a window.

    Parameters
    ----------
    handle : Handle
        Of an open dataset, one a thread.
    bands : array_like of int, optional
        1-based band numbers in the order wanted; all by default.
    masked : bool
        Whether the file's own mask makes pixels nodata.
    """

    def __init__(
        self, handle: Handle, *, bands: Any = None, masked: bool = False, stored: Any = None, **more: Any
    ) -> None:
        dataset = handle.get()
        self.handle = handle
        self.bands = np.arange(1, dataset.count + 1) if bands is None else np.asarray(bands)
        self.masked = masked
        block = dataset.block_shapes[0]
        together = dataset.interleaving is not None and dataset.interleaving.value.lower() == "pixel"
        chunks = (len(self.bands) if together else 1, min(block[0], dataset.height), min(block[1], dataset.width))
        super().__init__(
            (len(self.bands), dataset.height, dataset.width),
            stored or dataset.dtypes[0],
            source=handle.path,
            chunks=chunks,
            split="y" if together else "band",
            **more,
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        return self.handle.get().read(indexes=self.bands[bands].tolist(), window=window)

    def invalid(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Pixels that the file's mask calls nodata."""
        if not self.masked:
            return None
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        gone = self.handle.get().read_masks(1, window=window) == 0
        return gone if gone.any() else None


class GeoTiffReader(Reader):
    """Reader of GeoTIFF and COG."""

    name = "geotiff"
    title = "GeoTIFF or COG"
    patterns = ("*.tif", "*.tiff", "*.gtiff", "*.geotiff", "*.cog")
    options = ("wavelength", "wavelength_units", "quantity", "scale", "nodata")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the first bytes."""
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            return 0.8 if file.read(4) in _MAGIC else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open as a lazy cube (or layers, where our writer stored layers).

        Raises
        ------
        BrokenProduct, BandMismatch, MissingMetadata, BadCube, TooLarge
        """
        given = read_options(options)
        handle = Handle(open_tiff, path, per_thread=True)
        dataset = handle.get()
        _check_real(dataset, path)
        check_whole(dataset, path)
        transform, crs, where = _ground(dataset)
        own = from_tags(dataset.tags(ns="TORCHSPECTRAL"))
        if own and not given and fits(own, dataset.count):
            return restore(RasterArray(handle), own, raw=raw, transform=transform, crs=crs)
        tags = [dataset.tags(n) for n in range(1, dataset.count + 1)]
        facts = _facts(dataset, tags, path, given)
        values = _values(dataset, tags, facts, path, given)
        array = RasterArray(
            handle,
            masked=_has_mask(dataset),
            scale=values.scale,
            offset=values.offset,
            nodata=values.nodata,
        )
        attrs = _attributes(dataset, path)
        notes = [*facts.notes, *values.notes, *where]
        if array.masked and values.quantity == "dn" and array.stored.kind in "iu" and not array.scaled:
            notes.append("the file's mask is kept as layer 'mask': integers have no NaN")
        attrs["history"] = [f"opened {path.name} (GeoTIFF)", *notes]
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **facts.coords())
        if facts.names is not None:
            cube = cube.assign_coords(name=("band", facts.names))
        return place(cube, transform, crs)

    def layers(self, path: Path) -> list[str]:
        """``mask`` where the file has its own, ``labels`` where its one band has a colour table or class names."""
        dataset = Handle(open_tiff, path, per_thread=True).get()
        return (["mask"] if _has_mask(dataset) else []) + (["labels"] if _is_classes(dataset) else [])

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """``mask`` (True where valid) or ``labels`` (with ``class_names`` and ``class_colors``), (y, x)."""
        if name not in self.layers(path):
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, self.layers(path))}")
        handle = Handle(open_tiff, path, per_thread=True)
        dataset = handle.get()
        transform, crs, _ = _ground(dataset)
        if name == "mask":
            return place(as_layer(MaskArray(handle), name), transform, crs)
        layer = as_layer(RasterArray(handle, bands=[1], decode=False), name, _classes(dataset))
        return place(layer, transform, crs)


class MaskArray(RasterArray):
    """The file's own mask as a one-band array of bool."""

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle, bands=[1], stored=np.bool_, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """True where valid."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        return (self.handle.get().read_masks(1, window=window) != 0)[None]


def _check_real(dataset: Any, path: Path) -> None:
    kinds = set(dataset.dtypes)
    if len(kinds) > 1 or np.dtype(dataset.dtypes[0]).kind not in "iuf":
        raise BadCube(f"{path.name} holds values of type {', '.join(sorted(kinds))}, expected one type of real numbers")


def check_whole(dataset: Any, path: Path) -> None:
    """Refuse a file that ends before its first or last block does."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    size = path.stat().st_size
    rows, cols = dataset.block_shapes[0]
    last = (dataset.width - 1) // cols, (dataset.height - 1) // rows
    with rasterio.Env():  # GDAL's own words go to the log
        for band in {1, dataset.count}:
            for col, row in {(0, 0), last}:
                keys = [f"BLOCK_{what}_{col}_{row}" for what in ("OFFSET", "SIZE")]
                where = [dataset.get_tag_item(key, dm="TIFF", bidx=band) for key in keys]
                end = size
                if None not in where:
                    end = sum(int(n) for n in where)
                else:  # a block that was never written, or a table of blocks that is cut off
                    try:
                        dataset.read(band, window=Window(col * cols, row * rows, 1, 1))
                    except RasterioError:
                        end = size + 1
                if end > size:
                    raise BrokenProduct(f"{path.name} is truncated: {size} bytes end before the last block of pixels")


def _has_mask(dataset: Any) -> bool:
    import rasterio
    from rasterio.enums import MaskFlags

    # Within an Env GDAL's warnings go to the log.
    with rasterio.Env():
        flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _is_classes(dataset: Any) -> bool:
    if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "iu":
        return False
    return bool(_classes(dataset))


def _classes(dataset: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    payload = from_tags(dataset.tags(ns="TORCHSPECTRAL"))
    for key in ("class_names", "class_colors"):
        if payload and payload["attrs"].get(key):
            found[key] = payload["attrs"][key]
    if "class_colors" not in found:
        try:
            table = dataset.colormap(1)
        except ValueError:
            table = {}
        if table:
            last = max((v for v, colour in table.items() if any(colour[:3])), default=0)
            found["class_colors"] = [list(table.get(v, (0, 0, 0))[:3]) for v in range(last + 1)]
    return found


def _ground(dataset: Any) -> tuple[Any, Any, list[str]]:
    """Transform, CRS and notes; (None, None) where the pixels lie nowhere."""
    points, _ = dataset.gcps
    if dataset.transform.is_identity and dataset.crs is None:
        notes = [f"{len(points)} ground control points are not applied: warp the image first"] if points else []
        if dataset.rpcs is not None:
            notes.append("the RPC model is not applied: orthorectify the image first")
        return None, None, notes
    return dataset.transform, dataset.crs, []


def _facts(dataset: Any, tags: list[dict[str, str]], path: Path, given: Mapping[str, Any]) -> BandFacts:
    """Band metadata: band tags, then IMAGERY, then the ENVI domain, then descriptions, then a sidecar header."""
    count = dataset.count
    names = [text or "" for text in dataset.descriptions]
    stated = _from_tags(tags) or _from_imagery(dataset) or _from_domain(dataset)
    sidecar = None
    if stated is None:
        described = _names_carry(names)
        header = None if described else _sidecar(path)
        if header is not None and header.numbers("wavelength").size == count:
            stated = {
                "wavelength": header.numbers("wavelength"),
                "units": header.text("wavelength units"),
                "fwhm": header.numbers("fwhm"),
                "good": header.numbers("bbl"),
            }
            sidecar = header.path.name
    stated = dict(stated or {})
    stated.setdefault("good", _flags(tags, "bbl"))
    facts = band_facts(
        count,
        path.name,
        names=names if any(names) else (),
        given=given,
        searched="band tags, the IMAGERY and ENVI domains, band descriptions and a .hdr beside the file",
        **stated,
    )
    if sidecar:
        facts.notes.append(f"wavelengths taken from {sidecar}")
    return facts


def _names_carry(names: list[str]) -> bool:
    from torchspectral.io.readers.wavelengths import from_names

    return from_names(names) is not None


def _tag(tags: Mapping[str, str], *names: str) -> str:
    for name in names:
        for key in (name, name.upper(), name.capitalize()):
            if tags.get(key, "").strip():
                return tags[key].strip()
    return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _from_tags(tags: list[dict[str, str]]) -> dict[str, Any] | None:
    wave = np.array([_number(_tag(t, "wavelength", "wavelengths", "wl")) for t in tags])
    if not np.isfinite(wave).any():
        return None
    units = next((u for t in tags if (u := _tag(t, "wavelength_units", "wavelength_unit", "wlu"))), "")
    width = np.array([_number(_tag(t, "fwhm")) for t in tags])
    return {
        "wavelength": wave,
        "units": units,
        "fwhm": width if np.isfinite(width).any() else (),
        "good": _flags(tags, "bbl"),
    }


def _flags(tags: list[dict[str, str]], name: str) -> np.ndarray | tuple[()]:
    texts = [_tag(t, name) for t in tags]
    if not any(texts):
        return ()
    return np.array([0.0 if text.lower() in ("0", "0.0", "false", "bad") else 1.0 for text in texts])


def _from_imagery(dataset: Any) -> dict[str, Any] | None:
    tags = [dataset.tags(n, ns="IMAGERY") for n in range(1, dataset.count + 1)]
    wave = np.array([_number(t.get("CENTRAL_WAVELENGTH_UM", "")) for t in tags])
    if not np.isfinite(wave).any():
        return None
    width = np.array([_number(t.get("FWHM_UM", "")) for t in tags])
    return {"wavelength": wave, "units": "um", "fwhm": width if np.isfinite(width).any() else ()}


def _from_domain(dataset: Any) -> dict[str, Any] | None:
    """Dataset tags as ENVI writes them, in the ENVI domain or the default one."""
    for tags in (dataset.tags(ns="ENVI"), dataset.tags()):
        lists = {key: _list(_tag(tags, key)) for key in ("wavelength", "fwhm", "bbl")}
        if lists["wavelength"].size == dataset.count and dataset.count > 0 and _tag(tags, "wavelength"):
            units = _tag(tags, "wavelength_units", "wavelength units")
            fits_count = {k: v if v.size == dataset.count else np.array([]) for k, v in lists.items()}
            found = {"wavelength": fits_count["wavelength"], "units": units, "fwhm": fits_count["fwhm"]}
            if fits_count["bbl"].size:
                found["good"] = fits_count["bbl"]
            return found
    return None


def _list(text: str) -> np.ndarray:
    words = re.split(r"[,\s]+", text.strip().strip("{}").strip())
    try:
        return np.array([float(word) for word in words if word])
    except ValueError:
        return np.array([])


def _sidecar(path: Path) -> EnviHeader | None:
    found = find_header(path)
    return None if found is None else read_header(found)


def _values(dataset: Any, tags: list[dict[str, str]], facts: BandFacts, path: Path, given: Mapping[str, Any]) -> Values:
    scale = np.array([s if s not in (None, 0.0) else 1.0 for s in dataset.scales], dtype=np.float64)
    offset = np.array([o or 0.0 for o in dataset.offsets], dtype=np.float64)
    nodata = dataset.nodata
    notes: list[str] = []
    scaled = bool(np.any(scale != 1.0) or np.any(offset != 0.0))
    if scaled and np.all(scale == scale[0]):
        notes.append(f"value = stored * {scale[0]:g} + {offset[0]:g} (band scale and offset)")
    elif scaled:
        notes.append("value = stored * scale + offset (band scales and offsets)")
    words = " ".join(
        {u for u in dataset.units if u} | {_tag(tags[0], "quantity", "units", "standard_name")}
        | {_tag(dataset.tags(), "quantity", "units", "standard_name", "long_name")}
    )  # fmt: skip
    quantity = ""
    small = bool(np.all((np.abs(scale) >= 1e-6) & (np.abs(scale) <= 1e-2)))
    if not words.strip() and small and (np.isfinite(facts.wavelength).any() or dataset.count == 1):
        quantity = "reflectance"
        notes.append("taken as reflectance because of its band scale")
    if nodata is not None:
        nodata = int(nodata) if float(nodata).is_integer() and np.isfinite(nodata) else float(nodata)
    return guess_quantity(
        Values(scale, offset, nodata, quantity, notes),
        words=words,
        hints=f"{path.stem} {_tag(dataset.tags(), 'TIFFTAG_IMAGEDESCRIPTION')}",
        floats=scaled or np.dtype(dataset.dtypes[0]).kind == "f",
        given=given,
    )


def _attributes(dataset: Any, path: Path) -> dict[str, Any]:
    attrs: dict[str, Any] = {"source": [str(path)]}
    tags = dataset.tags()
    for name in _TIME_TAGS:
        time = iso_time(tags.get(name, "")) or iso_time(dataset.tags(ns="IMAGERY").get(name, ""))
        if time:
            attrs["acquired"] = time
            break
    for name, keys in (
        ("sensor", ("sensor", "sensor_type", "TIFFTAG_MODEL")),
        ("platform", ("platform", "satellite", "SATELLITEID")),
        ("level", ("processing_level", "level")),
    ):
        text = _tag(tags, *keys) or (_tag(dataset.tags(ns="IMAGERY"), "SATELLITEID") if name == "platform" else "")
        if text:
            attrs[name] = text
    return attrs | (_classes(dataset) if _is_classes(dataset) else {})
