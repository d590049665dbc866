"""The adaptive Wiener filter of each band over a small window."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from torchspectral.engine.method import AnySettings, Size, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.restoration.classical.noise_fitted import NoiseFitted
from torchspectral.settings import Settings, setting


class WienerSettings(Settings):
    """Adaptive Wiener filter."""

    window: int = setting(5, "rows and columns of the window; odd", unit="pixel", ge=3, le=63)
    bands: int = setting(1, "bands of the window; odd", unit="band", ge=1, le=31)
    sigma: float | None = setting(
        None, "standard deviation of the noise; None: that of each band, found by regression on the others", ge=0
    )


class Wiener(NoiseFitted):
    """Each value is drawn to the mean of its window by the share of noise in the variance there.

    out = m + max(v - s^2, 0) / max(v, s^2) (y - m), with mean m and variance v of the window and noise s of the band.
    Windows end at the edges of the scene.

    State
    -----
    noise : Tensor, shape (bands,)

    References
    ----------
    Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE TPAMI 2(2), 1980.
    """

    Settings = WienerSettings

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        for name in ("window", "bands"):
            if getattr(self.settings, name) % 2 == 0:
                raise BadSettings(f"got {name}={getattr(self.settings, name)}, expected an odd number")
        self.halo = self.settings.window // 2

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Filter, (n, bands, y, x)."""
        cube = tile["cube"]
        # Variances are differences of large numbers: sums in float64.
        values = cube.double()
        power = self.noise(cube, state).to(values).square()[:, None, None]
        count = self._sums(torch.ones_like(values[:1, :1]).expand(1, values.shape[1], -1, -1))
        mean = self._sums(values) / count
        spread = (self._sums(values.square()) / count - mean.square()).clamp_min_(0)
        share = (spread - power).clamp_min_(0) / torch.maximum(spread, power).clamp_min_(1e-300)
        still = power <= 0
        return {"cube": torch.where(still, values, mean + share * (values - mean)).to(cube.dtype)}

    def _sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the window, which ends at the edges."""
        s = self.settings
        beside, about = s.window // 2, s.bands // 2
        wide = F.pad(values, (beside, beside, beside, beside, about, about))
        return F.avg_pool3d(wide[:, None], (s.bands, s.window, s.window), 1, divisor_override=1)[:, 0]

    def memory(self, size: Size) -> dict[str, int]:
        """Six cubes in float64."""
        pixels = size.rows * size.cols * size.bands * 8
        return {"fit": pixels, "apply": 6 * pixels}
