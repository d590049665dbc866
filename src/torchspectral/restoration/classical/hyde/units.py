"""Pixels in units of their noise, and the components of a scene there: what the denoisers of this folder start from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Gram, Source, Tile
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.ops.gram import add_sums, covariance, eigh_descending
from torchspectral.ops.noise import difference_sums, shift_noise
from torchspectral.restoration.classical.tiled_wavelets import TiledWavelets, finest_sample
from torchspectral.restoration.subspace import is_flat, live_bands, noise_edge, noise_of

FEWEST = 2
"""Pixels a band below which regression says nothing of the noise."""


@dataclass(frozen=True)
class Units:
    """A scene's bands as the methods see them.

    Attributes
    ----------
    n : int
        Pixels.
    mean : Tensor, shape (bands,)
    spread : Tensor, shape (bands, bands)
        Covariance.
    live : Tensor of int
        Bands that vary and are no copies of others.
    twin : Tensor of int, shape (bands,)
        Band that each copies, or itself.
    noise : Tensor, shape (bands,)
        Standard deviations; 0 for constant bands.
    """

    n: int
    mean: torch.Tensor
    spread: torch.Tensor
    live: torch.Tensor
    twin: torch.Tensor
    noise: torch.Tensor

    @property
    def power(self) -> torch.Tensor:
        """Second moments of the live bands, about zero."""
        mean = self.mean[self.live]
        return self.spread[self.live][:, self.live] + torch.outer(mean, mean)

    @property
    def white(self) -> torch.Tensor:
        """Second moments of the live bands about zero, in units of their noise."""
        scale = self.noise[self.live]
        return self.power / torch.outer(scale, scale)

    @property
    def rank(self) -> int:
        """Components above the largest power that noise alone would have, at least one where anything varies."""
        if not len(self.live):
            return 0
        values, _ = eigh_descending(self.white)
        edge = float(values.median()) * noise_edge(self.n, len(self.live))
        return max(1, int((values > edge).sum()))

    @property
    def offset(self) -> torch.Tensor:
        """What is set aside: constant bands, and how far copies lie from a multiple of what they copy, (bands,)."""
        out = self.mean.clone()
        out[self.live] = 0
        for band, source in enumerate(self.twin.tolist()):
            if source != band:
                out[band] -= self.mean[source] * (self.spread[band, source] / self.spread[source, source])
        return out

    def there(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (live, k) of units of noise as a map of all bands to components, (k, bands)."""
        out = self.mean.new_zeros(vectors.shape[1], len(self.mean))
        out[:, self.live] = vectors.T / self.noise[self.live]
        return out

    def back(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (live, k) of units of noise as a map of components to all bands, (bands, k); copies follow."""
        out = self.mean.new_zeros(len(self.mean), vectors.shape[1])
        out[self.live] = vectors * self.noise[self.live, None]
        return self.with_copies(out)

    def with_copies(self, inverse: torch.Tensor) -> torch.Tensor:
        """Fill the rows of bands that are copies of others."""
        for band, source in enumerate(self.twin.tolist()):
            if source != band:
                inverse[band] = inverse[source] * (self.spread[band, source] / self.spread[source, source])
        return inverse


def units_of(source: Source, gram: Gram | None = None, noise: torch.Tensor | None = None) -> Units:
    """Mean, covariance and noise of a scene in one pass (two where there are few pixels).

    Parameters
    ----------
    gram : Gram, optional
        Sums over the pixels, where they are not those of the scene as it is.
    noise : Tensor, shape (bands,), optional
        Standard deviations, where they are known.

    Raises
    ------
    BadInput
        Fewer than two valid pixels.
    """
    found = gram or source.gram()
    n, total, cross = found.n, found.total.cpu(), found.cross.cpu()
    if n < 2:
        raise BadInput(f"got {n} valid pixels, expected at least 2: check the mask and nodata")
    mean, spread = total / n, covariance(n, total, cross)
    every = torch.zeros_like(mean)
    if is_flat(mean, spread):
        return Units(n, mean, spread, torch.zeros(0, dtype=torch.long), torch.arange(len(mean)), every)
    live, twin = live_bands(spread)
    if noise is not None:
        level = noise[live]
    elif len(live) > 1 and n >= FEWEST * len(live):
        level = noise_of(n, spread, live)
    else:
        level = _neighbours(source, live, spread)
    every[live] = level.clamp_min(1e-6 * spread.diagonal()[live].sqrt())
    for band, other in enumerate(twin.tolist()):
        if other != band:
            every[band] = every[other] * (spread[band, other] / spread[other, other]).abs()
    return Units(n, mean, spread, live, twin, every)


def _neighbours(source: Source, live: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Noise from differences of neighbours across track, where bands cannot tell it of each other."""

    def sums(tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
        cube, valid = tile.core("cube")[0][live.to(tile.lead.device)], tile.core(tile.valid)[0, 0]
        n, total, cross = difference_sums(cube[..., 1:], cube[..., :-1], valid[:, 1:] & valid[:, :-1])
        return n, total.cpu(), cross.cpu()

    n, total, cross = source.reduce(sums, add_sums)
    if n < 2:
        return spread.diagonal()[live].sqrt() * 1e-3
    return shift_noise(n, total, cross).diagonal().clamp_min(0).sqrt()


def finest_noise(source: Source, moments: int) -> torch.Tensor:
    """Standard deviation of the noise of each band from the median of its finest wavelet details, (bands,)."""
    wavelets = TiledWavelets(moments, 1)

    def pick(tile: Tile) -> list[torch.Tensor]:
        return [finest_sample(tile, wavelets.analyse(tile["cube"][0]))]

    return torch.cat(source.reduce(pick, lambda a, b: a + b), 1).double().median(1).values / 0.6745


def project(cube: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """Components of pixels less what is set aside, (n, k, y, x).

    Raises
    ------
    BandMismatch
        The state is of another number of bands.
    """
    offset, forward = (state[key].to(cube.device, cube.dtype) for key in ("offset", "forward"))
    if len(offset) != cube.shape[1]:
        raise BandMismatch(
            f"the state was fitted on {len(offset)} bands and the cube has {cube.shape[1]}, expected the same: fit it on "
            "this scene"
        )
    return torch.einsum("kb,nbyx->nkyx", forward, cube - offset[:, None, None])


def unproject(images: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """Pixels from their components, (n, bands, y, x)."""
    offset, inverse = (state[key].to(images.device, images.dtype) for key in ("offset", "inverse"))
    return torch.einsum("bk,nkyx->nbyx", inverse, images).add_(offset[:, None, None])
