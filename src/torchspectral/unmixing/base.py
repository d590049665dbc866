"""Unmixing: what a scene is made of, and how much of each there is in every pixel.

Every method returns **endmembers** (spectra), **abundances** (layers, one an endmember, 0..1) and **rmse** (layer, the
residual in the cube's units). Linear mixing model: Y = M A + noise, with A >= 0 and columns that sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.engine.method import Method
from torchspectral.engine.running import Review, RunOptions
from torchspectral.errors import BadInput, BadSettings, OutputExists
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result
from torchspectral.settings import Settings
from torchspectral.unmixing.label_record import label_record, write_record
from torchspectral.unmixing.libraries import (
    Resampling,
    as_regions,
    below_zero,
    check_coverage,
    check_library,
    check_units,
    chosen_bands,
    lies_on,
    on_bands,
)
from torchspectral.unmixing.naming import MAX_ANGLE, NamedFit, Naming
from torchspectral.unmixing.pictures import draw_pictures, refuse_existing

ROOM = "unmixing"
DEFAULT = "vca-fcls"


def unmix(
    cube: xr.DataArray,
    k: int | Literal["auto"] | None = None,
    *,
    method: str = DEFAULT,
    library: xr.DataArray | None = None,
    labels: xr.DataArray | None = None,
    uncertainty: xr.DataArray | None = None,
    resampling: Resampling | None = None,
    uncovered: Literal["refuse", "drop"] = "refuse",
    ignore: Sequence[tuple[float, float]] = (),
    names_from: xr.DataArray | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    out: Path | str | None = None,
    pictures: bool = True,
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
        Spectra in place of extracted endmembers, in the cube's units; the default method is then "fcls". A coordinate
        ``class`` on ``spectrum`` tells sma and mesma which spectra belong together.
    labels : DataArray of integers, dims (y, x) or (layer, y, x), optional
        Areas drawn on the cube (`io.labels.read_labels`) whose mean spectra are the endmembers; the default method is
        then "label".
    uncertainty : DataArray, dims (band, y, x), optional
        Of the cube, in its units, for the Monte-Carlo draws of sma and mesma.
    resampling : {"srf", "gaussian", "linear"}, optional
        Bring the library to the cube's bands. By default it must lie on them, but for sma and mesma, which interpolate
        as the published tool does, and for ``resample=True``, which means "srf".
    uncovered : {"refuse", "drop"}
        What becomes of bands that the library does not cover.
    ignore : sequence of (float, float)
        Wavelength regions [nm] that are left out.
    names_from : DataArray, dims (spectrum, band), optional
        Spectra whose names the endmembers take where they are near by angle; see `naming`. None is bundled.
    settings : mapping, optional
        Fields of the method's settings.
    state : mapping, optional
        What an earlier fit found (``endmembers``, ``endmember_names``); the scene is then not fitted.
    weights : str or path, optional
        Of a network, in its authors' layout or as saved here: a file, or a name of the store. Networks that read the
        image are then not trained; those that draw it out of noise start from them.
    out : path, optional
        File for the abundances, or folder (existing, or a name that ends in "/") for all values.
    pictures : bool
        Draw into such a folder: endmembers, maps, composite and residual as PNG, and a page ``report.html``.
    progress : callable
        See `log.Progress`.
    **options
        Fields of `engine.RunOptions`: bands, mask, seed, device, workers, tile, overwrite, resume, ...

    Returns
    -------
    Result
        ``abundances`` (layers), ``rmse`` (layer), ``endmembers`` (spectra), and what else the method returns.

    Raises
    ------
    BadSettings, UnknownName, BadInput, BandMismatch, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> result = ts.unmix(ts.open("scene.tif"), k=5, out="unmixed/")  # doctest: +SKIP
    >>> result["abundances"].sel(layer="endmember 1")  # doctest: +SKIP
    """
    if method == DEFAULT and (library is not None or labels is not None):
        method = "fcls" if labels is None else "label"
    if uncovered not in ("refuse", "drop"):
        raise BadSettings(f"got uncovered={uncovered!r}, expected refuse or drop")
    values = dict(settings or {})
    inputs: dict[str, Any] = {"cube": check_cube(cube)}
    fields = settings_of(method).model_fields
    if k is not None:
        if library is not None and "k" not in fields:
            raise BadSettings(f"got k={k} and a library, expected one of them: its spectra are the endmembers")
        if "k" not in fields:
            raise BadSettings(
                f"got k={k}, but {method} finds no endmembers: give library= (--library), or another method"
            )
        if values.get("k", k) != k:
            raise BadSettings(f"got k={k} and the setting k={values['k']}, expected one of them")
        values["k"] = k
    if library is not None:
        library = check_library(library)
        if "classes" in fields and "classes" not in values and "class" in library.coords:
            values["classes"] = tuple(str(c) for c in library["class"].values)
    if labels is not None:
        if method != "label":
            raise BadSettings(f"got labels and the method {method}, expected label: endmembers() draws them for others")
        inputs["labels"] = labels
    if uncertainty is not None:
        inputs["uncertainty"] = check_cube(uncertainty, what="uncertainty")
    known: Any = check_state(state) if state is not None else None
    resampled: list[str] = []
    if weights is not None:
        from torchspectral.unmixing.networks.from_weights import weights_for

        if state is not None:
            raise BadSettings("got weights and a state, expected one of them")
        known, inputs["cube"], values, resampled = weights_for(method, weights, inputs["cube"], values, options)
    made = _create(method, values)
    regions = [*as_regions(ignore), *getattr(made.settings, "ignore", ())]
    options = dict(options)
    if library is not None:
        if resampling is None and options.get("resample"):
            resampling = "srf"
        if resampling is None and "ignore" in fields and not lies_on(library, inputs["cube"]):
            resampling = "linear"
        inputs["library"] = on_bands(library, inputs["cube"], resampling)
        if method != "label" and getattr(made.settings, "normalisation", "none") == "none":
            check_units(inputs["library"], inputs["cube"])
    if regions or library is not None:
        asked = RunOptions.make(options).bands
        wanted = chosen_bands(inputs["cube"], asked, regions)
        if library is not None:
            wanted = check_coverage(inputs["library"], inputs["cube"], wanted, drop=uncovered == "drop")
        if not np.array_equal(wanted, chosen_bands(inputs["cube"], asked, ())):
            options["bands"] = wanted.tolist()
    # A person's names stand: the library is then only compared with.
    naming = _naming(names_from, -1.0 if method == "label" else MAX_ANGLE)
    folder = _folder_of(out)
    if folder is not None and pictures and not _again(options):
        refuse_existing(folder)
    result = _run(made, inputs, known, out, progress, options, naming, resampled)
    if folder is not None:
        if method == "label":
            given = inputs.get("library"), options.get("bands", "good")
            record = label_record(result, inputs["cube"], labels=labels, library=given[0], bands=given[1])
            result.paths["labels.json"] = str(write_record(folder, record))
        if pictures:
            draw_pictures(result, folder)
    return result


