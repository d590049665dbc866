"""How values become the numbers on disk: types, scaled integers, nodata."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings
from torchspectral.io.writers.base import split

DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
"""Types that can be asked for."""

PIECE = 1 << 20
"""Values that are converted at a time."""


class Encoding:
    """From values to stored numbers.

    Parameters
    ----------
    given : numpy dtype
        Of the values.
    stored : numpy dtype
        On disk.
    nodata : float or int or None
        Stored number that means nodata; NaN in float files.
    packing : dict or None
        ``scale``, ``offset``, ``nodata`` of stored integers (see `torchspectral.cube`).
    convert : callable, optional
        ``(block, bands) -> stored block``; None where the values go to disk as they are.

    Attributes
    ----------
    clipped : int
        Values outside the range of the stored type met so far; they were set to its nearest end.
    note : str
        What is done to the values, one sentence; "" where nothing is.
    """

    def __init__(
        self,
        given: Any,
        stored: Any,
        nodata: float | int | None,
        packing: dict[str, Any] | None = None,
        convert: Callable[[np.ndarray, slice], np.ndarray] | None = None,
        note: str = "",
    ) -> None:
        self.given = np.dtype(given)
        self.stored = np.dtype(stored)
        self.nodata = nodata
        self.packing = packing
        self.convert = convert
        self.note = note
        self.clipped = 0

    @property
    def identity(self) -> bool:
        """Whether the values go to disk as they are."""
        return self.convert is None

    def encode(self, block: np.ndarray, bands: slice) -> np.ndarray:
        """Stored numbers of a block whose first axis is `bands` of the array."""
        if self.convert is None:
            return block.astype(self.stored, copy=False)
        out = np.empty_like(block, dtype=self.stored)
        # Conversions work in float64: in pieces, so that their temporaries stay small.
        step = max(1, PIECE // max(1, block[0].size))
        for first in range(0, block.shape[0], step):
            piece = block[first : first + step]
            out[first : first + step] = self.convert(
                piece, slice(bands.start + first, bands.start + first + len(piece))
            )
        return out

    def cast_range(self, rounded: np.ndarray, gone: np.ndarray, low: int, high: int, nodata: int | None) -> np.ndarray:
        """Float64 whole numbers as the stored integers, clipped to [low, high] and counted; `gone` gets `nodata`."""
        outside = (rounded < low) | (rounded > high)
        outside &= ~gone
        self.clipped += int(np.count_nonzero(outside))
        out = np.clip(np.where(gone, low, rounded), low, high).astype(self.stored)
        if nodata is not None:
            out[gone] = nodata
        return out


def choose_encoding(
    value: xr.DataArray, dtype: Any = None, nodata: float | int | None = None, supported: Iterable[str] = DTYPES
) -> Encoding:
    """Settle how a cube or layers are stored.

    Nothing is changed where `dtype` is None: packed cubes keep their stored integers, scale and offset. An integer
    type for float values writes ``value = stored * scale + offset``: reflectance with a scale of 1e-4 (8-bit types: by
    range), whole numbers that fit with a scale of 1, everything else with a round scale chosen from the range of the
    whole array, which is read once more for it.

    Parameters
    ----------
    dtype : str or numpy dtype, optional
        One of `DTYPES`.
    nodata : float, optional
        Number written in place of NaN into float files (NaN itself by default).
    supported : iterable of str
        Types that the file format has; others are widened to the next one that holds all their values.

    Raises
    ------
    BadSettings
        Unknown type, or a nodata value that the type cannot hold.
    """
    given = np.dtype(value.dtype)
    packing = value.attrs.get("packing")
    wanted = check_dtype(dtype)
    if packing is not None and (wanted is None or wanted == given):
        return Encoding(given, widened(given, supported), packing.get("nodata"), dict(packing))
    if packing is not None:
        return _repacked(value, packing, wanted or given, nodata, supported)
    if given.kind == "b":
        value, given = value.astype(np.uint8), np.dtype(np.uint8)
    if given.kind == "f":
        if wanted is not None and wanted.kind in "iu":
            return _scaled(value, wanted, lambda block, bands: block, "")
        return _floats(given, wanted, nodata, supported)
    own = value.attrs.get("nodata")
    if wanted is None or wanted == given:
        stored = widened(given, supported)
        return Encoding(value.dtype, stored, _fitting(own, stored))
    if wanted.kind == "f":

        def to_float(block: np.ndarray, bands: slice) -> np.ndarray:
            out = block.astype(wanted)
            if own is not None:
                out[block == own] = np.nan
            return out

        return _then_nodata(Encoding(given, wanted, np.nan, None, to_float, f"{given} as {wanted}"), nodata)
    return _narrowed(given, wanted, own)


def check_dtype(dtype: Any) -> np.dtype | None:
    """The type that was asked for, None for none.

    Raises
    ------
    BadSettings
        No file takes it.
    """
    if dtype is None:
        return None
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in DTYPES:
        raise BadSettings(f"got dtype {dtype!r}, expected one of {', '.join(DTYPES)}")
    return found


def widened(dtype: np.dtype, supported: Iterable[str]) -> np.dtype:
    """The type itself, or the first supported one that holds all its values.

    Raises
    ------
    BadSettings
        There is none.
    """
    names = list(supported)
    if dtype.name in names:
        return dtype
    for name in names:
        if np.can_cast(dtype, name) and np.dtype(name).kind in ("f" if dtype.kind == "f" else "iu"):
            return np.dtype(name)
    raise BadSettings(f"values of type {dtype} cannot be written here: give dtype= (one of {', '.join(names)})")


def _fitting(nodata: Any, stored: np.dtype) -> int | None:
    if nodata is None or not np.isfinite(nodata) or int(nodata) != nodata:
        return None
    info = np.iinfo(stored)
    return int(nodata) if info.min <= nodata <= info.max else None


def _floats(given: np.dtype, wanted: np.dtype | None, nodata: Any, supported: Iterable[str]) -> Encoding:
    stored = widened(wanted or given, supported)
    note = "" if stored == given or wanted is None else f"{given} as {stored}"
    convert = (lambda block, bands: block) if note else None
    return _then_nodata(Encoding(given, stored, np.nan, None, convert, note), nodata)


def _then_nodata(encoding: Encoding, nodata: Any) -> Encoding:
    """Write a number in place of NaN."""
    if nodata is None or np.isnan(nodata):
        return encoding
    with np.errstate(over="ignore"):
        held = float(encoding.stored.type(nodata))
    if not np.isfinite(held) or held != float(nodata):
        raise BadSettings(f"got nodata {nodata!r}, which {encoding.stored} cannot hold exactly")
    before = encoding.convert

    def filled(block: np.ndarray, bands: slice) -> np.ndarray:
        out = block if before is None else before(block, bands)
        out = out.astype(encoding.stored, copy=out is block)
        out[np.isnan(out)] = held
        return out

    return Encoding(encoding.given, encoding.stored, held, None, filled, encoding.note or f"NaN as {held:g}")


def _narrowed(given: np.dtype, wanted: np.dtype, own: Any) -> Encoding:
    """Integers as another integer type."""
    info = np.iinfo(wanted)
    nodata = None
    low, high = int(info.min), int(info.max)
    if own is not None:
        nodata = _fitting(own, wanted)
        if nodata is None:
            nodata = low if info.min < 0 else high
            low, high = (low + 1, high) if info.min < 0 else (low, high - 1)
    encoding = Encoding(given, wanted, nodata, None, None, f"{given} as {wanted}")

    def convert(block: np.ndarray, bands: slice) -> np.ndarray:
        gone = (block == own) if own is not None else np.zeros(block.shape, dtype=bool)
        outside = ((block < low) | (block > high)) & ~gone
        encoding.clipped += int(np.count_nonzero(outside))
        out = np.clip(block, max(low, int(np.iinfo(given).min)), min(high, int(np.iinfo(given).max))).astype(wanted)
        if nodata is not None:
            out[gone] = nodata
        return out

    encoding.convert = convert
    return encoding


def unpacked(block: np.ndarray, packing: dict[str, Any], bands: slice, dtype: Any = np.float64) -> np.ndarray:
    """Physical values of stored numbers, NaN for nodata."""
    scale, offset = (
        np.asarray(packing.get(key, default), dtype=np.float64).reshape(-1)
        for key, default in (("scale", 1.0), ("offset", 0.0))
    )
    scale, offset = (v[bands][:, None, None] if v.size > 1 else v[0] for v in (scale, offset))
    out: np.ndarray = (block * scale + offset).astype(dtype)
    if packing.get("nodata") is not None:
        out[block == packing["nodata"]] = np.nan
    return out


def _repacked(
    value: xr.DataArray, packing: dict[str, Any], wanted: np.dtype, nodata: Any, supported: Iterable[str]
) -> Encoding:
    if wanted.kind == "f":
        encoding = Encoding(value.dtype, wanted, np.nan, None, lambda b, bands: unpacked(b, packing, bands, wanted))
        encoding.note = f"stored {value.dtype} as physical {wanted}"
        return _then_nodata(encoding, nodata)
    return _scaled(value, wanted, lambda block, bands: unpacked(block, packing, bands), f"stored {value.dtype}, ")


def _scaled(
    value: xr.DataArray, wanted: np.dtype, physical: Callable[[np.ndarray, slice], np.ndarray], before: str
) -> Encoding:
    """Physical values as scaled integers."""
    info = np.iinfo(wanted)
    signed = info.min < 0
    low, high = (int(info.min) + 1, int(info.max)) if signed else (0, int(info.max) - 1)
    nodata = int(info.min) if signed else int(info.max)
    quantity = value.attrs.get("quantity", "") if value.dims[0] == "band" else ""
    scale, offset = 1e-4, 0.0
    if quantity != "reflectance" or wanted.itemsize == 1:
        least, most, whole = _range(value, physical)
        if not (whole and low <= least and most <= high):
            scale, offset = _round_scale(least, most, low, high)
        else:
            scale = 1.0
    packing = {"scale": [scale], "offset": [offset], "nodata": nodata}
    note = f"{before}values as {wanted}: value = stored * {scale:g} + {offset:g}, nodata {nodata}"
    encoding = Encoding(value.dtype, wanted, nodata, packing, None, note)

    def convert(block: np.ndarray, bands: slice) -> np.ndarray:
        values = physical(block, bands).astype(np.float64)
        gone = np.isnan(values)
        return encoding.cast_range(np.rint((values - offset) / scale), gone, low, high, nodata)

    encoding.convert = convert
    return encoding


def _range(value: xr.DataArray, physical: Callable[[np.ndarray, slice], np.ndarray]) -> tuple[float, float, bool]:
    """Least and largest finite value, and whether all are whole numbers."""
    least, most, whole = np.inf, -np.inf, True
    for bands, rows, cols in split(value):
        block = physical(np.asarray(value.variable[bands, rows, cols].values), bands)
        block = block[np.isfinite(block)]
        if block.size:
            least, most = min(least, float(block.min())), max(most, float(block.max()))
            whole = whole and bool(np.all(block == np.rint(block)))
    return (least, most, whole) if least <= most else (0.0, 0.0, True)


def _round_scale(least: float, most: float, low: int, high: int) -> tuple[float, float]:
    """Least scale of the form 1, 2 or 5 times a power of ten with which the range fits, and the offset."""
    offset = 0.0
    if low == 0 and least < 0:
        offset = least
    need = max((most - offset) / high, (least - offset) / low if low < 0 else 0.0, 1e-300)
    power = 10.0 ** np.floor(np.log10(need))
    for step in (1.0, 2.0, 5.0, 10.0):
        # Written as text and read back, so that 2e-05 is the number nearest to 2e-05.
        scale = float(f"{step * power:.0e}")
        if scale >= need:
            return scale, offset
    return float(f"{20 * power:.0e}"), offset
