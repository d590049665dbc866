"""Sharpening: the task.

Roles
    ``cube``: the hyperspectral image, any number of bands, any quantity. ``pan``: one band on a grid of the same
    ground that is a whole number of times finer, at least 2; corners agree to a tenth of a pixel. Other grids are
    refused, or resampled first with ``resample=True``.
Output
    ``cube``: all bands of the input on the grid of the PAN; bands that are not worked on (marked bad) are NaN.
Convention
    A coarse pixel k stands for the fine pixel ``R k + R // 2``, as in the field's benchmark: for even ratios the
    image lies half a PAN pixel beside the centre of its footprint.
Statistics
    Means, regressions and gains are sums over the valid pixels of the whole scene, made in streaming passes before the
    first tile is fused: tiled and untiled results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral.cube import check_cube, make_cube
from torchspectral.errors import BadCube, BadInput, BadSettings, BandMismatch
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

ROOM = "sharpening"
DEFAULT = "gsa"


def sharpen(
    hs: xr.DataArray | xr.Dataset,
    pan: xr.DataArray | None = None,
    *,
    method: str = DEFAULT,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Sharpen a hyperspectral image with a panchromatic one.

    Parameters
    ----------
    hs : DataArray, dims (band, y, x), or Dataset
        The cube; or an opened Dataset with ``cube`` and the layer ``pan``.
    pan : DataArray
        One band, on a grid a whole number of times finer over the same ground, in the units of `hs` or any other
        (methods match its level to the cube's, networks do not).
    method : str
        A card of the room, see ``methods("sharpening")``.
    settings : mapping, optional
        Fields of the method's settings.
    weights : path or str, optional
        Of a trained network.
    state : mapping, optional
        What an earlier fit learned; the scene is then not fitted.
    out : path, optional
        File for the sharpened cube, or folder.
    progress : callable
        See `log.Progress`.
    **options
        Fields of `engine.RunOptions`: bands, mask, seed, device, workers, tile, overwrite, resume, ...

    Returns
    -------
    Result
        ``cube``.

    Raises
    ------
    GridMismatch
        The PAN is not finer, or lies elsewhere.
    BandMismatch, BadInput, BadSettings, MissingWeights, BadWeights, UnknownName, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> result = ts.sharpen(ts.open("hs.tif"), ts.open("pan.tif"), out="sharp.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import RunOptions, run

    cube, fine = pair_of(hs, pan)
    values = dict(settings or {})
    given: Any = dict(state) if state is not None else None
    notes: list[str] = []
    card = registry.card(ROOM, method)
    if "weights" in card.needs and given is None:
        given, cube, values, notes = _trained(card.name, weights or card.weights, cube, values, options)
    elif weights is not None:
        raise BadSettings(f"method {method} has no weights, it learns from the scene: leave weights= out")
    made = registry.create(ROOM, method, values)
    result = run(
        made, {"cube": cube, "pan": fine}, out=out, options=RunOptions.make(options), state=given, progress=progress
    )
    result.report.resampled += notes
    return result


def pair_of(hs: Any, pan: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """The cube and its PAN as cubes.

    Raises
    ------
    BadInput
        There is no PAN.
    BadCube, BandMismatch
        An input is no cube, or the PAN has more than one band.
    """
    if isinstance(hs, xr.Dataset):
        if "cube" not in hs:
            raise BadCube(f"got a Dataset with {', '.join(map(str, hs.data_vars))}, expected one with a variable cube")
        pan = hs["pan"] if pan is None and "pan" in hs else pan
        hs = hs["cube"].drop_vars([n for n in ("y_pan", "x_pan") if n in hs["cube"].coords])
    if pan is None:
        raise BadInput("there is no PAN: give one, or open a product with layers=('pan',) that has one")
    return check_cube(hs), as_pan(pan)


def as_pan(pan: Any) -> xr.DataArray:
    """One-band cube from a cube, layers or a plain (y, x) array.

    Raises
    ------
    BadCube, BandMismatch
    """
    if not isinstance(pan, xr.DataArray):
        raise BadCube(f"got {type(pan).__name__} as pan, expected an xarray.DataArray with one band")
    pan = pan.drop_vars([n for n in ("layer",) if n in pan.coords])
    if any(str(name).endswith("_pan") for name in pan.dims):
        # A layer on a grid of its own carries the cube's reference beside its own, which ends in _pan.
        own = [str(n) for n in (*pan.dims, *pan.coords) if str(n).endswith("_pan")]
        pan = pan.drop_vars([n[:-4] for n in own if n[:-4] in pan.coords])
        pan = pan.rename({n: n[:-4] for n in dict.fromkeys(own)})
    pan = pan.rename({"layer": "band"}) if "layer" in pan.dims else pan
    if pan.dims == ("y", "x"):
        pan = pan.expand_dims("band")
    if pan.dims == ("band", "y", "x") and "wavelength" not in pan.coords:
        blank = make_cube(pan.variable, quantity=pan.attrs.get("quantity", "dn"), attrs=pan.attrs)
        pan = blank.assign_coords({n: c for n, c in pan.coords.items() if not set(c.dims) & {"band"}})
    pan = check_cube(pan, what="pan")
    if pan.ndim != 3 or pan.sizes["band"] != 1:
        raise BandMismatch(f"got a PAN of shape {pan.shape}, expected one band: pick one with isel(band=[k])")
    return pan


def _trained(
    method: str,
    weights: str | Path | None,
    cube: xr.DataArray,
    settings: dict[str, Any],
    options: Mapping[str, Any],
) -> tuple[Any, xr.DataArray, dict[str, Any], list[str]]:
    """Weights for a scene: loaded, held against its bands, their scale in the settings."""
    from torchspectral.engine.roles import choose_bands
    from torchspectral.errors import BadWeights, MissingWeights
    from torchspectral.weights import check_fit, load

    if not weights:
        raise MissingWeights(
            f"{method} needs trained weights: give weights=FILE or a name of `torchspectral weights list`, or train: "
            f"torchspectral train sharpen --method {method} --data SCENES -o RUN"
        )
    loaded = load(weights)
    card = loaded.card
    if card.model and card.model.partition("-")[0] != method:
        raise BadWeights(f"weights {card.name} are for {card.model}, expected weights of {method}")
    chosen = choose_bands(cube, options.get("bands", "good"), Report())
    fitted, notes = check_fit(card, cube.isel(band=chosen), resample=bool(options.get("resample", False)))
    if "gain" not in settings and (card.scale.rule == "fixed" or card.model):
        if card.scale.rule not in ("fixed", "physical") or isinstance(card.scale.gain, list):
            raise BadWeights(f"weights {card.name}: {method} works with one fixed gain, the card says {card.scale}")
        settings = {**settings, "gain": card.scale.gain}
    return loaded, fitted if notes else cube, settings, notes
