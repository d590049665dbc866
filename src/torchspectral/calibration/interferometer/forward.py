"""The instrument as a matrix, and simulated interferograms of a scene."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from torchspectral.calibration.interferometer.characterization import Characterization
from torchspectral.calibration.interferometer.geometry import off_axis_cosines
from torchspectral.cube import check_cube, make_cube
from torchspectral.errors import BadCube, BadInput, BadSettings, MissingMetadata
from torchspectral.geo import place

Response = Literal["relative", "absolute"]
PHASE_ERROR = 0.05
"""Largest error of a phase [rad] by which pixels may share the matrix of one direction."""
MOST_RINGS = 256
HARMONICS = 6
"""Of a fringe, that are integrated exactly."""
MOST_NODES = 400
BLOCK = 1 << 21
"""Values of a work array."""


def wavenumbers_of(wavelength: np.ndarray) -> np.ndarray:
    """Wavenumbers [1/um] of wavelengths [nm].

    Raises
    ------
    MissingMetadata, BadInput
        Unknown or repeated wavelengths.
    """
    wavelength = np.asarray(wavelength, dtype=np.float64)
    if not np.isfinite(wavelength).all():
        raise MissingMetadata("the spectra have no wavelengths, which an interferometer needs: set the coordinate [nm]")
    if wavelength.size < 2 or np.unique(wavelength).size < wavelength.size or wavelength.min() <= 0:
        raise BadInput(f"got {wavelength.size} wavelengths, expected at least two different ones above 0 [nm]")
    return np.asarray(1000 / wavelength)


def forward_matrix(
    device: Characterization,
    wavenumber: np.ndarray,
    *,
    response: Response = "relative",
    cosine: float = 1.0,
) -> np.ndarray:
    """Interferogram of a spectral density over wavenumbers: y = matrix @ x, shape (I, K).

    Parameters
    ----------
    device : Characterization
    wavenumber : ndarray, shape (K,)
        [1/um], in any order; the spectrum is linear between neighbours, and 0 beyond the ends.
    response : {"relative", "absolute"}
        "relative": each interferometer's transmittance over its mean, for interferograms that are divided by the
        instrument's own flat response; "absolute": in units of the characterised data, for raw ones.
    cosine : float
        Of the angle under which the light comes.

    Raises
    ------
    BadSettings, BadInput
    """
    if response not in ("relative", "absolute"):
        raise BadSettings(f"got response={response!r}, expected relative or absolute")
    wavenumber = np.asarray(wavenumber, dtype=np.float64)
    matrix = _integrated(device, wavenumber, cosine)
    wild = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if wild.size:
        raise BadInput(
            f"the transmittance of {wild.size} interferometers (the first is number {wild[0]}) is not finite at these "
            "wavenumbers: mark them bad in the device file, or leave --flagged out"
        )
    if response == "relative":
        mean = matrix.sum(axis=1, keepdims=True) / np.ptp(wavenumber)
        if (mean == 0).any():
            raise BadInput("some interferometers let nothing through at these wavenumbers: use response=absolute")
        matrix = matrix / mean
    return matrix


def _integrated(device: Characterization, wavenumber: np.ndarray, cosine: float) -> np.ndarray:
    """Integrals of the transmittance times what each wavenumber stands for, shape (I, K).

    Gauss and Legendre's rule between neighbours, with points enough for the fringes of the longest path and some of
    their harmonics: fringes are narrower than the steps of a spectrum.
    """
    order = np.argsort(wavenumber)
    low, step = wavenumber[order][:-1], np.diff(wavenumber[order])
    turn = 2 * np.pi * float(np.abs(device.mean_opd()).max()) * float(step.max())
    node, weight = np.polynomial.legendre.leggauss(int(np.clip(np.ceil(1 + HARMONICS / 2 * turn), 2, MOST_NODES)))
    share = (node + 1) / 2
    fine = (low[:, None] + step[:, None] * share).ravel()
    upper, lower = (step[:, None] * weight / 2 * part for part in (share, 1 - share))
    sorted_matrix = np.zeros((device.count, wavenumber.size))
    rows = max(1, BLOCK // fine.size)
    for start in range(0, device.count, rows):
        part = slice(start, start + rows)
        with np.errstate(all="ignore"):
            value = device.rows(np.arange(device.count)[part]).transfer(fine, cosine).reshape(-1, *upper.shape)
            sorted_matrix[part, 1:] += (value * upper).sum(axis=2)
            sorted_matrix[part, :-1] += (value * lower).sum(axis=2)
    matrix = np.empty_like(sorted_matrix)
    matrix[:, order] = sorted_matrix
    return matrix


def trapezoid_weights(axis: np.ndarray) -> np.ndarray:
    """Weights of the trapezoidal rule on an axis in any order, shape of `axis`."""
    order = np.argsort(axis)
    step = np.diff(axis[order])
    weights = np.zeros(axis.size)
    weights[order[:-1]] += step / 2
    weights[order[1:]] += step / 2
    return weights


def default_wavelengths(device: Characterization) -> np.ndarray:
    """Wavelengths [nm], ascending, that the instrument can tell apart over the range of its characterisation.

    Evenly spaced in wavenumber by 1 / (2 longest path difference), at most as many as interferometers and lines.

    Raises
    ------
    MissingMetadata
        The device does not say over which wavenumbers it was characterised.
    """
    known = device.wavenumber if device.wavenumber is not None else device.domain
    if known is None:
        raise MissingMetadata(
            "the device does not say over which wavenumbers it was characterised: give the wavelengths of the spectra"
        )
    low, high = float(known[0]), float(known[-1])
    good = device.good if device.good.any() else np.ones(device.count, dtype=bool)
    lines = len(known) if device.wavenumber is not None else device.count
    resolved = int(2 * np.abs(device.mean_opd()[good]).max() * (high - low)) + 1
    count = max(2, min(resolved, int(good.sum()), lines))
    return np.asarray(1000 / np.linspace(high, low, count))


def ring_cosines(field_of_view: float, phase: float) -> np.ndarray:
    """Cosines that stand for the directions of a sub-image, from the axis outwards; 1 where all look along the axis.

    Parameters
    ----------
    field_of_view : float
        Angle at the corner [deg].
    phase : float
        Largest phase on the axis [rad].
    """
    if not field_of_view:
        return np.ones(1)
    depth = 1 - np.cos(np.deg2rad(field_of_view))
    count = int(np.clip(1 + np.ceil(phase * depth / (2 * PHASE_ERROR)), 2, MOST_RINGS))
    return np.asarray(1 - depth * np.linspace(0, 1, count))


def nearest_ring(cosines: np.ndarray, rings: np.ndarray) -> np.ndarray:
    """Index of the direction that stands for each pixel, of the shape of `cosines`."""
    if rings.size == 1:
        return np.zeros(cosines.shape, dtype=np.intp)
    share = (1 - cosines) / (1 - rings[-1])
    return np.asarray(np.clip(np.rint(share * (rings.size - 1)), 0, rings.size - 1).astype(np.intp))


def simulate(
    cube: xr.DataArray,
    device: Characterization,
    *,
    response: Response = "relative",
    noise: float = 0.0,
    seed: int = 0,
    mosaic: bool = False,
) -> xr.DataArray:
    """What the instrument sees of a scene: one interferogram a pixel.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Spectral density over the wavenumber, at known wavelengths. Where the device's sub-images have another size, it
        is resampled to theirs (bicubic, antialiased).
    device : Characterization
    response : {"relative", "absolute"}
        See `forward_matrix`.
    noise : float
        Standard deviation of Gaussian noise as a share of the mean interferogram.
    seed : int
    mosaic : bool
        Return the detector's image, with the sub-images in their places, instead of a cube.

    Returns
    -------
    DataArray
        Dims (band, y, x) with a band an interferometer, or one band of the detector's size; quantity "dn".

    Raises
    ------
    BadCube, BadInput, BadSettings, MissingMetadata
    """
    cube = check_cube(cube)
    if cube.ndim != 3:
        raise BadCube("got a video, expected one image (band, y, x)")
    wavenumber = wavenumbers_of(cube["wavelength"].values)
    geometry = device.geometry
    if mosaic and geometry is None:
        raise MissingMetadata("the device has no layout of its sub-images, which a detector image needs")
    values = np.asarray(cube.values, dtype=np.float64)
    resized = geometry is not None and values.shape[-2:] != geometry.subimage_size
    if resized and geometry is not None:
        values = _resized(values, geometry.subimage_size)
    shape = values.shape[-2:]
    field = geometry.field_of_view if geometry is not None else 0.0
    cosines = off_axis_cosines((shape[0], shape[1]), field)
    out = np.empty((device.count, *shape))
    # Pixels at the same distance from the axis share their matrix exactly.
    for cosine in np.unique(cosines):
        here = cosines == cosine
        matrix = forward_matrix(device, wavenumber, response=response, cosine=float(cosine))
        out[:, here] = matrix @ values[:, here]
    if noise:
        out += noise * np.nanmean(out) * np.random.default_rng(seed).standard_normal(out.shape)
    history = [*cube.attrs.get("history", []), f"simulated interferograms of {device.name or 'a device'} ({response})"]
    attrs = {"history": history, "sensor": device.name}
    if mosaic and geometry is not None:
        return make_cube(geometry.assemble(out.astype(np.float32))[None], quantity="dn", attrs=attrs)
    found = make_cube(out.astype(np.float32), quantity="dn", attrs=attrs)
    if resized:
        return place(found, None)
    return found.assign_coords(
        {n: c.variable for n, c in cube.coords.items() if set(c.dims) <= {"y", "x"} and n != "band"}
    )


def _resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import torch

    from torchspectral.ops.axis import apply
    from torchspectral.ops.resize import bicubic_operator

    rows, cols = (bicubic_operator(n, m, m / n) for n, m in zip(values.shape[-2:], shape, strict=True))
    return np.asarray(apply(torch.from_numpy(values), rows, cols).numpy())


def subimages(image: xr.DataArray, device: Characterization) -> xr.DataArray:
    """Interferograms (band, y, x) from an image of the whole detector (one band).

    Raises
    ------
    MissingMetadata
        The device has no layout.
    GridMismatch
        The image is not of the detector's size.
    """
    image = check_cube(image, what="detector image")
    if device.geometry is None:
        raise MissingMetadata("the device has no layout of its sub-images, which an image of the whole detector needs")
    if image.ndim != 3 or image.sizes["band"] != 1:
        raise BadCube(f"got a detector image of shape {image.shape}, expected one band")
    parts = device.geometry.cut(np.asarray(image[0].values))
    attrs = {k: v for k, v in image.attrs.items() if k in ("source", "history", "sensor")}
    return make_cube(parts, quantity="dn", attrs=attrs)
