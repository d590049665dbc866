"""Solvers of y = T x that share one matrix over all pixels.

Every solver is made once from the matrix and works on any number of interferograms, each independent of the others, in
float64. `T` has shape (I, K): interferometers by wavenumbers.
"""

from __future__ import annotations

import math

import torch

from torchspectral.calibration.interferometer.settings import LorisVerhoevenSettings
from torchspectral.errors import BadInput, BadSettings

STRONGEST = 1e100
"""Largest regularisation: its square is a number."""


class Solver:
    """Base: made from a matrix, maps interferograms (I, n) to spectra (K, n), float64 on their device."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = check_matrix(matrix)

    def solve(self, y: torch.Tensor) -> torch.Tensor:
        """Spectra of interferograms."""
        raise NotImplementedError


class Linear(Solver):
    """A solver that is one matrix, (K, I)."""

    inverse: torch.Tensor

    def solve(self, y: torch.Tensor) -> torch.Tensor:
        """Matrix product."""
        return self.inverse @ y.to(self.inverse)


class PseudoInverse(Linear):
    """Least squares of smallest norm."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(matrix)
        self.inverse = torch.linalg.pinv(self.matrix)


class Tsvd(Linear):
    """Least squares on the first int(ratio min(I, K)) singular vectors.

    Raises
    ------
    BadSettings
        A ratio that keeps none or is above 1.
    """

    def __init__(self, matrix: torch.Tensor, ratio: float) -> None:
        super().__init__(matrix)
        kept = int(ratio * min(self.matrix.shape)) if 0 < ratio <= 1 else 0
        if kept < 1:
            raise BadSettings(
                f"got ratio={ratio:g} of {min(self.matrix.shape)} singular values, expected up to 1 and at least one kept"
            )
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        inverse = torch.where(s > 0, 1 / torch.where(s > 0, s, 1.0), 0.0)[:kept]
        self.inverse = (vh[:kept].T * inverse) @ u[:, :kept].T


class Ridge(Linear):
    """V diag(s / (s^2 + lambda^2)) U^T."""

    def __init__(self, matrix: torch.Tensor, regularisation: float) -> None:
        super().__init__(matrix)
        _check_above_zero(regularisation)
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        self.inverse = (vh.T * (s / (s**2 + regularisation**2))) @ u.T


class Twomey(Linear):
    """(T^T T + lambda^2 D^T D)^-1 T^T."""

    def __init__(self, matrix: torch.Tensor, regularisation: float, order: int) -> None:
        super().__init__(matrix)
        _check_above_zero(regularisation)
        gram = self.matrix.T @ self.matrix + regularisation**2 * roughness(self.matrix, order)
        self.inverse = torch.linalg.pinv(gram, hermitian=True) @ self.matrix.T


class NonNegative(Solver):
    """Minimise ||T x - y||^2 + lambda^2 ||D x||^2 over x >= 0, exact; D is the identity for order 0."""

    def __init__(self, matrix: torch.Tensor, regularisation: float = 0.0, order: int = 0) -> None:
        super().__init__(matrix)
        if regularisation:
            _check_above_zero(regularisation)
        self.gram = self.matrix.T @ self.matrix + regularisation**2 * roughness(self.matrix, order)

    def solve(self, y: torch.Tensor) -> torch.Tensor:
        """An active set for each pixel."""
        from torchspectral.ops.nnls import nnls_gram

        return nnls_gram(self.gram, self.matrix.T @ y.to(self.matrix))


