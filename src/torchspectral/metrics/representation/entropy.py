"""Entropies of an embedding cloud: diffusion spectral entropy and its relatives.

References
----------
Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein, Krishnaswamy, "Assessing neural network representations
during training using noise-resilient diffusion spectral entropy", CISS 2024, arXiv:2312.04823.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings
from torchspectral.metrics.representation.embeddings import LARGEST, prepared
from torchspectral.ops.diffusion import (
    diffusion_matrix,
    eigenvalues,
    gaussian_kernel,
    is_tensor,
    spectrum_entropy,
    squared_distances,
)


@dataclass(frozen=True)
class DiffusionEntropy:
    """A diffusion spectral entropy with all that it depends on; ``float()`` gives the bits.

    Attributes
    ----------
    bits : float
        0 (all points in one place) to ``log2 n`` (each on its own).
    n : int
        Samples that were used; values compare at equal n only.
    sigma, t, alpha : float
        Width of the kernel, diffusion time, density normalisation.
    normalised : bool
        Whether rows were brought to length 1.
    eigenvalues : ndarray, shape (n,)
        Of the diffusion matrix, descending, float64 (of the landmarks where those were used).
    error : float
        The true value lies within ``bits +- error``; 0 but for landmarks.
    """

    bits: float
    n: int
    sigma: float
    t: float
    alpha: float
    normalised: bool
    eigenvalues: np.ndarray = field(repr=False, compare=False)
    error: float = 0.0

    def __float__(self) -> float:
        return self.bits

    @property
    def share(self) -> float:
        """Bits over ``log2 n``, 0..1; 0 for a single sample."""
        return self.bits / math.log2(self.n) if self.n > 1 else 0.0


def dse(
    x: Any,
    *,
    sigma: float | str | None = None,
    t: float = 1.0,
    normalise: bool = True,
    alpha: float = 0.0,
    max_n: int = LARGEST,
    seed: int = 0,
    landmarks: int = 0,
) -> DiffusionEntropy:
    """Diffusion spectral entropy: how many regions an embedding cloud tells apart, in bits.

    k tight clusters far apart (against sigma) give ``log2 k``.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    sigma : float or "median", optional
        Width of the Gaussian kernel, in the units of `x` (of the normalised rows); "median" takes the median distance.
        1 by default, which only normalised rows may use.
    t : float
        Diffusion time; larger values count coarser regions.
    normalise : bool
        Bring rows to length 1 first. The authors' own default is raw embeddings with sigma 10.
    alpha : float
        Density normalisation of the kernel; 0 as the authors' code, 0.5 as their text.
    max_n, seed : int
        Larger sets are thinned out to `max_n`. Memory is ``8 n^2`` bytes, time grows with ``n^3``: 4000 is a good most.
    landmarks : int
        0: all eigenvalues. Else a Nystrom estimate from so many samples, which are drawn by `seed`; needs t = 1, time
        ``n^2 d``, memory ``8 n (landmarks + 1024)`` bytes, and says its error.

    Returns
    -------
    DiffusionEntropy

    Raises
    ------
    BadInput
        Not (n, d), or values that are not finite.
    BadSettings
    """
    if not t > 0 or not math.isfinite(t):
        raise BadSettings(f"got t={t}, expected a number above 0")
    x, width = prepared(x, normalise, sigma, max_n, seed)
    n = x.shape[0]
    if landmarks:
        from torchspectral.metrics.representation.landmarks import nystrom_entropy

        bits, error, values = nystrom_entropy(x, width, t=t, alpha=alpha, landmarks=landmarks, seed=seed)
    else:
        found = eigenvalues(diffusion_matrix(gaussian_kernel(squared_distances(x), width), alpha))
        bits, error, values = float(spectrum_entropy(found, t)), 0.0, _numpy(found)
    return DiffusionEntropy(max(bits, 0.0), n, width, float(t), float(alpha), normalise, values, error)


def renyi2(
    x: Any, *, sigma: float | str | None = None, normalise: bool = True, max_n: int = LARGEST, seed: int = 0
) -> float:
    """Renyi entropy of order 2 of the diffusion spectrum [bit]: ``-log2(sum l^2 / (sum l)^2)``.

    A proxy of `dse` at t = 1, never above it, from the trace and the Frobenius norm alone: no eigenvalues. Parameters
    as there.

    Raises
    ------
    BadInput, BadSettings
    """
    x, width = prepared(x, normalise, sigma, max_n, seed)
    matrix = diffusion_matrix(gaussian_kernel(squared_distances(x), width))
    trace = float(matrix.diagonal().sum())
    return max(-math.log2(float((matrix * matrix).sum()) / trace**2), 0.0)


def entry_entropy(
    x: Any, *, sigma: float | str | None = None, normalise: bool = True, max_n: int = LARGEST, seed: int = 0
) -> float:
    """Entropy of the entries of the row-normalised diffusion matrix, ``n^2`` terms [bit]; parameters as `dse`.

    Raises
    ------
    BadInput, BadSettings
    """
    x, width = prepared(x, normalise, sigma, max_n, seed)
    matrix = diffusion_matrix(gaussian_kernel(squared_distances(x), width))
    matrix /= matrix.sum(-1)[..., None]
    return float(spectrum_entropy(matrix.reshape(-1)))


def cse(x: Any, *, bins: int = 2, max_n: int = LARGEST, seed: int = 0) -> float:
    """Classic Shannon entropy of binned embeddings [bit]; it saturates at ``log2 n`` in many dimensions.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    bins : int
        Equal ones between the least and the largest value of each dimension; a constant dimension has one.

    Raises
    ------
    BadInput, BadSettings
    """
    if isinstance(bins, bool) or bins < 1:
        raise BadSettings(f"got bins={bins}, expected at least 1")
    values, _ = prepared(_numpy(x), False, 1.0, max_n, seed)
    _, counts = np.unique(binned(values, bins), axis=0, return_counts=True)
    return shannon(counts)


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Bin, 1 to `bins`, of each value between its column's least and largest; the largest falls in the last."""
    low = values.min(0)
    span = np.ptp(values, axis=0)
    scaled = (values - low) / np.where(span > 0, span, 1.0)
    return np.digitize(scaled, np.linspace(0.0, 1.0, bins + 1)[:-1])


