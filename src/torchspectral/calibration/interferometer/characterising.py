"""Characterisation of an instrument: gain, first estimate, regression, and what to think of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from torchspectral.calibration.interferometer.acquisition import Acquisition, read_acquisition
from torchspectral.calibration.interferometer.characterization import PARAMETERS, Characterization
from torchspectral.calibration.interferometer.estimate import Estimate, estimate
from torchspectral.calibration.interferometer.polynomials import coefficients_of, evaluate
from torchspectral.calibration.interferometer.recipes import (
    Recipe,
    Step,
    default_recipe,
    parse_recipe,
    published_recipe,
    read_recipe,
)
from torchspectral.calibration.interferometer.regression import (
    Bounds,
    Fit,
    Problem,
    Solver,
    regress,
    regress_again,
    residual_rms,
)
from torchspectral.errors import BadInput, BadSettings
from torchspectral.log import Progress, no_progress
from torchspectral.log import Step as Told

SHORT = 2.5
"""Fringes over the wavenumbers, below which a path difference is doubtful."""

Attempts = Literal["one", "doubtful", "all"]


def characterise(
    data: np.ndarray | Acquisition,
    wavenumber: np.ndarray | None = None,
    *,
    norm: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    nominal_opd: np.ndarray | None = None,
    recipe: Recipe | Sequence[Any] | str | Path | None = None,
    solver: Solver = "lm",
    attempts: Attempts = "doubtful",
    reflectivity_bounds: tuple[float, float] | None = None,
    name: str = "",
    progress: Progress = no_progress,
) -> Characterization:
    """Fit the transmittance of every interferometer from its response to monochromatic lines.

    Parameters
    ----------
    data : ndarray, shape (I, K), or Acquisition
        Response of one pixel of each sub-image.
    wavenumber : ndarray, shape (K,)
        Of the lines, ascending [1/um]; with an `Acquisition`, this and the following three come from it.
    norm : ndarray, shape (I, K), optional
        Flat field: the shape of the gain.
    mean : ndarray, shape (I, K), optional
        Mean of a window around that pixel, for the first estimate.
    nominal_opd : ndarray, shape (I,), optional
        Path differences as designed [um]; the search is wide open without.
    recipe : Recipe, list of steps, path of the authors' JSON, or a prototype's name, optional
        By default the acquisition's own, else the published steps.
    solver : {"lm", "trf"}
        "lm": all rows together with exact derivatives. "trf": the authors' row-by-row regression on raw coefficients,
        which equals their figures where the rows are ill-conditioned.
    attempts : {"one", "doubtful", "all"}
        Rows of solver "lm" that are fitted a second time, the reflectivity's degree raised one by one; the better fit
        stays. "doubtful": with a large residual, no convergence or a badly determined path difference.
    reflectivity_bounds : (float, float), optional
        Keep the reflectivity between these by a sigmoid; by default it is an unconstrained polynomial.

    Returns
    -------
    Characterization

    Raises
    ------
    BadInput, BadSettings

    References
    ----------
    Picone, Gousset, Dalla Mura, Ferrec, le Coarer, Optics Express 31(14), 23066-23085 (2023).

    Examples
    --------
    >>> sigma = np.linspace(1.0, 2.85, 300)
    >>> opd = 1 + 0.7 * np.arange(8)
    >>> data = 1 + 0.4 * np.cos(2 * np.pi * opd[:, None] * sigma)
    >>> found = characterise(data, sigma, nominal_opd=opd)
    >>> bool(np.abs(found.mean_opd() - opd)[2:].max() < 1e-3)
    True
    """
    if isinstance(data, Acquisition):
        source = data
    else:
        if wavenumber is None:
            raise BadInput("got data without wavenumbers, expected those of the lines [1/um]")
        source = Acquisition(data, wavenumber, mean, norm, nominal_opd, name)
    steps = _recipe(recipe, source).steps
    bounds = Bounds(*reflectivity_bounds) if reflectivity_bounds is not None else None
    if attempts not in ("one", "doubtful", "all"):
        raise BadSettings(f"got attempts={attempts!r}, expected one, doubtful or all")
    first = estimate(
        source.window_mean if steps[0].average else source.data,
        source.wavenumber,
        source.norm,
        source.nominal_opd,
        steps[0],
    )
    progress(Told("estimate", 1.0))
    found, degrees, family, waves = (
        _sampled(first, source, steps[0]),
        _degrees(steps[0]),
        steps[0].polynomial,
        steps[0].model,
    )
    start = _coefficients(first, degrees)
    fit: Fit | None = None
    used: Bounds | None = None
    for number, step in enumerate(steps[1:]):
        if step.id != "gn":
            raise BadSettings(f"step {number + 2} of the recipe is {step.id}, expected gn after the first estimate")
        found, start, fit = _regress(found, start, source, step, solver, attempts, bounds, used)
        used, degrees, family, waves = bounds, _degrees(step), step.polynomial, step.model
        progress(Told("regression", (number + 1) / (len(steps) - 1)))
    domain = None if solver == "trf" or fit is None else (float(source.wavenumber[0]), float(source.wavenumber[-1]))
    if start is None or domain is not None:
        start = {n: coefficients_of(found[n], source.wavenumber, degrees[n], family, domain) for n in PARAMETERS}
    coefficients: dict[str, Any] = dict(start)
    device = Characterization(
        **coefficients,
        waves=waves,
        family=family,
        domain=domain,
        bounds=used,
        wavenumber=source.wavenumber,
        opd_error=fit.opd_error if fit is not None else None,
        nominal_opd=source.nominal_opd,
        name=name or source.name,
        geometry=source.geometry,
        recipe=[step.model_dump(mode="json") for step in steps],
    )
    return _judged(device, source, first, fit)


def characterise_folder(
    path: str | Path,
    recipe: Recipe | Sequence[Any] | str | Path | None = None,
    *,
    solver: Solver = "lm",
    attempts: Attempts = "doubtful",
    reflectivity_bounds: tuple[float, float] | None = None,
    progress: Progress = no_progress,
) -> Characterization:
    """Characterise the acquisition in a prototype's folder; see `read_acquisition` and `characterise`."""
    return characterise(
        read_acquisition(path),
        recipe=recipe,
        solver=solver,
        attempts=attempts,
        reflectivity_bounds=reflectivity_bounds,
        progress=progress,
    )


