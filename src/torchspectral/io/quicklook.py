"""An RGB picture of a scene of any size."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from torchspectral.errors import BadCube, BadSettings, OutputExists
from torchspectral.result import Report, Result

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".webp")


def save_quicklook(
    cube: xr.DataArray,
    path: str | Path,
    *,
    wavelengths: tuple[float, float, float] | None = None,
    size: int = 2048,
    overwrite: bool = False,
) -> Result:
    """Write a picture stretched between the 2nd and 98th percentile of each colour; nodata is transparent in PNG.

    Parameters
    ----------
    wavelengths : tuple of float, optional
        Red, green and blue [nm]; the sensor's usual choice, else true colour, by default.
    size : int
        Longest side of the picture [pixels]; larger scenes are thinned out while reading.

    Raises
    ------
    BadSettings
        The suffix is no picture format.
    BadCube
        There is no image in it, but a spectral library, say.
    BandMismatch
        No band near a wavelength.
    OutputExists, OutputFailed
    """
    from matplotlib.image import imsave

    from torchspectral.io.raw import picture_file

    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise BadSettings(f"cannot write a picture as {target.name!r}: expected one of {', '.join(SUFFIXES)}")
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists: choose another name or ask to overwrite")
    if "y" not in cube.dims or "band" not in cube.dims:
        raise BadCube(f"got an array of {', '.join(map(str, cube.dims))}, expected an image of bands, rows and columns")
    step = max(1, -(-max(cube.sizes["y"], cube.sizes["x"]) // size))
    thin = cube.isel(y=slice(None, None, step), x=slice(None, None, step))
    picture = thin.hsi.rgb(wavelengths=wavelengths, max_size=size)
    with picture_file(target) as part:
        imsave(part, picture[..., :3] if target.suffix.lower() in (".jpg", ".jpeg") else picture)
    report = Report(method="quicklook", inputs={"cube": ", ".join(cube.attrs.get("source", []))})
    report.notes.append(
        f"one pixel of every {step} x {step}, {picture.shape[1]} x {picture.shape[0]} pixels"
        if step > 1
        else f"{picture.shape[1]} x {picture.shape[0]} pixels"
    )
    return Result({"picture": picture}, report, {"picture": str(target)})