def shannon(counts: np.ndarray) -> float:
    """Entropy of counts [bit]."""
    shares = np.asarray(counts, dtype=np.float64)
    shares = shares[shares > 0] / shares.sum()
    return float(max(-(shares * np.log2(shares)).sum(), 0.0))


def ase(
    x: Any,
    *,
    kind: str = "gaussian",
    sigma: float | str | None = None,
    k: int = 10,
    normalise: bool = True,
    max_n: int = LARGEST,
    seed: int = 0,
) -> float:
    """Entropy of the eigenvalues of an adjacency matrix [bit], for comparison with `dse`.

    Parameters
    ----------
    kind : {"gaussian", "anisotropic", "knn"}
        The Gaussian kernel as it is; scaled by its degrees (then it is `dse` at t = 1); or 1 for the `k` nearest of
        each row, itself among them, else 0 (not symmetric: the modulus of complex eigenvalues counts).
    x, sigma, normalise, max_n, seed
        As `dse`; "knn" needs no sigma.

    Raises
    ------
    BadInput, BadSettings
    """
    if kind not in ("gaussian", "anisotropic", "knn"):
        raise BadSettings(f"got kind={kind!r}, expected gaussian, anisotropic or knn")
    x, width = prepared(x, normalise, 1.0 if kind == "knn" else sigma, max_n, seed)
    squared = squared_distances(x)
    if kind == "knn":
        if isinstance(k, bool) or k < 1:
            raise BadSettings(f"got k={k}, expected at least 1")
        values = _numpy(squared)
        least = np.partition(values, min(k, values.shape[0]) - 1, axis=1)[:, min(k, values.shape[0]) - 1]
        return float(spectrum_entropy(np.linalg.eigvals((values <= least[:, None]).astype(np.float64))))
    kernel = gaussian_kernel(squared, width)
    return float(spectrum_entropy(eigenvalues(diffusion_matrix(kernel) if kind == "anisotropic" else kernel)))


def _numpy(x: Any) -> np.ndarray:
    return np.asarray(x.detach().cpu().numpy() if is_tensor(x) else x)