def _recipe(recipe: Any, source: Acquisition) -> Recipe:
    if recipe is None:
        return source.recipe or default_recipe()
    if isinstance(recipe, str | Path):
        text = str(recipe)
        return read_recipe(recipe) if text.endswith(".json") or "/" in text else published_recipe(text)
    return parse_recipe(recipe)


def _degrees(step: Step) -> dict[str, int]:
    if step.id == "gn":
        return {n: step.degree(n) for n in PARAMETERS}
    return {"opd": 0, "phase_shift": 0, "reflectivity": 0, "gain": step.degree("gain")}


def _sampled(first: Estimate, source: Acquisition, step: Step) -> dict[str, np.ndarray]:
    flat = np.ones((1, source.wavenumber.size))
    return {
        "opd": first.opd[:, None] * flat,
        "phase_shift": first.phase_shift[:, None] * flat,
        "reflectivity": first.reflectivity[:, None] * flat,
        "gain": evaluate(first.gain, source.wavenumber, step.polynomial),
    }


def _coefficients(first: Estimate, degrees: dict[str, int]) -> dict[str, np.ndarray] | None:
    return {
        "opd": first.opd[:, None],
        "phase_shift": first.phase_shift[:, None],
        "reflectivity": first.reflectivity[:, None],
        "gain": first.gain,
    }


