"""Measures of collapse that stand beside the diffusion spectral entropy: ranks, spread on the sphere.

Each takes embeddings (n, d), a numpy array or a torch tensor, and returns a number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.errors import BadInput
from torchspectral.metrics.representation.embeddings import checked, normalised
from torchspectral.ops.diffusion import is_tensor, squared_distances


def singular_values(x: Any, centre: bool) -> np.ndarray:
    """Singular values of embeddings, descending, float64, from the smaller of the two Gram matrices.

    Raises
    ------
    BadInput
    """
    x = checked(x)
    x = x - x.mean(0) if centre else x
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    gram = np.asarray(gram.cpu().numpy() if is_tensor(gram) else gram, dtype=np.float64)
    return np.asarray(np.sqrt(np.linalg.eigvalsh(gram)[::-1].clip(0.0)))


def effective_rank(x: Any) -> float:
    """Exponential of the entropy of the singular values of the centred embeddings; 0 where all are equal.

    References
    ----------
    Roy, Vetterli, "The effective rank", EUSIPCO 2007.
    """
    values = singular_values(x, centre=True)
    return _rank(values, 0.0) if _live(values, x) else 0.0


def participation_ratio(x: Any) -> float:
    """``(sum l)^2 / sum l^2`` of the eigenvalues of the covariance; 0 where all embeddings are equal."""
    values = singular_values(x, centre=True)
    powers = values**2
    return float(powers.sum() ** 2 / (powers**2).sum()) if _live(values, x) else 0.0


def rank_me(x: Any) -> float:
    """RankMe: exponential of the entropy of the singular values, not centred.

    References
    ----------
    Garrido, Balestriero, Najman, LeCun, "RankMe", ICML 2023 (epsilon 1e-7).
    """
    return _rank(singular_values(x, centre=False), 1e-7)


def uniformity(x: Any, t: float = 2.0) -> float:
    """``log mean exp(-t |a - b|^2)`` over all pairs of rows of length 1: 0 is collapse, lower is more uniform.

    Raises
    ------
    BadInput
        Fewer than two embeddings.

    References
    ----------
    Wang, Isola, "Understanding contrastive representation learning through alignment and uniformity", ICML 2020.
    """
    x = normalised(checked(x))
    n = x.shape[0]
    if n < 2:
        raise BadInput("got one embedding, expected at least two to compare")
    squared = squared_distances(x)
    squared *= -t
    total = float((squared.exp_() if is_tensor(squared) else np.exp(squared, out=squared)).sum()) - n
    return float(np.log(max(total, np.finfo(np.float64).tiny) / (n * (n - 1))))


def alignment(x: Any, y: Any, power: float = 2.0) -> float:
    """``mean |a - b|^power`` of positive pairs, rows of length 1: 0 where both views agree.

    Parameters
    ----------
    x, y : array or Tensor, shape (n, d)
        Two views of the same samples.

    Raises
    ------
    BadInput
    """
    x, y = checked(x), checked(y)
    if x.shape != y.shape:
        raise BadInput(f"got views of shapes {tuple(x.shape)} and {tuple(y.shape)}, expected the same samples twice")
    gap = normalised(x) - normalised(y)
    return float(((gap * gap).sum(-1) ** (power / 2)).mean())


def self_cluster(x: Any) -> float:
    """Mean squared cosine of all pairs, 0 (as spread as n and d allow) to 1 (one line): a substitute in O(n d^2)."""
    x = normalised(checked(x))
    n, d = x.shape
    least = 1.0 / min(n, d)
    if least == 1.0:
        return 1.0
    gram = x.T @ x if n >= d else x @ x.T
    return float((float((gram * gram).sum()) / n**2 - least) / (1.0 - least))


def _live(values: np.ndarray, x: Any) -> bool:
    """Whether there is more spread than rounding."""
    scale = float(abs(checked(x)).max())
    return bool(values[0] > 1e-7 * scale * x.shape[0] ** 0.5) if scale > 0 else False


def _rank(values: np.ndarray, epsilon: float) -> float:
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values / total + epsilon
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
