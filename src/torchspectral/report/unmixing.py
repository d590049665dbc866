"""Figures of unmixing: composites, maps and spectra of one result, and estimates beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings
from torchspectral.report.charts import spectra_lines
from torchspectral.report.figures import abundance_maps
from torchspectral.report.style import ERRORS, SEQUENTIAL, bare, in_style, new_figure
from torchspectral.spectra.axes import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 16
"""Materials that are drawn, those with the most ground; a library of hundreds fills no page."""
SIZE = 640
"""Longest side of a map in a picture [pixels]; larger ones are thinned out while they are read."""
STRIP = 256
PAPER = "white"


def thinned(layers: xr.DataArray, size: int = SIZE) -> xr.DataArray:
    """Every n-th pixel in memory, read in strips: memory does not grow with the scene."""
    step = max(1, -(-max(layers.sizes["y"], layers.sizes["x"]) // size))
    if step == 1:
        return layers.load()
    tall = max(1, STRIP // step) * step
    parts = [
        layers.isel(y=slice(top, top + tall)).load().isel(y=slice(None, None, step), x=slice(None, None, step))
        for top in range(0, layers.sizes["y"], tall)
    ]
    return xr.concat(parts, "y", coords="minimal", compat="override", join="override")


def largest(layers: xr.DataArray, most: int = MOST) -> list[int]:
    """The layers with the largest means, at most so many, in their own order."""
    means = np.nanmean(np.where(np.isfinite(layers.values), layers.values, np.nan), axis=(1, 2))
    return sorted(np.argsort(-np.nan_to_num(means), kind="stable")[:most].tolist())


def abundance_composite(layers: xr.DataArray) -> np.ndarray:
    """One picture of all abundances: each material's colour by its share.

    Parameters
    ----------
    layers : DataArray (layer, y, x)

    Returns
    -------
    ndarray, shape (y, x, 3)
        0..1; white where there is no data.

    Raises
    ------
    BadCube
    """
    if not isinstance(layers, xr.DataArray) or layers.ndim != 3:
        got = layers.dims if isinstance(layers, xr.DataArray) else type(layers).__name__
        raise BadCube(f"got {got} as abundances, expected a DataArray (layer, y, x)")
    values = np.asarray(layers.values, dtype=np.float64)
    known = np.isfinite(values).all(0)
    shares = np.clip(np.where(known, values, 0), 0, None)
    shares = shares / np.maximum(shares.sum(0), 1e-12)
    picture = np.clip(np.einsum("kyx,kc->yxc", shares, np.array(colours_of(len(values)))), 0, 1)
    picture[~known] = 1.0
    out: np.ndarray = picture.astype(np.float32)
    return out


def colours_of(count: int) -> list[tuple[float, float, float]]:
    """A colour for each material, the same in the composite and the spectra while the palette lasts."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if count <= len(COLOURS):
        return [to_rgb(c) for c in COLOURS[:count]]
    return [to_rgb(c) for c in colormaps["turbo"](np.linspace(0.04, 0.96, count))]


@in_style
def composite_map(layers: xr.DataArray, *, size: float = 4.2, title: str = "") -> Figure:
    """`abundance_composite` with a legend of the materials."""
    from matplotlib.patches import Patch

    picture = abundance_composite(layers)
    aspect = float(np.clip(picture.shape[0] / picture.shape[1], 0.25, 4.0))
    figure = new_figure(size + 1.9, size * aspect + 0.4, title)
    axes = figure.subplots()
    bare(axes)
    axes.imshow(picture)
    names = [str(n) for n in layers["layer"].values]
    handles = [Patch(color=c, label=n) for n, c in zip(names, colours_of(len(names)), strict=True)]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    return figure


def unmixing_figures(
    abundances: xr.DataArray, endmembers: xr.DataArray, rmse: xr.DataArray, *, unit: str = "1"
) -> dict[str, Figure]:
    """Pictures of one result by name: ``endmembers``, ``composite``, ``abundances``, ``rmse``.

    Parameters
    ----------
    abundances, rmse : DataArray (layer, y, x)
        Lazy ones are read in strips and thinned out.
    endmembers : DataArray (spectrum, band)
    unit : str
        Of the residual.

    Notes
    -----
    Pixels without data are white. Of more than `MOST` materials those with the largest mean abundance are drawn.
    """
    maps, residual = thinned(abundances), thinned(rmse)
    shown = largest(maps)
    maps = maps.isel(layer=shown)
    spectra = (
        endmembers.isel(spectrum=shown) if endmembers.sizes["spectrum"] == abundances.sizes["layer"] else endmembers
    )
    finite = maps.values[np.isfinite(maps.values)]
    beyond = bool(finite.size) and (finite.min() < -0.01 or finite.max() > 1.01)
    drawn = {
        "endmembers": spectra_lines(spectra),
        "composite": composite_map(maps),
        "abundances": abundance_maps(maps, limits=None if beyond else (0.0, 1.0)),
        "rmse": abundance_maps(residual, label="RMSE of all bands", unit=unit, limits=None, size=4.2),
    }
    for name in ("abundances", "rmse"):
        whiten(drawn[name])
    return drawn


