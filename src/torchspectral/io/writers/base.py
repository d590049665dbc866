"""What all writers share, and the metadata format that ties writers to readers.

Every raster that torchspectral writes carries two layers of metadata: what other tools read (band tags, scales,
nodata, CRS, ENVI keys, CF attributes), and one *payload* with everything exact, which our own readers prefer.

The payload is a JSON object (UTF-8, NaN written as null) with these keys:

``version``
    1.
``kind``
    "cube" or "layers".
``name``
    Name of the DataArray, or null.
``attrs``
    All attributes of the value but ``packing`` (lies in the file's own scale and offset, and below), ``glt`` and
    ``nodata`` where values were converted or are floats. Class layers keep ``class_names`` (list of str) and
    ``class_colors`` (list of [r, g, b]) here; entry i belongs to the value i.
``bands``
    For cubes: object of lists ``wavelength``, ``fwhm`` (float64 by repr, null for NaN), ``good`` (booleans),
    ``number`` (integers), ``detector`` (strings). For layers: object with the list ``layer`` (names).
``grid``
    ``{"kind": "map"|"rotated"|"swath"|"none", "transform": [six GDAL numbers]|null,
    "crs_wkt": str|null, "size": [rows, cols]}``. A reader trusts it where the file's own size is the same and its
    own transform is absent or equal to within 1e-6 of a pixel (else somebody has cut or edited the file: then the
    file's own counts).
``nodata``
    The value on disk that means nodata, null where none (NaN is the string "nan").
``packing``
    null, or ``{"scale": [..], "offset": [..], "nodata": value|null}`` of stored integers: physical value =
    stored * scale + offset, a list entry a band or one for all. A reader gives float32 with NaN, and the stored
    integers with ``attrs["packing"]`` where ``raw=True``.

Where it lies
    GeoTIFF: metadata domain ``TORCHSPECTRAL``, one item for each key, each a JSON text.
    ENVI: header key ``torchspectral = {<base64 of the JSON text>}`` (base64 without line breaks). The other keys
    are ENVI's own: ``wavelength``, ``fwhm`` (nm, repr), ``bbl``, ``band names``, ``data ignore value``,
    ``data gain values`` and ``data offset values`` (packed cubes; never also ``reflectance scale factor``),
    ``map info`` (with rotation), ``coordinate system string``; class layers are ``ENVI Classification``.
    Zarr (format 2, see `zarr_store`): root group, attribute ``torchspectral`` = the JSON object itself; data array
    named after the quantity (cubes) or after the value (layers), dims ``(band|layer, y, x)``; arrays ``wavelength``,
    ``fwhm``, ``good``, ``number``, ``detector`` over band, ``layer`` names in the payload; ``x``, ``y`` on map grids;
    ``spatial_ref``; swaths add ``lon``, ``lat`` (y, x) and, where there is a lookup table, group ``glt`` with
    arrays ``x``, ``y`` (GLT rows, cols; 1-based, 0 empty) and attributes ``transform`` (six GDAL numbers), ``crs_wkt``.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings, OutputExists, OutputFailed
from torchspectral.geo.grids import Grid
from torchspectral.io.raw import output_failed
from torchspectral.log import Progress, Step

BLOCK_BYTES = 48 << 20
"""Most bytes of values that a writer asks its source for at a time."""

_UNWRITTEN = ("packing", "glt")


@dataclass(frozen=True)
class Raster:
    """What a writer gets: values in the type that goes to disk, and what they mean.

    Attributes
    ----------
    value : DataArray, shape (band or layer, y, x)
        As it was given; `blocks` hands out its encoded values.
    encoding : torchspectral.io.writers.encoding.Encoding
        How values become stored numbers.
    grid : Grid
    """

    value: xr.DataArray
    encoding: Any
    grid: Grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands or layers, rows, columns."""
        count, rows, cols = self.value.shape
        return count, rows, cols

    @property
    def is_cube(self) -> bool:
        """Whether it is a cube (else layers)."""
        return self.value.dims[0] == "band"

    def band_coordinate(self, name: str) -> np.ndarray | None:
        """A coordinate over the bands, or None."""
        if name not in self.value.coords or self.value.coords[name].dims != (self.value.dims[0],):
            return None
        return np.asarray(self.value.coords[name].values)

    def names(self) -> list[str]:
        """Names of the bands for other tools: layer names, the product's own, or the band number with its wavelength."""
        if not self.is_cube:
            return [str(n) for n in self.value["layer"].values]
        own = self.band_coordinate("name")
        if own is not None:
            return [str(n) for n in own]
        wave, number = self.band_coordinate("wavelength"), self.band_coordinate("number")
        numbers = np.arange(1, self.shape[0] + 1) if number is None else number
        waves = np.full(self.shape[0], np.nan) if wave is None else wave
        return [
            f"band {n} ({float(w)!r} Nanometers)" if np.isfinite(w) else f"band {n}"
            for n, w in zip(numbers, waves, strict=True)
        ]

    def blocks(
        self, stage: str, progress: Progress, align: tuple[int, int, int] | None = None, budget: int = BLOCK_BYTES
    ) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Encoded blocks that tile the array: first band, row, column, and the values.

        Parameters
        ----------
        align : tuple of int, optional
            Blocks begin at multiples of so many bands, rows, columns, and end at them or at the edge.
        """
        keys = list(split(self.value, align, budget))
        variable = self.value.variable
        for number, (bands, rows, cols) in enumerate(keys):
            stored = self.encoding.encode(np.asarray(variable[bands, rows, cols].values), bands)
            yield bands.start, rows.start, cols.start, stored
            progress(Step(stage, (number + 1) / len(keys)))


def split(
    value: xr.DataArray, align: tuple[int, int, int] | None = None, budget: int = BLOCK_BYTES
) -> Iterator[tuple[slice, slice, slice]]:
    """Windows that tile a (band, y, x) array: whole rows of all bands where they fit into `budget` bytes.

    Windows keep to the blocks in which the source stores its values (dask chunks, else the ``preferred_chunks`` of its
    encoding) unless `align` says otherwise, so that none is unpacked twice; a block larger than the budget is read
    whole only where that cannot be helped.
    """
    shape = value.shape
    chunks = value.variable.chunks
    if chunks is not None and align is None:
        edges = [np.cumsum([0, *sizes]) for sizes in chunks]
        for rows in _pairs(edges[1]):
            for cols in _pairs(edges[2]):
                for bands in _pairs(edges[0]):
                    yield bands, rows, cols
        return
    item = max(value.dtype.itemsize, 4)
    if align is None:
        preferred = value.encoding.get("preferred_chunks") or {}
        align = (1, min(int(preferred.get("y", 1)), shape[1]), min(int(preferred.get("x", 1)), shape[2]))
    step_b, step_y, step_x = (min(max(1, a), n) for a, n in zip(align, shape, strict=True))
    count, height, width = shape
    most = max(1, budget // item)
    if step_y * width * count <= most:
        height = most // (width * count) // step_y * step_y
    elif step_y * step_x * count <= most:
        height, width = step_y, most // (step_y * count) // step_x * step_x
    else:
        height, width = step_y, step_x
        count = max(step_b, most // (height * width) // step_b * step_b)
    for row in range(0, shape[1], height):
        for col in range(0, shape[2], width):
            for band in range(0, shape[0], count):
                yield (
                    slice(band, min(band + count, shape[0])),
                    slice(row, min(row + height, shape[1])),
                    slice(col, min(col + width, shape[2])),
                )


def _pairs(edges: np.ndarray) -> list[slice]:
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]


def payload(raster: Raster) -> dict[str, Any]:
    """The JSON object described at the top of this module."""
    value, encoding = raster.value, raster.encoding
    attrs = {k: v for k, v in value.attrs.items() if k not in _UNWRITTEN}
    if not (encoding.identity and encoding.stored.kind in "iu" and encoding.packing is None):
        attrs.pop("nodata", None)
    bands: dict[str, Any] = {}
    for name, coordinate in value.coords.items():
        if coordinate.dims == (value.dims[0],):
            bands[str(name)] = plain(coordinate.values, str(name))
    return {
        "version": 1,
        "kind": "cube" if raster.is_cube else "layers",
        "name": None if value.name is None else str(value.name),
        "attrs": {str(k): plain(v, f"attribute {k}") for k, v in attrs.items()},
        "bands": bands,
        "grid": _grid_facts(raster),
        "nodata": "nan" if _is_nan(encoding.nodata) else plain(encoding.nodata, "nodata"),
        "packing": None if encoding.packing is None else plain(encoding.packing, "packing"),
    }


def _grid_facts(raster: Raster) -> dict[str, Any]:
    grid = raster.grid
    located = grid.kind in ("map", "rotated")
    return {
        "kind": grid.kind,
        "transform": [float(v) for v in grid.transform.to_gdal()] if located else None,
        "crs_wkt": grid.crs.to_wkt() if grid.crs is not None else None,
        "size": [grid.height, grid.width],
    }


def as_json(found: Any) -> str:
    """JSON in plain ASCII, without NaN."""
    return json.dumps(found, allow_nan=False, separators=(",", ":"))


def plain(value: Any, what: str) -> Any:
    """A value as JSON has it: numbers, strings, lists, maps; NaN and infinity become null.

    Raises
    ------
    BadCube
        It cannot be written.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "mM":
            return plain(value.astype("datetime64[ms]").astype(str).tolist(), what)
        return plain(value.tolist(), what)
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{what}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v, what) for v in value]
    raise BadCube(f"{what} is a {type(value).__name__}, which no file can hold: expected plain numbers, text or lists")


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def finite_list(values: np.ndarray | None) -> list[str] | None:
    """Exact texts of all values, or None where one is missing."""
    if values is None or not np.isfinite(values).all():
        return None
    return [repr(float(v)) for v in values]


