"""The twelve Sentinel-2 bands of SpectralGPT, and scenes of other sensors brought to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchspectral.backbones.base import Bands
from torchspectral.errors import BandMismatch

if TYPE_CHECKING:
    import xarray as xr

SENSOR = "sentinel-2a"
DROPPED = "B10"


def sentinel2_bands() -> Bands:
    """Sentinel-2 bands in order of their numbers, without B10 (cirrus)."""
    from torchspectral.sensors import get

    sensor = get(SENSOR)
    take = [i for i, name in enumerate(sensor.names) if name != DROPPED]
    return Bands(
        wavelengths=tuple(float(sensor.wavelength[i]) for i in take),
        fwhm=tuple(float(sensor.fwhm[i]) for i in take),
        names=tuple(sensor.names[i] for i in take),
        minimum=len(take),
        maximum=len(take),
    )


def to_sentinel2(cube: xr.DataArray, *, min_coverage: float = 0.9) -> xr.DataArray:
    """Resample a scene of any sensor to the twelve bands, by their spectral responses.

    Parameters
    ----------
    cube : DataArray (band, y, x)
        With ``wavelength`` [nm]; stays lazy where it is.
    min_coverage : float
        Least share of each band's response that the scene must see, 0..1.

    Returns
    -------
    DataArray (12, y, x)

    Raises
    ------
    BandMismatch
        A band is not covered; the message says which.
    MissingMetadata, BadCube
    """
    import numpy as np

    from torchspectral.sensors import get
    from torchspectral.spectra import resample

    names = get(SENSOR).names
    twelve = resample(cube, SENSOR, min_coverage=min_coverage).isel(
        band=[i for i, n in enumerate(names) if n != DROPPED]
    )
    missing = [n for n, good in zip(sentinel2_bands().names, np.asarray(twelve["good"]), strict=True) if not good]
    if missing:
        raise BandMismatch(
            f"the scene does not cover {', '.join(missing)} of Sentinel-2 to {100 * min_coverage:.0f} %: take another "
            "scene, or a network with bands of its own (`bands`, `wavelengths`)"
        )
    return twelve
