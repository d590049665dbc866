"""Binary files of ASD FieldSpec spectrometers (``.asd``, or numbered ``.000``)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import BrokenProduct

SIGNATURES = (b"ASD", b"as2", b"as3", b"as4", b"as5", b"as6", b"as7", b"as8")
HEADER = 484
_MOST_CHANNELS = 10_000
_FORMATS = {0: "<f4", 1: "<i4", 2: "<f8"}
_REFLECTANCE = (1, 8)
_QUANTITY = {1: "reflectance", 2: "radiance", 8: "reflectance"}
_KINDS = ("raw", "reflectance", "radiance", "no units", "irradiance", "quality index", "transmittance", "unknown",
          "absolute reflectance")  # fmt: skip


def is_asd(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an ASD file."""
    return head[:3] in SIGNATURES


def read_asd(path: Path) -> xr.DataArray:
    """Read one spectrum.

    Parameters
    ----------
    path : Path
        File of any version from 1 to 8.

    Returns
    -------
    DataArray, shape (1, band)
        float32. Reflectance is the stored target over the stored white reference where the file was saved as
        reflectance; else the stored numbers: radiance, or raw counts as dn. The spectrum is named after the file.

    Raises
    ------
    BrokenProduct
        The file ends early, or its header holds impossible numbers.
    """
    data = path.read_bytes()[: HEADER + 8 * _MOST_CHANNELS * 4]
    if len(data) < HEADER or not is_asd(data):
        raise BrokenProduct(f"{path.name} is no ASD file of at least {HEADER} bytes, it has {len(data)}")
    first, step = struct.unpack_from("<ff", data, 191)
    (channels,) = struct.unpack_from("<H", data, 204)
    kind, form = data[186], data[199]
    if form not in _FORMATS or not 0 < channels <= _MOST_CHANNELS or not (step > 0 and 0 < first < 30_000):
        raise BrokenProduct(
            f"{path.name} promises {channels} channels from {first:g} by {step:g} nm in number format {form}: "
            "its header is damaged"
        )
    target = _numbers(data, HEADER, channels, form, path)
    attrs: dict[str, Any] = {"quantity": _QUANTITY.get(kind, "dn"), "source": [str(path)], "sensor": "ASD FieldSpec"}
    label = _KINDS[kind] if kind < len(_KINDS) else "unknown"
    note = f"read {path.name}, saved as {label}"
    if kind in _REFLECTANCE and data[:3] != b"ASD":
        white = _reference(data, channels, form, path)
        with np.errstate(divide="ignore", invalid="ignore"):
            target = np.where(white != 0, target / white, np.nan)
        note += ": target over white reference, both as stored"
    attrs["history"] = [note]
    wave = first + step * np.arange(channels, dtype=np.float64)
    return make_spectra(target.astype(np.float32)[None], [path.stem], wavelength=wave, attrs=attrs)


def _numbers(data: bytes, at: int, channels: int, form: int, path: Path) -> np.ndarray:
    kind = np.dtype(_FORMATS[form])
    if len(data) < at + channels * kind.itemsize:
        raise BrokenProduct(f"{path.name} ends within the numbers of its {channels} channels: copy it again")
    return np.frombuffer(data, dtype=kind, count=channels, offset=at).astype(np.float64)


def _reference(data: bytes, channels: int, form: int, path: Path) -> np.ndarray:
    """White reference, which follows the target: flag (2 bytes), two times (8 each), a text with its length before."""
    at = HEADER + channels * np.dtype(_FORMATS[form]).itemsize
    if len(data) < at + 20:
        raise BrokenProduct(f"{path.name} was saved as reflectance and has no white reference: is it complete?")
    (length,) = struct.unpack_from("<H", data, at + 18)
    return _numbers(data, at + 20 + length, channels, form, path)
