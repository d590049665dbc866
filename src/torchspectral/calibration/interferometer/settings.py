"""Settings of the inversions of interferograms, by the method's name."""

from __future__ import annotations

from typing import Any, Literal

from torchspectral.errors import UnknownName, closest
from torchspectral.settings import Settings, setting

Choice = Literal["gcv", "l-curve", "cv"]


class IdctSettings(Settings):
    """Inverse cosine transform along the path difference."""

    amplitude: Literal["none", "matched"] = setting(
        "matched", "none: as it comes, without a scale; matched: scaled so that its own interferogram fits the data"
    )


class PinvSettings(Settings):
    """Moore and Penrose's pseudo-inverse."""

    non_negative: bool = setting(False, "least squares under x >= 0 instead, exact")


class TsvdSettings(Settings):
    """Truncated singular value decomposition."""

    ratio: float | Choice = setting(
        "gcv", "share of the singular values that is kept (0.5 to 0.95 in the paper), or how to choose it"
    )


class RidgeSettings(Settings):
    """Ridge regression (Tikhonov)."""

    regularisation: float | Choice = setting(
        "gcv", "lambda, in units of T: s^2 / (s^2 + lambda^2); or how to choose it"
    )
    non_negative: bool = setting(False, "under x >= 0, exact")


class TwomeySettings(Settings):
    """Smoothest spectrum that fits: min ||T x - y||^2 + lambda^2 ||D x||^2."""

    regularisation: float | Choice = setting("gcv", "lambda, in units of T; or how to choose it")
    order: int = setting(2, "of the differences D that are kept small", ge=1, le=4)
    non_negative: bool = setting(False, "under x >= 0, exact")


class LorisVerhoevenSettings(Settings):
    """Sparse reconstruction: min ||T x - y||^2 / 2 + lambda ||L x||_1."""

    regularisation: float | Literal["cv", "l-curve"] = setting(
        "cv", "lambda, in units of T times y; or how to choose it"
    )
    operator: Literal["dct", "identity", "tv"] = setting("dct", "L: cosine transform, identity or first differences")
    iterations: int = setting(3000, "most iterations", ge=1, le=1_000_000)
    tolerance: float = setting(1e-6, "stops a pixel where x changes relatively less; 0: never", ge=0)
    start: Literal["ridge", "zero", "adjoint"] = setting(
        "ridge", "first x; adjoint (T^T y, the authors' code) is larger than the solution by about ||T||^2"
    )
    deflate: int = setting(
        1, "leading singular vectors with a step of their own; 0: one step for all, as published", ge=0
    )
    relaxation: float = setting(1.9, "rho", gt=0, lt=2)
    non_negative: bool = setting(False, "under x >= 0")


METHODS: dict[str, type[Settings]] = {
    "idct": IdctSettings,
    "pinv": PinvSettings,
    "tsvd": TsvdSettings,
    "ridge": RidgeSettings,
    "phillips-twomey": TwomeySettings,
    "loris-verhoeven": LorisVerhoevenSettings,
}


def inversion_settings(method: str, **values: Any) -> Any:
    """Settings of a method by its name.

    Raises
    ------
    UnknownName, BadSettings
    """
    if method not in METHODS:
        raise UnknownName(f"no inversion {method!r}: {closest(method, tuple(METHODS))}")
    return METHODS[method].make(values)
