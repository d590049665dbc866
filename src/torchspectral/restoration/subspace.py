"""The signal subspace of a scene in units of its noise: from sums over the pixels to eigen-images and back."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchspectral.engine.method import Tile
from torchspectral.errors import BadInput
from torchspectral.ops.gram import eigh_descending, gram_sums
from torchspectral.ops.noise import regression_noise

State = dict[str, Any]

ALIKE = 1e-9
"""Bands whose squared correlation is this near to one are copies of each other."""
MARGIN = 0.05
"""Least correlation of neighbours, above that of the noise, of a component that shows the scene."""
TRACY_WIDOM = -1.2686
"""Median of the Tracy-Widom law for real values."""
ROUNDS, SETTLED = 20, 1e-3
"""Rounds in which noise and subspace are told from each other, at most, and the change that ends them."""
LEAST_OWN = 0.25
"""Variance of the noise over what regression leaves of a band, at least."""
FLOOR = 1e-12
"""Variance, relative to the largest, below which a band is constant."""


def at_most(name: str, wanted: int | None, bands: int) -> None:
    """Refuse more components than there are bands.

    Raises
    ------
    BadInput
    """
    if wanted is not None and wanted > bands:
        raise BadInput(f"got {name}={wanted} for {bands} bands, expected at most as many")


def is_flat(mean: torch.Tensor, covariance: torch.Tensor) -> bool:
    """Whether all pixels are equal but for rounding."""
    return float(covariance.diagonal().max()) <= 1e-14 * float(mean.square().max())


def _nothing(mean: torch.Tensor) -> State:
    """Subspace of a scene whose pixels are all equal: they come back as they were."""
    return {
        "mean": mean,
        "forward": mean.new_zeros(1, len(mean)),
        "inverse": mean.new_zeros(len(mean), 1),
        "noise": torch.zeros_like(mean),
        "rank": 0,
        "eigenvalues": [0.0] * len(mean),
    }


def live_bands(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bands that vary and are no copies of an earlier one, and for every band the one that it copies (or itself)."""
    variance = covariance.diagonal()
    varies = variance > FLOOR * variance.max()
    twin = torch.arange(len(variance))
    scale = variance.clamp_min(1e-300).sqrt()
    correlation = (covariance / torch.outer(scale, scale)).square()
    for band in range(len(variance)):
        same = (correlation[band, :band] > 1 - ALIKE) & varies[:band]
        if varies[band] and bool(same.any()):
            twin[band] = int(same.nonzero()[0])
    first = varies & (twin == torch.arange(len(variance)))
    return first.nonzero()[:, 0], twin


