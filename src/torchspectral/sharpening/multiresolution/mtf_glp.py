"""The MTF-GLP family: detail from a generalised Laplacian pyramid whose filter imitates the sensor's MTF."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from torchspectral.engine.method import Source, State, Tile
from torchspectral.ops.mtf import lp_filter_gauss
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import (
    Injection,
    InjectionSettings,
    SensorSettings,
    check_count,
    merge_sums,
    per_band,
    safe_ratio,
)
from torchspectral.sharpening.upsampled import Upsampled, band_groups


class _GLP(Injection):
    """The pyramid: P_L = A(decimate(MTF(P))), computed once for all bands, and sums over the scene."""

    Settings: ClassVar[type[Settings]] = SensorSettings
    needs_fit = True
    uses_mtf = True

    def low_pan(self, tile: Tile, up: Upsampled) -> torch.Tensor:
        """P_L on the core, float64, (n, 1, y, x)."""
        return up.interpolate(self.coarse_pan(tile, up.ratio).double())

    def sums(self, tile: Tile) -> State:
        """What every member of the family needs."""
        up = Upsampled(tile, self.border)
        pan, low = up.masked(up.pan), up.masked(self.low_pan(tile, up))
        equal = up.masked(tile.core(lp_filter_gauss(tile["pan"].double(), up.ratio, normalize=not self.as_authors)))
        planes = torch.stack([torch.ones_like(pan) if up.whole else up.valid.double(), pan, low, equal]).flatten(1)
        return {
            "planes": planes @ planes.T,
            "total": up.total(),
            "power": up.power(),
            "with_pan": up.dot(pan),
            "with_low": up.dot(low),
            "below_zero": (tile.core_pixels("cube") <= 0).sum().double(),
        }

    def moments(self, source: Source) -> dict[str, torch.Tensor]:
        """Means, variances and covariances over the scene."""
        s = source.reduce(self.sums, merge_sums)
        p, n = s["planes"], float(check_count(s["planes"][0, 0], "the PAN"))
        mean = p[0] / n
        spread = (p - n * mean[:, None] * mean[None, :]) / (n - 1)
        # What rounding leaves of a constant image counts as no variance.
        varies = spread.diagonal() > 1e-13 * mean.square()
        spread = torch.where(varies[:, None] & varies[None, :], spread, 0.0)
        band = s["total"] / n
        variance = ((s["power"] - n * band.square()) / (n - 1)).clamp_min(0)
        return {
            "pan": mean[1],
            "var_pan": spread[1, 1],
            "var_low": spread[2, 2],
            "var_equal": spread[3, 3],
            "cov_low_pan": spread[1, 2],
            "band": band,
            "std": variance.sqrt(),
            "cov_pan": (s["with_pan"] - n * band * mean[1]) / (n - 1),
            "cov_low": (s["with_low"] - n * band * mean[2]) / (n - 1),
            "below_zero": s["below_zero"],
        }

    def figures(self, state: State) -> dict[str, Any]:
        """How many coarse values are zero or negative, where ratios mean nothing."""
        return {"values_not_positive": int(state["below_zero"])}


class MTFGLPFS(_GLP):
    """MTF-GLP with full-scale gains: F_b = M_b + g_b (P - P_L), g_b = cov(M_b, P) / cov(P_L, P).

    Additive: safe on water and on negative values.

    References
    ----------
    Vivone, Restaino, Chanussot, "Full scale regression-based injection coefficients for panchromatic sharpening", IEEE
    TIP 27 (2018).
    """

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass."""
        m = self.moments(source)
        return {"gain": safe_ratio(m["cov_pan"], m["cov_low_pan"]), "below_zero": int(m["below_zero"])}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Inject the detail into the core of a tile."""
        up = Upsampled(tile, self.border)
        image = up.image()
        detail = (up.pan.double() - self.low_pan(tile, up)).to(image.dtype)
        return {"cube": image.addcmul_(per_band(state["gain"], image), detail)}


class ModulationSettings(InjectionSettings):
    """Settings of high-pass modulation, whatever the low-pass."""

    largest: float = setting(10.0, "largest ratio of PAN and low-pass PAN", gt=1)
    floor: float = setting(0.05, "the low-pass PAN is held at this share of the band's mean; 0: not held", ge=0, lt=1)


class HPMSettings(ModulationSettings, SensorSettings):
    """Settings of the multiplicative members."""


class HighPassModulation(_GLP):
    """High-pass modulation: F_b = M_b clip(P_b / P_Lb, 0, largest), with P_b = a_b P + c_b.

    Ratios break where a band is near zero or negative (water, shadow). There, values of M_b at or below zero are left
    as they are, and P_Lb is held at a share of the band's mean (not with ``compat="authors-code"``).
    """

    Settings: ClassVar[type[Settings]] = HPMSettings

    def line(self, m: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Slope a_b and offset c_b of the equalised PAN."""
        raise NotImplementedError

    equalised_before: ClassVar[bool] = True
    """Whether the offset is added before the low-pass: its kernel does not sum to 1 in the authors' code."""

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass."""
        m = self.moments(source)
        slope, offset = self.line(m)
        return {"slope": slope, "offset": offset, "mean": m["band"], "below_zero": int(m["below_zero"])}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Modulate the core of a tile."""
        up = Upsampled(tile, self.border)
        image = up.image()
        fine, low = up.pan, self.low_pan(tile, up).to(image.dtype)
        unit = None
        if self.equalised_before and self.as_authors:
            unit = up.interpolate(self.coarse_pan(_ones(tile), up.ratio).double()).to(image.dtype)
        for some in band_groups(image):
            slope, offset, mean = (per_band(state[name][some], image) for name in ("slope", "offset", "mean"))
            below = (offset if unit is None else offset * unit) + slope * low
            part = image[:, some]
            if self.as_authors:
                ratio = (offset + slope * fine) / (below + torch.finfo(image.dtype).eps)
                part.mul_(ratio.clamp_(0, self.settings.largest))
                continue
            floor = (mean.abs() * self.settings.floor).clamp_min(torch.finfo(torch.float32).tiny)
            change = (slope * (fine - low) / torch.maximum(below, floor)).clamp_(-1, self.settings.largest - 1)
            part.addcmul_(part.clamp_min(0), change)
        return {"cube": image}


