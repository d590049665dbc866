"""MVSA: the simplex of least volume that holds every pixel, by quadratic programmes."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from torchspectral.engine.method import State
from torchspectral.ops.gram import gram_sums
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.enclosing import Affine, Enclosing, EnclosingSettings, first_simplex
from torchspectral.unmixing.geometric.supports import Supports, inflated

LEAST_CURVATURE = 1e-3
"""Of the diagonal Hessian, over its mean: entries that vanish would make a step of any length."""

MOST_HALVINGS = 40


class MvsaSettings(EnclosingSettings):
    """Minimum-volume simplex analysis."""

    iterations: int = setting(100, "most quadratic programmes", ge=1)
    tolerance: float = setting(1e-6, "change of the logarithm of the volume that ends them", gt=0)


def analysed_simplex(
    x: torch.Tensor, start: torch.Tensor, *, iterations: int = 100, tolerance: float = 1e-6
) -> tuple[torch.Tensor, int]:
    """Vertices (k, k), one a column, of the smallest simplex near `start` that holds all points x (k, n); steps taken.

    Parameters
    ----------
    x : Tensor, shape (k, n)
        Affine coordinates: the last row is the same for all points.
    start : Tensor, shape (k, k)
        First vertices, one a column; blown up until all points are inside.

    Notes
    -----
    Minimises -log |det Q| over Q, the inverse of the vertices, under Q x >= 0 and columns of Q x that sum to one: a
    sequence of quadratic programmes whose Hessian is the diagonal of the true one, each followed by a search along
    the step. The last row of Q is eliminated.
    """
    k = len(x)
    sums = torch.zeros(k, dtype=x.dtype)
    sums[-1] = 1 / x[-1, 0]
    rows = torch.linalg.inv(inflated(x, start))[:-1]
    supports = Supports(x)
    value = _volume(rows, sums)
    number = 0
    while number < iterations:
        number += 1
        inverse = torch.linalg.inv(torch.cat([rows, sums[None]]))
        slope = -inverse.T[:-1]
        curvature = slope.square()
        curvature = curvature.clamp_min(LEAST_CURVATURE * float(curvature.mean()))
        goal = supports.solve(partial(_programme, rows, slope, curvature, sums))
        step, length = goal - rows, 1.0
        for _ in range(MOST_HALVINGS):
            now = _volume(rows + length * step, sums)
            if now < value:
                break
            length /= 2
        else:
            break
        rows, before, value = rows + length * step, value, now
        if before - value < tolerance:
            break
    return torch.linalg.inv(_whole(rows, sums)), number


def _whole(rows: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, (sums - rows.sum(0))[None]])


def _volume(rows: torch.Tensor, sums: torch.Tensor) -> float:
    return -float(torch.linalg.slogdet(torch.cat([rows, sums[None]])).logabsdet)


def _programme(
    rows: torch.Tensor, slope: torch.Tensor, curvature: torch.Tensor, sums: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that minimise the quadratic model with all facets not negative at points, and the facets.

    A quadratic programme with a diagonal Hessian is the search for the point of least norm under inequalities, which
    non-negative least squares solves (Lawson and Hanson, chapter 23).
    """
    from scipy.optimize import nnls

    k, m = points.shape
    p, size = points.T.numpy(), curvature.sqrt().numpy()
    # In z = size * step + slope / size the model is |z|^2 / 2.
    blocks = np.zeros((k, m, k - 1, k))
    for i in range(k - 1):
        blocks[i, :, i] = p
    blocks[-1] = -p[:, None, :]
    matrix = (blocks / size).reshape(k * m, -1)
    heights = (_whole(rows, sums) @ points).numpy().reshape(-1)
    shift = (slope.numpy() / size).reshape(-1)
    least = -heights + matrix @ shift
    system = np.concatenate([matrix.T, least[None]])
    aim = np.zeros(len(system))
    aim[-1] = 1.0
    weights = nnls(system, aim, maxiter=20 * system.shape[1])[0]
    rest = system @ weights - aim
    z = -rest[:-1] / rest[-1] if abs(rest[-1]) > 1e-12 else shift
    step = torch.from_numpy(((z - shift).reshape(k - 1, k)) / size)
    found = rows + step
    return found, _whole(found, sums)


def mvsa(
    pixels: torch.Tensor, k: int, seed: int = 0, *, iterations: int = 100, tolerance: float = 1e-6
) -> torch.Tensor:
    """Endmembers (k, bands), float64, of pixels (bands, n) by minimum-volume simplex analysis.

    Parameters
    ----------
    seed : int
        Of the VCA that gives the first simplex.

    References
    ----------
    As `Mvsa`.
    """
    space = Affine.of(*gram_sums(pixels), k, True)
    x = space(pixels).cpu()
    start = first_simplex(x, space.plain, seed)
    return space.spectra(analysed_simplex(x, start, iterations=iterations, tolerance=tolerance)[0])


class Mvsa(Enclosing):
    """Minimum-volume simplex analysis: no pixel lies outside, so that noise makes it larger; quadratic programmes.

    References
    ----------
    Li and Bioucas-Dias, "Minimum volume simplex analysis: a fast algorithm to unmix hyperspectral data", IGARSS 2008;
    Li, Agathos, Zaharie, Bioucas-Dias, Plaza and Li, IEEE TGRS 53(9), 2015.
    """

    Settings = MvsaSettings
    told: tuple[str, ...] = (*Enclosing.told, "steps")

    def enclose(self, x: torch.Tensor, start: torch.Tensor) -> State:
        """See `analysed_simplex`."""
        s = self.settings
        vertices, steps = analysed_simplex(x, start, iterations=s.iterations, tolerance=s.tolerance)
        return {"vertices": vertices, "steps": steps}
