"""A hyperspectral scene as the 13 Sentinel-2 bands that SoftCon sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchspectral.backbones.softcon.bands import STATISTICS, softcon_bands
from torchspectral.errors import BadInput, BandMismatch

if TYPE_CHECKING:
    import xarray as xr

FILLABLE = ("B9", "B10")
"""Bands in water vapour, which surface products do not have: the statistics' mean may stand for them."""


def as_sentinel2(cube: xr.DataArray, *, min_coverage: float = 0.9) -> tuple[xr.DataArray, list[str]]:
    """Resample a scene to Sentinel-2 by spectral response, with a coverage report.

    Bands B9 and B10, which products of the surface often lack, get the mean of the pretraining statistics where the
    scene does not cover them; any other band that is not covered is refused.

    Parameters
    ----------
    cube : DataArray (band, y, x)
        Reflectance 0..1, with wavelengths [nm].
    min_coverage : float
        Least share of a band's response that the scene must see, 0..1.

    Returns
    -------
    cube : DataArray (13 bands)
        Reflectance 0..1, all bands ``good``.
    notes : list of str
        What was covered, filled, and that the weights saw the top of the atmosphere where the scene is of the surface.

    Raises
    ------
    BandMismatch
        A band that cannot be filled is not covered.
    BadInput
        The scene is no reflectance.
    MissingMetadata
    """
    from torchspectral.spectra import resample

    if cube.attrs.get("quantity") != "reflectance":
        raise BadInput(f"the scene is {cube.attrs.get('quantity')}, expected reflectance: convert it first")
    names = softcon_bands().names
    out = resample(cube, "sentinel-2a", min_coverage=min_coverage)
    lacking = [name for name, good in zip(names, out["good"].values, strict=True) if not good]
    wrong = [name for name in lacking if name not in FILLABLE]
    if wrong:
        shares = ", ".join(f"{n} {float(out['coverage'][names.index(n)]):.0%}" for n in wrong)
        raise BandMismatch(
            f"the scene covers too little of the Sentinel-2 bands {shares}, expected {min_coverage:.0%}: choose a "
            "backbone that takes the scene's own bands"
        )
    notes = [out.attrs["history"][-1]]
    for name in lacking:
        index, value = names.index(name), STATISTICS["sentinel-2"][0][names.index(name)] / 10000
        out = out.where(out["number"] != index + 1, value)
        notes.append(f"{name} is not covered: filled with the mean of the pretraining data, {value:.4f}")
    out = out.assign_coords(good=("band", [True] * len(names)))
    level = str(cube.attrs.get("level", ""))
    if level.upper().startswith(("L2", "2")):
        notes.append(f"the scene is of the surface (level {level}); the weights saw the top of the atmosphere")
    return out, notes
