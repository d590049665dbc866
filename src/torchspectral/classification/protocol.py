"""How the field evaluates across sensors: a head trained on one set of bands, tested on others.

References
----------
"LESSViT: Robust Hyperspectral Representation Learning under Spectral Configuration Shift", arXiv 2605.18541.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.classification.tuned.evaluation import Tally, predict_image
from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.io.statistics import values_of
from torchspectral.log import Progress, Step, no_progress

FIGURES = ("oa", "kappa", "f1_macro", "iou_micro", "iou_macro")
LEAST_WEIGHT = 1e-3


def spectral_configurations(bands: int = 202) -> dict[str, np.ndarray]:
    """Sets of bands of the cross-spectral benchmark, as positions from 0.

    Parameters
    ----------
    bands : int
        202 gives the published sets; other counts the same shares of them.

    Returns
    -------
    dict
        ``id`` (C120-VN+: 80 of the first half, 40 of the second), ``ood_a`` (C120-SW+: 40 and 80), ``ood_complement`` (those
        not in ``id``), ``ood_full`` (all).

    Raises
    ------
    BandMismatch
        Fewer than 8 bands.
    """
    if bands < 8:
        raise BandMismatch(f"got {bands} bands, expected at least 8 for sets of bands")
    middle = bands // 2 - 1 if bands % 2 == 0 else bands // 2
    many, few = round(bands * 80 / 202), round(bands * 40 / 202)

    def chosen(first: int, second: int) -> np.ndarray:
        low = np.round(np.linspace(0, middle, first))
        high = np.round(np.linspace(middle + 1, bands - 1, second))
        return np.unique(np.concatenate([low, high])).astype(np.int64)

    inside = chosen(many, few)
    every = np.arange(bands)
    return {"id": inside, "ood_a": chosen(few, many), "ood_complement": np.setdiff1d(every, inside), "ood_full": every}


def response_matrix(source: Any, target: Any, fwhm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian responses of target bands over source bands, as the benchmark has them.

    Parameters
    ----------
    source, target : array_like [nm]
    fwhm : float or array_like [nm]
        Of the target bands.

    Returns
    -------
    weights : ndarray (bands kept, source)
        exp(-((target - source) / (fwhm / 2.355))^2 / 2); below 1e-3 it is 0; rows sum to 1.
    kept : ndarray of int
        Target bands that have any support.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    width = np.broadcast_to(np.asarray(fwhm, dtype=float), target.shape)[:, None] / 2.355
    weights = np.exp(-0.5 * ((target[:, None] - source) / width) ** 2)
    weights[weights < LEAST_WEIGHT] = 0
    kept = np.flatnonzero(weights.sum(1) > 0)
    return weights[kept] / weights[kept].sum(1, keepdims=True), kept


def interpolated(values: np.ndarray, source: Any, target: Any) -> np.ndarray:
    """Values (band, ...) at other wavelengths: linear between neighbours, the nearest beyond the ends.

    The simple peer of networks that take any bands: bring what there is onto the bands of the training.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    order = np.argsort(source, kind="stable")
    source, values = source[order], values[order]
    at = np.clip(np.interp(target, source, np.arange(source.size)), 0, source.size - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, source.size - 1)
    share = (at - low).reshape(-1, *([1] * (values.ndim - 1)))
    out: np.ndarray = values[low] * (1 - share) + values[high] * share
    return out


