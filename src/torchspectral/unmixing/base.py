"""Unmixing: what a scene is made of, and how much of each there is in every pixel.

Every method returns **endmembers** (spectra), **abundances** (layers, one an endmember, 0..1) and **rmse** (layer, the
residual in the cube's units). Linear mixing model: Y = M A + noise, with A >= 0 and columns that sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadInput, BadSettings, OutputExists
from torchspectral.log import Progress, no_progress
from torchspectral.result import Result

ROOM = "unmixing"
DEFAULT = "vca-fcls"


def unmix(
    cube: xr.DataArray,
    k: int | Literal["auto"] | None = None,
    *,
    method: str = DEFAULT,
    library: xr.DataArray | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Unmix a scene into endmembers and their abundances.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Reflectance, radiance or raw numbers; lazy cubes are streamed.
    k : int or "auto", optional
        Endmembers to extract; "auto" (default) counts signal dimensions by HySime.
    method : str
        A card of the room, see ``methods("unmixing")``.
    library : DataArray, dims (spectrum, band), optional
        Endmembers in place of extracted ones, in the cube's units; the default method is then "fcls". With
        ``resample=True`` they are brought to the cube's bands by spectral response, else they must lie on them.
    settings : mapping, optional
        Fields of the method's settings.
    state : mapping, optional
        What an earlier fit found (``endmembers``, ``endmember_names``); the scene is then not fitted.
    out : path, optional
        File for the abundances, or folder (existing, or a name that ends in "/") for all values.
    progress : callable
        See `log.Progress`.
    **options
        Fields of `engine.RunOptions`: bands, mask, seed, device, workers, tile, overwrite, resume, ...

    Returns
    -------
    Result
        ``abundances`` (layers), ``rmse`` (layer), ``endmembers`` (spectra).

    Raises
    ------
    BadSettings, UnknownName, BadInput, BandMismatch, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> result = ts.unmix(ts.open("scene.tif"), k=5, out="unmixed/")  # doctest: +SKIP
    >>> result["abundances"].sel(layer="endmember 1")  # doctest: +SKIP
    """
    if library is not None and method == DEFAULT:
        method = "fcls"
    values = dict(settings or {})
    if k is not None:
        if library is not None:
            raise BadSettings(f"got k={k} and a library, expected one of them: its spectra are the endmembers")
        if values.get("k", k) != k:
            raise BadSettings(f"got k={k} and the setting k={values['k']}, expected one of them")
        values["k"] = k
    inputs = {"cube": check_cube(cube)}
    if library is not None:
        inputs["library"] = check_library(library)
        if options.get("resample"):
            from torchspectral.spectra import resample

            inputs["library"] = resample(inputs["library"], inputs["cube"])
    return run_method(method, inputs, values, state, out, progress, options)


def endmembers(
    cube: xr.DataArray,
    k: int | Literal["auto"] = "auto",
    *,
    method: str = "vca",
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Extract the endmembers of a scene.

    Parameters
    ----------
    cube, settings, out, progress, **options
        As for `unmix`.
    k : int or "auto"
        How many; "auto" counts signal dimensions by HySime, an upper bound on real scenes.
    method : str
        "vca".

    Returns
    -------
    Result
        ``endmembers`` (spectra); the report's figures say where each was found.

    Raises
    ------
    BadSettings, UnknownName, BadInput
    """
    values = {**(settings or {}), "k": k}
    return run_method(method, {"cube": check_cube(cube)}, values, None, out, progress, options)


def check_library(library: Any) -> xr.DataArray:
    """Return a library if it is spectra with finite values.

    Raises
    ------
    BadInput
        Not spectra, empty, or a spectrum without any finite value.
    """
    if not isinstance(library, xr.DataArray) or library.dims != ("spectrum", "band"):
        got = getattr(library, "dims", type(library).__name__)
        raise BadInput(f"got {got} as library, expected a DataArray with dims (spectrum, band): see make_spectra")
    if 0 in library.shape:
        raise BadInput(f"got a library of shape {library.shape}, expected at least one spectrum and one band")
    empty = ~np.isfinite(np.asarray(library.values, dtype=np.float64)).any(axis=1)
    if empty.any():
        names = ", ".join(str(n) for n in np.asarray(library["spectrum"])[empty][:3])
        raise BadInput(f"{int(empty.sum())} spectra of the library have no values ({names}): drop them")
    return library


def run_method(
    method: str,
    inputs: dict[str, xr.DataArray],
    settings: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    out: Path | str | None,
    progress: Progress,
    options: Mapping[str, Any],
) -> Result:
    """Build a method of this room and run it."""
    from torchspectral import registry
    from torchspectral.engine import RunOptions, run

    made = registry.create(ROOM, method, dict(settings))
    known = check_state(state) if state is not None else None
    chosen = RunOptions.make(options)
    again = chosen.overwrite or chosen.resume
    beside = Path(str(out)) / "endmembers.csv" if out is not None and not isinstance(out, Mapping) else None
    if beside is not None and beside.exists() and not again:
        raise OutputExists(f"{beside} exists: overwrite=True (--overwrite) replaces it, or choose another name")
    result = run(made, inputs, out=out, options=chosen, state=known, progress=progress)
    library = Path(result.paths.get("endmembers", ""))
    if library.suffix == ".sli":
        from torchspectral.io import save

        # Spreadsheets do not read ENVI libraries; the folder was this run's to write, the table is part of it.
        table = library.with_suffix(".csv")
        save(result["endmembers"], table, overwrite=again)
        result.paths["endmembers.csv"] = str(table)
    return result


def check_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a state that a caller made: endmembers as a tensor, and names for them.

    Raises
    ------
    BadInput
        It has no endmembers, or not as many names.
    """
    import torch

    from torchspectral.unmixing.vca_fcls import endmember_names

    if not isinstance(state, Mapping) or "endmembers" not in state:
        got = f"a state with {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else type(state)
        raise BadInput(f'got {got}, expected a state with "endmembers" of shape (endmember, band)')
    given = state["endmembers"]
    try:
        spectra = given.detach() if isinstance(given, torch.Tensor) else torch.as_tensor(np.asarray(given, float))
    except (TypeError, ValueError):
        raise BadInput(f"got endmembers of type {type(given).__name__}, expected numbers (endmember, band)") from None
    if spectra.ndim != 2 or not spectra.numel():
        raise BadInput(f"got endmembers of shape {tuple(spectra.shape)}, expected (endmember, band)")
    names = [str(n) for n in state.get("endmember_names", endmember_names(len(spectra)))]
    if len(names) != len(spectra):
        raise BadInput(f"got {len(names)} names for {len(spectra)} endmembers, expected one for each")
    return {**state, "endmembers": spectra, "endmember_names": names}