def noise_of(n: int, covariance: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the noise of the live bands, each regressed on the others.

    The divisor is the degrees of freedom that the regression leaves, n less the bands.
    """
    part = covariance[live][:, live]
    if len(live) < 2:
        # A single band cannot be told from its noise: it counts as noise-free to a thousandth.
        return part.diagonal().sqrt() * 1e-3
    residual = regression_noise(n, part * n)[1].diagonal()
    free = n / max(n - len(live), 1)
    return (residual * free).clamp_min(1e-12 * part.diagonal()).sqrt()


def freed_noise(n: int, covariance: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Noise of the bands that the signal subspace leaves, from a first estimate by regression.

    What a regression leaves of a band holds noise of the others, too, and the more of it the more the band weighs in the
    subspace: in whitened pixels the noise of the bands then differs, and with many pixels its larger half stands above
    the limit. Here the components above the limit are taken off instead and the rest of each band's variance is its
    noise, again and again until nothing changes (canonical factor analysis).

    Parameters
    ----------
    n : int
        Pixels.
    covariance : Tensor, shape (bands, bands)
        Of live bands.
    sigma : Tensor, shape (bands,)
        Standard deviations to start from, none below what is found.

    References
    ----------
    Rao, "Estimation and tests of significance in factor analysis", Psychometrika 20(2), 1955.
    """
    first = sigma
    for _ in range(ROUNDS):
        values, vectors = eigh_descending(covariance / torch.outer(sigma, sigma))
        middle = float(values.median())
        keep = values > middle * noise_edge(n, len(sigma))
        if 2 * int(keep.sum()) >= len(sigma):
            # More signal than rest: a band's own part cannot be told.
            return first
        taken = vectors[:, keep].square() @ (values[keep] - middle)
        found = covariance.diagonal() - sigma.square() * taken
        found = found.clamp(LEAST_OWN * first.square(), first.square()).sqrt()
        change = float((found / sigma - 1).abs().max())
        sigma = found
        if change < SETTLED:
            break
    return sigma


def neighbour_sums(tile: Tile, role: str) -> torch.Tensor:
    """Sums over the pairs of neighbours whose first is in a tile's core, float64, (2, bands + 1, bands + 1): across and along track.

    Each is the cross product of the differences, and in its last corner the number of pairs.
    """
    values, valid = tile[role][0], tile.valid[0, 0]
    top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
    height, width = tile.inner.height, tile.inner.width
    out = torch.zeros(2, len(values) + 1, len(values) + 1, dtype=torch.float64)
    for number, (down, right) in enumerate(((0, 1), (1, 0))):
        bottom, end = min(top + height, values.shape[1] - down), min(left + width, values.shape[2] - right)
        if bottom <= top or end <= left:
            continue
        here = slice(top, bottom), slice(left, end)
        there = slice(top + down, bottom + down), slice(left + right, end + right)
        both = valid[here] & valid[there]
        n, _, cross = gram_sums((values[:, *there] - values[:, *here])[:, both])
        out[number, :-1, :-1], out[number, -1, -1] = cross.cpu(), n
    return out


def texture(forward: torch.Tensor, spread: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Correlation of neighbours of each component across and along track, (2, k).

    Parameters
    ----------
    forward : Tensor, shape (k, bands)
    spread : Tensor, shape (bands, bands)
        Covariance.
    pairs : Tensor, shape (2, bands + 1, bands + 1)
        From `neighbour_sums`.
    """
    power = ((forward @ spread) * forward).sum(1).clamp_min(1e-300)
    gaps = pairs[:, :-1, :-1] / pairs[:, -1:, -1:].clamp_min(1)
    found = 1 - ((forward @ gaps) * forward).sum(2) / (2 * power)
    return torch.where(pairs[:, -1, -1:] > 0, found, 0.0)


def structured(similar: torch.Tensor, n: int) -> torch.Tensor:
    """Components, by falling variance, whose neighbours are more alike than those of the noise, bool (k,).

    The half of least variance stands for the noise, whose pixels need not be independent: scans leave it correlated
    across track, resampling in both directions. A component must stand out in both.
    """
    base = similar[:, similar.shape[1] // 2 :].median(1, keepdim=True).values.clamp_min(0)
    return (similar - base > max(4 / math.sqrt(n), MARGIN)).all(0)


def noise_edge(n: int, bands: int) -> float:
    """Median of the largest eigenvalue of the covariance of `n` pixels of pure noise of variance one."""
    a, b = math.sqrt(max(n - 1, 1)), math.sqrt(bands)
    return ((a + b) ** 2 + TRACY_WIDOM * (a + b) * (1 / a + 1 / b) ** (1 / 3)) / n


def eigen_state(
    n: int,
    mean: torch.Tensor,
    covariance: torch.Tensor,
    noise: torch.Tensor | None,
    rank: int | None,
    most: int | None,
    pairs: torch.Tensor | None = None,
) -> State:
    """Whiten, decompose, and keep what stands above noise.

    Parameters
    ----------
    n : int
        Pixels.
    mean, covariance : Tensor, shapes (bands,), (bands, bands)
    noise : Tensor, shape (bands,), optional
        Standard deviations; by regression where it is not given.
    rank : int, optional
        Components to keep; by default those whose variance lies above the largest that noise alone would have.
    most : int, optional
        Never more than this.
    pairs : Tensor, shape (2, bands + 1, bands + 1), optional
        From `neighbour_sums`: components below the limit are then kept too where they show the scene.

    Returns
    -------
    dict
        ``mean`` (bands,), ``forward`` (k, bands), ``inverse`` (bands, k), ``noise`` (bands,), ``rank``,
        ``eigenvalues``. Where all pixels are equal the rank is 0, and the one component that is kept is empty.

    Notes
    -----
    The largest eigenvalue of noise alone, of variance one, follows the law of Tracy and Widom; the limit is its median
    (Johnstone, "On the distribution of the largest eigenvalue in principal components analysis", Annals of Statistics
    29(2), 2001). The median eigenvalue stands for the variance, so that a noise estimate that is wrong by a factor does
    no harm.
    """
    if is_flat(mean, covariance):
        return _nothing(mean)
    live, twin = live_bands(covariance)
    sigma = torch.zeros_like(mean)
    if noise is None:
        sigma[live] = freed_noise(n, covariance[live][:, live], noise_of(n, covariance, live))
    else:
        sigma[live] = noise[live].clamp_min(1e-12)
    scale = sigma[live]
    values, vectors = eigh_descending(covariance[live][:, live] / torch.outer(scale, scale))
    edge = float(values.median()) * noise_edge(n, len(live))
    keep = values > edge
    if pairs is not None and rank is None:
        every = mean.new_zeros(len(live), len(mean))
        every[:, live] = vectors.T / scale
        keep |= structured(texture(every, covariance, pairs), n)
    chosen = keep.nonzero()[:, 0] if rank is None else torch.arange(min(rank, len(live)))
    k = min(max(1, len(chosen)), len(live), most or len(live))
    chosen = chosen[:k] if len(chosen) else torch.arange(k)
    forward, inverse = mean.new_zeros(k, len(mean)), mean.new_zeros(len(mean), k)
    forward[:, live] = vectors[:, chosen].T / scale
    inverse[live] = vectors[:, chosen] * scale[:, None]
    for band, source in enumerate(twin.tolist()):
        if source != band:
            slope = covariance[band, source] / covariance[source, source]
            inverse[band] = inverse[source] * slope
            sigma[band] = sigma[source] * slope.abs()
    return {
        "mean": mean,
        "forward": forward,
        "inverse": inverse,
        "noise": sigma,
        "rank": k,
        "eigenvalues": [round(float(v), 4) for v in values],
    }
