"""Restoration: a cleaner cube on the same bands and the same grid, and an account of what was taken away.

Every method returns **cube** first. `account.compare` measures, band by band, what any method removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_image
from torchspectral.errors import BadInput, BadSettings, BadWeights, OutputExists, OutputFailed
from torchspectral.io.statistics import values_of
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

ROOM = "restoration"
STRIP_BYTES = 64 << 20


def restore(
    cube: xr.DataArray,
    *,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    account: bool = True,
    residual: Path | str | None = None,
    weak_target: Any = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Restore a noisy scene; without a method, nothing about its noise need be known.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed. Bands without any data stay so.
    method : str, optional
        A card of the room, see ``methods("restoration")``. By default "fast-eigen", which estimates the noise and takes
        its robust form where outliers, stripes or dead columns stand out; "wavelet" where there are too few bands or
        pixels to tell signal from noise across bands. The report says what was chosen and why.
    settings : mapping, optional
        Fields of the method's settings.
    weights : str or path, optional
        For methods that are trained; a name in the store or a file.
    state : mapping, optional
        What an earlier fit found; the scene is then not fitted.
    out : path, optional
        File for the cube, or folder (existing, or a name that ends in "/") for all values.
    account : bool
        Measure what was removed, in one more pass over the scene and the result.
    residual : path, optional
        File for what was removed, before less after.
    weak_target : bool or array_like of shape (band,), optional
        Test how much of a rare, weak target survives (True: of a narrow feature; else of this spectrum): the report
        says which share of its matched-filter SNR is kept, and warns below 80 %.
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``cube`` and further values of the method ("mnf": the table ``bands`` with noise and SNR before and after, and
        the root mean square of what was removed), and ``account``, the table of `compare`. The report, and with it
        ``OUT.run.yaml``, has the SNR of each band before and after, the mean spectral angle between the two, the bands
        that changed, and how much the removed part looks like noise.

    Raises
    ------
    BadSettings, UnknownName, BadInput, MissingWeights, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> clean = ts.restore(ts.open("scene.tif"), residual="removed.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import Output, Review, RunOptions, run

    cube = check_image(cube)
    reasons: list[str] = []
    blind = method is None
    if method is None:
        method, reasons = choose(cube, options.get("bands", "good"))
    card = registry.card(ROOM, method)
    values, notes = dict(settings or {}), list[str]()
    known: Any = dict(state) if state is not None else None
    foresee = getattr(registry.load_target(card.target), "foresee", None)
    if foresee is not None:
        values, reasons = foresee(cube, values)
    if weights is not None and known is not None:
        raise BadSettings("got weights and a state, expected one of them")
    if "weights" in card.needs and known is None:
        known, cube, values, notes = _trained(card, weights, cube, values, options)
    elif weights is not None:
        from torchspectral.weights import load

        known = dict(load(weights).state)
    made = registry.create(ROOM, card.name, values)
    missing = [key for key in getattr(made, "state_keys", ()) if known is not None and key not in known]
    if missing:
        raise BadInput(f"the state has no {', '.join(missing)}: expected what an earlier fit of {method} found")
    if weak_target is not None and weak_target is not True and weak_target is not False:
        from torchspectral.restoration.account import check_target

        check_target(weak_target, cube.sizes["band"])
    empties: list[str] = []
    if not getattr(made, "fills_bands", False):
        options, empties = _without_empty(cube, options, made.allows_bad_bands)
    chosen = RunOptions.make(options)
    if residual is not None:
        _check_residual(Path(residual), out, chosen.overwrite)

    def look(found: Mapping[str, Any], report: Report) -> dict[str, Any]:
        report.notes += empties
        report.resampled += notes
        report.notes += reasons
        if blind and report.figures.get("robust"):
            report.notes.append("outliers, stripes or dead columns stand out: the robust form was taken")
        if "cube" not in found:
            return {}
        return _measured(cube, found["cube"], report, account, weak_target, again, progress)

    def again(part: xr.DataArray) -> xr.DataArray:
        same = {k: v for k, v in options.items() if k in ("bands", "seed", "device")}
        fresh = type(made)(made.settings)
        return run(fresh, {"cube": part}, options=RunOptions.make(same), state=known)["cube"]

    further = (Output("account", kind="table"),) if account else ()
    review = Review(look, further)
    result = run(made, {"cube": cube}, out=out, options=chosen, state=known, progress=progress, review=review)
    if residual is not None and "cube" in result:
        from torchspectral.io import save
        from torchspectral.restoration.account import residual as removed

        path = save(removed(cube, result["cube"]), residual, overwrite=chosen.overwrite, report=result.report)
        result.paths["residual"] = str(path)
    return result


def _check_residual(residual: Path, out: Path | str | None, replace: bool) -> None:
    """Refuse a file for what was removed that cannot be written, before anything is computed."""
    if out is not None and residual.resolve() == Path(out).resolve():
        raise OutputFailed(f"{residual} is to hold the result and what was removed, expected two files")
    if residual.exists() and not replace:
        raise OutputExists(f"{residual} exists: choose another name or ask to overwrite")


def _measured(
    before: xr.DataArray,
    after: xr.DataArray,
    report: Report,
    wanted: bool,
    target: Any,
    again: Callable[[xr.DataArray], xr.DataArray],
    progress: Progress,
) -> dict[str, Any]:
    """What was removed, into the report; the table of it."""
    from torchspectral.restoration import account

    values: dict[str, Any] = {}
    if wanted:
        values["account"], figures = account.account(before, after, progress=progress)
        report.figures |= figures
    if target is not None and target is not False:
        spectrum = None if target is True else target
        try:
            found = account.weak_target(before, again, spectrum=spectrum, seed=report.seed or 0)
        except BadInput as error:
            # What has been restored is not thrown away because it cannot be tested.
            report.notes.append(f"the test with a weak target could not be made: {error}")
        else:
            report.figures |= found
            report.notes += account.notes_of(found)
    return values


def choose(cube: xr.DataArray, bands: Any = "good") -> tuple[str, list[str]]:
    """Method for a scene of which nothing is known, and why."""
    count = cube.sizes["band"]
    if bands == "good" and "good" in cube.coords:
        count = int(cube["good"].values.sum())
    elif not isinstance(bands, str):
        count = len(bands)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    if count < 3 or pixels < 2 * count:
        return "wavelet", [
            f"wavelet was chosen: {count} bands and {pixels} pixels are too few to tell signal from noise across bands"
        ]
    return "fast-eigen", [f"fast-eigen was chosen: {count} bands tell the noise of each other, whatever its level"]


def _without_empty(cube: xr.DataArray, options: Mapping[str, Any], bad: bool) -> tuple[dict[str, Any], list[str]]:
    """Options that leave out bands without any data, which would come back invented, and what to say of it."""
    from torchspectral.engine.roles import choose_bands

    empty = empty_bands(cube)
    if not empty.any() or empty.all():
        return dict(options), []
    asked = options.get("bands", "good")
    chosen = choose_bands(cube, "all" if bad and asked == "good" else asked, Report(method=ROOM))
    if not empty[chosen].any() or empty[chosen].all():
        return dict(options), []
    numbers = ", ".join(str(n) for n in cube["number"].values[chosen[empty[chosen]]])
    left = [int(n) for n in chosen if not empty[n]]
    return {**options, "bands": left}, [f"bands without any data stay so: {numbers}"]


def empty_bands(cube: xr.DataArray) -> np.ndarray:
    """Bands that have no valid value, bool (bands,): a scene is read until each has shown one."""
    empty = np.ones(cube.sizes["band"], dtype=bool)
    for part in strip_of(cube):
        empty[empty] = ~np.isfinite(values_of(cube[empty, part])).any((1, 2))
        if not empty.any():
            break
    return empty


def _trained(
    card: Any, weights: str | Path | None, cube: xr.DataArray, settings: dict[str, Any], options: Mapping[str, Any]
) -> tuple[Any, xr.DataArray, dict[str, Any], list[str]]:
    """Weights for a scene; the settings that they decide, where the user said nothing else; what was resampled."""
    from dataclasses import replace

    from torchspectral.engine.trained import trained
    from torchspectral.registry import load_target
    from torchspectral.weights.files import strip_prefixes

    target = load_target(card.target)
    recognise = _of_any_bands if getattr(target, "bridges_bands", False) and not options.get("resample") else None
    any_bands = recognise is not None or getattr(target, "any_bands", False)
    loaded, cube, notes = trained(card, weights, cube, options, any_bands=any_bands, recognise=recognise)
    if getattr(target, "marker", ()):
        loaded = replace(loaded, state=strip_prefixes(loaded.state, dict.fromkeys(target.marker)))
    decided = target.settings_of(loaded.state) if hasattr(target, "settings_of") else {}
    if loaded.card.scale.rule == "fixed" and "range" in target.Settings.model_fields and "range" not in settings:
        gain, offset = loaded.card.scale.gain, loaded.card.scale.offset
        if isinstance(gain, list) or isinstance(offset, list):
            raise BadWeights(
                f"weights {loaded.card.name}: {card.name} works with one range of values, the card has one a band"
            )
        decided |= {"range": "fixed", "low": offset, "high": offset + gain}
    kind = {"max": "max", "range": "scene"}.get(loaded.card.scale.rule)
    if kind is not None and "range" in target.Settings.model_fields and "range" not in settings:
        decided["range"] = kind
    if loaded.card.noise is not None:
        loaded = replace(loaded, state={**loaded.state, "noise_range": list(loaded.card.noise)})
    return loaded, cube, {**decided, **settings}, notes


def _of_any_bands(loaded: Any) -> Any:
    """Weights whose method reaches their bands by itself: it is told them, and the scene may have others."""
    from dataclasses import replace

    if loaded.card.wavelengths == "any":
        return loaded
    state = {**loaded.state, "wavelengths": [float(w) for w in loaded.card.wavelengths]}
    return replace(loaded, state=state, card=loaded.card.model_copy(update={"wavelengths": "any"}))


def strip_of(cube: xr.DataArray) -> Iterator[slice]:
    """Rows of a cube, a strip that fits into `STRIP_BYTES` at a time."""
    bands, rows, cols = cube.shape
    height = max(1, STRIP_BYTES // (bands * cols * 8))
    for top in range(0, rows, height):
        yield slice(top, min(top + height, rows))


def strips(before: xr.DataArray, after: xr.DataArray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Share done and the two cubes in float64, a strip of rows at a time."""
    rows = before.sizes["y"]
    for strip in strip_of(before):
        yield strip.stop / rows, values_of(before[:, strip]), values_of(after[:, strip])
