"""Figures of numbers: spectra, curves over bands, bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings
from torchspectral.report.style import LINE_STYLES, in_style, new_figure
from torchspectral.spectra.axes import COLOURS, band_axis, value_label, with_gaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_style
def spectra_lines(
    spectra: xr.DataArray, *, offset: float = 0.0, width: float = 6.0, height: float = 3.2, title: str = ""
) -> Figure:
    """Spectra over wavelength: endmembers, a library, class means.

    Parameters
    ----------
    spectra : DataArray (spectrum, band)
    offset : float
        Added to each spectrum once more than to the one before, to part them.
    width, height : float
        Of the figure [inch].

    Raises
    ------
    BadCube
    """
    if not isinstance(spectra, xr.DataArray) or spectra.dims != ("spectrum", "band"):
        got = spectra.dims if isinstance(spectra, xr.DataArray) else type(spectra).__name__
        raise BadCube(f"got {got} as spectra, expected a DataArray (spectrum, band): see make_spectra")
    figure = new_figure(width, height, title)
    axes = figure.subplots()
    x, axis = band_axis(spectra)
    good = spectra["good"].values if "good" in spectra.coords else None
    for i, name in enumerate(spectra["spectrum"].values):
        points = with_gaps(x, spectra.values[i] + i * offset, good)
        axes.plot(*points, _style(i), color=COLOURS[i % len(COLOURS)], label=str(name))
    axes.set_xlabel(axis)
    axes.set_ylabel(value_label(spectra) + (f" (each {offset:g} higher)" if offset else ""))
    _finish(axes, spectra.shape[0] > 1)
    return figure


@in_style
def band_curves(
    curves: Mapping[str, Any],
    *,
    wavelength: Any = None,
    good: Any = None,
    label: str,
    unit: str = "1",
    log: bool = False,
    spreads: Mapping[str, Any] | None = None,
    width: float = 6.0,
    height: float = 3.0,
    title: str = "",
) -> Figure:
    """A number of each band, one curve a method: PSNR, error, noise.

    Parameters
    ----------
    curves : dict of str to array_like (bands,)
    wavelength : array_like (bands,), optional
        [nm]; band numbers are drawn where it is absent or not finite.
    good : array_like of bool (bands,), optional
        False for bands to leave out; they are shaded.
    label, unit : str
        Of the numbers.
    log : bool
        Logarithmic scale.
    spreads : dict of str to array_like (bands,), optional
        Half width of a shaded band around the curve of that name.

    Raises
    ------
    BadSettings
        No curve, or curves of different lengths.
    """
    values = {name: np.asarray(v, dtype=np.float64).ravel() for name, v in curves.items()}
    lengths = {v.size for v in values.values()}
    if len(lengths) != 1:
        raise BadSettings(f"got curves of lengths {sorted(lengths)}, expected one or more of one length")
    bands = lengths.pop()
    x = np.arange(1, bands + 1, dtype=np.float64)
    axis = "band"
    if wavelength is not None and np.isfinite(np.asarray(wavelength, dtype=np.float64)).all():
        x, axis = np.asarray(wavelength, dtype=np.float64), "wavelength [nm]"
    keep = np.ones(bands, dtype=bool) if good is None else np.asarray(good, dtype=bool)
    if x.size != bands or keep.size != bands:
        raise BadSettings(f"got {x.size} wavelengths and {keep.size} flags for curves of {bands} bands")
    figure = new_figure(width, height, title)
    axes = figure.subplots()
    for i, (name, v) in enumerate(values.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(*with_gaps(x, v, keep), _style(i), color=colour, label=name)
        if spreads and name in spreads:
            half = np.asarray(spreads[name], dtype=np.float64).ravel()
            at, edges = with_gaps(x, np.stack([v - half, v + half], axis=1), keep)
            axes.fill_between(at, edges[:, 0], edges[:, 1], color=colour, alpha=0.15, lw=0)
    _shade(axes, x, keep)
    axes.set_xlabel(axis)
    axes.set_ylabel(label if unit in ("", "1") else f"{label} [{unit}]")
    if log:
        axes.set_yscale("log")
    _finish(axes, len(values) > 1)
    return figure


@in_style
def bars(
    values: Mapping[str, float],
    *,
    label: str,
    unit: str = "1",
    errors: Mapping[str, float] | None = None,
    best: str | None = None,
    digits: int = 3,
    width: float = 5.0,
    title: str = "",
) -> Figure:
    """Horizontal bars, one a method, each with its number; missing numbers (NaN) say so.

    Parameters
    ----------
    values : dict of str to float
    errors : dict of str to float, optional
        Standard deviations, drawn as whiskers.
    best : {"max", "min"}, optional
        Colour the best bar.
    digits : int
        Significant digits of the numbers.

    Raises
    ------
    BadSettings
    """
    if not values or best not in (None, "max", "min"):
        raise BadSettings(f"got {len(values)} bars and best={best!r}, expected one or more bars and max, min or None")
    names = list(values)
    numbers = np.array([float(values[n]) for n in names])
    finite = np.isfinite(numbers)
    colours = [COLOURS[0] if best is None else "#9db4c8"] * len(names)
    if best and finite.any():
        ranked = np.where(finite, numbers, -np.inf if best == "max" else np.inf)
        colours[int(ranked.argmax() if best == "max" else ranked.argmin())] = COLOURS[0]
    figure = new_figure(width, 0.34 * len(names) + 0.75, title)
    axes = figure.subplots()
    at = np.arange(len(names))
    spread = np.array([float((errors or {}).get(n, np.nan)) for n in names])
    axes.barh(at, np.where(finite, numbers, 0.0), color=colours, height=0.68)
    shown = finite & np.isfinite(spread)
    axes.errorbar(
        numbers[shown], at[shown], xerr=spread[shown], fmt="none", ecolor="#333333", elinewidth=1, capsize=2.5
    )
    reach = np.nanmax(np.abs(np.where(finite, numbers, 0)) + np.nan_to_num(spread)) or 1.0
    for i, n in enumerate(numbers):
        end = (n + np.sign(n or 1) * np.nan_to_num(spread[i])) if finite[i] else 0.0
        text = f"{n:.{digits}g}" if finite[i] else "no value"
        text += f" ± {spread[i]:.2g}" if shown[i] else ""
        side = "left" if end >= 0 else "right"
        axes.text(end + np.sign(end or 1) * 0.015 * reach, i, text, va="center", ha=side, fontsize=8)
    axes.set_yticks(at, names)
    axes.invert_yaxis()
    low, high = (
        min(0.0, float(np.nanmin(np.where(finite, numbers, 0)))),
        max(0.0, float(np.nanmax(np.where(finite, numbers, 0)))),
    )
    axes.set_xlim(low - (0.28 * reach if low < 0 else 0), (high + 0.28 * reach) if high > 0 else 0.28 * reach)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label if unit in ("", "1") else f"{label} [{unit}]")
    axes.grid(True, axis="x")
    return figure


def _style(i: int) -> str:
    return LINE_STYLES[(i // len(COLOURS)) % len(LINE_STYLES)]


def _shade(axes: Axes, x: np.ndarray, keep: np.ndarray) -> None:
    """Grey where bands are left out, over each run of them."""
    order = np.argsort(x, kind="stable")
    flags, centres = keep[order], x[order]
    bad = np.flatnonzero(~flags)
    for run in np.split(bad, np.flatnonzero(np.diff(bad) > 1) + 1) if bad.size else []:
        low = (centres[run[0]] + centres[max(run[0] - 1, 0)]) / 2
        high = (centres[run[-1]] + centres[min(run[-1] + 1, centres.size - 1)]) / 2
        axes.axvspan(low, high, color="#000000", alpha=0.07, lw=0)


def _finish(axes: Axes, legend: bool) -> None:
    axes.grid(True)
    axes.margins(x=0.01)
    if legend:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
