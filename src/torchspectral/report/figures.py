"""Figures of images: pictures side by side, error maps, spectra at pixels, abundances, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings
from torchspectral.report.style import ERRORS, LINE_STYLES, MARKERS, SEQUENTIAL, SIGNED, bare, in_style, new_figure
from torchspectral.spectra.axes import COLOURS, band_axis, value_label, with_gaps
from torchspectral.spectra.lazy import to_float
from torchspectral.spectra.picture import rgb_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_SIZE = 640  # pixels on a side that a picture in a report is thinned to


@in_style
def rgb_panels(
    panels: Sequence[tuple[str, Any]],
    *,
    columns: int = 3,
    share_stretch: bool = True,
    pixels: Sequence[tuple[int, int]] = (),
    size: float = 2.7,
    title: str = "",
) -> Figure:
    """Pictures side by side.

    Parameters
    ----------
    panels : sequence of (title, image)
        Cubes (shown in natural colours), arrays (y, x, 3 or 4) with values in 0..1, or arrays (y, x) in grey.
    share_stretch : bool
        Stretch every cube between the limits of the first, so that brightness compares.
    pixels : sequence of (row, col)
        Places of the first image to mark, in the colours of `spectra_at_pixels`; on images of another size at the
        same ground.
    size : float
        Width of one picture [inch].

    Returns
    -------
    Figure

    Raises
    ------
    BadSettings, BadCube, BandMismatch
    """
    images, limits, shape = [], None, None
    for label, value in panels:
        image, own, extent = _image(value, limits if share_stretch else None)
        limits = limits or own
        shape = shape or extent
        images.append((label, image, extent))
    figure, axes = _image_grid(len(images), columns, size, [extent for _, _, extent in images], title)
    for ax, (label, image, extent) in zip(axes, images, strict=True):
        ax.imshow(image, extent=(0, extent[1], extent[0], 0), cmap="gray" if image.ndim == 2 else None)
        ax.set_title(label)
        assert shape is not None
        scale = extent[0] / shape[0], extent[1] / shape[1]
        _mark(ax, [(row * scale[0], col * scale[1]) for row, col in pixels], scale)
    return figure


@in_style
def error_maps(
    panels: Sequence[tuple[str, Any]],
    *,
    label: str = "",
    unit: str = "1",
    signed: bool = False,
    highest: float | None = None,
    percentile: float = 99.0,
    columns: int = 3,
    size: float = 2.7,
    title: str = "",
) -> Figure:
    """Maps of an error on one shared scale, so that methods compare.

    Parameters
    ----------
    panels : sequence of (title, array (y, x))
    label, unit : str
        Of the colour bar; "error" or "absolute error" by default.
    signed : bool
        Centre the scale on zero, with a diverging map.
    highest : float, optional
        End of the scale; by default the `percentile` of all maps' magnitudes together.

    Raises
    ------
    BadSettings, BadCube
    """
    maps = [(name, _plane(value)) for name, value in panels]
    if not maps:
        raise BadSettings("got no maps to draw, expected one or more (title, array) pairs")
    if highest is None:
        values = np.concatenate([np.abs(m[np.isfinite(m)]) for _, m in maps])
        highest = float(np.percentile(values, percentile)) if values.size else 1.0
    highest = highest if highest > 0 else 1.0
    figure, axes = _image_grid(len(maps), columns, size, [m.shape for _, m in maps], title, bar=True)
    low, colours = (-highest, SIGNED) if signed else (0.0, ERRORS)
    drawn = None
    for ax, (name, values) in zip(axes, maps, strict=True):
        drawn = ax.imshow(values, cmap=colours, vmin=low, vmax=highest)
        finite = values[np.isfinite(values)]
        mean = f"mean {'magnitude ' if signed else ''}{np.abs(finite).mean():.3g}" if finite.size else "no data"
        ax.set_title(f"{name}\n{mean}")
    assert drawn is not None
    _bar(figure, drawn, axes, label or ("error" if signed else "absolute error"), unit, "both" if signed else "max")
    return figure


@in_style
def spectra_at_pixels(
    cubes: Mapping[str, xr.DataArray],
    pixels: Sequence[tuple[int, int]],
    *,
    title: str = "",
    size: float = 3.4,
) -> Figure:
    """Picture with marked pixels, and beside it their spectra in every cube.

    Parameters
    ----------
    cubes : dict of str to DataArray (band, y, x)
        On the same pixels; the first is the picture. Each has its line style, each pixel its colour and marker.
    pixels : sequence of (row, col)

    Raises
    ------
    BadSettings, BadCube, GridMismatch
    """
    if not cubes or not pixels:
        raise BadSettings(f"got {len(cubes)} cubes and {len(pixels)} pixels, expected at least one of each")
    first = next(iter(cubes.values()))
    image, _, extent = _image(first, None)
    figure = new_figure(size * 2.7, size, title)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    left.imshow(image, extent=(0, extent[1], extent[0], 0))
    bare(left)
    _mark(left, pixels, (1.0, 1.0))
    left.set_title(next(iter(cubes)))
    for style, cube in enumerate(cubes.values()):
        x, axis = band_axis(cube)
        good = cube["good"].values if "good" in cube.coords else None
        for i, (row, col) in enumerate(pixels):
            values = to_float(np.asarray(cube.hsi.at(row=row, col=col).values), cube.attrs.get("nodata"))
            line = LINE_STYLES[style % len(LINE_STYLES)]
            right.plot(*with_gaps(x, values, good), line, color=COLOURS[i % len(COLOURS)], lw=1.3)
        right.set_xlabel(axis)
    right.set_ylabel(value_label(first))
    right.grid(True)
    _two_legends(right, list(cubes), pixels)
    return figure


@in_style
def abundance_maps(
    layers: xr.DataArray,
    *,
    names: Sequence[str] | None = None,
    label: str = "abundance",
    unit: str = "1",
    limits: tuple[float, float] | None = (0.0, 1.0),
    columns: int = 4,
    size: float = 2.3,
    title: str = "",
) -> Figure:
    """One map a layer, on one shared scale.

    Parameters
    ----------
    layers : DataArray (layer, y, x)
        Abundances, probabilities, scores, traits.
    names : sequence of str, optional
        Titles instead of the layers' names.
    limits : (float, float), optional
        Ends of the scale; None takes the 1st and 99th percentile of all layers.

    Raises
    ------
    BadCube, BadSettings
    """
    if not isinstance(layers, xr.DataArray) or layers.ndim != 3:
        got = layers.dims if isinstance(layers, xr.DataArray) else type(layers).__name__
        raise BadCube(f"got {got} as layers, expected a DataArray (layer, y, x)")
    own = [str(n) for n in layers["layer"].values] if "layer" in layers.coords else None
    labels = list(names) if names is not None else own or [str(i + 1) for i in range(layers.shape[0])]
    if len(labels) != layers.shape[0]:
        raise BadSettings(f"got {len(labels)} names for {layers.shape[0]} layers, expected one a layer")
    values = _thin(np.asarray(layers.values, dtype=np.float64))
    if limits is None:
        finite = values[np.isfinite(values)]
        limits = tuple(np.percentile(finite, [1, 99])) if finite.size else (0.0, 1.0)
    figure, axes = _image_grid(len(labels), columns, size, [v.shape for v in values], title, bar=True)
    for ax, name, plane in zip(axes, labels, values, strict=True):
        drawn = ax.imshow(plane, cmap=SEQUENTIAL, vmin=limits[0], vmax=limits[1])
        ax.set_title(name)
    _bar(figure, drawn, axes, label, unit, "neither")
    return figure


@in_style
def class_map(
    classes: Any,
    names: Mapping[int, str],
    *,
    colours: Mapping[int, str] | None = None,
    size: float = 3.6,
    title: str = "",
) -> Figure:
    """Map of classes with a legend that counts their pixels.

    Parameters
    ----------
    classes : array_like of int, shape (y, x)
        Numbers that are not in `names` (0, nodata) stay grey.
    names : dict of int to str
    colours : dict of int to str, optional
        Colour of each class; evenly spread hues by default.

    Raises
    ------
    BadCube
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    plane = _plane(classes)
    spread = colormaps["turbo"](np.linspace(0.04, 0.96, max(len(names), 2)))
    picture = np.zeros((*plane.shape, 4))
    handles = []
    for i, (number, name) in enumerate(names.items()):
        fixed = COLOURS[i] if len(names) <= len(COLOURS) else spread[i]
        colour = to_rgba((colours or {}).get(number, fixed))
        here = plane == number
        picture[here] = colour
        handles.append(Patch(color=colour, label=f"{name}  ({int(here.sum())})"))
    figure, axes = _image_grid(1, 1, size, [plane.shape], title, extra=2.2)
    axes[0].imshow(picture)
    axes[0].legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), title="class (pixels)", borderaxespad=0
    )
    return figure


