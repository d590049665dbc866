"""The accessor's figures and its notebook representation; imported only when a picture is asked for."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.spectra.axes import COLOURS, band_axis, value_label, with_gaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CENTRE = 9  # pixels on a side of the central window whose mean spectrum is drawn


def draw(
    cube: xr.DataArray, picture: xr.DataArray | None, kind: str, pixels: Sequence[tuple[int, int]] | None
) -> Figure:
    """Figure of a picture, spectra or both; see ``cube.hsi.plot``."""
    from matplotlib.figure import Figure

    from torchspectral.errors import BadSettings

    if kind not in ("rgb", "spectra", "both"):
        raise BadSettings(f"got kind {kind!r}, expected rgb, spectra or both")
    figure = Figure(figsize=(10, 4.2) if kind == "both" else (6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2) if kind == "both" else [figure.subplots()]
    if picture is not None:
        show_picture(axes[0], cube, picture)
        if pixels and kind == "both":
            for i, (row, col) in enumerate(pixels):
                axes[0].plot(col + 0.5, row + 0.5, "o", ms=7, mfc=COLOURS[i % len(COLOURS)], mec="white", mew=1.2)
    if kind != "rgb":
        draw_spectra(axes[-1], cube, pixels)
    return figure


def show_picture(axes: Axes, cube: xr.DataArray, picture: xr.DataArray) -> None:
    """Draw a picture over the cube's pixel rows and columns; nodata is light grey."""
    axes.set_facecolor("0.85")
    axes.imshow(picture.values, extent=(0, cube.sizes["x"], cube.sizes["y"], 0), interpolation="nearest")
    centres = picture.attrs["wavelengths"]
    label = " / ".join(f"{c:.0f}" for c in centres) + " nm" if np.isfinite(centres).all() else ""
    axes.set_title(label or f"bands {', '.join(str(b + 1) for b in picture.attrs['bands'])}", fontsize=10)
    axes.set_xlabel("column")
    axes.set_ylabel("row")


def draw_spectra(axes: Axes, cube: xr.DataArray, pixels: Sequence[tuple[int, int]] | None) -> None:
    """Draw spectra of pixels, or the mean of the central window, over wavelength; gaps where bands are bad."""
    spectra: list[tuple[str, np.ndarray]]
    if pixels:
        spectra = [(f"row {r}, col {c}", _floats(cube, cube.hsi.at(row=r, col=c))) for r, c in pixels]
    else:
        spectra = [(f"mean of the central {_CENTRE} x {_CENTRE}", central_spectrum(cube))]
    x, unit = band_axis(cube)
    good = cube["good"].values if "good" in cube.coords else np.ones(x.size, dtype=bool)
    for i, (label, values) in enumerate(spectra):
        axes.plot(*with_gaps(x, values, good), lw=1.4, color=COLOURS[i % len(COLOURS)], label=label)
    axes.set_xlabel(unit)
    axes.set_ylabel(value_label(cube))
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8, frameon=False)


def central_spectrum(cube: xr.DataArray) -> np.ndarray:
    """Mean of a small window in the middle, shape (band,); reads no more than that."""
    rows, cols = cube.sizes["y"], cube.sizes["x"]
    top, left = max(0, (rows - _CENTRE) // 2), max(0, (cols - _CENTRE) // 2)
    values = _floats(cube, cube.isel(y=slice(top, top + _CENTRE), x=slice(left, left + _CENTRE)))
    finite = np.isfinite(values)
    total = np.where(finite, values, 0).sum(axis=(1, 2))
    count = finite.sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _floats(cube: xr.DataArray, part: xr.DataArray) -> np.ndarray:
    from torchspectral.spectra.lazy import to_float

    return to_float(np.asarray(part.values), cube.attrs.get("nodata")).astype(np.float64)


def png_data_uri(figure: Figure, dpi: int = 100) -> str:
    """Figure as a ``data:`` address for HTML."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def cube_html(cube: xr.DataArray, colours: Sequence[float] | None) -> str:
    """HTML with facts, picture and spectrum; all text is escaped."""
    facts = "".join(
        f"<tr><th style='text-align:left;padding:1px 12px 1px 0;font-weight:600'>{html.escape(name)}</th>"
        f"<td style='text-align:left;padding:1px 0'>{html.escape(str(value))}</td></tr>"
        for name, value in _facts(cube).items()
    )
    table = f"<table style='border:0;font-size:13px'>{facts}</table>"
    if cube.dims != ("band", "y", "x"):
        return f"<div>{table}</div>"
    from torchspectral.errors import TorchspectralError
    from torchspectral.spectra.picture import rgb_picture

    try:
        figure = draw(cube, rgb_picture(cube, wavelengths=colours, max_size=200), "both", None)
    except TorchspectralError as error:
        return f"<div>{table}<p>{html.escape(str(error))}</p></div>"
    figure.set_size_inches(7.6, 3.0)
    picture = f"<img alt='picture and spectrum of the cube' style='max-width:100%' src='{png_data_uri(figure)}'>"
    return f"<div>{table}{picture}</div>"


def _facts(cube: xr.DataArray) -> dict[str, Any]:
    from torchspectral.errors import TorchspectralError
    from torchspectral.spectra.lazy import is_lazy

    attrs = cube.attrs
    facts: dict[str, Any] = {"size": " x ".join(f"{n} {name}" for name, n in cube.sizes.items())}
    product = " ".join(str(attrs[k]) for k in ("platform", "sensor", "level") if attrs.get(k))
    if product:
        facts["product"] = product
    if attrs.get("acquired"):
        facts["acquired"] = attrs["acquired"]
    facts["values"] = f"{value_label(cube)}, {cube.dtype}{', not read yet' if is_lazy(cube) else ''}"
    if "band" in cube.dims:
        x, unit = band_axis(cube)
        good = int(np.count_nonzero(cube["good"].values)) if "good" in cube.coords else x.size
        span = f", {x.min():.0f}-{x.max():.0f} nm" if "nm" in unit else ""
        facts["bands"] = f"{x.size}{span}, {good} good"
    try:
        grid = cube.hsi.grid
        width, height = grid.resolution
        name = grid.crs.name if grid.crs is not None else "no CRS"
        facts["grid"] = {
            "none": "lies nowhere",
            "swath": "swath with longitudes and latitudes",
        }.get(grid.kind, f"{grid.kind}, {name}, {width:g} x {height:g}")
    except TorchspectralError as error:
        facts["grid"] = str(error)
    return facts
