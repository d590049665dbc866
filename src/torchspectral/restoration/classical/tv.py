"""Total variation of each band, or of the whole cube along space and spectrum."""

from __future__ import annotations

from typing import Literal

import torch

from torchspectral.engine.method import AnySettings, Size, State, Tile
from torchspectral.ops.total_variation import tv_denoise
from torchspectral.restoration.classical.noise_fitted import NoiseFitted
from torchspectral.settings import Settings, setting

CHUNK = 1 << 18
"""Values of bands that are worked on together where bands do not depend on each other: they stay in the cache."""


class TotalVariationSettings(Settings):
    """Total variation."""

    along: Literal["cube", "bands"] = setting(
        "cube", "cube: differences to the next row, column and band together; bands: each band by itself"
    )
    weight: float = setting(
        0.7, "weight of the total variation, in standard deviations of the noise (cube: their quadratic mean)", ge=0
    )
    sigma: float | None = setting(
        None, "standard deviation of the noise; None: that of each band, found by regression on the others", ge=0
    )
    iterations: int = setting(50, "iterations of the fast gradient projection", ge=1, le=500)


class TotalVariation(NoiseFitted):
    """min |x - y|^2 / 2 + weight TV(x), isotropic (Rudin, Osher and Fatemi).

    With along="bands" each band has a weight by its own noise; with along="cube" all share one, so that the spectrum
    is smoothed as well.

    State
    -----
    noise : Tensor, shape (bands,)

    References
    ----------
    Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 60, 1992. Beck and
    Teboulle, "Fast gradient-based algorithms for constrained total variation image denoising and deblurring problems",
    IEEE TIP 18(11), 2009.
    """

    Settings = TotalVariationSettings

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.halo = self.settings.iterations + 1

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Minimise, (n, bands, y, x)."""
        cube, s = tile["cube"], self.settings
        noise = self.noise(cube, state).to(cube)
        if s.along == "cube":
            level = float(noise.square().mean().sqrt())
            return {"cube": tv_denoise(cube, s.weight * level, axes=(-3, -2, -1), iterations=s.iterations)}
        # The total variation of a multiple is the multiple of it: bands in units of their noise have one weight.
        out, scale = cube.clone(), noise[:, None, None]
        live = (noise > 0).nonzero()[:, 0]
        for some in live.split(max(1, CHUNK // max(1, cube[:, 0].numel()))):
            unit = cube[:, some] / scale[some]
            out[:, some] = tv_denoise(unit, s.weight, iterations=s.iterations) * scale[some]
        return {"cube": out}

    def memory(self, size: Size) -> dict[str, int]:
        """Of the whole cube nine copies for its slopes and their multipliers; of single bands a copy."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": pixels, "apply": (14 if self.settings.along == "cube" else 3) * pixels}