def _image(value: Any, limits: Any) -> tuple[np.ndarray, Any, tuple[int, int]]:
    """Picture, its stretch limits (cubes only) and the rows and columns that it stands for."""
    if isinstance(value, xr.DataArray) and "band" in value.dims:
        picture = rgb_picture(value, limits=limits, max_size=_MAX_SIZE, wavelengths=value.hsi._colours())
        return picture.values, picture.attrs["limits"], (value.sizes["y"], value.sizes["x"])
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        return np.clip(np.nan_to_num(array.astype(np.float32)), 0, 1), None, (array.shape[0], array.shape[1])
    plane = _plane(value)
    return plane, None, (plane.shape[0], plane.shape[1])


def _plane(value: Any) -> np.ndarray:
    array = np.asarray(value)
    array = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise BadCube(f"got an array of shape {array.shape} and type {array.dtype}, expected numbers (y, x)")
    return array.astype(np.float64)


def _thin(values: np.ndarray) -> np.ndarray:
    step = max(1, -(-max(values.shape[-2:]) // _MAX_SIZE))
    return values[..., ::step, ::step]


def _image_grid(
    count: int,
    columns: int,
    size: float,
    shapes: Sequence[tuple[int, ...]],
    title: str,
    *,
    bar: bool = False,
    extra: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """Figure with `count` bare axes in rows of `columns`."""
    if count < 1 or columns < 1:
        raise BadSettings(f"got {count} images in {columns} columns, expected at least one of each")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    aspect = float(np.clip(np.median([s[0] / s[1] for s in shapes]), 0.25, 4.0))
    height = rows * (size * aspect + 0.42) + (0.35 if title else 0.05)
    figure = new_figure(columns * size + (0.95 if bar else 0.1) + extra, height, title)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.ravel())
    for ax in axes[:count]:
        bare(ax)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def _bar(figure: Figure, drawn: Any, axes: list[Axes], label: str, unit: str, extend: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02, extend=extend, aspect=28)
    bar.set_label(label if unit in ("", "1") else f"{label} [{unit}]")
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


def _mark(axes: Axes, pixels: Sequence[tuple[float, float]], scale: tuple[float, float]) -> None:
    for i, (row, col) in enumerate(pixels):
        axes.plot(
            col + scale[1] / 2,
            row + scale[0] / 2,
            MARKERS[i % len(MARKERS)],
            ms=8,
            mfc=COLOURS[i % len(COLOURS)],
            mec="white",
            mew=1.3,
        )


def _two_legends(axes: Axes, names: Sequence[str], pixels: Sequence[tuple[int, int]]) -> None:
    """Pixels by colour and marker, cubes by line style."""
    from matplotlib.lines import Line2D

    places = [
        Line2D(
            [], [], ls="", marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], label=f"row {r}, col {c}"
        )
        for i, (r, c) in enumerate(pixels)
    ]
    lines = [
        Line2D([], [], ls=LINE_STYLES[i % len(LINE_STYLES)], color="#444444", label=name)
        for i, name in enumerate(names)
    ]
    handles = places + (lines if len(names) > 1 else [])
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
