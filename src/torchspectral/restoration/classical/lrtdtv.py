"""Low-rank Tucker decomposition with total variation over space and spectrum, and sparse noise apart."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchspectral.engine.method import Input, Method, Output, Scale, Scope, Size, Source, State, Tile
from torchspectral.restoration.classical.levels import band_rank
from torchspectral.restoration.classical.tiled_wavelets import soft
from torchspectral.settings import Settings, setting


class LrtdtvSettings(Settings):
    """LRTDTV."""

    tau: float = setting(0.4, "weight of the total variation; the authors recommend 1", gt=0)
    sparse: float = setting(100.0, "weight of the sparse noise, times 1 / sqrt(rows x columns)", gt=0)
    share: float = setting(0.8, "rank of rows and columns over their number", gt=0, le=1)
    rank: int | None = setting(None, "rank of the bands; None: directions above what noise alone would have", ge=1)
    iterations: int = setting(40, "iterations", ge=1)
    beta: float = setting(0.01, "first penalty", gt=0)
    growth: float = setting(1.5, "factor of the penalty from one iteration to the next", ge=1)
    tolerance: float = setting(1e-6, "relative change of the cube below which it stops", ge=0)


class Lrtdtv(Method):
    """Total-variation regularised low-rank tensor decomposition.

    min tau |grad X|_1 + lambda |S|_1 with X + S the cube and X of Tucker rank (share rows, share columns, rank), by
    augmented Lagrangian multipliers; the gradient runs over both directions of space and the bands, periodic. The factors
    of each step are those of the higher-order singular value decomposition. The cube is divided by its largest value.

    State
    -----
    rank : int

    References
    ----------
    Wang, Peng, Zhao, Leung, Zhao and Meng, "Hyperspectral image restoration via total variation regularized low-rank
    tensor decomposition", IEEE JSTARS 11(4), 2018.
    """

    Settings = LrtdtvSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.SCENE
    scale = Scale("max")
    needs_fit = True
    state_keys = ("rank",)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Rank of the bands from the eigenvalues in units of the noise."""
        if state is not None and "rank" in state:
            return state
        if self.settings.rank is not None:
            return {"rank": min(self.settings.rank, source.info.bands)}
        return {"rank": band_rank(source.gram())}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Iterate on the whole scene, (n, bands, y, x)."""
        return {"cube": torch.stack([self._solve(one, int(state["rank"])) for one in tile["cube"]])}

    def _solve(self, data: torch.Tensor, rank: int) -> torch.Tensor:
        s = self.settings
        bands, rows, cols = data.shape
        ranks = (min(rank, bands), max(1, math.ceil(s.share * rows)), max(1, math.ceil(s.share * cols)))
        weight = s.sparse / math.sqrt(rows * cols)
        inverse = 1 / (1 + _laplacian(data))
        x, z, outliers = data.clone(), data.clone(), torch.zeros_like(data)
        of_sum, of_copy = torch.zeros_like(data), torch.zeros_like(data)
        slopes = [torch.zeros_like(data) for _ in range(3)]
        of_slopes = [torch.zeros_like(data) for _ in range(3)]
        beta = s.beta
        for _ in range(s.iterations):
            before = x
            x = tucker((data - outliers + z + (of_sum - of_copy) / beta) / 2, ranks)
            right = x + of_copy / beta
            for axis in range(3):
                right = right + _back(slopes[axis] - of_slopes[axis] / beta, axis)
            z = torch.fft.irfftn(torch.fft.rfftn(right) * inverse, s=data.shape)
            for axis in range(3):
                slope = _ahead(z, axis)
                slopes[axis] = soft(slope + of_slopes[axis] / beta, s.tau / beta)
                of_slopes[axis] += beta * (slope - slopes[axis])
            outliers = soft(data - x + of_sum / beta, weight / beta)
            of_sum += beta * (data - x - outliers)
            of_copy += beta * (x - z)
            beta = min(beta * s.growth, 1e5)
            if float((x - before).norm()) <= s.tolerance * float(before.norm()):
                break
        return x

    def memory(self, size: Size) -> dict[str, int]:
        """Sixteen cubes: the iterate, its copy, the sparse part, gradients, multipliers and their transforms."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": pixels, "apply": 18 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Rank of the bands."""
        return {"rank": int(state["rank"])}


def tucker(cube: torch.Tensor, ranks: tuple[int, int, int]) -> torch.Tensor:
    """Project each axis of (bands, y, x) on its leading singular vectors (truncated higher-order SVD)."""
    out = cube
    for axis, rank in enumerate(ranks):
        if rank >= cube.shape[axis]:
            continue
        unfolded = cube.movedim(axis, 0).reshape(cube.shape[axis], -1).double()
        _, vectors = torch.linalg.eigh(unfolded @ unfolded.T)
        kept = vectors[:, -rank:].to(cube.dtype)
        out = torch.tensordot(kept @ kept.T, out, ([1], [axis])).movedim(0, axis)
    return out


def _ahead(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.roll(-1, axis) - x


def _back(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.roll(1, axis) - x


def _laplacian(like: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of grad^T grad with periodic edges, in the layout of `rfftn`."""
    parts = []
    for axis, size in enumerate(like.shape):
        k = torch.arange(size // 2 + 1 if axis == 2 else size, device=like.device, dtype=like.dtype)
        parts.append(2 - 2 * torch.cos(2 * math.pi * k / size))
    return parts[0][:, None, None] + parts[1][:, None] + parts[2]
