"""Raw cubes of line-scan cameras in laboratories and on drones: Headwall, Specim, Resonon, HySpex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, ProductNotFound, UnknownName, closest
from torchspectral.geo.grids import grid_of, place
from torchspectral.geo.lazy import LazyArray
from torchspectral.io.readers.base import Reader
from torchspectral.io.readers.envi.header import (
    EnviHeader,
    crs_of,
    find_header,
    looks_like_header,
    read_header,
)
from torchspectral.io.readers.envi.reader import (
    OTHER_FILES,
    EnviArray,
    EnviReader,
    files_of,
    raw_array,
)
from torchspectral.io.readers.line_scan.cameras import CAMERAS, all_fields, camera_of, exposure, sensor_name
from torchspectral.io.readers.line_scan.hyspex import HyspexHeader, read_hyspex
from torchspectral.io.readers.line_scan.references import ROLES, Reference, find_references, role_of

_MEAN = "_mean"
_MATRICES = {"dark": "background", "responsivity": "responsivity", "efficiency": "efficiency"}
DARK_LINES = ("cut", "keep")
_BLOCK = 64 << 20


class LineMean(LazyArray):
    """Mean over all lines of a reference, float64 sums, lazy: shape (band, 1, x)."""

    def __init__(self, source: EnviArray, lines: slice) -> None:
        super().__init__((source.shape[0], 1, source.shape[2]), np.float32)
        self.source, self.lines = source, lines

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Means of picked bands and columns."""
        bands, ys, xs = indices
        cols = slice(int(xs.min()), int(xs.max()) + 1)
        total = np.zeros((bands.size, cols.stop - cols.start))
        step = max(1, _BLOCK // (8 * max(1, total.size)))
        for first in range(self.lines.start, self.lines.stop, step):
            block = self.source.read(bands, slice(first, min(first + step, self.lines.stop)), cols)
            total += block.sum(axis=1, dtype=np.float64)
        mean = total / (self.lines.stop - self.lines.start)
        return np.repeat(mean[:, None, xs - cols.start], ys.size, axis=1).astype(np.float32)


class MatrixArray(LazyArray):
    """A matrix in the header of a HySpex raw file, lazy: shape (band, 1, x), float64."""

    def __init__(self, header: HyspexHeader, name: str) -> None:
        super().__init__((header.bands, 1, 1 if name == "efficiency" else header.samples), np.float64)
        self.header, self.name = header, name

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Values at picked bands and columns."""
        bands, ys, xs = indices
        return np.repeat(self.header.matrix(self.name)[np.ix_(bands, xs)][:, None], ys.size, axis=1)


class LineScanReader(Reader):
    """Reader of raw line-scan cubes; takes the header, the data file or the folder of the capture."""

    name = "line-scan"
    title = "raw line-scan cube (Headwall, Specim, Resonon, HySpex)"
    patterns = ("*.hyspex", "DARKREF_*", "WHITEREF_*", "darkReference*", "whiteReference*", "*.bil.hdr", "*.bip.hdr")
    options = (*EnviReader.options, "camera", "dark_lines")
    layer_options = ("dark_lines",)
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By what the header says of its camera, or by references beside it; ENVI headers that we did not write."""
        header = _header(path)
        if header is None:
            return 0.0
        found = read_header(header)
        if "torchspectral" in found or found.is_library or found.is_classification:
            return 0.0
        if camera_of(found, all_fields(found)) or role_of(header):
            return 0.92
        return 0.92 if find_references(header) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open as a lazy cube of raw numbers (quantity dn), unless the header states what they are.

        ``attrs`` carry what is known of the exposure: ``integration_time`` [ms], ``frame_rate`` [Hz], ``temperature``
        [degC], ``gain``, ``serial``, ``spectral_binning``, ``spatial_binning``, ``pixel_size_x`` and ``_y`` as stated.

        Parameters
        ----------
        camera : {"headwall", "specim", "resonon", "hyspex"}, optional
            Whose header it is, where it does not say.
        dark_lines : {"cut", "keep"}
            What to do with lines at the end that were taken with the shutter closed (``autodarkstartline``): they are
            no part of the scene and become layer ``dark`` (default), or stay.

        Raises
        ------
        BrokenProduct, ProductNotFound, BandMismatch, MissingMetadata, BadCube, BadSettings
        """
        camera, keep = options.pop("camera", None), _dark_lines(options)
        options.pop("dark_lines", None)
        if camera is not None and camera not in CAMERAS:
            raise BadSettings(f"got camera={camera!r}, expected one of {', '.join(CAMERAS)}")
        header, data = files_of(_image(path))
        fields = all_fields(header)
        camera = camera or camera_of(header, fields)
        cube = EnviReader().open(header.path, raw=raw, **options)
        block = read_hyspex(data, header.offset)
        attrs = {**cube.attrs, **exposure(camera, fields, data)}
        if block is not None:
            attrs = {**_from_block(block), **attrs}
        name = sensor_name(camera, fields)
        if name:
            attrs["sensor"] = name
        notes = []
        dark = _closed_lines(header, fields)
        if dark is not None and not keep:
            transform = grid_of(cube).transform if grid_of(cube).kind != "none" else None
            cube = cube.isel(y=slice(0, dark.start))
            cube = place(cube, transform, crs_of(header)) if transform is not None else place(cube, None)
            notes.append(f"lines {dark.start + 1} to {dark.stop} were taken with the shutter closed: cut, layer 'dark'")
        for role, reference in find_references(header.path).items():
            try:
                reference.open(header)
                notes.append(f"{role.replace('_', ' ')} reference: {reference.header.name}")
            except (BandMismatch, BrokenProduct) as error:
                notes.append(f"{role.replace('_', ' ')} reference does not fit: {error}")
        attrs["history"] = [*cube.attrs.get("history", []), *notes]
        cube.attrs = attrs
        return cube

    def layers(self, path: Path) -> list[str]:
        """``dark``, ``white``, ``white_dark`` line by line, each also as its mean (``dark_mean``); of HySpex
        ``responsivity`` and ``efficiency``.
        """
        header, data = files_of(_image(path))
        names = []
        sources = _sources(header)
        for role in ROLES:
            if role in sources:
                names += [role, role + _MEAN]
        block = read_hyspex(data, header.offset)
        if block is not None:
            names += ([] if "dark" in names else ["dark"]) + ["responsivity", "efficiency"]
        return names

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """A reference, shape (layer, y, x) with its own number of lines, a layer a band; the mean over its lines,
        shape (layer, 1, x); or a matrix of the HySpex header, shape (layer, 1, x).

        Raises
        ------
        UnknownName
        BandMismatch
            The reference was taken with other settings of the camera.
        """
        _dark_lines(options)
        known = self.layers(path)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        header, data = files_of(_image(path))
        role = name.removesuffix(_MEAN)
        source = _sources(header).get(role)
        if source is None:
            block = read_hyspex(data, header.offset)
            assert block is not None
            if (block.bands, block.samples) != (header.shape[0], header.shape[2]):
                raise BandMismatch(
                    f"the header of {data.name} has matrices of {block.bands} bands and {block.samples} samples, expected "
                    f"{header.shape[0]} and {header.shape[2]}"
                )
            layer = _stack(MatrixArray(block, _MATRICES[role]), name)
            layer.attrs["source"] = [str(data)]
            return layer
        found, lines = source
        file = found.open(header) if isinstance(found, Reference) else found
        file, pixels = files_of(file.path)
        array = EnviArray(raw_array(file, pixels), decode=False)
        if name.endswith(_MEAN):
            layer = _stack(LineMean(array, lines or slice(0, file.shape[1])), name)
        else:
            layer = _stack(array, name)
            layer = layer if lines is None else place(layer.isel(y=lines), None)
        fields = all_fields(file)
        layer.attrs = {"source": [str(pixels)], "quantity": "dn", **exposure(camera_of(file, fields), fields, pixels)}
        return layer


def _stack(array: Any, name: str) -> xr.DataArray:
    variable = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    coords = {"layer": [f"band_{n + 1}" for n in range(array.shape[0])]}
    return place(xr.DataArray(variable, coords=coords, name=name), None)


def _dark_lines(options: dict[str, Any]) -> bool:
    """Whether lines with a closed shutter stay in the cube."""
    value = options.get("dark_lines", "cut")
    if value not in DARK_LINES:
        raise BadSettings(f"got dark_lines={value!r}, expected one of {', '.join(DARK_LINES)}")
    return value == "keep"


def _sources(header: EnviHeader) -> dict[str, tuple[Reference | EnviHeader, slice | None]]:
    """Where each reference comes from, and which lines of that file."""
    found: dict[str, tuple[Reference | EnviHeader, slice | None]] = {
        role: (reference, None) for role, reference in find_references(header.path).items()
    }
    lines = _closed_lines(header, all_fields(header))
    if "dark" not in found and lines is not None:
        found["dark"] = (header, lines)
    return found


def _closed_lines(header: EnviHeader, fields: dict[str, str]) -> slice | None:
    """Lines at the end of the file that were taken with the shutter closed."""
    text = fields.get("autodarkstartline", "").strip()
    if not text.isdigit() or not 0 < int(text) < header.shape[1]:
        return None
    return slice(int(text), header.shape[1])


def _from_block(block: HyspexHeader) -> dict[str, Any]:
    found: dict[str, Any] = {
        "integration_time": block.integration_time,
        "temperature": block.temperature,
        "serial": str(block.serial),
        "dark_frames": block.backgrounds,
    }
    if block.frame_period > 0:
        found["frame_rate"] = 1e6 / block.frame_period
    return found


def _header(path: Path) -> Path | None:
    """ENVI header of a path that may be the header, the data file or a capture folder."""
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".hdr":
        return path if looks_like_header(path) else None
    return None if path.suffix.lower() in OTHER_FILES else find_header(path)


def _image(path: Path) -> Path:
    found = _header(path)
    if found is None:
        raise ProductNotFound(f"{path.name} has no ENVI header of a raw cube: expected NAME.hdr, or capture/NAME.hdr")
    return path if not path.is_dir() else found


def _in_folder(folder: Path) -> Path | None:
    """The one scene of a capture folder: NAME.hdr or capture/NAME.hdr in a folder that is named so (Specim)."""
    for place_ in (folder / "capture", folder):
        for name in (f"{folder.name}.hdr", f"{folder.parent.name}.hdr"):
            if (place_ / name).is_file() and looks_like_header(place_ / name):
                return place_ / name
    return None
