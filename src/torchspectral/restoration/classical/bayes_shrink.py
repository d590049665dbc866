"""Wavelet shrinkage of each band by itself."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.restoration.classical.tiled_wavelets import TiledWavelets, extended_pixels, finest_sample, soft
from torchspectral.settings import Settings, setting


class WaveletSettings(Settings):
    """Wavelet shrinkage."""

    moments: int = setting(4, "vanishing moments of the Daubechies wavelet", ge=1, le=10)
    levels: int = setting(3, "levels of the decomposition", ge=1, le=6)
    sigma: float | None = setting(None, "standard deviation of the noise; None: from the finest details", ge=0)


class Wavelet(Method):
    """Soft thresholding of wavelet coefficients, band by band, by BayesShrink.

    The noise of a band is the median absolute finest diagonal detail over 0.6745; each sub-band is thresholded at noise
    variance over signal deviation, both taken over the whole scene.

    State
    -----
    noise : Tensor, shape (bands,)
    thresholds : Tensor, shape (bands, levels, 3)

    References
    ----------
    Chang, Yu and Vetterli, "Adaptive wavelet thresholding for image denoising and compression", IEEE TIP 9(9), 2000.
    """

    Settings = WaveletSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("noise", "thresholds")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.wavelets = TiledWavelets(self.settings.moments, self.settings.levels)
        self.halo, self.multiple = self.wavelets.halo, self.wavelets.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Noise and the power of each sub-band in one pass."""
        if state is not None and "thresholds" in state:
            return state

        def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
            pyramid = self.wavelets.analyse(tile["cube"][0])
            cores = [pyramid.core(tile, number).double() for number in range(1, len(pyramid.subbands))]
            power = torch.stack([core.square().sum((1, 2)) for core in cores], 1)
            count = torch.tensor([core[0].numel() for core in cores], dtype=torch.float64)
            return power.cpu(), count, [finest_sample(tile, pyramid)]

        power, count, picked = source.reduce(sums, lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]))
        sizes = torch.cat(picked, 1)
        noise = sizes.double().median(1).values / 0.6745
        if self.settings.sigma is not None:
            noise = torch.full_like(noise, self.settings.sigma)
        power, variance = power / count.clamp_min(1), noise.square()[:, None]
        signal = (power - variance).clamp_min(0).sqrt()
        largest = (power.sqrt() * 100).clamp_min(1e-30)
        thresholds = torch.where(signal > 0, variance / signal.clamp_min(1e-30), largest)
        shape = (len(noise), self.settings.levels, 3)
        return {"noise": noise, "thresholds": torch.minimum(thresholds, largest).reshape(shape)}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Shrink, (n, bands, y, x)."""
        cube = tile["cube"]
        limits = state["thresholds"].to(cube.device, cube.dtype)
        if len(limits) != cube.shape[1]:
            raise BandMismatch(
                f"the thresholds are of {len(limits)} bands and the cube has {cube.shape[1]}: fit it here"
            )
        pyramid = self.wavelets.analyse(cube)
        levels = limits.flatten(1)[:, :, None, None].unbind(1)
        details = [soft(d, limit) for d, limit in zip(pyramid.subbands[1:], levels, strict=True)]
        return {"cube": self.wavelets.synthesise(pyramid.with_subbands([pyramid.subbands[0], *details]))}

    def memory(self, size: Size) -> dict[str, int]:
        """The mirrored bands, their coefficients and the answer."""
        pixels = extended_pixels(self.wavelets, size.rows, size.cols) * size.bands * 4
        return {"fit": 5 * pixels, "apply": 6 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Median noise."""
        return {"median_noise": float(f"{float(state['noise'].median()):.6g}")}
