"""Filters of each spectrum by itself: Savitzky-Golay smoothing, and spikes taken out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from torchspectral.engine.method import AnySettings, Input, Method, Output, Scope, Size, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.settings import Settings, setting


class SavitzkyGolaySettings(Settings):
    """Savitzky-Golay smoothing."""

    window: int = setting(7, "bands of a window; odd", unit="band", ge=3, le=101)
    degree: int = setting(2, "degree of the polynomial", ge=0, le=10)


class SavitzkyGolay(Method):
    """Least-squares polynomial over a sliding window of bands; the ends are read off the first and last window.

    Bands count as equally spaced. Scenes of fewer bands than the window get the largest window that fits.

    References
    ----------
    Savitzky and Golay, "Smoothing and differentiation of data by simplified least squares procedures", Analytical
    Chemistry 36(8), 1964.
    """

    Settings = SavitzkyGolaySettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.PIXEL

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        if self.settings.window % 2 == 0:
            raise BadSettings(f"got window={self.settings.window}, expected an odd number of bands")
        if self.settings.degree >= self.settings.window:
            raise BadSettings(
                f"got degree={self.settings.degree}, expected less than the window, {self.settings.window}"
            )

    def matrix(self, bands: int) -> torch.Tensor:
        """The smoother as a matrix, (bands, bands), float64."""
        window = min(self.settings.window, bands if bands % 2 else bands - 1)
        degree = min(self.settings.degree, window - 1)
        half = window // 2
        at = torch.arange(-half, half + 1, dtype=torch.float64) / max(half, 1)
        powers = at[:, None] ** torch.arange(degree + 1)
        projection = powers @ torch.linalg.pinv(powers)
        out = torch.zeros(bands, bands, dtype=torch.float64)
        for band in range(bands):
            start = min(max(0, band - half), bands - window)
            out[band, start : start + window] = projection[band - start]
        return out

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Smooth, (n, bands, y, x)."""
        cube = tile["cube"]
        return {"cube": torch.einsum("cb,nbyx->ncyx", self.matrix(cube.shape[1]).to(cube), cube)}


class DespikeSettings(Settings):
    """Spikes along the spectrum."""

    window: int = setting(5, "bands of the median; odd", unit="band", ge=3, le=31)
    threshold: float = setting(
        8.0, "standard deviations of the noise from the median above which a value is a spike", gt=0
    )


class Despike(Method):
    """Values far from the median of their neighbours along the spectrum are replaced by it.

    Far means more than `threshold` standard deviations of the pixel's noise, which the median of its second differences
    along the bands tells; all other values come back as they were.

    References
    ----------
    Hampel, "The influence curve and its role in robust estimation", JASA 69(346), 1974.
    """

    Settings = DespikeSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"), Output("spikes", kind="layers", names=("spikes",), undo_scale=False))
    scope = Scope.PIXEL

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        if self.settings.window % 2 == 0:
            raise BadSettings(f"got window={self.settings.window}, expected an odd number of bands")

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Replace spikes, (n, bands, y, x), and count them, (n, 1, y, x)."""
        cube = tile["cube"]
        n, bands, height, width = cube.shape
        half = min(self.settings.window, bands if bands % 2 else bands - 1) // 2
        if half < 1:
            return {"cube": cube, "spikes": cube.new_zeros(n, 1, height, width)}
        flat = cube.reshape(n, bands, -1).transpose(1, 2)
        middle = F.pad(flat, (half, half), mode="reflect").unfold(2, 2 * half + 1, 1).median(-1).values
        rest = (flat - middle).abs()
        # On a slope the median is the value itself: curvature, not the distance from the median, tells the noise.
        level = flat.diff(n=2, dim=2).abs().median(2, keepdim=True).values * (1.4826 / 6**0.5)
        floor = 1e-6 * flat.abs().amax(2, keepdim=True)
        spike = rest > self.settings.threshold * torch.maximum(level, floor).clamp_min(1e-30)
        out = torch.where(spike, middle, flat).transpose(1, 2).reshape(cube.shape)
        return {"cube": out, "spikes": spike.sum(2).reshape(n, 1, height, width).to(cube.dtype)}

    def memory(self, size: Size) -> dict[str, int]:
        """All windows of all pixels."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 0, "apply": pixels * (2 * self.settings.window + 6)}
