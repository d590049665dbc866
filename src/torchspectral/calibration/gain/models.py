"""Sums of the three self-calibration models, with the object eliminated.

With s = 1/d every model is linear: diag(y_l) s = A_l x_l. Minimising over the objects first leaves a quadratic form
s^H G s of the detectors alone, and G is what is accumulated here, in double precision, whatever the number of
measurements. `reduced(theta)` gives it for the shifted problem as well, from which the spectral method gets the
smallest singular vector of the whole stack without ever building it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from torchspectral.errors import BadInput, BadSettings

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Reduced:
    """The quadratic form of the detectors.

    Attributes
    ----------
    form : Tensor, shape (m, m)
        G(theta) = G - theta (I + what the objects' norm costs); G itself at theta = 0.
    norm : Tensor, shape (m, m)
        s^H norm s is the squared norm of the objects that belong to s.
    noise : Tensor, shape (m,)
        What a unit noise variance of each detector adds to the diagonal of G.
    scale : float
        Largest diagonal entry before the objects were eliminated: rounding errors are relative to it.
    tolerance : float
        Eigenvalues of G below are zero to rounding.
    pole : float
        Square of the operators' smallest singular value: theta stays below.
    """

    form: torch.Tensor
    norm: torch.Tensor
    noise: torch.Tensor
    scale: float
    tolerance: float
    pole: float


def as_tensor(value: Any, device: str = "cpu") -> torch.Tensor:
    """Double precision, real or complex.

    Raises
    ------
    BadInput
        Not numbers.
    """
    try:
        found = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        raise BadInput(f"got {type(value).__name__}, expected an array of numbers") from None
    return found.to(device, torch.complex128 if found.is_complex() else torch.float64)


def check_rows(y: torch.Tensor, a: torch.Tensor) -> None:
    """Refuse measurements and operators of different length.

    Raises
    ------
    BadInput
    """
    if a.ndim != 2 or y.ndim != 1 or a.shape[0] != y.shape[0]:
        raise BadInput(
            f"got measurements of shape {tuple(y.shape)} and an operator of shape {tuple(a.shape)}, expected (m,) and "
            "(m, n)"
        )
    if not bool(torch.isfinite(a).all()):
        raise BadInput("the operator has values that are not finite, expected numbers")


class Snapshots:
    """Model (c): y_l = D A x_l, one known A and many objects.

    Only C = sum conj(y_l) y_l^T (m x m) is kept: G = P o C with P the projection off the range of A.

    Parameters
    ----------
    a : Tensor, shape (m, n)
    """

    def __init__(self, a: torch.Tensor) -> None:
        if a.ndim != 2 or not bool(torch.isfinite(a).all()):
            raise BadInput(f"got an operator of shape {tuple(a.shape)}, expected finite numbers (m, n)")
        self.a = a
        self.count = 0
        self.cross = torch.zeros(a.shape[0], a.shape[0], dtype=a.dtype, device=a.device)

    @property
    def m(self) -> int:
        """Detectors."""
        return self.a.shape[0]

    @property
    def equations(self) -> int:
        """Rows of the stack."""
        return self.count * self.m

    @property
    def unknowns(self) -> int:
        """Columns of the stack."""
        return self.m + self.count * self.a.shape[1]

    def add(self, ys: torch.Tensor, chunk: int = 16_384) -> None:
        """Add measurements, shape (p, m); those with a value that is not finite are left out."""
        if ys.ndim != 2 or ys.shape[1] != self.m:
            raise BadInput(f"got measurements of shape {tuple(ys.shape)}, expected (p, {self.m})")
        if ys.is_complex() and not self.cross.is_complex():
            self.cross, self.a = self.cross.to(ys.dtype), self.a.to(ys.dtype)
        for start in range(0, len(ys), chunk):
            part = ys[start : start + chunk]
            keep = torch.isfinite(part).all(1)
            part = (part if bool(keep.all()) else part[keep]).to(self.cross.dtype)
            if part.is_complex() or part.device.type != "cpu":
                self.cross.addmm_(part.mH, part)
            else:
                values = part.numpy()
                self.cross += torch.from_numpy(values.T @ values)  # one syrk: half the work of a product
            self.count += len(part)

    def add_cross(self, count: int, cross: torch.Tensor) -> None:
        """Add sums that were made elsewhere: `count` measurements and their C."""
        self.count += count
        self.cross += cross.to(self.cross)

    def reduced(self, theta: float = 0.0, weights: torch.Tensor | None = None) -> Reduced:
        """G of t = weights * s, rows weighted by `weights` (m,): that of the operator diag(weights) A."""
        w = torch.ones(self.m, dtype=self.a.dtype, device=self.a.device) if weights is None else weights.to(self.a)
        u, sigma = range_of(w[:, None] * self.a)
        square = sigma**2
        shrunk, grown = square / (square - theta), square / (square - theta) ** 2
        keep = torch.eye(self.m, dtype=u.dtype, device=u.device) - (u * shrunk) @ u.mH
        form = keep * self.cross
        form = form - theta * torch.eye(self.m, dtype=u.dtype, device=u.device)
        norm = ((u * grown) @ u.mH) * self.cross
        noise = self.count * keep.diagonal().real
        scale = float(self.cross.diagonal().real.max())
        pole = float(square.min()) if square.numel() else 0.0
        return Reduced(_hermitian(form), _hermitian(norm), noise, scale, 8 * self.m * EPS * scale, pole)

    def missing(self) -> int:
        """Directions of the objects that A does not see."""
        return self.count * (self.a.shape[1] - len(range_of(self.a)[1]))


class Repeated:
    """Model (a): y_l = D A_l x, one object seen through many known A_l.

    Kept are diag(sum |y|^2), B = sum diag(conj y_l) A_l and N = sum A_l^H A_l: m n + n^2 numbers.

    Parameters
    ----------
    m, n : int
    keep : bool
        Keep measurements and operators, which row weights and the correction for noise need again.
    """

    def __init__(self, m: int, n: int, *, keep: bool = False, device: str = "cpu") -> None:
        self.m, self.n, self.count = m, n, 0
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] | None = [] if keep else None
        self.power = torch.zeros(m, dtype=torch.float64, device=device)
        self.cross = torch.zeros(m, n, dtype=torch.float64, device=device)
        self.normal = torch.zeros(n, n, dtype=torch.float64, device=device)
        self.equations = 0

    @property
    def unknowns(self) -> int:
        """Columns of the stack."""
        return self.m + self.n

    def add(self, y: torch.Tensor, a: torch.Tensor) -> None:
        """Add one measurement (m,) and its operator (m, n); rows whose value is not finite are left out."""
        check_rows(y, a)
        if a.shape != (self.m, self.n):
            raise BadInput(f"got an operator of shape {tuple(a.shape)}, expected {(self.m, self.n)}")
        good = torch.isfinite(y)
        if not bool(good.all()):
            y, a = y.where(good, 0), a.where(good[:, None], 0)
        if (y.is_complex() or a.is_complex()) and not self.cross.is_complex():
            self.cross, self.normal = self.cross.to(torch.complex128), self.normal.to(torch.complex128)
        self.count += 1
        self.equations += int(good.sum())
        if self.kept is not None:
            self.kept.append((y, a))
        self._sum(self.power, self.cross, self.normal, y, a, None)

    @staticmethod
    def _sum(
        power: torch.Tensor,
        cross: torch.Tensor,
        normal: torch.Tensor,
        y: torch.Tensor,
        a: torch.Tensor,
        w: torch.Tensor | None,
    ) -> None:
        a = a.to(cross.dtype) if w is None else w[:, None] * a.to(cross.dtype)
        power += y.abs() ** 2
        cross += y.conj()[:, None] * a
        normal += a.mH @ a

    def _sums(self, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if weights is None:
            return self.power, self.cross, self.normal
        if self.kept is None:
            raise BadSettings("row weights need the measurements again: call fit with all of them, not partial_fit")
        sums = (torch.zeros_like(self.power), torch.zeros_like(self.cross), torch.zeros_like(self.normal))
        for y, a in self.kept:
            self._sum(*sums, y, a, weights)
        return sums

    def reduced(self, theta: float = 0.0, weights: torch.Tensor | None = None) -> Reduced:
        """G of t = weights * s, a Schur complement."""
        power, cross, normal = self._sums(weights)
        values, vectors = torch.linalg.eigh(normal)
        top = float(values[-1])
        seen = values > self.n * EPS * top
        turned = (cross @ vectors)[:, seen]
        shifted = values[seen] - theta
        form = torch.diag(power.to(cross.dtype)) - (turned / shifted) @ turned.mH
        form = form - theta * torch.eye(self.m, dtype=cross.dtype, device=cross.device)
        norm = (turned / shifted**2) @ turned.mH
        scale = float(power.max())
        condition = top / float(values[seen].min()) if bool(seen.any()) else 1.0
        return Reduced(
            _hermitian(form), _hermitian(norm), self._noise(vectors[:, seen] / values[seen].sqrt(), weights), scale,
            (8 * self.m + 10 * condition) * EPS * scale, float(values[seen].min()) if bool(seen.any()) else 0.0,
        )  # fmt: skip

    def _noise(self, whitener: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        """Sum over the measurements of 1 - leverage; NaN where they were not kept."""
        if self.kept is None:
            return torch.full_like(self.power, torch.nan)
        total = torch.zeros_like(self.power)
        w = torch.ones_like(self.power) if weights is None else weights
        for y, a in self.kept:
            rows = (w[:, None] * a.to(whitener.dtype)) @ whitener
            total += (y != 0).to(total) - (rows.abs() ** 2).sum(1)
        return total

    def missing(self) -> int:
        """Directions of the object that no A_l sees."""
        values = torch.linalg.eigvalsh(self.normal)
        return int((values <= self.n * EPS * values[-1]).sum())

    def object(self, s: torch.Tensor, w_x: torch.Tensor | None = None, rest: Any = 0.0) -> torch.Tensor:
        """The object that belongs to s: N^+ (B^H s + rest w_x)."""
        right = self.cross.mH @ s.to(self.cross.dtype)
        if w_x is not None:
            right = right + rest * w_x
        return torch.linalg.pinv(self.normal, hermitian=True) @ right


class Diverse:
    """Model (b): y_l = D A_l x_l, different objects through different known A_l, which may differ in n.

    Bases of the operators are kept (sum of m n_l numbers), G is m x m.
    """

    def __init__(self, m: int, *, device: str = "cpu") -> None:
        self.m, self.equations, self.unknowns = m, 0, m
        self.device = device
        self.parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._missing = 0

    def add(self, y: torch.Tensor, a: torch.Tensor) -> None:
        """Add one measurement (m,) and its operator (m, n_l); rows whose value is not finite are left out."""
        check_rows(y, a)
        if len(y) != self.m:
            raise BadInput(f"got a measurement of {len(y)} values, expected {self.m}")
        good = torch.isfinite(y)
        self.parts.append((y.where(good, 0), a.where(good[:, None], 0), good))
        self._missing += a.shape[1] - len(range_of(self.parts[-1][1])[1])
        self.equations += int(good.sum())
        self.unknowns += a.shape[1]

    def reduced(self, theta: float = 0.0, weights: torch.Tensor | None = None) -> Reduced:
        """G of t = weights * s, a sum over the measurements."""
        dtype = torch.complex128 if any(y.is_complex() or a.is_complex() for y, a, _ in self.parts) else torch.float64
        form = torch.zeros(self.m, self.m, dtype=dtype, device=self.device)
        norm, eye = torch.zeros_like(form), torch.eye(self.m, dtype=dtype, device=self.device)
        noise = torch.zeros(self.m, dtype=torch.float64, device=self.device)
        power, pole = torch.zeros_like(noise), float("inf")
        w = torch.ones(self.m, dtype=dtype, device=self.device) if weights is None else weights.to(dtype)
        for y, a, good in self.parts:
            u, sigma = range_of(w[:, None] * a.to(dtype))
            square = sigma**2
            pole = min(pole, float(square.min()) if square.numel() else 0.0)
            y = y.to(dtype)
            both = y.conj()[:, None] * y[None, :]
            keep = eye - (u * (square / (square - theta))) @ u.mH
            form += keep * both
            norm += ((u * (square / (square - theta) ** 2)) @ u.mH) * both
            noise += keep.diagonal().real.where(good, 0)
            power += y.abs() ** 2
        scale = float(power.max())
        return Reduced(_hermitian(form - theta * eye), _hermitian(norm), noise, scale, 8 * self.m * EPS * scale, pole)

    def missing(self) -> int:
        """Directions of the objects that their operators do not see."""
        return self._missing


def range_of(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal basis of the range (m, r) and the singular values (r,) that are not zero."""
    u, sigma, _ = torch.linalg.svd(a, full_matrices=False)
    top = float(sigma[0]) if sigma.numel() else 0.0
    keep = sigma > max(a.shape) * EPS * top
    return u[:, keep], sigma[keep]


def _hermitian(form: torch.Tensor) -> torch.Tensor:
    return (form + form.mH) / 2
