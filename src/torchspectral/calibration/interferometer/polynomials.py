"""Polynomials in the wavenumber: six families, raw or on a mapped axis, and the way from one to another."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy import polynomial

from torchspectral.errors import BadSettings, closest

Family = Literal["Polynomial", "Chebyshev", "Legendre", "Laguerre", "Hermite", "HermiteE"]
FAMILIES: tuple[str, ...] = get_args(Family)

Domain = tuple[float, float]
"""Wavenumbers [1/um] that are mapped to -1 and 1."""

_WINDOW = (-1.0, 1.0)
_VANDER = {
    "Polynomial": polynomial.polynomial.polyvander,
    "Chebyshev": polynomial.chebyshev.chebvander,
    "Legendre": polynomial.legendre.legvander,
    "Laguerre": polynomial.laguerre.lagvander,
    "Hermite": polynomial.hermite.hermvander,
    "HermiteE": polynomial.hermite_e.hermevander,
}


def check_family(family: str) -> str:
    """The name of a family.

    Raises
    ------
    BadSettings
        No such family.
    """
    if family not in FAMILIES:
        raise BadSettings(f"got polynomial {family!r}: {closest(str(family), FAMILIES)}")
    return family


def basis(family: str, wavenumber: np.ndarray, degree: int, domain: Domain | None = None) -> np.ndarray:
    """Values of the family's members, shape (K, degree + 1).

    Parameters
    ----------
    wavenumber : ndarray, shape (K,)
        [1/um].
    domain : (float, float), optional
        Wavenumbers mapped to -1 and 1 before; None evaluates on the wavenumber itself, as the authors do.
    """
    x = np.asarray(wavenumber, dtype=np.float64)
    if domain is not None:
        low, high = domain
        x = (2 * x - low - high) / (high - low)
    values: np.ndarray = _VANDER[check_family(family)](x, degree)
    return values


def evaluate(
    coefficients: np.ndarray, wavenumber: np.ndarray, family: str = "Polynomial", domain: Domain | None = None
) -> np.ndarray:
    """Polynomials of coefficients (I, degree + 1) at wavenumbers (K,): shape (I, K)."""
    coefficients = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    values: np.ndarray = coefficients @ basis(family, wavenumber, coefficients.shape[1] - 1, domain).T
    return values


def convert(
    coefficients: np.ndarray,
    family: str,
    domain: Domain | None,
    to_family: str,
    to_domain: Domain | None,
) -> np.ndarray:
    """The same polynomials as coefficients (I, degree + 1) of another family, on another domain."""
    if (family, domain) == (to_family, to_domain):
        return np.asarray(coefficients, dtype=np.float64)
    source, target = (getattr(polynomial, check_family(name)) for name in (family, to_family))
    count = coefficients.shape[1]
    matrix = np.zeros((count, count))
    for n, unit in enumerate(np.eye(count)):
        member = source(unit, domain=domain or _WINDOW, window=_WINDOW)
        found = member.convert(kind=target, domain=to_domain or _WINDOW, window=_WINDOW).coef
        matrix[n, : found.size] = found
    return np.asarray(coefficients @ matrix)


def orthonormal(wavenumber: np.ndarray, degree: int) -> np.ndarray:
    """Polynomials that are orthogonal on the samples with unit mean square, shape (K, degree + 1).

    The first is 1 everywhere; unknowns in this basis are of the size of what they describe.

    Raises
    ------
    BadSettings
        Fewer wavenumbers than coefficients.
    """
    wavenumber = np.asarray(wavenumber, dtype=np.float64)
    if wavenumber.size <= degree:
        raise BadSettings(f"got {wavenumber.size} wavenumbers for polynomials of degree {degree}, expected more")
    if degree == 0:
        return np.ones((wavenumber.size, 1))
    domain = (float(wavenumber.min()), float(wavenumber.max()))
    q, r = np.linalg.qr(basis("Legendre", wavenumber, degree, domain))
    return np.asarray(q * np.sign(np.diag(r)) * np.sqrt(wavenumber.size))


def coefficients_of(
    values: np.ndarray, wavenumber: np.ndarray, degree: int, family: str, domain: Domain | None
) -> np.ndarray:
    """Coefficients (I, degree + 1) of the polynomials nearest, by least squares, to samples (I, K).

    Fitted on a mapped axis and converted afterwards, so that raw coefficients of high degree keep their digits.
    """
    wavenumber = np.asarray(wavenumber, dtype=np.float64)
    if degree == 0:
        return np.mean(values, axis=1, keepdims=True)
    mapped = (float(wavenumber.min()), float(wavenumber.max()))
    legendre = basis("Legendre", wavenumber, degree, mapped)
    found = np.linalg.lstsq(legendre, np.asarray(values, dtype=np.float64).T, rcond=None)[0].T
    return convert(found, "Legendre", mapped, family, domain)