def whiten(figure: Figure) -> None:
    """White where there is no data."""
    for axes in figure.axes:
        if axes.images:
            axes.set_facecolor(PAPER)


@in_style
def unmixing_comparison(
    rows: Sequence[tuple[str, np.ndarray, np.ndarray]],
    names: Sequence[str],
    *,
    wavelength: Any = None,
    errors: Mapping[str, np.ndarray] | None = None,
    size: float = 1.5,
    title: str = "",
) -> Figure:
    """Maps and spectra of the truth and of estimates, a row each, a column a material.

    Parameters
    ----------
    rows : sequence of (name, maps, spectra)
        The truth first: maps (material, y, x) and spectra (material, band), NaN for materials without a partner.
        Spectra are drawn with a norm of 1, as the angle compares them; the truth's in grey beneath.
    names : sequence of str
        Of the materials.
    wavelength : array_like, shape (band,), optional
        [nm]; band numbers where it is absent or not finite.
    errors : dict of str to ndarray (y, x), optional
        A map of each row's residual, drawn in a last column.

    Raises
    ------
    BadSettings
    """
    if not rows or any(len(m) != len(names) or len(s) != len(names) for _, m, s in rows):
        raise BadSettings("got no rows, or rows whose maps or spectra are not one a material")
    k, shown = len(names), dict(errors or {})
    bands = rows[0][2].shape[1]
    centres = np.asarray(wavelength, dtype=np.float64) if wavelength is not None else np.full(bands, np.nan)
    x, axis = (centres, "wavelength [nm]") if np.isfinite(centres).all() else (np.arange(1.0, bands + 1), "band")
    aspect = float(np.clip(rows[0][1].shape[1] / rows[0][1].shape[2], 0.4, 2.5))
    columns = k + 1 + bool(shown)
    widths = [1.0] * k + [1.8 / min(aspect, 1.0)] + [1.0] * bool(shown)
    figure = new_figure(size * sum(widths) + 1.2, len(rows) * (size * aspect + 0.15) + 0.6, title)
    grid = figure.subplots(len(rows), columns, squeeze=False, width_ratios=widths)
    highest = max((float(np.nanpercentile(e, 99)) for e in shown.values() if np.isfinite(e).any()), default=1.0)
    palette = colours_of(k)
    true = _unit(rows[0][2])
    image = None
    for number, (line, (label, maps, spectra)) in enumerate(zip(grid, rows, strict=True)):
        for ax, name, plane in zip(line, names, maps, strict=False):
            bare(ax)
            ax.set_facecolor(PAPER)
            image = ax.imshow(plane, cmap=SEQUENTIAL, vmin=0, vmax=1)
            if number == 0:
                ax.set_title(str(name))
        line[0].set_ylabel(label)
        chart = line[k]
        for i, spectrum in enumerate(_unit(spectra)):
            chart.plot(x, true[i], color="#bbbbbb", lw=2.2)
            chart.plot(x, spectrum, color=palette[i], lw=1.0)
        chart.set_yticks([])
        chart.tick_params(labelbottom=number == len(rows) - 1)
        if number == len(rows) - 1:
            chart.set_xlabel(axis)
        if shown:
            last = line[-1]
            bare(last)
            last.set_facecolor(PAPER)
            if label in shown:
                last.imshow(shown[label], cmap=ERRORS, vmin=0, vmax=highest or 1.0)
            else:
                last.set_axis_off()
            if number == min(1, len(rows) - 1):
                last.set_title(f"residual, to {highest:.3g}")
    assert image is not None
    bar = figure.colorbar(image, ax=list(grid.ravel()), fraction=0.02, pad=0.01, aspect=40)
    bar.set_label("abundance")
    return figure


def _unit(spectra: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        out: np.ndarray = spectra / np.sqrt(np.nansum(spectra**2, axis=1, keepdims=True))
    return np.where(np.isfinite(out), out, np.nan)
