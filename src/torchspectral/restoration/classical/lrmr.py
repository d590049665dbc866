"""Low-rank matrix recovery (LRMR): blocks of low rank with sparse noise apart, block by block."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.ops.block_matching import positions
from torchspectral.restoration.classical.levels import noise_levels
from torchspectral.restoration.classical.tiled_wavelets import soft
from torchspectral.settings import Settings, setting

CHUNK = 1 << 19
"""Values of blocks that are worked on together."""


class LrmrSettings(Settings):
    """LRMR."""

    block: int = setting(20, "side of the blocks", unit="pixel", ge=2, le=128)
    step: int = setting(8, "distance of the blocks; the paper has 4 and 8", unit="pixel", ge=1, le=128)
    rank: int = setting(7, "rank of a block", ge=1)
    threshold: float = setting(
        1.0, "residuals beyond this many standard deviations of the band's noise count as sparse noise", gt=0
    )
    units: Literal["range", "noise"] = setting(
        "range", "in which bands are weighed against each other: 0..1 of each, as in the paper, or their noise"
    )
    iterations: int = setting(100, "iterations of the decomposition", ge=1)


class Lrmr(Method):
    """Semi-soft GoDec on overlapping blocks.

    Each block, pixels times bands, is the sum of a part of rank `rank`, sparse noise and Gaussian noise; projections on
    random directions, refined from one iteration to the next, find the first, soft thresholding the second. Blocks that
    overlap are averaged.

    State
    -----
    offset, gain, noise : Tensor, shape (bands,)

    References
    ----------
    Zhang, He, Zhang, Shen and Yuan, "Hyperspectral image restoration using low-rank matrix recovery", IEEE TGRS 52(8),
    2014. Zhou and Tao, "GoDec: randomized low-rank and sparse matrix decomposition in noisy case", ICML 2011.
    """

    Settings = LrmrSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("offset", "gain", "noise")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.multiple = self.settings.step
        self.halo = math.ceil(self.settings.block / self.multiple) * self.multiple
        self.block, self.step = self.settings.block, self.settings.step

    def prepare(self, info: SceneInfo) -> None:
        """Blocks no larger than the scene, that leave no gaps and lie on one grid in all tiles."""
        self.block = max(1, min(self.settings.block, *info.shape))
        self.step = max(n for n in range(1, self.block + 1) if self.multiple % n == 0)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Noise of each band, and its range."""
        if state is not None and "gain" in state:
            return state
        noise = noise_levels(source)
        if self.settings.units == "noise":
            gram = source.gram()
            return {"offset": gram.mean.cpu(), "gain": torch.where(noise > 0, noise, 1.0), "noise": noise, "seed": seed}
        low, high = band_range(source)
        return {"offset": low, "gain": torch.where(high > low, high - low, 1.0), "noise": noise, "seed": seed}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Decompose all blocks of a tile, (n, bands, y, x)."""
        cube = tile["cube"]
        gain, offset, noise = (state[key].to(cube)[:, None, None] for key in ("gain", "offset", "noise"))
        if len(gain) != cube.shape[1]:
            raise BandMismatch(f"the noise is of {len(gain)} bands, the cube has {cube.shape[1]}: fit it here")
        limit = (self.settings.threshold * noise / gain)[:, :, 0]
        out = torch.stack([self._solve(one, limit, int(state.get("seed", 0))) for one in (cube - offset) / gain])
        return {"cube": out * gain + offset}

    def _solve(self, image: torch.Tensor, limit: torch.Tensor, seed: int) -> torch.Tensor:
        bands, height, width = image.shape
        block = min(self.block, height, width)
        rows, cols = (positions(n, block, self.step).to(image.device) for n in (height, width))
        side = torch.arange(block, device=image.device)
        inner = (side[:, None] * width + side).reshape(-1)
        starts = (rows[:, None] * width + cols).reshape(-1)
        flat = image.reshape(bands, -1)
        total = image.new_zeros(bands, height * width, dtype=torch.float64)
        count = image.new_zeros(height * width, dtype=torch.float64)
        rank = min(self.settings.rank, bands, block * block)
        draw = torch.randn(bands, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(image)
        for part in starts.split(max(1, CHUNK // (bands * block * block))):
            index = part[:, None] + inner
            found = godec(flat[:, index].transpose(0, 1), draw, limit, self.settings.iterations)
            total.index_add_(1, index.reshape(-1), found.transpose(0, 1).reshape(bands, -1).double())
            count.index_add_(0, index.reshape(-1), count.new_ones(index.numel()))
        return (total / count).to(image.dtype).reshape(image.shape)

    def memory(self, size: Size) -> dict[str, int]:
        """The scaled cube, sums in float64 and the answer; blocks of a fixed number of values."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 2 * pixels, "apply": 6 * pixels + 40 * CHUNK}

    def figures(self, state: State) -> dict[str, Any]:
        """Median noise."""
        return {"median_noise": float(f"{float(state['noise'].median()):.6g}")}


def godec(data: torch.Tensor, draw: torch.Tensor, limit: torch.Tensor, iterations: int) -> torch.Tensor:
    """The part of low rank of each matrix.

    Parameters
    ----------
    data : Tensor, shape (n, bands, pixels)
    draw : Tensor, shape (bands, rank)
        Where the directions begin.
    limit : Tensor, shape (bands, 1)
        Of the soft threshold.
    iterations : int

    Returns
    -------
    Tensor, shape (n, bands, pixels)
    """
    directions = draw.expand(len(data), -1, -1)
    left, low = data, data
    for _ in range(iterations):
        directions = torch.linalg.qr(left @ (left.mT @ directions)).Q
        low = directions @ (directions.mT @ left)
        left = data - soft(data - low, limit)
    return low


def band_range(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest valid value of each band, float64 (bands,)."""

    def extremes(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = tile.core_pixels("cube")
        if not pixels.shape[1]:
            empty = torch.full((len(pixels),), math.inf, dtype=torch.float64)
            return empty, -empty
        return pixels.amin(1).double().cpu(), pixels.amax(1).double().cpu()

    return source.reduce(extremes, lambda a, b: (torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1])))  # type: ignore[no-any-return]
