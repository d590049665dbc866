"""EXP: the interpolated hyperspectral image, without any detail. The line that every method must beat."""

from __future__ import annotations

import torch

from torchspectral.engine.method import State, Tile
from torchspectral.sharpening.injection import Injection
from torchspectral.sharpening.upsampled import Upsampled


class EXP(Injection):
    """Ideal interpolation to the PAN's grid; the PAN gives the grid and nothing else.

    References
    ----------
    Aiazzi et al., "Context-driven fusion of high spatial and spectral resolution images based on oversampled
    multiresolution analysis", IEEE TGRS 40 (2002).
    """

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Interpolate the core of a tile."""
        return {"cube": Upsampled(tile, self.border).image()}
