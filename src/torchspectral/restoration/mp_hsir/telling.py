"""What is to be undone in a scene, told from its gaps, or else by a trained predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr

from torchspectral.cube import good_bands, nodata_mask
from torchspectral.errors import BadInput, BadSettings, BadWeights
from torchspectral.restoration.mp_hsir.bridge import Bridge, model_grid
from torchspectral.restoration.mp_hsir.tasks import NATURAL, REMOTE

LEAST_HOLES = 0.3
"""Share of values without which a scene is one to be inpainted; its tasks lack 0.7 and more."""
WINDOW = 256
"""Side of a part that the predictor looks at."""
WINDOWS = 4
"""Parts along each side at most."""
STRIP = 64
PREDICTOR = "mp-hsir-predictor"


def tell(cube: xr.DataArray, predictor: Path | str | None = None) -> tuple[str, str]:
    """The task of a scene, in the words of MP-HSIR's setting, and why.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
    predictor : path or str, optional
        Weights of a trained ``mp-hsir-predictor``; needed where the scene has no gaps.

    Raises
    ------
    BadSettings
        The scene has no gaps, and there is no predictor.
    BadWeights, BandMismatch, MissingMetadata, BadInput
    """
    lost, holes = gaps(cube)
    if lost:
        return "bands", f"task bands was chosen: {lost} bands have no value"
    if holes >= LEAST_HOLES:
        return "inpaint", f"task inpaint was chosen: {holes:.0%} of the values are missing"
    if predictor is None:
        raise BadSettings(
            "got task=auto and a scene without gaps: give predictor=FILE, weights of a trained "
            f"{PREDICTOR} (torchspectral train restore --method {PREDICTOR} --data SCENES -o RUN), or say the task"
        )
    scores = predicted(cube, predictor)
    chosen = [name for name, score in scores.items() if score >= 0.5] or [max(scores, key=lambda name: scores[name])]
    told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    return "+".join(chosen), f"task {'+'.join(chosen)} was chosen by the predictor: {told}"


def gaps(cube: xr.DataArray) -> tuple[int, float]:
    """Good bands that are zero or nodata throughout, and the share of such values in the others; empty pixels aside."""
    chosen = cube.isel(band=np.flatnonzero(good_bands(cube)))
    there, pixels = np.zeros(chosen.sizes["band"], dtype=np.int64), 0
    for top in range(0, chosen.sizes["y"], STRIP):
        part = chosen.isel(y=slice(top, top + STRIP))
        seen = ~nodata_mask(part).values & (part.values != 0)
        there += seen.sum((1, 2))
        pixels += int(seen.any(0).sum())
    if not pixels:
        raise BadInput("the scene has no value that is not zero or nodata: there is nothing to restore")
    full = there[there > 0]
    return int((there == 0).sum()), 1.0 - float(full.sum()) / (full.size * pixels)


@torch.no_grad()
def predicted(cube: xr.DataArray, predictor: Path | str) -> dict[str, float]:
    """Probability of each task, the mean over parts of the scene in 0..1."""
    from torchspectral.weights import create_model, load

    loaded = load(predictor)
    if not loaded.card.model.startswith(PREDICTOR):
        raise BadWeights(
            f"weights {loaded.card.name} are for {loaded.card.model or 'nothing known'}, expected {PREDICTOR}"
        )
    network = create_model(loaded.card.model, **loaded.card.constructor)
    network.load_state_dict({key: loaded.state[key] for key in network.state_dict()})
    network.eval()
    bands, count = int(loaded.card.constructor["bands"]), int(loaded.card.constructor["tasks"])
    names = [name for name in (REMOTE if count == len(REMOTE) - 1 else NATURAL) if name != "bands"]
    known = loaded.card.wavelengths
    grid = model_grid(bands, count + 1) if known == "any" else np.asarray(known, dtype=np.float64)
    chosen = cube.isel(band=np.flatnonzero(good_bands(cube)))
    wavelength = np.asarray(chosen["wavelength"].values, dtype=np.float64)
    same = wavelength.size == bands and (
        grid is None or not np.isfinite(wavelength).all() or np.allclose(wavelength, grid, atol=1)
    )
    if grid is None and not same:
        raise BadSettings(f"the predictor has {bands} bands of unknown wavelengths, the scene {wavelength.size}")
    there = None if same or grid is None else Bridge.build(wavelength, grid).there.astype(np.float32)
    total, parts = np.zeros(len(names)), list(_parts(chosen))
    top = max(float(np.nanmax(part)) for part in parts)
    for part in parts:
        values = np.nan_to_num(part / top).astype(np.float32)
        values = values if there is None else np.tensordot(there, values, 1)
        total += torch.sigmoid(network(torch.from_numpy(values)[None]))[0].double().numpy()
    return {name: float(score) for name, score in zip(names, total / len(parts), strict=True)}


def _parts(cube: xr.DataArray) -> list[np.ndarray]:
    """Parts of a scene, evenly spread, that have a value, NaN where there is none."""
    starts = []
    for size in (cube.sizes["y"], cube.sizes["x"]):
        count = min(WINDOWS, -(-size // WINDOW))
        starts.append(np.linspace(0, max(size - WINDOW, 0), count).round().astype(int))
    found = []
    for row in starts[0]:
        for col in starts[1]:
            part = cube.isel(y=slice(row, row + WINDOW), x=slice(col, col + WINDOW))
            values = part.where(~nodata_mask(part)).values
            if np.isfinite(values).any():
                found.append(values)
    return found
