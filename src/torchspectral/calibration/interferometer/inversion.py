"""From interferograms to spectra, by a method's name and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from torchspectral.calibration.interferometer.settings import METHODS, inversion_settings
from torchspectral.calibration.interferometer.solvers import (
    Idct,
    LorisVerhoeven,
    NonNegative,
    PseudoInverse,
    Ridge,
    Solver,
    Tsvd,
    Twomey,
    check_matrix,
)
from torchspectral.errors import BadInput, BadSettings, BandMismatch, UnknownName, closest


def make_solver(
    method: str,
    matrix: torch.Tensor,
    settings: Any,
    strength: float | None = None,
    *,
    opd: torch.Tensor | None = None,
    wavenumber: torch.Tensor | None = None,
) -> Solver:
    """The solver of a method's settings.

    Parameters
    ----------
    strength : float, optional
        Ratio or regularisation, where the settings leave it to be chosen.
    opd, wavenumber : Tensor, shapes (I,) and (K,)
        For "idct" alone.

    Raises
    ------
    UnknownName, BadSettings, BadInput
    """
    if method == "idct":
        if opd is None or wavenumber is None:
            raise BadInput("got no path differences and wavenumbers, which idct needs: pass opd= and wavenumber=")
        return Idct(matrix, opd, wavenumber, settings.amplitude)
    if method == "pinv":
        return NonNegative(matrix) if settings.non_negative else PseudoInverse(matrix)
    if method not in METHODS:
        raise UnknownName(f"no inversion {method!r}: {closest(method, tuple(METHODS))}")
    given = settings.ratio if method == "tsvd" else settings.regularisation
    value = given if isinstance(given, int | float) else strength
    if value is None:
        raise BadSettings(f"the strength of {method} is still to be chosen ({given}), expected a number")
    if method == "tsvd":
        return Tsvd(matrix, float(value))
    if method == "ridge":
        return NonNegative(matrix, float(value)) if settings.non_negative else Ridge(matrix, float(value))
    if method == "phillips-twomey":
        if settings.non_negative:
            return NonNegative(matrix, float(value), settings.order)
        return Twomey(matrix, float(value), settings.order)
    return LorisVerhoeven(matrix, float(value), settings)


def invert(
    interferogram: Any,
    matrix: Any,
    method: str = "ridge",
    *,
    opd: Any = None,
    wavenumber: Any = None,
    truth: Any = None,
    **settings: Any,
) -> np.ndarray:
    """Spectra of interferograms in memory.

    Parameters
    ----------
    interferogram : array_like, shape (I,) or (I, n)
    matrix : array_like, shape (I, K)
        T, see `Characterization.transfer` and `forward_matrix`.
    method : {"ridge", "pinv", "tsvd", "phillips-twomey", "loris-verhoeven", "idct"}
    opd, wavenumber : array_like, shapes (I,) and (K,), optional
        For "idct" [um] and [1/um].
    truth : array_like, shape (K, n), optional
        Known spectra of the interferograms: the strength of the regularisation is then the one that comes nearest.
    **settings
        Fields of the method's settings.

    Returns
    -------
    ndarray, shape (K,) or (K, n), float64

    Raises
    ------
    BadInput, BadSettings, BandMismatch, UnknownName

    Examples
    --------
    >>> x = invert(np.array([2.0, 4.0]), np.diag([1.0, 2.0]), "pinv")
    >>> bool(np.allclose(x, [2.0, 2.0]))
    True
    """
    from torchspectral.calibration.interferometer.strength import choose_strength

    given = inversion_settings(method, **settings)
    y, t = _tensor(interferogram, "interferograms"), check_matrix(_tensor(matrix, "transmittance"))
    single = y.ndim == 1
    y = y[:, None] if single else y
    if y.ndim != 2 or y.shape[0] != t.shape[0]:
        raise BandMismatch(f"got interferograms of shape {tuple(y.shape)} for {t.shape[0]} interferometers")
    known = None if truth is None else _tensor(truth, "truth").reshape(t.shape[1], -1)
    strength = choose_strength(method, t, given, y, truth=known).value
    axes = {n: None if v is None else _tensor(v, n) for n, v in (("opd", opd), ("wavenumber", wavenumber))}
    x = make_solver(method, t, given, strength, **axes).solve(y).cpu().numpy()
    return np.asarray(x[:, 0] if single else x)


def _tensor(value: Any, what: str) -> torch.Tensor:
    try:
        tensor = (
            value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value, dtype=np.float64))
        )
    except (TypeError, ValueError):
        raise BadInput(f"got {type(value).__name__} as {what}, expected numbers") from None
    if not bool(torch.isfinite(tensor).all()):
        raise BadInput(f"got {what} that are not finite: leave those out")
    return tensor.double()