def _regress(
    values: dict[str, np.ndarray],
    start: dict[str, np.ndarray] | None,
    source: Acquisition,
    step: Step,
    solver: Solver,
    attempts: Attempts,
    bounds: Bounds | None,
    before: Bounds | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None, Fit]:
    """One regression: values sampled at the wavenumbers, raw coefficients where the solver makes them, and the fit."""
    signal = source.window_mean if step.average else source.data
    level = signal.mean(axis=1, keepdims=True)
    # A row without signal keeps its numbers; it is flagged.
    level = np.where(level != 0, level, 1.0)
    degrees = _degrees(step)
    scaled = {**values, "gain": values["gain"] / level}
    if bounds is not None and before is None:
        scaled["reflectivity"] = bounds.backward(values["reflectivity"])
    free = tuple(n for n in PARAMETERS if step.of(n).choice)
    problem = Problem(signal / level, source.wavenumber, scaled, degrees, free, step.model, bounds)
    if solver == "trf" and start is not None:
        raw = {**start, "gain": start["gain"] / level}
        problem.start = {n: _padded(c, degrees[n] + 1) for n, c in raw.items() if c.shape[1] <= degrees[n] + 1}
    fit = regress(problem, solver, step.polynomial)
    if solver == "lm" and attempts != "one":
        fit = regress_again(
            problem, fit, np.flatnonzero(_doubtful(problem, fit)) if attempts == "doubtful" else np.arange(len(level))
        )
    found = {**fit.values, "gain": fit.values["gain"] * level}
    raw_found = {**fit.coefficients, "gain": fit.coefficients["gain"] * level} if fit.coefficients else None
    return found, raw_found, fit


def _padded(coefficients: np.ndarray, count: int) -> np.ndarray:
    return np.pad(coefficients, ((0, 0), (0, count - coefficients.shape[1])))


def _doubtful(problem: Problem, fit: Fit) -> np.ndarray:
    band = problem.wavenumber[-1] - problem.wavenumber[0]
    with np.errstate(invalid="ignore"):
        vague = fit.opd_error * band > 0.05
    return _outliers(residual_rms(problem, fit)) | ~fit.converged | vague


def _outliers(rmse: np.ndarray) -> np.ndarray:
    middle = np.median(rmse)
    spread = 1.4826 * np.median(np.abs(rmse - middle))
    return np.asarray(rmse > middle + 3 * spread + 1e-12)


def _judged(device: Characterization, source: Acquisition, first: Estimate, fit: Fit | None) -> Characterization:
    """The characterisation with residuals and flags."""
    wavenumber = source.wavenumber
    level = source.data.mean(axis=1)
    dark = level <= 0
    if source.norm is not None:
        dark = dark | (source.norm.mean(axis=1) <= 0)
    scale = np.where(level != 0, np.abs(level), 1.0)[:, None]
    with np.errstate(all="ignore"):
        rmse = np.sqrt((((device.transfer(wavenumber) - source.data) / scale) ** 2).mean(axis=1))
    fringe = 1 / np.mean(wavenumber)
    opd = device.mean_opd()
    reflectivity = device.at(wavenumber)["reflectivity"]
    told = {
        "no signal": dark,
        "not searched": first.unsearched,
        "peak at the edge": first.at_edge & ~first.unsearched,
        "large residual": _outliers(rmse),
        "short path": np.abs(opd) * (wavenumber[-1] - wavenumber[0]) < SHORT,
        "unphysical": (np.abs(reflectivity) >= 1).any(axis=1),
    }
    if fit is not None:
        with np.errstate(invalid="ignore"):
            told["poorly determined"] = fit.opd_error * (wavenumber[-1] - wavenumber[0]) > 0.1
        told["left its fringe"] = np.abs(opd - first.opd) > 0.5 * fringe
        told["not converged"] = ~fit.converged
    flags = tuple(tuple(name for name, rows in told.items() if rows[i]) for i in range(device.count))
    found = replace(device, rmse=rmse, flags=flags)
    bad, failed = int((~found.good).sum()), int((~found.usable).sum())
    notes = (f"{bad} of {device.count} interferometers are flagged, {failed} of them left out of reconstructions",)
    return replace(found, notes=notes if bad else ())
