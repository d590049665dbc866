"""Non-local meets global (NGMeet): a spectral subspace, alike patches of its images, and back, again and again."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchspectral.engine.method import Input, Method, Output, Scale, Scope, Size, Source, State, Tile
from torchspectral.ops.block_matching import match_patches
from torchspectral.ops.gram import eigh_descending
from torchspectral.restoration.classical.levels import noise_levels
from torchspectral.settings import Settings, setting

WHITE = 255.0
"""Largest value of the scene in the paper's units."""
CHUNK = 1 << 20
"""Values of groups that are worked on together."""
FIRST_RANK = ((10, 8), (30, 6), (50, 5), (math.inf, 4))
"""Largest noise in the paper's units, and the rank in the first iteration."""


class NgmeetSettings(Settings):
    """NGMeet."""

    iterations: int = setting(5, "iterations", ge=1, le=50)
    rank: int | None = setting(
        None, "rank in the first iteration, two more in each further one; None: 8, 6, 5 or 4, by the noise", ge=1
    )
    sigma: float | None = setting(
        None, "standard deviation of the noise over the largest value of the scene; None: found by regression", ge=0
    )
    patch: int = setting(5, "side of the patches", unit="pixel", ge=2, le=32)
    step: int = setting(4, "distance of the reference patches", unit="pixel", ge=1, le=32)
    search: int = setting(30, "largest shift of a similar patch", unit="pixel", ge=1, le=64)
    similar: int | None = setting(
        None, "patches of a group, ten fewer every second iteration; None: 150 or 200, by the noise", ge=8, le=1000
    )
    lamada: float = setting(0.56, "share of the noise that is taken to be left after an iteration", gt=0)
    feedback: float = setting(0.1, "share of the noisy image that goes into the next iteration", ge=0, le=1)
    weight: float | None = setting(
        None, "c1 of the weighted nuclear norm; None: 5 sqrt(2), from 101 bands on 8 sqrt(2)", gt=0
    )


