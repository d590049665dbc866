"""Settings of guided fusion."""

from __future__ import annotations

from typing import Literal

from torchspectral.settings import setting
from torchspectral.sharpening.fusion import FusionSettings


class GuidedSettings(FusionSettings):
    """Settings of guided fusion."""

    ridge: float = setting(1e-3, "lambda of the ridge regression; 1e-2 for noisy guides", ge=0)
    mtf_gain: float = setting(
        0.0, "amplitude of the cube's MTF at Nyquist; 0: the sensor's own, 0.3 where unknown", ge=0, lt=1
    )
    register_shift: bool = setting(True, "find one sub-pixel shift of the guides and undo it")
    max_shift: float = setting(2.0, "largest shift searched for", unit="coarse pixel", ge=0, le=8)
    robust: bool = setting(True, "places where the two scenes differ count less in the search for the shift")
    register_with: tuple[int, ...] = setting((), "guides that are compared, numbers from 0; empty: all")
    products: tuple[int, ...] = setting(
        (),
        "product of each guide, numbers from 0: one that clearly lies elsewhere gets a shift of its own; empty: all one",
    )
    centres: Literal["benchmark", "footprint"] = setting(
        "benchmark",
        "where a coarse pixel stands at even ratios: on fine pixel R k + R // 2 as in the benchmark's simulated data, "
        "or in the middle of its footprint as in real products",
    )
    min_valid: float = setting(0.5, "guides that are masked in more of the scene than the rest are dropped", ge=0, le=1)
    outside: Literal["inject", "interpolate"] = setting(
        "inject", "bands beyond the guides' wavelengths: detail as far as the regression has it, or none"
    )
    window: int = setting(7, "window of the local confidence", unit="coarse pixel", ge=1, le=31)
