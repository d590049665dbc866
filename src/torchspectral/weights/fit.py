"""Whether a scene fits a set of weights, asked before the forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchspectral.cube import check_cube, is_packed, nodata_mask
from torchspectral.errors import BadInput, BandMismatch, MissingMetadata
from torchspectral.weights.card import WeightsCard

if TYPE_CHECKING:
    import xarray as xr

FAR = 5.0
"""How many times beyond the training range a scene's values may lie before they are taken for another scale."""


def check_fit(
    card: WeightsCard, cube: xr.DataArray, *, resample: bool = False, tolerance: float | None = None
) -> tuple[xr.DataArray, list[str]]:
    """Hold a scene against the card; the bands handed over are those that the network will see.

    Parameters
    ----------
    card : WeightsCard
    cube : DataArray (band, y, x)
        Lazy or in memory; at most one small window of it is read.
    resample : bool
        Resample the scene's bands to the card's where they do not fit.
    tolerance : float, optional
        Largest distance of a band's centre [nm]; default: half the distance of neighbouring bands of the card, at
        least 1 nm.

    Returns
    -------
    cube : DataArray
        As given, or resampled.
    notes : list of str
        What was done, for the report.

    Raises
    ------
    BandMismatch
        Count or wavelengths differ and `resample` was not asked for, or the scene does not cover the card's bands.
    BadInput
        Another quantity, or values far outside the training range.
    MissingMetadata
        The scene has no wavelengths and the card needs them.
    """
    cube = check_cube(cube)
    quantity = cube.attrs.get("quantity")
    if card.quantity not in ("any", quantity):
        told = f"say so where its file does not (quantity={card.quantity!r}, --open quantity={card.quantity}), "
        raise BadInput(
            f"the scene is {quantity} and weights {card.name!r} expect {card.quantity}: "
            f"{told if quantity == 'dn' else ''}convert the scene, or train on scenes like it (torchspectral train)"
        )
    notes: list[str] = []
    problem = band_problem(card, cube, tolerance)
    if problem:
        if not resample or card.wavelengths == "any":
            raise BandMismatch(problem + _advice(card))
        cube, notes = _resampled(card, cube)
    check_values(card, cube)
    return cube, notes


def band_problem(card: WeightsCard, cube: xr.DataArray, tolerance: float | None = None) -> str:
    """What is wrong with a scene's bands in one sentence; "" where they fit.

    Raises
    ------
    MissingMetadata
    """
    count = cube.sizes["band"]
    if card.wavelengths == "any":
        if card.bands is not None and card.bands != count:
            return f"the scene has {count} bands and weights {card.name!r} expect {card.bands}"
        return ""
    wanted = np.asarray(card.wavelengths, dtype=np.float64)
    have = np.asarray(cube["wavelength"].values, dtype=np.float64)
    if not np.isfinite(have).all():
        raise MissingMetadata(
            f"the scene has no wavelengths and weights {card.name!r} expect {wanted.size} bands from "
            f"{wanted.min():g} to {wanted.max():g} nm: assign the coordinate 'wavelength' first"
        )
    if count != wanted.size:
        return (
            f"the scene has {count} bands from {have.min():g} to {have.max():g} nm and weights {card.name!r} expect "
            f"{wanted.size} from {wanted.min():g} to {wanted.max():g} nm"
        )
    limit = _limit(wanted) if tolerance is None else np.full(wanted.size, tolerance)
    gap = np.abs(have - wanted)
    worst = int(np.argmax(gap - limit))
    if gap[worst] > limit[worst]:
        return (
            f"band {worst + 1} of the scene lies at {have[worst]:g} nm and weights {card.name!r} expect "
            f"{wanted[worst]:g} nm (at most {limit[worst]:.1f} nm off)"
        )
    return ""


def _limit(wanted: np.ndarray) -> np.ndarray:
    if wanted.size < 2:
        return np.full(wanted.size, 5.0)
    step = np.abs(np.diff(wanted))
    near = np.minimum(np.append(step, np.inf), np.insert(step, 0, np.inf))
    return np.maximum(near / 2, 1.0)


def _advice(card: WeightsCard) -> str:
    train = "train on scenes like it (torchspectral train)"
    return (
        f": {train}"
        if card.wavelengths == "any"
        else f": ask for resampling (resample=True; --align, to train --set resample=true), or {train}"
    )


def _resampled(card: WeightsCard, cube: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
    from torchspectral import spectra

    wanted = np.asarray(card.wavelengths, dtype=np.float64)
    have = np.asarray(cube["wavelength"].values, dtype=np.float64)
    fwhm = np.asarray(card.fwhm, dtype=np.float64) if card.fwhm else 2 * _limit(wanted)
    out = spectra.resample(cube, (wanted, fwhm))
    missing = np.flatnonzero(~np.asarray(out["good"].values, dtype=bool))
    if missing.size:
        nearest = ", ".join(f"{w:g}" for w in wanted[missing[:3]]) + (" .." if missing.size > 3 else "")
        raise BandMismatch(
            f"the scene covers {have.min():g} to {have.max():g} nm, which leaves {missing.size} of the {wanted.size} "
            f"bands that weights {card.name!r} expect uncovered ({nearest} nm): train on scenes like it"
        )
    least = float(np.min(out["coverage"].values))
    return out, [
        f"{have.size} bands ({have.min():g}-{have.max():g} nm) resampled to the {wanted.size} of weights {card.name} "
        f"({wanted.min():g}-{wanted.max():g} nm), least coverage {least:.0%}"
    ]


def check_values(card: WeightsCard, cube: xr.DataArray, size: int = 32) -> None:
    """Refuse values that are on another scale than those of the training, seen in one window at the centre.

    Raises
    ------
    BadInput
    """
    if card.values is None or card.scale.rule != "fixed":
        return
    row, col = (max((cube.sizes[d] - size) // 2, 0) for d in ("y", "x"))
    cut = cube.isel(y=slice(row, row + size), x=slice(col, col + size))
    window = cut.where(~nodata_mask(cut)).values.astype(np.float64)
    if is_packed(cube):
        packing = cube.attrs["packing"]
        window = window * np.reshape(packing["scale"], (-1, 1, 1)) + np.reshape(packing["offset"], (-1, 1, 1))
    gain, offset = (
        np.asarray(v, dtype=np.float64).reshape(-1, 1, 1) if isinstance(v, list) else float(v)
        for v in (card.scale.gain, card.scale.offset)
    )
    working = (window - offset) / gain
    if not np.isfinite(working).any():
        return
    low, high = card.values
    span = max(high - low, 1e-12)
    seen = float(np.nanpercentile(working, 98))
    if seen > high + FAR * span or seen < low - FAR * span:
        raise BadInput(
            f"values near the centre of the scene are about {seen:.3g} in the working scale of "
            f"weights {card.name!r}, which saw {low:.3g} to {high:.3g} in training: the scene is on another "
            "scale, convert it or train on scenes like it"
        )