class Ngmeet(Method):
    """Low rank along the spectrum and of groups of alike patches.

    Each iteration projects the image on its leading spectral directions, groups patches of the projected images that
    are alike in the mean of the bands, and shrinks the singular values of each group by a weighted nuclear norm. The
    noise counts as white and of one level in all bands.

    State
    -----
    sigma : float
        In units of the scene's largest value.

    References
    ----------
    He, Yao, Li, Yokoya and Zhao, "Non-local meets global: an integrated paradigm for hyperspectral denoising", CVPR
    2019. Gu, Zhang, Zuo and Feng, "Weighted nuclear norm minimization with application to image denoising", CVPR 2014.
    """

    Settings = NgmeetSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.SCENE
    scale = Scale("max")
    needs_fit = True
    state_keys = ("sigma",)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Quadratic mean of the noise of the bands."""
        if state is not None and "sigma" in state:
            return state
        if self.settings.sigma is not None:
            return {"sigma": float(self.settings.sigma)}
        return {"sigma": float(noise_levels(source).square().mean().sqrt())}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Iterate on the whole scene, (n, bands, y, x)."""
        sigma = WHITE * float(state["sigma"])
        if sigma <= 0:
            return {"cube": tile["cube"]}
        return {"cube": torch.stack([self._solve(one * WHITE, sigma) / WHITE for one in tile["cube"]])}

    def _solve(self, noisy: torch.Tensor, sigma: float) -> torch.Tensor:
        s = self.settings
        bands, height, width = noisy.shape
        patch = min(s.patch, height, width)
        rank = s.rank or next(k for most, k in FIRST_RANK if sigma <= most)
        similar = s.similar or (150 if sigma <= 30 else 200)
        weight = s.weight or (8 if bands > 100 else 5) * math.sqrt(2)
        flat = noisy.reshape(bands, -1)
        image, known = flat, flat
        for number in range(s.iterations):
            k = min(rank + 2 * number, bands)
            wide = image.double()
            basis = eigh_descending(wide @ wide.T)[1][:, :k].to(flat.dtype)
            parts = basis.T @ image
            level = torch.full_like(parts[0], sigma)
            if number:
                gone = (basis.T @ flat - parts).square().mean(0)
                level = patch_mean(gone.reshape(height, width), patch)
                level = s.lamada * (sigma**2 - level).abs().sqrt().reshape(-1)
            groups = match_patches(
                image.mean(0).reshape(1, height, width),
                patch=patch,
                step=s.step,
                search=s.search,
                count=max(8, similar - 10 * (number // 2)),
            )
            known = basis @ low_rank_groups(parts, groups, level, width, patch, weight)
            image = (1 - s.feedback) * known + s.feedback * flat
        return known.reshape(noisy.shape)

    def memory(self, size: Size) -> dict[str, int]:
        """Five cubes, projections in float64, and the distances of all shifts."""
        pixels = size.rows * size.cols
        shifts = (2 * self.settings.search + 1) ** 2 / self.settings.step**2
        return {
            "fit": pixels * size.bands * 4,
            "apply": int(pixels * (7 * size.bands + 2 * shifts + 80) * 4) + 64 * CHUNK,
        }

    def figures(self, state: State) -> dict[str, Any]:
        """The noise."""
        return {"sigma": float(f"{state['sigma']:.6g}")}


def patch_mean(values: torch.Tensor, patch: int) -> torch.Tensor:
    """Mean over the patch that begins at each pixel, (y, x); zero where none fits."""
    out = torch.zeros_like(values)
    found = torch.nn.functional.avg_pool2d(values[None, None], patch, 1)[0, 0]
    out[: found.shape[0], : found.shape[1]] = found
    return out


def low_rank_groups(
    images: torch.Tensor, groups: torch.Tensor, level: torch.Tensor, width: int, patch: int, weight: float
) -> torch.Tensor:
    """Weighted nuclear norm of each group of patches, averaged where patches overlap.

    Parameters
    ----------
    images : Tensor, shape (k, pixels)
    groups : Tensor of int64, shape (references, count)
        From `match_patches`.
    level : Tensor, shape (pixels,)
        Noise of the patch that begins there.
    width, patch : int
        Columns of the image; side of a patch.
    weight : float
        c1.

    Returns
    -------
    Tensor, shape (k, pixels)

    Notes
    -----
    With weights C over the singular value of the clean group, of which the noisy one tells, the shrunk singular value
    has the closed form (s + sqrt(s^2 - 4 C)) / 2, zero where the root is not real (Gu et al., IJCV 121, 2017).
    """
    k, pixels = images.shape
    count = groups.shape[1]
    side = torch.arange(patch, device=images.device)
    inner = (side[:, None] * width + side).reshape(-1)
    total = images.new_zeros(k, pixels, dtype=torch.float64)
    hits = images.new_zeros(pixels, dtype=torch.float64)
    for part in groups.split(max(1, CHUNK // (k * patch * patch * count))):
        index = (part[:, :, None] + inner).reshape(-1)
        held = images[:, index].reshape(k, len(part), count, patch * patch)
        matrix = held.permute(1, 0, 3, 2).reshape(len(part), k * patch * patch, count).double()
        mean = matrix.mean(2, keepdim=True)
        matrix = matrix - mean
        limit = weight * math.sqrt(count) * 2 * level[part[:, 0]].double().square()
        shrunk = (_shrunk(matrix, limit) + mean).to(images.dtype)
        back = shrunk.reshape(len(part), k, patch * patch, count).permute(1, 0, 3, 2).reshape(k, -1)
        total.index_add_(1, index, back.double())
        hits.index_add_(0, index, hits.new_ones(len(index)))
    return (total / hits).to(images.dtype)


def _shrunk(matrix: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Weighted singular values through the products of the shorter side, (n, rows, cols)."""
    tall = matrix.shape[1] > matrix.shape[2]
    power, vectors = torch.linalg.eigh(matrix.mT @ matrix if tall else matrix @ matrix.mT)
    power = power.clamp_min(0)
    size = power.sqrt()
    left = power - 4 * limit[:, None]
    share = torch.where(left > 0, (size + left.clamp_min(0).sqrt()) / 2 / size.clamp_min(1e-300), 0.0)
    operator = (vectors * share[:, None, :]) @ vectors.mT
    return matrix @ operator if tall else operator @ matrix
