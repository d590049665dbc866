"""The verb: an interferogram cube and a device to a cube of spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.interferometer.acquisition import Acquisition, read_acquisition
from torchspectral.calibration.interferometer.characterization import Characterization
from torchspectral.calibration.interferometer.device_files import load_device
from torchspectral.calibration.interferometer.forward import (
    Response,
    default_wavelengths,
    forward_matrix,
    ring_cosines,
    subimages,
    wavenumbers_of,
)
from torchspectral.cube import check_cube
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

ROOM = "calibration"
DEFAULT = "phillips-twomey"
MOST_WAVELENGTHS = 8192
"""Matrices of so many columns, squared, are made."""


def reconstruct(
    interferogram: xr.DataArray,
    instrument: Characterization | str | Path,
    *,
    method: str = DEFAULT,
    wavelength: Sequence[float] | np.ndarray | str | Path | None = None,
    response: Response = "relative",
    flagged: bool = False,
    lines: Acquisition | str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Reconstruct the spectra of interferograms.

    Parameters
    ----------
    interferogram : DataArray, dims (band, y, x)
        A band an interferometer, in the device's order; lazy cubes are streamed. One band of the detector's size is cut
        into its sub-images first.
    instrument : Characterization, or path of a device file
    method : str
        "phillips-twomey", "ridge", "tsvd", "pinv", "loris-verhoeven", "idct"; see ``methods("calibration")``.
    wavelength : array_like, str or path, optional
        Of the spectra [nm], as numbers, FIRST:LAST:COUNT or a file of them; by default what the instrument tells apart over the range of its characterisation.
    response : {"relative", "absolute"}
        Whether the interferograms are divided by the instrument's flat response, or raw; see `forward_matrix`.
    flagged : bool
        Use interferometers whose characterisation failed, too (`FAILED`); those with other flags are always used.
    lines : Acquisition, or path of its folder, optional
        Choose the regularisation by these monochromatic lines, instead of by the scene.
    settings : mapping, optional
        Fields of the method's settings.
    out : path, optional
        File for the spectra, or folder (existing, or a name that ends in "/") for all values.
    **options
        Fields of `engine.RunOptions`; ``device`` among them is where to compute.

    Returns
    -------
    Result
        ``spectra`` (cube with wavelengths; spectral density over the wavenumber), ``rmse`` (layer: misfit of the
        interferogram, in its units).

    Raises
    ------
    BadInput, BadSettings, BandMismatch, MissingMetadata, UnknownName

    Examples
    --------
    >>> import torchspectral as ts
    >>> ts.reconstruct(ts.open("interferogram.tif"), "device.json", out="cube.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import Review, RunOptions, run

    known = instrument if isinstance(instrument, Characterization) else load_device(instrument)
    made = registry.create(ROOM, method, dict(settings or {}))
    if not hasattr(made, "name"):
        raise BadSettings(
            f"{method} reconstructs no spectra, expected phillips-twomey, ridge, tsvd, pinv, loris-verhoeven or idct"
        )
    chosen = RunOptions.make(options)
    cube = check_cube(interferogram, what="interferogram")
    notes = []
    if cube.sizes["band"] == 1 and known.geometry is not None and cube.shape[-2:] == known.geometry.image_size:
        cube = subimages(cube, known)
        notes.append(f"the detector image was cut into {cube.sizes['band']} sub-images")
    bands = _bands(cube, chosen.bands, known)
    rows = np.flatnonzero(known.usable[bands] | flagged)
    if not rows.size:
        raise BadInput(
            "no interferometer is left: the fits of all failed, or they are marked bad; flagged=True (--flagged) uses them"
        )
    left_out = known.count - rows.size
    if left_out:
        notes.append(
            f"{left_out} of {known.count} interferometers were left out: their fit failed, or they are bad in the scene"
        )
    asked = read_wavelengths(wavelength) if isinstance(wavelength, str | Path) else wavelength
    state = device_state(known, asked, response, bands, rows)
    if lines is not None:
        state |= _by_lines(made, lines, state, rows, bands, known, response)

    def look(values: Mapping[str, Any], report: Report) -> None:
        report.notes += notes
        report.options |= {"response": response, "flagged": flagged}
        if isinstance(wavelength, str | Path):
            report.options["wavelengths"] = str(wavelength)
        report.figures["instrument"] = known.name

    return run(
        made, {"interferogram": cube}, out=out, options=chosen, state=state, progress=progress, review=Review(look)
    )


def _bands(cube: xr.DataArray, wanted: Any, device: Characterization) -> np.ndarray:
    from torchspectral.engine.roles import choose_bands

    if cube.sizes["band"] != device.count:
        raise BandMismatch(
            f"got interferograms of {cube.sizes['band']} bands for a device of {device.count} interferometers, expected "
            "as many, in the device's order"
        )
    return choose_bands(cube, wanted, Report())


def device_state(
    device: Characterization,
    wavelength: Sequence[float] | np.ndarray | None = None,
    response: Response = "relative",
    bands: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, Any]:
    """The state that a method of reconstruction works with.

    Parameters
    ----------
    bands : ndarray of int, optional
        Interferometers that are handed over, all by default.
    rows : ndarray of int, optional
        Those of them that are used.

    Raises
    ------
    BadInput, MissingMetadata
    """
    import torch

    given = default_wavelengths(device) if wavelength is None else np.asarray(wavelength, dtype=np.float64).reshape(-1)
    if given.size > MOST_WAVELENGTHS:
        raise BadInput(
            f"got {given.size} wavelengths, expected at most {MOST_WAVELENGTHS}: the instrument tells far fewer apart"
        )
    sigma = wavenumbers_of(given)
    _check_range(device, sigma)
    used = device.rows(np.arange(device.count) if bands is None else bands)
    field = device.geometry.field_of_view if device.geometry is not None else 0.0
    rings = ring_cosines(field, 2 * np.pi * np.abs(used.mean_opd()).max() * sigma.max())
    matrix = np.stack([forward_matrix(used, sigma, response=response, cosine=float(c)) for c in rings])
    return {
        "matrix": torch.from_numpy(matrix),
        "rows": [int(r) for r in (np.arange(used.count) if rows is None else rows)],
        "rings": [float(c) for c in rings],
        "field_of_view": float(field),
        "wavelength": [float(w) for w in given],
        "opd": torch.from_numpy(used.mean_opd()),
        "wavenumber": torch.from_numpy(sigma),
    }


def _check_range(device: Characterization, sigma: np.ndarray) -> None:
    known = device.wavenumber if device.wavenumber is not None else device.domain
    if known is None:
        return
    low, high = float(known[0]), float(known[-1])
    room = 0.05 * (high - low)
    if sigma.min() < low - room or sigma.max() > high + room:
        raise BadInput(
            f"got wavelengths from {1000 / sigma.max():.0f} to {1000 / sigma.min():.0f} nm, the device was characterised "
            f"from {1000 / high:.0f} to {1000 / low:.0f} nm: its polynomials say nothing beyond"
        )


def _by_lines(
    made: Any,
    lines: Acquisition | str | Path,
    state: Mapping[str, Any],
    rows: np.ndarray,
    bands: np.ndarray,
    device: Characterization,
    response: Response,
) -> dict[str, Any]:
    """The strength that brings monochromatic lines nearest to what they are."""
    import torch

    from torchspectral.calibration.interferometer.strength import choose_strength

    source = lines if isinstance(lines, Acquisition) else read_acquisition(lines)
    if len(source.data) != device.count:
        raise BandMismatch(f"got lines of {len(source.data)} interferometers for a device of {device.count}")
    sigma = np.asarray(state["wavenumber"])
    inside = (source.wavenumber >= sigma.min()) & (source.wavenumber <= sigma.max())
    if not inside.any():
        raise BadInput("none of the lines lies within the wavelengths that are reconstructed")
    y = source.data[bands][rows][:, inside]
    if response == "relative":
        whole = forward_matrix(device.rows(bands[rows]), sigma, response="absolute")
        y = y / (whole.sum(axis=1, keepdims=True) / np.ptp(sigma))
    truth = line_spectra(source.wavenumber[inside], sigma)
    matrix = state["matrix"][0][torch.as_tensor(rows)]
    chosen = choose_strength(made.name, matrix, made.settings, torch.from_numpy(y), truth=torch.from_numpy(truth))
    return {"strength": chosen.value, "chosen_by": chosen.how}


def line_spectra(lines: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Monochromatic lines of unit power as densities on a grid, shared between neighbours: shape (K, lines)."""
    from torchspectral.calibration.interferometer.forward import trapezoid_weights

    order = np.argsort(sigma)
    axis = sigma[order]
    high = np.clip(np.searchsorted(axis, lines), 1, axis.size - 1)
    share = np.clip((lines - axis[high - 1]) / (axis[high] - axis[high - 1]), 0, 1)
    spectra = np.zeros((axis.size, lines.size))
    columns = np.arange(lines.size)
    spectra[high - 1, columns] += 1 - share
    spectra[high, columns] += share
    out = np.zeros_like(spectra)
    out[order] = spectra
    return out / trapezoid_weights(sigma)[:, None]


def read_wavelengths(text: str | Path) -> np.ndarray:
    """Wavelengths [nm] from ``FIRST:LAST:COUNT``, or from a text or .npy file.

    Raises
    ------
    BadSettings, BadInput, ProductNotFound, BrokenProduct
    """
    from torchspectral.calibration.interferometer.acquisition import read_array
    from torchspectral.io.safety import existing_path, read_text

    parts = str(text).split(":")
    if len(parts) == 3:
        try:
            first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
        except ValueError:
            first, last, count = 0.0, 0.0, 0
        if not 0 < first < last < 1e6 or not 2 <= count <= MOST_WAVELENGTHS:
            raise BadSettings(
                f"cannot read wavelengths {text!r}: expected FIRST:LAST:COUNT in nm, such as 400:1000:200"
            )
        return np.linspace(first, last, count)
    path = existing_path(text)
    if path.suffix.lower() == ".npy":
        return read_array(path).reshape(-1)
    words = read_text(path).replace(",", " ").split()
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        raise BadInput(f"{path.name} holds words that are no numbers, expected wavelengths [nm]") from None
