"""Noise of the bands of a scene as `fit` sees it, and the rank of its bands: what several classical methods need first."""

from __future__ import annotations

import torch

from torchspectral.engine.method import Gram, Source, Tile
from torchspectral.ops.gram import covariance
from torchspectral.restoration.subspace import FLOOR, live_bands, noise_edge, noise_of


def noise_levels(source: Source, gram: Gram | None = None) -> torch.Tensor:
    """Standard deviation of the noise of each band, float64 (bands,); zero for constant bands.

    By regression of each band on the others; from differences of neighbouring pixels where there are too few bands or
    pixels for that.
    """
    gram = gram if gram is not None else source.gram()
    spread = covariance(gram.n, gram.total.cpu(), gram.cross.cpu())
    if is_flat(gram):
        return spread.new_zeros(len(spread))
    live, twin = live_bands(spread)
    if len(live) < 3 or gram.n <= 2 * len(live):
        return _from_neighbours(source)
    sigma = spread.new_zeros(len(spread))
    sigma[live] = noise_of(gram.n, spread, live)
    for band, first in enumerate(twin.tolist()):
        if first != band:
            sigma[band] = sigma[first] * (spread[band, first] / spread[first, first]).abs()
    return sigma


def is_flat(gram: Gram) -> bool:
    """Whether all pixels are equal, or there are fewer than two."""
    if gram.n < 2:
        return True
    spread = covariance(gram.n, gram.total.cpu(), gram.cross.cpu()).diagonal()
    return float(spread.max()) <= FLOOR * float(gram.cross.cpu().diagonal().max()) / gram.n


def _from_neighbours(source: Source) -> torch.Tensor:
    def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        values, valid = tile.core("cube")[0].double(), tile.core(tile.valid)[0]
        total, count = values.new_zeros(len(values)), values.new_zeros(len(values))
        for axis in (1, 2):
            n = values.shape[axis] - 1
            if n < 1:
                continue
            both = valid.narrow(axis, 0, n) & valid.narrow(axis, 1, n)
            total += values.diff(dim=axis).square().mul_(both).sum((1, 2))
            count += both.sum()
        return total.cpu(), count.cpu()

    total, count = source.reduce(sums, lambda a, b: (a[0] + b[0], a[1] + b[1]))
    return (total / count.clamp_min(1) / 2).sqrt()


def band_rank(gram: Gram, most: int = 12) -> int:
    """Rank of the bands, their mean among it: directions above what noise alone would have, in units of the noise."""
    if is_flat(gram):
        return 1
    spread = covariance(gram.n, gram.total.cpu(), gram.cross.cpu())
    live, _ = live_bands(spread)
    sigma = noise_of(gram.n, spread, live)
    values = torch.linalg.eigvalsh(spread[live][:, live] / torch.outer(sigma, sigma))
    edge = float(values.median()) * noise_edge(gram.n, len(live))
    # One more than the deviations from the mean: the mean itself is a direction here.
    return min(max(1, int((values > edge).sum())) + 1, len(live), most)