class Idct(Solver):
    """Inverse cosine transform along regular path differences that begin at 0.

    Sample m of I lies at (m + 1/2) / (2 I step); between samples, and beyond the last one, spectra are linear.

    Parameters
    ----------
    opd : Tensor, shape (I,)
        [um].
    wavenumber : Tensor, shape (K,)
        Of the spectra [1/um].

    Raises
    ------
    BadInput
        Path differences that are not regular, or do not begin at 0.
    """

    def __init__(
        self, matrix: torch.Tensor, opd: torch.Tensor, wavenumber: torch.Tensor, amplitude: str = "none"
    ) -> None:
        super().__init__(matrix)
        self.amplitude = amplitude
        opd, wavenumber = opd.to(self.matrix), wavenumber.to(self.matrix)
        count = opd.numel()
        if count < 2:
            raise BadInput(f"got {count} interferometers, expected at least 2 for a cosine transform")
        step = float(opd.diff().mean())
        if step <= 0 or float((opd - step * torch.arange(count).to(opd)).abs().max()) > 0.5 * step:
            raise BadInput(
                f"path differences from {float(opd[0]):.3g} to {float(opd[-1]):.3g} um are not a regular grid from 0, "
                "which a cosine transform needs: use ridge or loris-verhoeven"
            )
        place = wavenumber * (2 * count * step) - 0.5
        low = place.floor().clamp(0, count - 2).long()
        share = place - low
        transform = dct_matrix(count, self.matrix).T
        self.inverse = transform[low] * (1 - share)[:, None] + transform[low + 1] * share[:, None]

    def solve(self, y: torch.Tensor) -> torch.Tensor:
        """Centre, transform, interpolate."""
        centred = y.to(self.matrix) - y.to(self.matrix).mean(0)
        x = self.inverse @ centred
        if self.amplitude == "none":
            return x
        model = self.matrix @ x
        model = model - model.mean(0)
        power = (model**2).sum(0)
        return x * torch.where(power > 0, (model * centred).sum(0) / torch.where(power > 0, power, 1.0), 0.0)


