"""Zarr v2 and v3 stores: ours, and others that follow the CF conventions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine

from torchspectral.errors import BadCube, BrokenProduct, MissingMetadata, UnknownName, UnsafeInput, closest
from torchspectral.geo.grids import place, place_swath
from torchspectral.io.readers import payload
from torchspectral.io.readers.base import Reader, StoredArray, as_cube, as_layer
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity, iso_time, read_options
from torchspectral.io.readers.handles import Handle
from torchspectral.io.safety import check_block, check_scene, limits

# Codecs that only move bytes; whatever else a store names (pickle above all) is refused.
_CODECS = {
    "bytes", "blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "crc32c", "crc32", "adler32", "fletcher32",
    "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes", "shuffle", "bitshuffle", "delta", "fixedscaleoffset",
    "quantize", "bitround", "packbits", "astype", "lzf", "zfpy", "pcodec", "checksum",
    "cast_value", "scale_offset",
}  # fmt: skip
_BAND_DIMS = ("band", "bands", "wavelength", "wavelengths", "wl", "lambda", "channel", "spectral")
_Y_DIMS = ("y", "lat", "latitude", "northing", "row", "rows", "line", "lines", "downtrack")
_X_DIMS = ("x", "lon", "longitude", "easting", "col", "cols", "column", "columns", "sample", "samples", "crosstrack")
_META = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_MOST_NODES = 10_000


def open_array(path: str, name: str) -> Any:
    """One zarr array, read-only."""
    import zarr

    group = zarr.open_group(path, mode="r")
    return group[name]


class ZarrArray(StoredArray):
    """Lazy (band, y, x) array over a zarr array whose axes may come in another order.

    Parameters
    ----------
    axes : tuple of int
        Which axis of the stored array is band, y, x; -1 where there is no band axis.
    """

    def __init__(self, path: Path, name: str, axes: tuple[int, int, int], **more: Any) -> None:
        self.handle = Handle(open_array, path, name)
        self.axes = axes
        array = self.handle.get()
        take = [(array.shape[a], array.chunks[a]) if a >= 0 else (1, 1) for a in axes]
        super().__init__(
            [n for n, _ in take],
            array.dtype.newbyteorder("="),
            source=path,
            chunks=[min(n, c) for n, c in take],
            **more,
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        array = self.handle.get()
        wanted = (bands, rows, cols)
        key: list[Any] = [0] * array.ndim
        for axis, part in zip(self.axes, wanted, strict=True):
            if axis >= 0:
                key[axis] = part
        if isinstance(bands, np.ndarray) and self.axes[0] >= 0:
            block = array.oindex[tuple(key)]
        else:
            block = array[tuple(key)]
        left = [a for a in range(array.ndim) if a in self.axes]
        block = np.asarray(block, dtype=self.stored)
        if self.axes[0] < 0:
            block = block if left == list(self.axes[1:]) else block.transpose()
            return np.array(block)[None]
        return np.array(block.transpose([left.index(a) for a in self.axes]), order="K")


class ZarrReader(Reader):
    """Reader of Zarr stores in a folder."""

    name = "zarr"
    title = "Zarr store"
    patterns = ("*.zarr",)
    options = ("key", "wavelength", "wavelength_units", "quantity", "scale", "nodata")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the metadata files of a store."""
        return 0.8 if path.is_dir() and any((path / name).is_file() for name in _META) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the store's cube, or the variable ``key``.

        Raises
        ------
        UnsafeInput
            A codec that runs code, or objects in place of numbers.
        MissingMetadata, UnknownName, BadCube, BrokenProduct, TooLarge
        """
        given = read_options(options)
        with _dataset(path) as found:
            name = _choose(found, path, options.get("key"))
            variable = found[name]
            own = payload.from_items(_plain(found.attrs.get("torchspectral")))
            axes = _axes(variable, found)
            array = ZarrArray(path, name, axes)
            check_scene(array.shape, array.stored, path)
            if own and not given and options.get("key") is None and payload.fits(own, array.shape[0]):
                transform, crs = _ground(found, variable, axes, exact=True)
                cube = payload.restore(array, own, raw=raw, transform=transform, crs=crs)
                return _swath(cube, found, path)
            return self._foreign(path, found, name, array, raw, given)

    def _foreign(
        self, path: Path, found: xr.Dataset, name: str, array: ZarrArray, raw: bool, given: dict[str, Any]
    ) -> xr.DataArray:
        variable = found[name]
        bands = array.shape[0]
        dim = variable.dims[array.axes[0]] if array.axes[0] >= 0 else None
        coords = {str(n): c for n, c in {**found.coords, **found.data_vars}.items() if c.dims == (dim,)}
        wave = _first(coords, ("wavelength", "wavelengths", "wl", "central_wavelength", "radiation_wavelength"))
        if wave is None and dim is not None and dim in coords and coords[dim].dtype.kind == "f":
            wave = coords[dim]
        width, good, number = (
            _first(coords, names) for names in (("fwhm",), ("good", "bbl", "good_wavelengths"), ("number", "band"))
        )
        detector = _first(coords, ("detector",))
        facts = band_facts(
            bands,
            path.name,
            wavelength=() if wave is None else wave.values,
            units="" if wave is None else str(wave.attrs.get("units", "")),
            fwhm=() if width is None else width.values,
            good=() if good is None else good.values,
            given=given,
            searched="coordinates of the band dimension and the option wavelength=",
        )
        values = _values(variable, name, bands, array.stored, given)
        array.set_meaning(values.scale, values.offset, values.nodata)
        attrs = _attributes(found, path)
        attrs["history"] = [f"opened {name} of {path.name} (Zarr)", *facts.notes, *values.notes]
        whole = number is not None and number.dtype.kind in "iu"
        cube = as_cube(
            array,
            quantity=values.quantity,
            raw=raw,
            attrs=attrs,
            number=number.values if whole and number is not None else None,
            detector=None if detector is None else detector.values.astype(str),
            **facts.coords(),
        )
        cube = place(cube, *_ground(found, variable, array.axes))
        return _swath(cube, found, path)

    def layers(self, path: Path) -> list[str]:
        """Other variables on the cube's pixels."""
        with _dataset(path) as found:
            name = _choose(found, path, None)
            axes = _axes(found[name], found)
            ground = {found[name].dims[a] for a in axes[1:]}
            return [
                str(n)
                for n, v in found.data_vars.items()
                if n != name and set(v.dims) == ground and v.dtype.kind in "iufb" and v.ndim == 2
            ]

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One of them, (y, x)."""
        known = self.layers(path)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        with _dataset(path) as found:
            variable = found[name]
            cube = found[_choose(found, path, None)]
            axes = _axes(cube, found)
            y, x = (variable.dims.index(cube.dims[a]) for a in axes[1:])
            values = _values(variable, name, 1, variable.dtype, {})
            array = ZarrArray(path, name, (-1, y, x))
            array.set_meaning(values.scale, values.offset, values.nodata)
            array.decode = array.stored.kind == "f" or array.scaled
            layer = as_layer(
                array, name, {k: _plain(v) for k, v in variable.attrs.items() if k.startswith(("flag", "class"))}
            )
            return place(layer, *_ground(found, cube, axes))


def _dataset(path: Path) -> xr.Dataset:
    """The root group's variables, nothing decoded or loaded, after the metadata was checked."""
    check_store(path)
    try:
        return xr.open_zarr(
            path, chunks=None, mask_and_scale=False, decode_times=False, decode_coords=False, consolidated=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise BrokenProduct(f"{path.name} is no readable Zarr store: {' '.join(str(error).split())[:160]}") from None


def check_store(path: Path) -> None:
    """Refuse stores whose metadata asks for code, objects or boundless chunks.

    Raises
    ------
    UnsafeInput, TooLarge, BrokenProduct
    """
    for place_, node in _nodes(path):
        for codec in _codecs(node):
            if codec.split(".")[-1].removeprefix("numcodecs.").lower().replace("_", "-") not in _ALLOWED:
                raise UnsafeInput(f"{path.name}: {place_} is stored through the codec {codec!r}, which is refused")
        kind = node.get("dtype", node.get("data_type", ""))
        filters = [f.get("id") for f in node.get("filters") or [] if isinstance(f, Mapping)]
        if isinstance(kind, str) and kind.endswith("O") and "vlen-utf8" not in filters:
            raise UnsafeInput(f"{path.name}: {place_} holds Python objects, expected numbers")
        chunks = node.get("chunks")
        grid = node.get("chunk_grid")
        if isinstance(grid, Mapping):
            chunks = (grid.get("configuration") or {}).get("chunk_shape")
        if isinstance(chunks, list) and all(isinstance(n, int) for n in chunks):
            check_block([*chunks, 8] if chunks else [8], "u1", path)


_ALLOWED = {name.replace("_", "-") for name in _CODECS}


def _nodes(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Metadata of every group and array below `path`, chunks left alone."""
    stack, count = [path], 0
    while stack:
        here = stack.pop()
        count += 1
        if count > _MOST_NODES:
            raise UnsafeInput(f"{path.name} holds more than {_MOST_NODES} groups and arrays")
        group = False
        for name in ("zarr.json", ".zarray", ".zgroup", ".zmetadata"):
            file = here / name
            if not file.is_file():
                continue
            if file.stat().st_size > limits().text_bytes:
                raise UnsafeInput(f"{path.name}: {name} is larger than metadata may be")
            try:
                node = json.loads(file.read_bytes())
            except (ValueError, OSError) as error:
                raise BrokenProduct(f"{path.name}: {name} is no readable JSON ({error})") from None
            if not isinstance(node, dict):
                raise BrokenProduct(f"{path.name}: {name} holds {type(node).__name__}, expected an object")
            group |= name in (".zgroup", ".zmetadata") or node.get("node_type") == "group"
            yield here.name, node
            inner = node.get("metadata") or (node.get("consolidated_metadata") or {}).get("metadata") or {}
            for key, part in inner.items() if isinstance(inner, Mapping) else ():
                if isinstance(part, dict):
                    yield str(key), part
        if group:
            stack += [p for p in sorted(here.iterdir()) if p.is_dir() and not p.is_symlink()]


def _codecs(node: Mapping[str, Any]) -> Iterator[str]:
    for part in [node.get("compressor"), *(node.get("filters") or [])]:
        if isinstance(part, Mapping) and part.get("id"):
            yield str(part["id"])
    pending = list(node.get("codecs") or [])
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            if part.get("name"):
                yield str(part["name"])
            settings = part.get("configuration") or {}
            if isinstance(settings, Mapping):
                pending += [*(settings.get("codecs") or []), *(settings.get("index_codecs") or [])]


def _choose(found: xr.Dataset, path: Path, key: Any) -> str:
    names = [str(n) for n in found.data_vars]
    if key is not None:
        if key not in found.data_vars:
            raise UnknownName(f"{path.name} has no variable {key!r}: {closest(str(key), names)}")
        return str(key)
    own = payload.from_items(_plain(found.attrs.get("torchspectral")))
    solid = [n for n in names if found[n].ndim == 3 and found[n].dtype.kind in "iuf"]
    if own:
        wanted = [str(own["attrs"].get("quantity", "")), str(own.get("name") or "")]
        for name in wanted:
            if name in solid:
                return name
    if len(solid) == 1:
        return solid[0]
    if not solid:
        if len(names) == 1 and found[names[0]].ndim == 2:
            return names[0]
        raise BadCube(f"{path.name} has no 3-D variable of numbers: it has {', '.join(names) or 'none'}")
    for name in ("reflectance", "radiance", "dn"):
        if name in solid:
            return name
    raise MissingMetadata(f"{path.name} has several cubes: give key= (one of {', '.join(solid)})")


def _axes(variable: xr.DataArray, found: xr.Dataset) -> tuple[int, int, int]:
    """Which axis is band, y, x."""
    dims = [str(d) for d in variable.dims]
    if variable.ndim == 2:
        y, x = _pair(dims)
        return -1, y, x
    if variable.ndim != 3:
        raise BadCube(f"{variable.name} has dims {tuple(dims)}, expected a band, a y and an x dimension")
    band = next((n for n, d in enumerate(dims) if d.lower() in (*_BAND_DIMS, "layer")), None)
    if band is None:
        spectral = {
            c.dims[0] for c in found.variables.values()
            if c.ndim == 1 and c.attrs.get("standard_name") == "radiation_wavelength"
        }  # fmt: skip
        band = next((n for n, d in enumerate(dims) if d in spectral), 0)
    others = [n for n in range(3) if n != band]
    first, second = _pair([dims[n] for n in others])
    return band, others[first], others[second]


def _pair(dims: list[str]) -> tuple[int, int]:
    low = [d.lower() for d in dims]
    return (1, 0) if low[0] in _X_DIMS or low[1] in _Y_DIMS else (0, 1)


def _ground(
    found: xr.Dataset, variable: xr.DataArray, axes: tuple[int, int, int], exact: bool = False
) -> tuple[Affine | None, Any]:
    """Transform and CRS; the grid mapping's GeoTransform counts where it agrees with the coordinates."""
    rows, cols = (variable.dims[a] for a in axes[1:])
    name = variable.attrs.get("grid_mapping") or variable.encoding.get("grid_mapping")
    name = name if name in found.variables else "spatial_ref" if "spatial_ref" in found.variables else None
    attrs = found[name].attrs if name else {}
    crs = attrs.get("crs_wkt") or attrs.get("spatial_ref") or None
    steps = [_steps(found, d) for d in (cols, rows)]
    text = attrs.get("GeoTransform")
    stated = None
    if text:
        try:
            stated = Affine.from_gdal(*(float(v) for v in str(text).split()))
        except (ValueError, TypeError):
            stated = None
    if stated is not None and (
        stated.b != 0 or stated.d != 0 or attrs.get("grid_kind") in ("rotated", "swath", "none")
    ):
        return (None, None) if attrs.get("grid_kind") in ("swath", "none") else (stated, crs)
    if any(s is None for s in steps):
        return stated, crs if stated is not None else None
    (x0, dx), (y0, dy) = steps  # type: ignore[misc]
    transform = Affine(dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)
    if stated is not None:
        near = abs(stated.c - transform.c) < 1e-3 * abs(dx) and abs(stated.f - transform.f) < 1e-3 * abs(dy)
        transform = stated if near else transform
    elif crs is None and str(rows).lower() in ("lat", "latitude"):
        crs = "EPSG:4326"
    if crs is None and transform.almost_equals(Affine.identity()):
        return None, None
    return transform, crs


def _steps(found: xr.Dataset, dim: Any) -> tuple[float, float] | None:
    if dim not in found.variables or found[dim].ndim != 1 or found[dim].size < 2 or found[dim].dtype.kind not in "iuf":
        return None
    values = found[dim].values.astype(np.float64)
    step = (values[-1] - values[0]) / (values.size - 1)
    if step == 0 or not np.allclose(np.diff(values), step, rtol=1e-3, atol=0):
        return None
    return float(values[0]), float(step)


def _swath(cube: xr.DataArray, found: xr.Dataset, path: Path) -> xr.DataArray:
    if not all(n in found.variables and found[n].shape == cube.shape[-2:] for n in ("lon", "lat")):
        return cube
    return place_swath(cube, found["lon"].values, found["lat"].values, _glt(path))


def _glt(path: Path) -> Any:
    """Lookup table that our writer stored in group ``glt``."""
    import zarr

    root: Any = zarr.open_group(str(path), mode="r")
    if "glt" not in root:
        return None
    from torchspectral.geo import GLT, parse_crs

    group = root["glt"]
    transform = Affine.from_gdal(*(float(v) for v in group.attrs["transform"]))
    return GLT(
        np.asarray(group["x"][...]), np.asarray(group["y"][...]), transform, parse_crs(group.attrs.get("crs_wkt"))
    )


def _values(variable: xr.DataArray, name: str, bands: int, stored: np.dtype, given: Mapping[str, Any]) -> Values:
    attrs = {**variable.encoding, **variable.attrs}
    scale, offset = (_scalar(attrs.get(k), d) for k, d in (("scale_factor", 1.0), ("add_offset", 0.0)))
    nodata = attrs.get("_FillValue", attrs.get("missing_value"))
    if nodata is not None:
        nodata = np.asarray(nodata).reshape(-1)[0]
        nodata = int(nodata) if np.dtype(stored).kind in "iu" and float(nodata).is_integer() else float(nodata)
    words = " ".join(str(variable.attrs.get(k, "")) for k in ("units", "standard_name", "long_name"))
    known = name if name in ("reflectance", "radiance") else ""
    notes = [] if scale == 1.0 and offset == 0.0 else [f"value = stored * {scale:g} + {offset:g} (CF)"]
    values = Values(
        np.full(bands, scale), np.full(bands, offset), nodata, "reflectance" if known == "reflectance" else "", notes
    )
    settled = guess_quantity(
        values, words=f"{words} {name if known == 'reflectance' else ''}", hints=name,
        floats=np.dtype(stored).kind == "f" or scale != 1.0, given=given,
    )  # fmt: skip
    return settled


def _scalar(value: Any, default: float) -> float:
    return default if value is None else float(np.asarray(value).reshape(-1)[0])


def _first(coords: Mapping[str, xr.DataArray], names: tuple[str, ...]) -> xr.DataArray | None:
    return next((coords[n] for n in names if n in coords), None)


def _attributes(found: xr.Dataset, path: Path) -> dict[str, Any]:
    attrs: dict[str, Any] = {"source": [str(path)]}
    for name, keys in (
        ("sensor", ("sensor", "instrument")),
        ("platform", ("platform",)),
        ("level", ("processing_level",)),
    ):
        text = next((str(found.attrs[k]) for k in keys if found.attrs.get(k)), "")
        if text:
            attrs[name] = text
    time = iso_time(found.attrs.get("acquired") or found.attrs.get("time_coverage_start"))
    return attrs | ({"acquired": time} if time else {})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value
