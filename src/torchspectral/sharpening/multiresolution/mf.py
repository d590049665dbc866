"""MF: morphological half-gradient filters."""

from __future__ import annotations

from math import gcd
from typing import ClassVar

import torch

from torchspectral.engine.method import SceneInfo, Tile
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.ops.morphology import half_gradient_lowpass, pyramid_steps
from torchspectral.settings import Settings
from torchspectral.sharpening.injection import safe_ratio
from torchspectral.sharpening.multiresolution.mtf_glp import HighPassModulation, ModulationSettings
from torchspectral.sharpening.upsampled import Upsampled


class MF(HighPassModulation):
    """Morphological filters: F_b = M_b clip(P_b / P_Lb, 0, largest).

    P_b is the PAN with mean and standard deviation of band b and P_Lb the coarsest level of its half-gradient pyramid,
    which keeps edges where linear filters blur them. The pyramid commutes with the matching, so that one serves all
    bands. Ratios are guarded as in MTF-GLP-HPM.

    References
    ----------
    Restaino, Vivone, Dalla Mura, Chanussot, "Fusion of multispectral and panchromatic images based on morphological
    operators", IEEE TIP 25 (2016).
    """

    Settings: ClassVar[type[Settings]] = ModulationSettings
    uses_mtf = False
    equalised_before = False

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo, and the multiple that keeps the pyramid's grid in place."""
        ratio = self.check_ratio(info)
        block = 2 ** pyramid_steps(ratio)
        self.halo = max(interpolation_halo(ratio), -(-4 * block // ratio) + 1)
        self.multiple = block // gcd(block, ratio)

    def low_pan(self, tile: Tile, up: Upsampled) -> torch.Tensor:
        """P_L on the core, float64, (n, 1, y, x)."""
        return tile.core(half_gradient_lowpass(tile["pan"].double(), up.ratio, stretch=self.as_authors))

    def line(self, m: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """P_b = (P - mean P) sd(M_b) / sd(P) + mean M_b."""
        slope = safe_ratio(m["std"], m["var_pan"].sqrt().expand_as(m["std"]))
        return slope, m["band"] - slope * m["pan"]
