"""Whether a scene fits an encoder: bands, resampling, statistics, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral.backbones.less_vit.statistics import statistics_for
from torchspectral.backbones.reach import reach_of
from torchspectral.embedding.encoders import Encoder
from torchspectral.embedding.method import EmbeddingSettings
from torchspectral.engine.method import Scale
from torchspectral.engine.roles import choose_bands
from torchspectral.errors import BadSettings, BadWeights, BandMismatch, MissingMetadata
from torchspectral.result import Report
from torchspectral.weights import check_fit
from torchspectral.weights.fit import band_problem

ASK = "the scene's own: --set statistics=scene"


def fit_bands(
    cube: xr.DataArray, found: Encoder, s: EmbeddingSettings, options: Mapping[str, Any]
) -> tuple[xr.DataArray, np.ndarray, list[str]]:
    """The scene with bands that the encoder takes.

    Returns
    -------
    cube : DataArray
        As given, or resampled by spectral response.
    bands : ndarray of int
        Those of it that the encoder will see.
    notes : list of str
        What was resampled, with the least coverage.

    Raises
    ------
    BandMismatch, MissingMetadata, BadInput, BadSettings
    """
    if s.own_bands and found.bands.count is not None:
        raise BadSettings(
            f"got own_bands with {found.name}, which takes exactly {found.bands.count} bands: leave it out, or resample "
            "the scene"
        )
    chosen = choose_bands(cube, options.get("bands", "good"), Report())
    seen = cube.isel(band=chosen)
    resample = bool(options.get("resample", False))
    wanted = found.wanted(s.own_bands)
    if resample and found.trained and _is_sentinel2(found) and band_problem(wanted, seen):
        from torchspectral.backbones.softcon.scenes import as_sentinel2

        made, notes = as_sentinel2(seen)
    else:
        made, notes = check_fit(wanted, seen, resample=resample)
        made = made if notes else cube
    index = np.arange(made.sizes["band"]) if notes else chosen
    waves = np.asarray(made["wavelength"].values, dtype=np.float64)[index]
    known = bool(np.isfinite(waves).all())
    found.bands.check(index.size, waves.tolist() if known else None)
    return made, index, notes


def _is_sentinel2(found: Encoder) -> bool:
    return getattr(found.network, "modality", "") == "sentinel-2"


def statistics(found: Encoder, s: EmbeddingSettings, waves: np.ndarray) -> tuple[Scale, Any, Any, list[str]]:
    """How scene values become those that the encoder's statistics are of: scale, mean and deviation a band, notes.

    Of weights of several sensors the encoder sees the size of the pixels, too, that it learnt from with the scene's sensor.

    Raises
    ------
    BandMismatch, MissingMetadata, BadWeights
        The weights have statistics of other bands, or none, and those of the scene were not asked for.
    """
    count = waves.size
    card = found.card
    if s.statistics == "scene" or (not s.statistics and not found.trained):
        note = "the encoder sees the scene standardised by its own mean and deviation of each band"
        return Scale("meanstd"), [0.0] * count, [1.0] * count, [note]
    if not found.trained:
        raise BadSettings("got statistics=weights with random weights, which have none: expected statistics=scene")
    if card.scale.rule not in ("physical", "fixed"):
        raise BadWeights(
            f"weights {card.name} scale each scene by its {card.scale.rule}, expected a fixed scale: ask for "
            "statistics=scene"
        )
    scale = Scale("physical")
    if card.scale.rule == "fixed" and (card.scale.gain != 1.0 or card.scale.offset != 0.0):
        scale = Scale("fixed", card.scale.gain, card.scale.offset)
    mean, std, notes = card.mean, card.std, list[str]()
    if mean is not None and std is not None and _of_other_bands(found, s, waves):
        mean, std, notes = _interpolated(found, waves)
    if mean is None and (sensor := statistics_for(found.statistics, waves.tolist(), card.name, ASK)) is not None:
        mean, std, side = sensor
        found.arguments = {**found.arguments, "resolution": side, **s.network}
        notes.append(f"mean and deviation are those of the sensor of {count} bands that the weights learnt from")
    _try_input(found, count, mean, std)
    return scale, mean, std, notes


def _of_other_bands(found: Encoder, s: EmbeddingSettings, waves: np.ndarray) -> bool:
    """Whether the weights' statistics are of other bands than the encoder will see."""
    card = found.card
    if card.mean is not None and len(card.mean) != waves.size:
        return True
    free = s.own_bands or found.bands.needs_wavelengths
    return bool(free and card.wavelengths != "any" and np.abs(np.asarray(card.wavelengths) - waves).max() > 1)


def _interpolated(found: Encoder, waves: np.ndarray) -> tuple[list[float], list[float], list[str]]:
    """Statistics of the weights' bands at the scene's wavelengths, where these lie among them."""
    card = found.card
    if card.wavelengths == "any" or card.mean is None or card.std is None:
        raise BandMismatch(f"weights {card.name} have statistics of other bands and do not say of which: ask for {ASK}")
    have = np.asarray(card.wavelengths, dtype=np.float64)
    order = np.argsort(have)
    step = np.median(np.abs(np.diff(have[order]))) if have.size > 1 else 1.0
    if not np.isfinite(waves).all() or waves.min() < have.min() - step or waves.max() > have.max() + step:
        raise BandMismatch(
            f"weights {card.name} have statistics from {have.min():g} to {have.max():g} nm and the scene has other bands: "
            f"ask for {ASK}"
        )
    mean, std = (np.interp(waves, have[order], np.asarray(v)[order]).tolist() for v in (card.mean, card.std))
    return mean, std, [f"mean and deviation of weights {card.name} were interpolated to the scene's wavelengths"]


def _try_input(found: Encoder, count: int, mean: Any, std: Any) -> None:
    """Learn before anything is read whether the encoder lacks statistics."""
    try:
        found.network.as_input(torch.zeros(1, count, 1, 1), mean, std)
    except MissingMetadata as error:
        raise MissingMetadata(f"{error}; or ask for {ASK}") from None


def windows(found: Encoder, s: EmbeddingSettings) -> dict[str, Any]:
    """Settings of `BackboneEmbedding` that follow from the encoder: scope, window, stride, step, reach.

    Raises
    ------
    BadSettings
    """
    network, patch = found.network, int(found.network.stride)
    side = s.window or found.size or patch
    if s.what == "pooled":
        if side % patch:
            raise BadSettings(f"got window={side}, expected a multiple of {patch} pixels, the patch of {found.name}")
        step = s.stride or side
        if step > side:
            raise BadSettings(f"got stride={step} with windows of {side} pixels, expected at most that")
        reach = -(-(side - step) // 2)
        return {"scope": "local", "window": side, "stride": step, "step": step, "reach": reach}
    reach_ = reach_of(network)
    if reach_ is not None:
        if s.window or s.stride:
            raise BadSettings(
                f"got window or stride, but the convolutions of {found.name} are computed as if over the whole scene: "
                "leave them out, or ask for what=pooled"
            )
        return {"scope": "local", "step": patch, "reach": reach_ + patch}
    if side % patch:
        raise BadSettings(f"got window={side}, expected a multiple of {patch} pixels, the patch of {found.name}")
    stride = s.stride or side - (side // 4 // patch) * patch
    if stride > side or stride % patch:
        raise BadSettings(
            f"got stride={stride}, expected a multiple of {patch} pixels, the patch of {found.name}, up to the window's "
            f"{side}"
        )
    return {"scope": "tile", "window": side, "stride": stride, "step": patch}
