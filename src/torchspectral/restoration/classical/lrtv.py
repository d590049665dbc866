"""Low-rank matrix factorisation with total variation of each band, and sparse noise apart (LRTV)."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchspectral.engine.method import Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.ops.noise import hysime
from torchspectral.ops.total_variation import tv_denoise
from torchspectral.restoration.classical.levels import is_flat
from torchspectral.restoration.classical.lrmr import band_range
from torchspectral.restoration.classical.tiled_wavelets import soft
from torchspectral.restoration.subspace import live_bands
from torchspectral.settings import Settings, setting

CHUNK = 1 << 18
"""Values of bands whose total variation is worked on together: they stay in the cache."""


class LrtvSettings(Settings):
    """LRTV."""

    tau: float = setting(0.02, "weight of the total variation, bands in 0..1; 0.01 in the paper", ge=0)
    sparse: float = setting(5.0, "weight of the sparse noise, times 1 / sqrt(rows x columns)", gt=0)
    rank: int | None = setting(None, "rank of the bands; None: one more than HySime finds", ge=1)
    iterations: int = setting(40, "iterations", ge=1)
    inner: int = setting(10, "iterations of each total-variation step", ge=1)
    mu: float = setting(0.01, "first penalty", gt=0)
    growth: float = setting(1.5, "factor of the penalty from one iteration to the next", ge=1)
    tolerance: float = setting(1e-6, "largest difference from the constraints below which it stops", ge=0)


class Lrtv(Method):
    """Total-variation regularised low-rank matrix factorisation.

    min |L|_* + tau sum_b TV(X_b) + lambda |E|_1 with L + E the cube, X = L and L of rank at most `rank`, by inexact
    augmented Lagrangian multipliers; each band is brought to 0..1 by its smallest and largest value.

    State
    -----
    offset, gain : Tensor, shape (bands,)
    rank : int

    References
    ----------
    He, Zhang, Zhang and Shen, "Total-variation-regularized low-rank matrix factorization for hyperspectral image
    restoration", IEEE TGRS 54(1), 2016.
    """

    Settings = LrtvSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.SCENE
    needs_fit = True
    state_keys = ("offset", "gain", "rank")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Range of each band, and the rank."""
        if state is not None and "gain" in state:
            return state
        low, high = band_range(source)
        rank = self.settings.rank
        if rank is None:
            gram = source.gram()
            cross = gram.cross.cpu()
            live, _ = live_bands(cross / max(gram.n, 1))
            rank = hysime(gram.n, cross[live][:, live]).k + 1 if len(live) > 1 and not is_flat(gram) else 1
        gain = torch.where(high > low, high - low, 1.0)
        return {"offset": low, "gain": gain, "rank": min(rank, source.info.bands)}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Iterate on the whole scene, (n, bands, y, x)."""
        cube = tile["cube"]
        gain, offset = (state[key].to(cube)[:, None, None] for key in ("gain", "offset"))
        if len(gain) != cube.shape[1]:
            raise BandMismatch(f"the ranges are of {len(gain)} bands, the cube has {cube.shape[1]}: fit it here")
        out = torch.stack([self._solve(one, int(state["rank"])) for one in (cube - offset) / gain])
        return {"cube": out * gain + offset}

    def _solve(self, data: torch.Tensor, rank: int) -> torch.Tensor:
        s = self.settings
        bands, height, width = data.shape
        weight, mu = s.sparse / math.sqrt(height * width), s.mu
        x, sparse = torch.zeros_like(data), torch.zeros_like(data)
        of_sum, of_copy = torch.zeros_like(data), torch.zeros_like(data)
        for _ in range(s.iterations):
            mean = (data - sparse + x + (of_sum + of_copy) / mu) / 2
            low = singular_value_threshold(mean.reshape(bands, -1), 1 / (2 * mu), rank).reshape(data.shape)
            wanted = low - of_copy / mu
            step = max(1, CHUNK // (height * width))
            x = torch.cat([tv_denoise(part, s.tau / mu, iterations=s.inner) for part in wanted.split(step)])
            sparse = soft(data - low + of_sum / mu, weight / mu)
            off, apart = data - low - sparse, x - low
            of_sum += mu * off
            of_copy += mu * apart
            mu = min(mu * s.growth, 1e6)
            if max(float(off.abs().max()), float(apart.abs().max())) <= s.tolerance:
                break
        return x

    def memory(self, size: Size) -> dict[str, int]:
        """Cube, both parts, the copy, two multipliers, and differences."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": pixels, "apply": 14 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Rank of the bands."""
        return {"rank": int(state["rank"])}


def singular_value_threshold(matrix: torch.Tensor, limit: float, most: int) -> torch.Tensor:
    """Shrink the singular values of a matrix (k, n), k small, by `limit`, and keep the `most` largest.

    References
    ----------
    Cai, Candes and Shen, "A singular value thresholding algorithm for matrix completion", SIAM J. Optim. 20(4), 2010.
    """
    wide = matrix.double()
    power, vectors = torch.linalg.eigh(wide @ wide.T)
    size = power.clamp_min(0).sqrt()
    left = (size - limit).clamp_min(0)
    left[: max(0, len(left) - most)] = 0
    share = torch.where(size > 0, left / size.clamp_min(1e-300), 0.0)
    return ((vectors * share) @ vectors.T).to(matrix.dtype) @ matrix
