"""Sharpening: the task.

Roles
    ``cube``: the hyperspectral image, any number of bands, any quantity. ``pan``: one band on a grid of the same
    ground that is a whole number of times finer, at least 2; corners agree to a tenth of a pixel. ``guides``: several
    bands on such a grid, from one or several products (`guided.stack`).
Grids
    A finer image that covers more ground is cut, one that covers less cuts the cube (guides do not: there the cube is
    interpolated). Another CRS, a ratio that is no whole number or pixels that lie in between are refused, or
    resampled first with ``resample=True``; the report says what was done (`pairs`).
Output
    ``cube``: all bands of the input on the finer grid; bands that are not worked on (marked bad) are NaN. Guided
    fusion adds ``confidence``, a layer a band on the cube's grid.
Convention
    A coarse pixel k stands for the fine pixel ``R k + R // 2``, as in the field's benchmark: for even ratios the
    image lies half a PAN pixel beside the centre of its footprint. Guided fusion follows real footprints unless the
    cube was simulated.
Statistics
    Means, regressions and gains are sums over the valid pixels of the whole scene, made in streaming passes before the
    first tile is fused: tiled and untiled results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, make_cube
from torchspectral.errors import BadCube, BadInput, BadSettings, BandMismatch
from torchspectral.log import Progress, get_logger, no_progress
from torchspectral.registry import Card
from torchspectral.result import Report, Result

if TYPE_CHECKING:
    from torchspectral.weights.card import WeightsCard

ROOM = "sharpening"
DEFAULT = "gsa"
DEFAULT_GUIDED = "guided"
_log = get_logger("sharpening")


def sharpen(
    hs: xr.DataArray | xr.Dataset,
    pan: xr.DataArray | None = None,
    *,
    guides: Any = None,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    responses: xr.DataArray | None = None,
    check_shift: bool = True,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Sharpen a hyperspectral image with a panchromatic one, or with several finer bands.

    Parameters
    ----------
    hs : DataArray, dims (band, y, x), or Dataset
        The cube; or an opened Dataset with ``cube`` and the layer ``pan``.
    pan : DataArray
        One band, on a grid a whole number of times finer over the same ground, in the units of `hs` or any other
        (methods match its level to the cube's, networks do not). An image of several bands is taken as `guides`.
    guides : DataArray, Dataset or a list of them
        Finer images of several bands, each on a grid of its own: the 10 m and the 20 m bands of Sentinel-2, for example.
    method : str, optional
        A card of the room, see ``methods("sharpening")``; by default "guided" with guides and "gsa" with a PAN.
    settings : mapping, optional
        Fields of the method's settings.
    weights : path or str, optional
        Of a trained network.
    state : mapping, optional
        What an earlier fit learned; the scene is then not fitted.
    responses : DataArray, dims (spectrum, band), optional
        Spectral response of each guide; by default those of the guides' sensor, else Gaussians.
    check_shift : bool
        Look at some blocks of the scene whether PAN and cube lie over each other, and warn above 0.3 of the cube's
        pixels. Nothing is moved. Guided fusion registers its guides itself; with ``register_shift`` off they are
        looked at in the same way.
    out : path, optional
        File for the sharpened cube, or folder.
    progress : callable
        See `log.Progress`.
    **options
        Fields of `engine.RunOptions`: bands, mask, seed, device, workers, tile, overwrite, resume, resample, ...

    Returns
    -------
    Result
        ``cube``, and ``confidence`` where the method is "guided".

    Raises
    ------
    GridMismatch
        The PAN is not finer, or lies elsewhere.
    BandMismatch, BadInput, BadSettings, MissingWeights, BadWeights, UnknownName, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> result = ts.sharpen(ts.open("hs.tif"), ts.open("pan.tif"), out="sharp.tif")  # doctest: +SKIP
    >>> result = ts.sharpen(ts.open("enmap/"), guides=ts.open("sentinel2.tif"))  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import Review, RunOptions, run
    from torchspectral.sharpening.pairs import Done

    if guides is None and _several(pan) and method in (None, DEFAULT_GUIDED):
        guides, pan = pan, None
    method = method or (DEFAULT_GUIDED if guides is not None else DEFAULT)
    card = registry.card(ROOM, method)
    chosen = RunOptions.make(options)
    values = dict(settings or {})
    given: Any = dict(state) if state is not None else None
    done = Done()
    if "guides" in card.needs:
        inputs, values = _with_guides(hs, pan, guides, responses, values, chosen.resample, done)
    elif guides is not None or responses is not None:
        raise BadSettings(f"{method} works with one PAN, got guides: use method guided, or give one band as pan")
    else:
        cube, fine = pair_of(hs, pan)
        cube, fine = _fitted(cube, fine, chosen.resample, done)
        inputs = {"cube": cube, "pan": fine}
    if chosen.mask is not None and inputs["cube"].shape[-2:] != _size_of(hs):
        raise BadInput("a mask does not go with a cube that must be cut to its PAN: cut the scene first (bbox)")
    notes: list[str] = []
    if "weights" in card.needs and given is None:
        given, inputs["cube"], values, notes = _trained(card, weights, inputs["cube"], values, options)
    elif weights is not None:
        raise BadSettings(f"method {method} has no weights, it learns from the scene: leave weights= out")
    made = registry.create(ROOM, method, values)
    shift = Report()
    if check_shift and "pan" in inputs:
        from torchspectral.sharpening.shift_check import tell_shift

        tell_shift(inputs["cube"], inputs["pan"], shift)
    elif check_shift and "guides" in inputs and not made.settings.register_shift:
        from torchspectral.sharpening.shift_check import tell_guide_shift

        own = made.settings
        tell_guide_shift(inputs, shift, compared=own.register_with, centres=own.centres)

    def look(values: Mapping[str, Any], report: Report) -> None:
        done.tell(report)
        report.resampled += notes
        report.notes += shift.notes
        report.figures |= shift.figures
        for line in _poor(getattr(given, "card", None), method):
            _warn(report, line)
        if "guides" in card.needs:
            _tell_guided(report, inputs["cube"].shape[-2:], inputs["guides"].shape[-2:])

    return run(made, inputs, out=out, options=chosen, state=given, progress=progress, review=Review(look))


def _several(pan: Any) -> bool:
    if isinstance(pan, xr.DataArray):
        return any(int(pan.sizes.get(dim, 1)) > 1 for dim in ("band", "layer"))
    return isinstance(pan, list | tuple | xr.Dataset)


def _size_of(hs: Any) -> tuple[int, int]:
    cube = hs["cube"] if isinstance(hs, xr.Dataset) else hs
    return int(cube.shape[-2]), int(cube.shape[-1])


def _fitted(cube: xr.DataArray, fine: xr.DataArray, resample: bool, done: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """Cube and PAN on the ground that both cover."""
    from torchspectral.sharpening.pairs import cut_to, fit_fine

    cube = cut_to(cube, fine, "PAN", done)
    return cube, fit_fine(fine, cube, what="PAN", resample=resample, done=done)


def _with_guides(
    hs: Any,
    pan: Any,
    guides: Any,
    responses: xr.DataArray | None,
    settings: dict[str, Any],
    resample: bool,
    done: Any,
) -> tuple[dict[str, xr.DataArray], dict[str, Any]]:
    """Inputs of guided fusion, and its settings with what the guides tell."""
    from torchspectral.sharpening.guided.stack import assemble

    if isinstance(hs, xr.Dataset) and (guides is None or pan is None) and "pan" in hs:
        pan = pair_of(hs, pan)[1] if guides is None else pan
    cube = check_cube(hs["cube"] if isinstance(hs, xr.Dataset) else hs)
    if guides is None:
        if pan is None:
            raise BadInput("there is no guide: give guides= (--guide), finer images of the same ground")
        guides = as_pan(pan)
    found = assemble(cube, guides, responses=responses, resample=resample, done=done)
    inputs = {"cube": cube, "guides": found.image, "guide_valid": found.valid}
    if found.responses is not None:
        inputs["responses"] = found.responses
    values = dict(settings)
    if "register_with" not in values and len(found.native) < found.image.sizes["band"]:
        values["register_with"] = found.native
    if "products" not in values and len(set(found.products)) > 1:
        values["products"] = found.products
    ratio = found.image.sizes["x"] // cube.sizes["x"]
    if "centres" not in values:
        simulated = any("Wald's protocol" in str(line) for line in cube.attrs.get("history", []))
        values["centres"] = "benchmark" if simulated else "footprint"
        if ratio % 2 == 0:
            done.notes.append(
                "the cube's pixels stand on fine pixel R k + R // 2, as it was simulated"
                if simulated
                else "the cube's pixels stand in the middle of their footprints (centres=benchmark: on fine pixel "
                "R k + R // 2)"
            )
    return inputs, values


def _tell_guided(report: Report, coarse: tuple[int, ...], fine: tuple[int, ...]) -> None:
    """Sentences about the shift, dropped guides and bands that the guides do not see."""
    figures, ratio = report.figures, fine[-1] // coarse[-1]
    report.dropped += [str(line) for line in figures.get("guides_dropped", [])]
    if not figures.get("guides_used"):
        _warn(report, "no guide is left: the cube was interpolated")
        return
    rows, cols = figures["shift_rows"] / ratio, figures["shift_cols"] / ratio
    if figures["shift_found"] and not (rows or cols):
        report.notes.append("guides and cube lie over each other: no shift worth undoing was found")
    elif figures["shift_found"]:
        report.notes.append(
            f"guides registered: content moved by {-rows:+.3f} rows and {-cols:+.3f} columns of the cube's pixels "
            f"(deviation {figures['shift_deviation'] / ratio:.3f})"
        )
        if float(np.hypot(rows, cols)) > 1:
            _warn(
                report, "the guides lie more than one of the cube's pixels off it: look whether both are of one place"
            )
    elif report.settings.get("register_shift") and not any(p["own"] for p in figures["products"]):
        _warn(report, f"the guides were not registered: {figures['shift_refused']}")
    _tell_products(report, ratio)
    outside = figures.get("bands_outside", [])
    if outside:
        what = "interpolated" if report.settings.get("outside") == "interpolate" else "see their confidence"
        _warn(
            report,
            f"{len(outside)} of {len(figures['r2'])} bands lie outside the guides' wavelengths, detail there is guessed "
            f"from other wavelengths: {what}",
        )


def _tell_products(report: Report, ratio: int) -> None:
    """Sentences about guides of one product that lie elsewhere than those of the others."""
    for product in report.figures["products"]:
        if not product["own"]:
            continue
        rows, cols = product["shift_rows"] / ratio, product["shift_cols"] / ratio
        names = ", ".join(map(str, product["guides"]))
        _warn(
            report,
            f"guides {names} lie elsewhere than the other product's and were registered on their own: content moved by "
            f"{-rows:+.3f} rows and {-cols:+.3f} columns of the cube's pixels (deviation "
            f"{product['shift_deviation'] / ratio:.3f})"
            + ("; more than one pixel: look whether both are of one place" if float(np.hypot(rows, cols)) > 1 else ""),
        )


def _warn(report: Report, line: str) -> None:
    report.notes.append(line)
    _log.warning("sharpen: %s", line)


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
        raise BandMismatch(
            f"got a PAN of shape {pan.shape}, expected one band: pick one with isel(band=[k]), or use method guided, "
            "which takes them all"
        )
    return pan


def _trained(
    method: Card,
    weights: str | Path | None,
    cube: xr.DataArray,
    settings: dict[str, Any],
    options: Mapping[str, Any],
) -> tuple[Any, xr.DataArray, dict[str, Any], list[str]]:
    """Weights for a scene: loaded, held against its bands, their scale in the settings."""
    from torchspectral.engine.trained import trained
    from torchspectral.errors import BadWeights

    loaded, fitted, notes = trained(method, weights, cube, options, recognise=_recognised)
    card = loaded.card
    if "gain" not in settings and (card.scale.rule == "fixed" or card.model):
        if card.scale.rule not in ("fixed", "physical") or isinstance(card.scale.gain, list):
            raise BadWeights(
                f"weights {card.name}: {method.name} works with one fixed gain, the card says {card.scale}"
            )
        settings = {**settings, "gain": card.scale.gain}
    if settings.get("prior", "auto") == "auto" and "prior" in card.preprocessing:
        from torchspectral.sharpening.deep.prior_method import INTERPOLATED_PRIOR

        if INTERPOLATED_PRIOR in card.preprocessing:
            settings = {**settings, "prior": "interpolated"}
            notes = [*notes, f"weights {card.name} correct the interpolated image: no deep prior is fitted"]
    return loaded, fitted, settings, notes


def _poor(card: WeightsCard | None, method: str) -> list[str]:
    """A sentence where weights lost colour against interpolation on the ground that their card scores them on."""
    if card is None:
        return []
    held = card.metrics.get("held_out")
    scores = [held.get(name) if isinstance(held, dict) else None for name in (method, "exp")]
    ours, plain = (one.get("sam_deg") if isinstance(one, dict) else None for one in scores)
    if not (isinstance(ours, float) and isinstance(plain, float) and ours > plain):
        return []
    return [
        f"weights {card.name} turned spectra further away than interpolation does on ground that they were not trained on "
        f"(SAM {ours:g} against {plain:g} degrees): take another network (hspenet) where colours count, or train on your "
        "own scenes"
    ]


def _recognised(loaded: Any) -> Any:
    """A file without a card that is one of the published ones gets its card; its bands are counted, not compared."""
    from dataclasses import replace

    from torchspectral.weights.files import sha256_of
    from torchspectral.weights.store import listing

    if loaded.card.model:
        return loaded
    digest = loaded.card.sha256 or sha256_of(loaded.path)
    for entry in listing():
        if entry.card.sha256 == digest and not entry.card.key_map:
            return replace(loaded, card=entry.card.model_copy(update={"wavelengths": "any"}))
    return loaded
