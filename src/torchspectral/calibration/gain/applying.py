"""Relative gains applied to a scene of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral.calibration.gain.gains import Gains
from torchspectral.cube import check_cube
from torchspectral.engine.method import Input, Method, Output, Scope, Size, State, Tile
from torchspectral.errors import BandMismatch, GridMismatch
from torchspectral.log import Progress, no_progress
from torchspectral.result import Result
from torchspectral.settings import Settings, setting


class RelativeGainSettings(Settings):
    """Settings of the correction by gains."""

    saturation: float | None = setting(
        None, "values from here on become nodata", unit="units of the scene", allow_inf_nan=False
    )


class RelativeGain(Method):
    """Multiply by the gain of each detector and band, and add its offset; NaN gains give nodata.

    State
    -----
    gain, offset : Tensor, shape (bands, columns) or (bands, 1)

    References
    ----------
    Ling and Strohmer, "Self-Calibration and Bilinear Inverse Problems via Linear Least Squares", SIAM J. Imaging
    Sciences 11(1), 2018: where such gains come from.
    """

    Settings = RelativeGainSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.PIXEL
    needs_fit = True
    state_keys = ("gain", "offset")

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Gain * cube + offset, (n, bands, y, x)."""
        cube = tile["cube"]
        gain, offset = (columns_of(state[name], tile, cube, "gains") for name in ("gain", "offset"))
        out = torch.addcmul(offset, cube, gain)
        if self.settings.saturation is not None:
            out = out.where(cube < self.settings.saturation, torch.nan)
        return {"cube": out}

    def memory(self, size: Size) -> dict[str, int]:
        """Two copies."""
        return {"fit": 0, "apply": 2 * size.rows * size.cols * size.bands * 4}

    def figures(self, state: State) -> dict[str, Any]:
        """Largest correction and unseen detectors."""
        gain = state["gain"]
        known = gain[torch.isfinite(gain)]
        return {
            "largest_correction": round(float((known - 1).abs().max()), 6) if known.numel() else None,
            "without_gain": int((~torch.isfinite(gain)).sum()),
        }


def columns_of(values: torch.Tensor, tile: Tile, like: torch.Tensor, what: str) -> torch.Tensor:
    """A state of (bands, columns) or (bands, 1) as (bands, 1, columns of the tile).

    Raises
    ------
    BandMismatch, GridMismatch
        It is of other bands or columns than the scene.
    """
    bands, columns = values.shape
    if bands != like.shape[1]:
        raise BandMismatch(f"the {what} are of {bands} bands, the scene has {like.shape[1]}: expected as many")
    if columns not in (1, tile.info.shape[1]):
        raise GridMismatch(
            f"the {what} are of {columns} columns, the scene has {tile.info.shape[1]}: expected the scene as the sensor "
            "saw it, one column a detector"
        )
    part = values if columns == 1 else values[:, tile.window.col : tile.window.col + tile.window.width]
    return part.to(like.device, like.dtype)[:, None]


def apply_gains(
    cube: xr.DataArray,
    gains: Gains,
    *,
    settings: dict[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Correct a scene by gains; streamed.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        In sensor geometry: one column a detector. Bands are matched by their numbers.
    gains : Gains
    settings : mapping, optional
        ``saturation``.
    out : path, optional
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``cube``: float32, NaN where the gain is not known.

    Raises
    ------
    BandMismatch, GridMismatch, BadSettings, OutputExists
    """
    from torchspectral.engine import RunOptions, run

    cube = check_cube(cube)
    chosen = RunOptions.make({**options, "bands": "all"})
    numbers = [int(n) for n in cube["number"].values]
    place = {int(n): at for at, n in enumerate(gains.number)}
    absent = [n for n in numbers if n not in place]
    if absent:
        raise BandMismatch(
            f"there are no gains of band {absent[0]} ({len(absent)} of {len(numbers)} bands): expected gains of all bands"
        )
    at = [place[n] for n in numbers]
    if gains.shape[1] not in (1, cube.sizes["x"]):
        raise GridMismatch(
            f"the gains are of {gains.shape[1]} detectors, the scene has {cube.sizes['x']} columns: expected the scene as "
            "the sensor saw it, one column a detector"
        )
    state = {name: torch.from_numpy(getattr(gains, name)[at].astype(np.float32)) for name in ("gain", "offset")}
    method = RelativeGain(RelativeGainSettings.make(settings or {}))
    return run(method, {"cube": cube}, out=out, options=chosen, state=state, progress=progress)
