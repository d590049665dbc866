"""Wavelet shrinkage of each band by itself."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.restoration.classical.wavelets import Bands, analyse, extend, synthesise
from torchspectral.settings import Settings, setting

SAMPLE = 128
"""Rows and columns of finest coefficients, evenly over the scene, from which the noise is told."""


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
        self.multiple = 2**self.settings.levels
        reach = 2 * (2 * self.settings.moments - 1) * (self.multiple - 1)
        self.halo = -(-reach // self.multiple) * self.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Noise and the power of each sub-band in one pass."""
        if state is not None and "thresholds" in state:
            return state
        rows, cols = source.info.shape
        stride = (max(1, rows // (2 * SAMPLE)), max(1, cols // (2 * SAMPLE)))

        def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
            _, details = self._analysed(tile["cube"][0])
            power = tile["cube"].new_zeros(tile["cube"].shape[1], self.settings.levels, 3, dtype=torch.float64)
            count = torch.zeros(self.settings.levels, dtype=torch.float64)
            for level, three in enumerate(details):
                cores = [self._core(tile, d, level + 1) for d in three]
                count[level] = cores[0][0].numel()
                power[:, level] = torch.stack([c.double().square().sum((1, 2)) for c in cores], 1)
            finest = self._core(tile, details[0][2], 1)
            top, left = (-(start // 2) % s for start, s in zip((tile.inner.row, tile.inner.col), stride, strict=True))
            picked = finest[:, top :: stride[0], left :: stride[1]].abs().reshape(len(finest), -1).cpu()
            return power.cpu(), count, [picked]

        power, count, picked = source.reduce(sums, lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]))
        sizes = torch.cat(picked, 1)
        noise = sizes.double().median(1).values / 0.6745
        if self.settings.sigma is not None:
            noise = torch.full_like(noise, self.settings.sigma)
        power = power / count.clamp_min(1)[None, :, None]
        signal = (power - noise.square()[:, None, None]).clamp_min(0).sqrt()
        largest = (power.sqrt() * 100).clamp_min(1e-30)
        thresholds = torch.where(signal > 0, noise.square()[:, None, None] / signal.clamp_min(1e-30), largest)
        return {"noise": noise, "thresholds": torch.minimum(thresholds, largest)}

    def _analysed(self, images: torch.Tensor) -> tuple[torch.Tensor, Bands]:
        return analyse(extend(images, self.halo, self.multiple), self.settings.moments, self.settings.levels)

    def _core(self, tile: Tile, coefficients: torch.Tensor, level: int) -> torch.Tensor:
        step = 2**level
        cuts = []
        for start, offset, size in (
            (tile.inner.row, tile.window.row, tile.inner.height),
            (tile.inner.col, tile.window.col, tile.inner.width),
        ):
            first = (start - offset + self.halo) // step
            cuts.append(slice(first, first + max(1, -(-size // step))))
        return coefficients[:, cuts[0], cuts[1]]

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Shrink, (n, bands, y, x)."""
        cube = tile["cube"]
        limits = state["thresholds"].to(cube.device, cube.dtype)
        if len(limits) != cube.shape[1]:
            raise BandMismatch(
                f"the thresholds are of {len(limits)} bands and the cube has {cube.shape[1]}: fit it here"
            )
        coarse, details = self._analysed(cube)
        shrunk: Bands = []
        for level, three in enumerate(details):
            limit = limits[:, level, :, None, None].unbind(1)
            across, along, both = (soft(d, t) for d, t in zip(three, limit, strict=True))
            shrunk.append((across, along, both))
        out = synthesise(coarse, shrunk, self.settings.moments)
        height, width = cube.shape[-2:]
        return {"cube": out[..., self.halo : self.halo + height, self.halo : self.halo + width]}

    def memory(self, size: Size) -> dict[str, int]:
        """The mirrored bands, their coefficients and the answer."""
        pixels = (size.rows + 3 * self.halo) * (size.cols + 3 * self.halo) * size.bands * 4
        return {"fit": 5 * pixels, "apply": 6 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Median noise."""
        return {"median_noise": float(f"{float(state['noise'].median()):.6g}")}


def soft(values: torch.Tensor, limit: torch.Tensor | float) -> torch.Tensor:
    """Soft thresholding."""
    return values.sign() * (values.abs() - limit).clamp_min(0)