def endmembers(
    cube: xr.DataArray,
    k: int | Literal["auto"] = "auto",
    *,
    method: str = "vca",
    labels: xr.DataArray | None = None,
    ignore: Sequence[tuple[float, float]] = (),
    names_from: xr.DataArray | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Extract the endmembers of a scene.

    Parameters
    ----------
    cube, ignore, names_from, settings, out, progress, **options
        As for `unmix`.
    k : int or "auto"
        How many; "auto" counts signal dimensions by HySime, an upper bound on real scenes.
    method : str
        "vca", "n-findr", "sivm", "atgp", "ppi", "sisal", "mvsa", "tile-means".
    labels : DataArray of integers, dims (y, x) or (layer, y, x), optional
        Polygons drawn on the cube (`io.labels.read_labels`): one endmember a class, the mean of its pixels. Takes the
        place of `k` and `method`.

    Returns
    -------
    Result
        ``endmembers`` (spectra); the report's figures say where each was found and what the estimators counted.

    Raises
    ------
    BadSettings, UnknownName, BadInput
    """
    from torchspectral import registry

    inputs: dict[str, Any] = {"cube": check_cube(cube)}
    values = dict(settings or {})
    if labels is not None:
        if k != "auto" or method not in ("vca", "polygons"):
            raise BadSettings("got labels and k or a method, expected labels alone: each class is an endmember")
        method, inputs["labels"] = "polygons", labels
    elif method != "polygons":
        values["k"] = k
    if registry.card(ROOM, method).verb != "endmembers":
        raise BadSettings(
            f"got method={method}, which finds abundances too, expected one for endmembers alone: use unmix"
        )
    made = _create(method, values)
    regions = as_regions(ignore)
    if regions:
        options = dict(options)
        options["bands"] = chosen_bands(inputs["cube"], RunOptions.make(options).bands, regions).tolist()
    return _run(made, inputs, None, out, progress, options, _naming(names_from, MAX_ANGLE))


def settings_of(method: str) -> type[Settings]:
    """Settings class of a method of this room."""
    from torchspectral import registry

    found: type[Settings] = registry.load_target(registry.card(ROOM, method).target).Settings
    return found


def _create(method: str, values: Mapping[str, Any]) -> Method:
    from torchspectral import registry

    made: Method = registry.create(ROOM, method, dict(values))
    return made


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
    known = check_state(state) if state is not None else None
    return _run(_create(method, settings), inputs, known, out, progress, options, None)


def _run(
    made: Method,
    inputs: dict[str, Any],
    known: Any,
    out: Path | str | None,
    progress: Progress,
    options: Mapping[str, Any],
    naming: Naming | None,
    resampled: Sequence[str] = (),
) -> Result:
    from torchspectral.engine import run

    chosen, again = RunOptions.make(options), _again(options)
    beside = Path(str(out)) / "endmembers.csv" if out is not None and not isinstance(out, Mapping) else None
    if beside is not None and beside.exists() and not again:
        raise OutputExists(f"{beside} exists: overwrite=True (--overwrite) replaces it, or choose another name")
    if naming is not None:
        made.fit = NamedFit(made, naming)  # type: ignore[method-assign]

    def look(values: Mapping[str, Any], report: Report) -> None:
        report.resampled += resampled
        if naming is not None and naming.found:
            report.figures["names"] = naming.found
        report.notes += below_zero(values.get("endmembers"))

    result = run(made, inputs, out=out, options=chosen, state=known, progress=progress, review=Review(look))
    library = Path(result.paths.get("endmembers", ""))
    if library.suffix == ".sli":
        from torchspectral.io import save

        # Spreadsheets do not read ENVI libraries; the folder was this run's to write, the table is part of it.
        table = library.with_suffix(".csv")
        save(result["endmembers"], table, overwrite=again)
        result.paths["endmembers.csv"] = str(table)
    return result


def _naming(names_from: xr.DataArray | None, max_angle: float) -> Naming | None:
    return None if names_from is None else Naming.of(check_library(names_from), max_angle)


def _again(options: Mapping[str, Any]) -> bool:
    """Whether outputs that are there may be replaced."""
    chosen = RunOptions.make(options)
    return chosen.overwrite or chosen.resume


def _folder_of(out: Any) -> Path | None:
    """The folder that all values go to, as the engine reads ``out=``."""
    if out is None or isinstance(out, Mapping) or not str(out).strip():
        return None
    path = Path(str(out))
    inside = str(out).endswith(("/", "\\")) or not path.suffix or (path.is_dir() and path.suffix.lower() != ".zarr")
    return path if inside else None


def check_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a state that a caller made: endmembers as a tensor, and names for them.

    Raises
    ------
    BadInput
        It has no endmembers, or not as many names.
    """
    import torch

    from torchspectral.unmixing.geometric.base import endmember_names

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
