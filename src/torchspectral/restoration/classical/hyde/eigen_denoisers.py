"""Denoisers of single images with noise of variance one, to be plugged into the methods on eigen-images."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F

from torchspectral.ops.block_matching import match_patches
from torchspectral.ops.collaborative import collaborative_filter
from torchspectral.ops.non_local_means import mirrored, non_local_means
from torchspectral.ops.total_variation import tv_denoise
from torchspectral.restoration.classical.tiled_wavelets import TiledWavelets
from torchspectral.settings import Settings, setting

MOMENTS, LEVELS, WINDOW = 4, 3, 5


class EigenDenoiserSettings(Settings):
    """Which image denoiser is plugged in."""

    denoiser: Literal["collaborative", "nlm", "tv", "wavelet"] = setting(
        "collaborative",
        "denoiser of the eigen-images: block matching and collaborative filtering (BM3D), non-local means, total "
        "variation, or wavelets",
    )
    patch: int = setting(8, "side of the patches; with nlm the largest odd side below", unit="pixel", ge=3, le=32)
    step: int = setting(4, "distance of the reference patches (collaborative)", unit="pixel", ge=1, le=32)
    search: int = setting(10, "largest shift of a similar patch", unit="pixel", ge=1, le=64)
    threshold: float = setting(
        3.2, "coefficients below this many standard deviations are dropped (collaborative)", ge=0
    )
    strength: float = setting(1.0, "filters more above 1, less below (nlm, tv, wavelet)", gt=0, le=10)
    iterations: int = setting(50, "iterations of the total variation", ge=1, le=500)


class EigenDenoiser:
    """The plugged-in denoiser with its reach.

    Parameters
    ----------
    settings : EigenDenoiserSettings

    Attributes
    ----------
    halo, multiple : int
        What a tile needs so that it equals the scene [pixel].
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.side = int(settings.patch)
        self.wavelets = TiledWavelets(MOMENTS, LEVELS)
        self.multiple = {"collaborative": settings.step, "wavelet": self.wavelets.multiple}.get(settings.denoiser, 1)
        reach = {
            "collaborative": 2 * (settings.patch - 1 + 2 * settings.search),
            "nlm": settings.search + settings.patch // 2,
            "tv": settings.iterations + 1,
            "wavelet": self.wavelets.halo + WINDOW // 2 * self.wavelets.multiple,
        }[settings.denoiser]
        self.halo = math.ceil(reach / self.multiple) * self.multiple

    def fit_to(self, shape: tuple[int, int]) -> None:
        """Patches no larger than the scene."""
        self.side = max(1, min(self.settings.patch, *shape))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Denoise images (k, y, x), each by itself."""
        s = self.settings
        if s.denoiser == "collaborative":
            return torch.cat([self._collaborative(image[None]) for image in images])
        if s.denoiser == "nlm":
            side = min(self.side - 1 + self.side % 2, 2 * min(images.shape[1:]) - 1)
            return non_local_means(images, patch=max(1, side), search=s.search, strength=0.4 * s.strength)
        if s.denoiser == "tv":
            return tv_denoise(images, 1.2 * s.strength, iterations=s.iterations)
        return self._wavelet(images)

    def _collaborative(self, image: torch.Tensor) -> torch.Tensor:
        s, side = self.settings, min(self.side, *image.shape[1:])
        steps = {"patch": side, "step": s.step, "search": s.search}
        groups = match_patches(image, count=16, **steps)
        first = collaborative_filter(image, groups, patch=side, threshold=s.threshold)
        groups = match_patches(first, count=32, **steps)
        return collaborative_filter(image, groups, patch=side, guide=first)

    def _wavelet(self, images: torch.Tensor) -> torch.Tensor:
        """Details weighed by the signal's share of their local power (Mihcak et al., IEEE SPL 6(12), 1999)."""
        pyramid = self.wavelets.analyse(images)
        noise = self.settings.strength**2
        kept = [pyramid.subbands[0]]
        for detail in pyramid.subbands[1:]:
            power = mirrored(detail.square(), WINDOW // 2)
            power = F.avg_pool2d(F.avg_pool2d(power[:, None], (WINDOW, 1), 1), (1, WINDOW), 1)[:, 0]
            kept.append(detail * ((power - noise).clamp_min(0) / power.clamp_min(1e-12)))
        return self.wavelets.synthesise(pyramid.with_subbands(kept))

    def memory(self, rows: int, cols: int, k: int) -> int:
        """Bytes for `k` images at once."""
        s, pixels = self.settings, rows * cols
        if s.denoiser == "collaborative":
            return int(pixels * (4 * (2 * s.search + 1) ** 2 / s.step**2 + 12 * 8) * 4) + (512 << 20)
        if s.denoiser == "nlm":
            return 8 * k * (rows + 2 * self.halo) * (cols + 2 * self.halo) * 4
        return (10 if s.denoiser == "tv" else 20) * k * pixels * 4
