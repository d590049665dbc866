"""Bands of sensors with two detectors whose ranges overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torchspectral.errors import BadSettings, MissingMetadata

OVERLAPS = ("wavelength", "detector", "vnir", "swir")


def bands_by_overlap(wavelength: np.ndarray, detector: Sequence[str], overlap: str) -> tuple[np.ndarray, str]:
    """Which bands to take, and in which order.

    Parameters
    ----------
    wavelength : ndarray, shape (band,)
        Centres [nm].
    detector : sequence of str
        "vnir", "swir" or "".
    overlap : {"wavelength", "detector", "vnir", "swir"}
        All, sorted by wavelength; all, VNIR before SWIR, each ascending; all of VNIR and the SWIR bands beyond its
        last; all of SWIR and the VNIR bands before its first.

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
    if overlap == "vnir":
        kept = swir[wavelength[swir] > wavelength[vnir].max()]
        return np.concatenate([vnir, kept]), f"{swir.size - kept.size} SWIR bands inside the VNIR range left out"
    kept = vnir[wavelength[vnir] < wavelength[swir].min()]
    return np.concatenate([kept, swir]), f"{vnir.size - kept.size} VNIR bands inside the SWIR range left out"