def tidy(text: Any, forbidden: str = "") -> str:
    """One line of printable text without the characters in `forbidden`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return re.sub(f"[{re.escape(forbidden)}]", " ", line) if forbidden else line


def output_path(path: Any) -> Path:
    """A name that the system takes as that of a file.

    Raises
    ------
    BadSettings
        It is no path at all.
    OutputFailed
        Too long, with a zero byte, or in a place that cannot be looked at.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise BadSettings(f"got {path!r} as a name to write to, expected the path of a file or folder")
    found = Path(path)
    try:
        found.exists()
    except OSError as error:
        raise output_failed(tidy(found)[:120], error) from error
    if "\0" in str(found):
        raise OutputFailed(f"cannot write {tidy(found)[:120]}: the name holds a zero byte, choose another")
    return found


@contextlib.contextmanager
def staged(targets: Iterable[Path], overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside the output in which it is made; gone afterwards, whatever happens.

    Parameters
    ----------
    targets : iterable of Path
        Everything that will be put in place; the first gives the folder its name.

    Raises
    ------
    OutputExists
        One of them exists and `overwrite` is False.
    OutputFailed
        The folder cannot be made, or the system refuses a write inside the block.
    """
    targets = list(targets)
    first = targets[0]
    for target in targets:
        if os.path.lexists(target) and not overwrite:
            raise OutputExists(f"{target} exists: choose another name or ask to overwrite")
    if not first.parent.is_dir():
        raise OutputFailed(f"cannot write {first}: the folder {first.parent} does not exist, make it first")
    folder = first.with_name(f".{first.name}.tmp-{os.getpid()}")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    except OutputFailed as error:
        raise type(error)(str(error).replace(str(folder), str(first.parent))) from error
    except OSError as error:
        if type(error).__module__.startswith("torchspectral"):
            raise
        raise output_failed(first, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(made: Path, target: Path) -> None:
    """Rename a finished file or folder to its name; what stood there before goes with the staging folder."""
    if os.path.lexists(target) and (made.is_dir() or target.is_dir()):
        target.replace(made.parent / f"old-{target.name}")
    made.replace(target)
