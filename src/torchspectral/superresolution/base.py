"""Super-resolution of a single hyperspectral image: the task.

Roles
    ``cube``: the image, any quantity. There is no second image: for one with a finer companion see sharpening.
Grid
    The output has the lead's ground and `scale` times its pixels on each side; the corner stays where it is and pixels
    are footprints (MATLAB's ``imresize`` convention), so that degrading the output leads back to the input.
Output
    ``cube``: all bands of the input; bands that are not worked on (marked bad) are NaN. Nodata pixels stay nodata, all
    scale x scale of each.
Truth
    None exists for a real scene: the report says how far the output, degraded, is from the input (`consistency`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadInput, BadSettings, BadWeights
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

if TYPE_CHECKING:
    from torchspectral.registry import Card
    from torchspectral.weights import Weights

ROOM = "superresolution"
DEFAULT = "interpolation"


def superres(
    cube: xr.DataArray,
    *,
    scale: int | None = None,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    check: bool = True,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Super-resolve a scene from itself alone.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed.
    scale : int, optional
        Output pixels for each of the scene's, on each side; that of the weights by default, else 4.
    method : str, optional
        A card of the room, see ``methods("superresolution")``; by default the one that the weights are for, and
        "interpolation" without weights. Trained methods come with small weights, for 4 times.
    settings : mapping, optional
        Fields of the method's settings; `scale` may stand there too.
    weights : path or str, optional
        Of a trained network.
    state : mapping, optional
        What an earlier run learned (weights, and the sums of the scene where the method gathers them).
    check : bool
        Degrade the result and tell how far it is from the scene: figures ``consistency_psnr`` [dB] and
        ``consistency_sam`` [deg], in the report and ``OUT.run.yaml``.
    out : path, optional
        File for the cube, or folder.
    progress : callable
        See `log.Progress`.
    **options
        Fields of `engine.RunOptions`: bands, mask, seed, device, workers, tile, overwrite, resume, resample, ...

    Returns
    -------
    Result
        ``cube``.

    Raises
    ------
    BandMismatch, BadInput, BadSettings, MissingWeights, BadWeights, UnknownName, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> fine = ts.superres(ts.open("scene.tif"), scale=4, weights="run/", out="fine.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import Review, RunOptions, run
    from torchspectral.superresolution.protocol import consistency

    if weights is not None and state is not None:
        raise BadSettings("got weights and a state, expected one of them")
    cube = check_cube(cube)
    values = dict(settings or {})
    if scale is not None:
        if values.get("scale", scale) != scale:
            raise BadSettings(f"got scale={scale} and scale={values['scale']} in the settings, expected one of them")
        values["scale"] = scale
    method = method or method_of(weights)
    card = registry.card(ROOM, method)
    chosen = RunOptions.make(options)
    given: Any = dict(state) if state is not None else None
    notes: list[str] = []
    if "weights" in card.needs and given is None:
        given, cube, values, notes = _trained(card, weights, cube, values, options)
    elif weights is not None:
        raise BadSettings(f"method {method} has no weights: leave weights= out")
    made = registry.create(ROOM, card.name, values)

    def look(found: Mapping[str, Any], report: Report) -> None:
        report.resampled += notes
        if "band_groups" in report.figures:
            report.notes.append(
                f"the network has fewer bands than the scene: {report.figures['band_groups']} overlapping groups of "
                "neighbouring bands were worked on, each for itself"
            )
        if not check or "cube" not in found:
            return
        try:
            measured = consistency(cube, found["cube"])
            report.figures |= {f"consistency_{name}": value for name, value in measured.items()}
        except BadInput:
            report.notes.append("too few valid pixels to degrade the result and compare it with the scene")

    review = Review(look)
    return run(made, {"cube": cube}, out=out, options=chosen, state=given, progress=progress, review=review)


def method_of(weights: str | Path | None) -> str:
    """The method that weights are for."""
    if weights is None:
        return DEFAULT
    from torchspectral import registry
    from torchspectral.weights import load

    loaded = load(weights)
    names = [card.name for card in registry.methods(ROOM) if "weights" in card.needs]
    for name in names:
        if loaded.card.model == name or loaded.card.model.startswith(f"{name}-"):
            return name
    raise BadSettings(
        f"weights {loaded.card.name} do not say what network they are for: give method=, one of {', '.join(names)}"
    )


def _trained(
    card: Card,
    weights: str | Path | None,
    cube: xr.DataArray,
    settings: dict[str, Any],
    options: Mapping[str, Any],
) -> tuple[Any, xr.DataArray, dict[str, Any], list[str]]:
    """Weights for a scene: loaded, held against its bands and the scale asked for, what they know in the settings.

    The method's own weights take scenes of more bands in groups, unless the user says otherwise.
    """
    from torchspectral import registry
    from torchspectral.engine.trained import trained

    if not weights or str(weights) == card.weights:
        settings.setdefault("band_groups", True)
        loaded, cube, notes = trained(card, weights, cube, options, any_bands=bool(settings["band_groups"]))
    else:
        groups = bool(settings.get("band_groups"))
        loaded, cube, notes = trained(
            card, weights, cube, options, any_bands=groups, recognise=_of_any_sensor if groups else None
        )
    known = loaded.card
    cls = registry.load_target(card.target)
    fields = cls.Settings.model_fields
    for name, value in known.constructor.items():
        if name in fields and name != "scale":
            settings.setdefault(name, value)
    own = cls.arguments(loaded.state, cls.Settings.make({k: v for k, v in settings.items() if k in fields}))
    if settings.setdefault("scale", own["scale"]) != own["scale"]:
        raise BadSettings(
            f"weights {known.name} enlarge {own['scale']} times and scale={settings['scale']} was asked for: leave scale "
            "out, or take weights for that scale"
        )
    if "gain" not in settings and known.scale.rule == "fixed":
        if isinstance(known.scale.gain, list):
            raise BadWeights(
                f"weights {known.name}: {card.name} works with one fixed gain, the card says {known.scale}"
            )
        settings["gain"] = known.scale.gain
    return loaded, cube, settings, notes


def _of_any_sensor(loaded: Weights) -> Weights:
    """Weights whose wavelengths do not bind: the user asked for groups of whatever bands there are."""
    return replace(loaded, card=loaded.card.model_copy(update={"wavelengths": "any"}))