def cross_spectral(
    training: Sequence[xr.Dataset],
    testing: Sequence[xr.Dataset],
    *,
    settings: Mapping[str, Any],
    out: Path | str,
    configurations: Mapping[str, np.ndarray] | None = None,
    ways: Sequence[Literal["own", "interpolated"]] = ("own", "interpolated"),
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Any:
    """Train on the bands of ``id`` and test on all sets.

    Parameters
    ----------
    training, testing : sequence of Dataset
        ``cube`` and ``labels``, all of one sensor.
    settings : mapping
        Of `BackboneTraining` (backbone, initial, tuning, steps, ...).
    out : path
        Folder of the run.
    configurations : mapping of str to positions, optional
        The first is what trains; by default `spectral_configurations`.
    ways : sequence of {"own", "interpolated"}
        How other bands enter: by the network's own mechanism (adapter, continuous embedding; rows are left out where it
        has none), or interpolated onto the training bands.
    seed : int
    device : str

    Returns
    -------
    pandas.DataFrame
        A row for each set and way: ``configuration, way, bands``, the figures (OA, kappa, macro F1, micro and macro IoU) and
        ``drop_iou_micro`` [%], what is lost of the training bands' figure, and ``drop_oa``.

    Raises
    ------
    BadInput, BadSettings, BandMismatch
    """
    import pandas as pd  # type: ignore[import-untyped]

    from torchspectral.classification.labels import with_labels
    from torchspectral.learn.scenes import open_scenes
    from torchspectral.learn.train import train

    if not training or not testing:
        raise BadInput("got no scenes to train or to test on, expected at least one of each")
    sets = dict(configurations or spectral_configurations(training[0]["cube"].sizes["band"]))
    (first, inside), *_ = sets.items()
    if settings.get("task", "pixels") not in DENSE[:1]:
        raise BadSettings(f"got task={settings.get('task')}, expected pixels")
    run = train(
        "classify",
        "backbone",
        [d.isel(band=inside) for d in training],
        out=out,
        settings=settings,
        seed=seed,
        device=device,
    )
    network = run["network"]
    made, classes, _ = with_labels(open_scenes(list(testing)), [])
    if not set(classes.names) <= set(_names(network, out)):
        raise BadInput("the scenes to test on have classes that the training has not: labels out of range")
    numbers = [int(n) for n in _constructor(out)["class_numbers"]]
    rows = []
    for count, (name, index) in enumerate(sets.items()):
        for way in ways if name != first else ("own",):
            tally = _tested(network, made, numbers, _names(network, out), inside, index, way)
            if tally is None:
                continue
            found = tally.figures()
            rows.append({"configuration": name, "way": way, "bands": len(index), **{k: found[k] for k in FIGURES}})
        progress(Step("cross-spectral", (count + 1) / len(sets)))
    table = pd.DataFrame(rows)
    for figure in ("oa", "iou_micro"):
        base = float(table[figure].iloc[0])
        table[f"drop_{figure}"] = 100 * (base - table[figure]) / max(base, 1e-12)
    return table


def _constructor(out: Path | str) -> dict[str, Any]:
    from torchspectral.weights import load

    return load(out).card.constructor


def _names(network: Any, out: Path | str) -> list[str]:
    return [str(n) for n in _constructor(out)["class_names"]]


def _tested(
    network: Any, scenes: Any, numbers: list[int], names: list[str], inside: np.ndarray, index: np.ndarray, way: str
) -> Tally | None:
    tally = Tally(names, "pixels")
    other: Any = network if way == "interpolated" else with_bands(network, inside, index, scenes[0].cube)
    if other is None:
        return None
    for scene in scenes:
        wave = np.asarray(scene.cube["wavelength"].values, dtype=float)
        values = values_of(scene.cube.isel(band=index)).astype(np.float32)
        if way == "interpolated":
            values = interpolated(values, wave[index], wave[inside]).astype(np.float32)
        valid = torch.from_numpy(np.isfinite(values).all(0, keepdims=True).astype(np.float32))
        with torch.no_grad():
            found = predict_image(other, torch.from_numpy(np.nan_to_num(values)), valid)
        labels = scene.scene["labels"].values
        marks = np.where(valid[0].numpy() > 0, np.searchsorted(numbers, labels), -1)
        tally.update(found, np.where(labels > 0, marks, -1))
    return tally


def with_bands(
    network: BackboneClassifier, inside: np.ndarray, index: np.ndarray, cube: xr.DataArray
) -> BackboneClassifier | None:
    """The network for other bands; None where its backbone takes none but its own.

    Means and deviations of bands that it was not trained with are interpolated over wavelength.
    """
    import copy

    bands = network.backbone.bands
    wave = np.asarray(cube["wavelength"].values, dtype=float)
    try:
        bands.check(len(index), wave[index].tolist())
    except BandMismatch:
        return None
    other = copy.deepcopy(network)
    for name in ("mean", "std"):
        known = getattr(network, name).numpy()
        setattr(other, name, torch.from_numpy(interpolated(known, wave[inside], wave[index])).float())
    if other.waves is not None:
        other.waves = torch.from_numpy(wave[index]).float()
    return other
