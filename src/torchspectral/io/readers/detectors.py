"""Bands of sensors with two detectors whose ranges overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.cube import DIMS
from torchspectral.errors import BadSettings, MissingMetadata
from torchspectral.io.readers.base import StoredArray

OVERLAPS = ("wavelength", "detector", "vnir", "swir", "average")


def bands_by_overlap(wavelength: np.ndarray, detector: Sequence[str], overlap: str) -> tuple[np.ndarray, str]:
    """Which bands to take, and in which order.

    Parameters
    ----------
    wavelength : ndarray, shape (band,)
        Centres [nm].
    detector : sequence of str
        "vnir", "swir" or "".
    overlap : {"wavelength", "detector", "vnir", "swir", "average"}
        All, sorted by wavelength; all, VNIR before SWIR, each ascending; all of VNIR and the SWIR bands beyond its
        last; all of SWIR and the VNIR bands before its first; as "vnir", for values mixed by `average_overlap`.

    Returns
    -------
    ndarray of int
        Indices of the bands taken.
    str
        A line for the history.

    Raises
    ------
    BadSettings
        Unknown rule.
    MissingMetadata
        The rule needs detectors and some band has none.
    """
    if overlap not in OVERLAPS:
        raise BadSettings(f"got overlap={overlap!r}, expected one of {', '.join(OVERLAPS)}")
    by_wave = np.argsort(wavelength, kind="stable")
    if overlap == "wavelength":
        return by_wave, "bands sorted by wavelength, those of both detectors kept"
    names = np.asarray(detector)
    unknown = np.flatnonzero((names != "vnir") & (names != "swir"))
    if unknown.size:
        raise MissingMetadata(
            f"overlap={overlap!r} needs the detector of each band, which is not known for band {unknown[0] + 1} "
            f"({wavelength[unknown[0]]:g} nm): use overlap='wavelength'"
        )
    vnir = by_wave[names[by_wave] == "vnir"]
    swir = by_wave[names[by_wave] == "swir"]
    if overlap == "detector" or not (vnir.size and swir.size):
        return np.concatenate([vnir, swir]), "bands of VNIR before those of SWIR"
    if overlap in ("vnir", "average"):
        kept = swir[wavelength[swir] > wavelength[vnir].max()]
        if overlap == "average":
            mixed = int((wavelength[vnir] >= wavelength[swir].min()).sum())
            return np.concatenate([vnir, kept]), (
                f"{mixed} VNIR bands inside the SWIR range are means of both detectors, {swir.size - kept.size} SWIR bands "
                "left out"
            )
        return np.concatenate([vnir, kept]), f"{swir.size - kept.size} SWIR bands inside the VNIR range left out"
    kept = vnir[wavelength[vnir] < wavelength[swir].min()]
    return np.concatenate([kept, swir]), f"{vnir.size - kept.size} VNIR bands inside the SWIR range left out"


class MixedArray(StoredArray):
    """Bands that are weighted sums of the bands of another array; float32, NaN where any part is nodata.

    Parameters
    ----------
    inner : StoredArray
        Hands out physical values.
    parts, weights : ndarray, shape (band, 3)
        0-based bands of `inner`, and what each counts; parts of weight 0 are not looked at.
    """

    def __init__(self, inner: StoredArray, parts: np.ndarray, weights: np.ndarray) -> None:
        super().__init__(
            (len(parts), *inner.shape[1:]),
            np.float32,
            source=inner.source,
            chunks=None if inner.chunks is None else (1, *inner.chunks[1:]),
            split="band",
        )
        inner.decode = True
        self.inner, self.parts, self.weights = inner, np.asarray(parts), np.asarray(weights, dtype=np.float32)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window; each band of the inner array is read once."""
        parts, weights = self.parts[bands], self.weights[bands]
        needed = np.unique(parts[weights != 0])
        block = np.asarray(xr.Variable(DIMS, indexing.LazilyIndexedArray(self.inner))[needed, rows, cols].values)
        out = np.empty((len(parts), *block.shape[1:]), dtype=np.float32)
        for target, places, shares in zip(out, np.searchsorted(needed, parts), weights, strict=True):
            used = np.flatnonzero(shares)
            if used.size == 1 and shares[used[0]] == 1:
                target[:] = block[places[used[0]]]
                continue
            target[:] = 0
            for i in used:
                target += shares[i] * block[places[i]]
        return out


def average_overlap(
    array: StoredArray, wavelength: np.ndarray, detector: Sequence[str], order: np.ndarray
) -> MixedArray:
    """The bands of `bands_by_overlap` with rule "average", as values.

    A VNIR band inside the SWIR range becomes the mean of itself and of the SWIR spectrum at its centre (linear between
    the two SWIR bands beside it).

    Parameters
    ----------
    array : StoredArray
        All bands.
    order : ndarray of int
        Bands taken.
    """
    swir = np.flatnonzero(np.asarray(detector) == "swir")
    swir = swir[np.argsort(wavelength[swir], kind="stable")]
    parts = np.repeat(order[:, None], 3, axis=1)
    weights = np.zeros((order.size, 3))
    weights[:, 0] = 1.0
    for row, band in enumerate(order):
        if detector[band] != "vnir" or swir.size < 2 or not wavelength[swir[0]] <= wavelength[band]:
            continue
        if wavelength[band] > wavelength[swir[-1]]:
            continue
        after = int(np.clip(np.searchsorted(wavelength[swir], wavelength[band]), 1, swir.size - 1))
        low, high = swir[after - 1], swir[after]
        share = (wavelength[band] - wavelength[low]) / (wavelength[high] - wavelength[low])
        parts[row, 1:] = low, high
        weights[row] = 0.5, 0.5 * (1 - share), 0.5 * share
    return MixedArray(array, parts, weights)