def _ones(tile: Tile) -> Tile:
    data = {**tile.data, "pan": torch.ones_like(tile["pan"])}
    return Tile(data, tile.window, tile.inner, tile.valid, tile.info)


class MTFGLPHPM(HighPassModulation):
    """MTF-GLP with high-pass modulation; the PAN is equalised to mean and standard deviation of each band.

    References
    ----------
    Aiazzi, Alparone, Baronti, Garzelli, Selva, "An MTF-based spectral distortion minimizing model for pan-sharpening of
    very high resolution multispectral images of urban areas", GRSS/ISPRS workshop on urban areas (2003).
    Vivone et al., "Contrast and error-based fusion schemes for multispectral image pansharpening", IEEE GRSL 11 (2014).
    """

    def line(self, m: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """P_b = (P - mean P) sd(M_b) / sd(P low) + mean M_b."""
        slope = safe_ratio(m["std"], m["var_equal"].sqrt().expand_as(m["std"]))
        return slope, m["band"] - slope * m["pan"]


class MTFGLPHPMR(HighPassModulation):
    """MTF-GLP with high-pass modulation and regression.

    P_b = P + mean(M_b) / g_b - mean P with g_b = cov(M_b, P_L) / var(P_L).

    References
    ----------
    Vivone, Restaino, Chanussot, "A regression-based high-pass modulation pansharpening approach", IEEE TGRS 56 (2018).
    """

    equalised_before = False

    def line(self, m: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Both sides of the ratio times g_b, so that a band without detail gets the ratio 1."""
        gain = safe_ratio(m["cov_low"], m["var_low"].expand_as(m["cov_low"]))
        return gain, m["band"] - gain * m["pan"]
