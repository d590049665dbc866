"""Spectra at places of a scene."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import BadCube, BadSettings, OutputExists, ProductNotFound
from torchspectral.result import Report, Result

Place = tuple[str, float, float]


def read_points(path: str | Path) -> list[Place]:
    """Read name,x,y lines (header optional) of a CSV file.

    Raises
    ------
    ProductNotFound, BadSettings
    """
    file = Path(path)
    if not file.is_file():
        raise ProductNotFound(f"{file} does not exist: expected a CSV of name,x,y lines")
    places: list[Place] = []
    try:
        rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise BadSettings(f"{file} is not text: expected a CSV of name,x,y lines") from None
    for number, row in enumerate((r for r in rows if r), start=1):
        try:
            name, x, y = row
            places.append((name, float(x), float(y)))
        except ValueError:
            if number == 1 and not places:
                continue  # a header
            raise BadSettings(f"line {number} of {file} is {','.join(row)!r}: expected name,x,y") from None
    return places


def spectra_at(cube: xr.DataArray, places: Sequence[Place], *, how: str = "grid") -> xr.DataArray:
    """Spectra of the pixels that hold the places.

    Parameters
    ----------
    places : sequence of (name, x, y)
    how : {"grid", "lonlat", "pixel"}
        What x and y are: CRS coordinates of the scene (column and row where it has none), degrees, or column and row
        from 0.

    Returns
    -------
    DataArray, dims (spectrum, band)

    Raises
    ------
    GridMismatch
        A place lies outside the scene.
    BadCube, BadSettings
        The cube is no image; a column or row is no whole number.
    """
    from torchspectral.geo.grids import grid_of

    if "y" not in cube.dims or "band" not in cube.dims:
        raise BadCube(f"got an array of {', '.join(map(str, cube.dims))}, expected an image of bands, rows and columns")
    if how == "grid" and grid_of(cube).kind == "none":
        how = "pixel"
    found = []
    for _, x, y in places:
        if how == "lonlat":
            found.append(cube.hsi.at(lon=x, lat=y))
        elif how == "pixel":
            if not (x.is_integer() and y.is_integer()):
                raise BadSettings(f"got column {x:g} and row {y:g}, expected whole numbers from 0")
            found.append(cube.hsi.at(row=int(y), col=int(x)))
        else:
            found.append(cube.hsi.at(x=x, y=y))
    values = np.stack([np.asarray(s.values) for s in found])
    attrs = {k: v for k, v in cube.attrs.items() if k in ("quantity", "units", "sensor", "source")}
    return make_spectra(
        values,
        [name for name, _, _ in places],
        wavelength=cube["wavelength"].values,
        fwhm=cube["fwhm"].values,
        attrs=attrs,
    )


def save_spectra_at(
    cube: xr.DataArray,
    places: Sequence[Place],
    path: str | Path,
    *,
    how: str = "grid",
    overwrite: bool = False,
) -> Result:
    """Write the spectra at places as CSV, ENVI library (.sli) or picture (.png, .pdf, .svg).

    Raises
    ------
    GridMismatch, OutputExists, BadSettings
    """
    from torchspectral.io.saving import save

    spectra = spectra_at(cube, places, how=how)
    target = Path(path)
    if target.suffix.lower() in (".png", ".pdf", ".svg"):
        if target.exists() and not overwrite:
            raise OutputExists(f"{target} exists: choose another name or ask to overwrite")
        _picture(spectra, cube, target)
    else:
        save(spectra, target, overwrite=overwrite)
    report = Report(method="spectrum", inputs={"cube": ", ".join(cube.attrs.get("source", []))})
    return Result({"spectra": spectra}, report, {"spectra": str(target)})


def _picture(spectra: xr.DataArray, cube: xr.DataArray, target: Path) -> None:
    from matplotlib.figure import Figure

    from torchspectral.io.raw import picture_file

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    wavelength = spectra["wavelength"].values
    known = np.isfinite(wavelength)
    across = wavelength if known.any() else np.arange(1, spectra.sizes["band"] + 1)
    good = cube["good"].values & (known if known.any() else True)
    order = np.argsort(across, kind="stable")
    for name, values in zip(spectra["spectrum"].values, spectra.values, strict=True):
        axes.plot(across[order], np.where(good, values.astype(float), np.nan)[order], label=str(name), linewidth=1.2)
    axes.set_xlabel("wavelength [nm]" if known.any() else "band")
    unit = spectra.attrs.get("units", "1")
    axes.set_ylabel(f"{spectra.attrs.get('quantity', 'value')}{'' if unit == '1' else f' [{unit}]'}")
    if spectra.sizes["spectrum"] > 1:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with picture_file(target) as part:
        figure.savefig(part, dpi=150)