class LorisVerhoeven(Solver):
    """Primal-dual iteration of Loris and Verhoeven.

    g = T^T (T x - y); xh = x - P (g + L^T u); uh = clip(u + eta L xh, lambda); x -= rho P (g + L^T uh);
    u += rho (uh - u). P is tau = 1 / ||T||^2; with `deflate` = d the first d right singular vectors have steps of their
    own, 1 / s_i^2, and all others 1 / s_(d+1)^2: the same minimum in far fewer iterations where the mean of the spectrum
    dominates T. Non-negativity is a second dual variable, -inf..0, of the identity.

    References
    ----------
    Loris and Verhoeven, "On a generalization of the iterative soft-thresholding algorithm for the case of non-separable
    penalty", Inverse Problems 27, 2011. Condat et al., "Proximal splitting algorithms for convex optimization", SIAM
    Review 65(2), 2023.
    """

    check = 10
    chunk = 4096

    def __init__(self, matrix: torch.Tensor, regularisation: float, settings: LorisVerhoevenSettings) -> None:
        super().__init__(matrix)
        if not 0 <= regularisation <= STRONGEST:
            raise BadSettings(f"got regularisation={regularisation:g}, expected from 0 to {STRONGEST:g}")
        self.settings, self.regularisation = settings, regularisation
        count = self.matrix.shape[1]
        _, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        deflated = min(settings.deflate, len(s) - 1)
        step = 1 / float(s[deflated].clamp_min(1e-150)) ** 2
        norm = {"dct": 1.0, "identity": 1.0, "tv": 8.0}[settings.operator] + float(settings.non_negative)
        self.eta = 0.99 / (step * norm)
        vectors = vh[:deflated]
        gain = (1 / s[:deflated] ** 2 - step).to(s)
        eye = torch.eye(count, dtype=s.dtype, device=s.device)
        self.step = step * eye + (vectors.T * gain) @ vectors
        self.gram = self.matrix.T @ self.matrix
        self.ridge = Ridge(self.matrix, 5e-3 * float(s[0].clamp_min(1e-150)))
        self.dct = dct_matrix(count, self.matrix) if settings.operator == "dct" else None
        self.turned = self.dct is not None and not settings.non_negative
        if self.turned and self.dct is not None:
            # An orthonormal L turns into the identity when the spectrum's own coefficients are the unknowns.
            self.gram = self.dct @ self.gram @ self.dct.T
            self.step = self.dct @ self.step @ self.dct.T

    def solve(self, y: torch.Tensor) -> torch.Tensor:
        """Iterate in blocks of pixels; each pixel stops for itself."""
        y = y.to(self.matrix)
        parts = [self._solve(y[:, a : a + self.chunk]) for a in range(0, y.shape[1], self.chunk)]
        return torch.cat(parts, dim=1) if parts else y.new_zeros(self.matrix.shape[1], 0)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.turned or self.settings.operator == "identity":
            return x
        if self.dct is not None:
            return self.dct @ x
        return torch.cat([x.diff(dim=0), torch.zeros_like(x[:1])])

    def _adjoint(self, u: torch.Tensor) -> torch.Tensor:
        if self.turned or self.settings.operator == "identity":
            return u
        if self.dct is not None:
            return self.dct.T @ u
        return torch.cat([-u[:1], -u[1:-1] + u[:-2], u[-2:-1]])

    def _start(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        adjoint = self.settings.start == "adjoint"
        x = self.matrix.T @ y if adjoint else self.ridge.solve(y)
        x = torch.zeros_like(x) if self.settings.start == "zero" else x
        if self.turned and self.dct is not None:
            x = self.dct @ x
        u = self._forward(x)
        return x, u if adjoint else torch.zeros_like(u)

    def _solve(self, y: torch.Tensor) -> torch.Tensor:
        given, rho, bound = self.settings, self.settings.relaxation, self.regularisation
        target = self.matrix.T @ y
        if self.turned and self.dct is not None:
            target = self.dct @ target
        x, u = self._start(y)
        v = torch.zeros_like(x) if given.non_negative else None
        out = x.clone()
        active = torch.arange(x.shape[1], device=x.device)
        for number in range(given.iterations):
            gradient = self.gram @ x - target
            dual = self._adjoint(u) if v is None else self._adjoint(u) + v
            ahead = x - self.step @ (gradient + dual)
            raised = (u + self.eta * self._forward(ahead)).clamp(-bound, bound)
            lowered = None if v is None else (v + self.eta * ahead).clamp_max(0)
            dual = self._adjoint(raised) if lowered is None else self._adjoint(raised) + lowered
            move = rho * (self.step @ (gradient + dual))
            x = x - move
            u = u + rho * (raised - u)
            if v is not None and lowered is not None:
                v = v + rho * (lowered - v)
            if given.tolerance and (number + 1) % self.check == 0:
                going = move.norm(dim=0) > given.tolerance * x.norm(dim=0)
                if not bool(going.all()):
                    out[:, active] = x
                    active, x, u, target = active[going], x[:, going], u[:, going], target[:, going]
                    v = None if v is None else v[:, going]
                    if not len(active):
                        break
        out[:, active] = x
        if self.turned and self.dct is not None:
            out = self.dct.T @ out
        return out.clamp_min(0) if given.non_negative else out


def dct_matrix(count: int, like: torch.Tensor) -> torch.Tensor:
    """Orthonormal DCT-II, shape (count, count): coefficients are matrix @ samples."""
    n = torch.arange(count, dtype=torch.float64)
    matrix = torch.cos(math.pi / count * n[:, None] * (n[None, :] + 0.5)) * math.sqrt(2 / count)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def roughness(like: torch.Tensor, order: int) -> torch.Tensor:
    """D^T D of the differences of an order along the spectrum, (K, K); the identity for order 0.

    Raises
    ------
    BadInput
        Spectra that are too short for these differences.
    """
    count = like.shape[1]
    if count <= order:
        raise BadInput(f"got spectra of {count} bands for differences of order {order}, expected more bands")
    differences = torch.eye(count, dtype=torch.float64, device=like.device)
    for _ in range(order):
        differences = differences.diff(dim=0)
    return differences.T @ differences


def _check_above_zero(regularisation: float) -> None:
    if not 0 < regularisation <= STRONGEST:
        raise BadSettings(
            f"got regularisation={regularisation:g}, expected above 0 (pinv has none), up to {STRONGEST:g}"
        )


def check_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix as float64.

    Raises
    ------
    BadInput
        Not two-dimensional, empty, not finite, or zero.
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise BadInput(f"got a transmittance of shape {tuple(matrix.shape)}, expected (interferometer, wavenumber)")
    matrix = matrix.double()
    if not bool(torch.isfinite(matrix).all()) or not bool(matrix.any()):
        raise BadInput("got a transmittance that is not finite or zero everywhere: check the device's flags")
    return matrix
