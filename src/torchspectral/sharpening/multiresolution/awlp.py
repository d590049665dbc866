"""AWLP: additive wavelet luminance proportional."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch

from torchspectral.engine.method import SceneInfo, Source, State, Tile
from torchspectral.ops.filters import atrous_lowpass, atrous_reach
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import (
    RESIZE_REACH,
    Injection,
    InjectionSettings,
    check_count,
    merge_sums,
    per_band,
    reduce_enlarge,
    safe_ratio,
)
from torchspectral.sharpening.upsampled import Upsampled, band_groups


class AWLPSettings(InjectionSettings):
    """Settings of AWLP."""

    floor: float = setting(
        0.05, "the mean of the bands is held at this share of its mean over the scene; 0: not held", ge=0, lt=1
    )
    largest: float = setting(10.0, "largest factor by which a value may grow", gt=1)


class AWLP(Injection):
    """Additive wavelet luminance proportional: F_b = M_b + M_b / mean_k(M_k) (P_b - low-pass P_b).

    P_b is the PAN with mean and standard deviation of band b. The detail is shared out in proportion to the spectrum,
    which fails where the mean of the bands comes near zero or a band is negative (water, shadow, corrected
    reflectance). There the mean is held at a floor, values of M_b at or below zero are left as they are, and no value
    turns negative or grows without limit; how often each happened is reported (not with ``compat="authors-code"``).

    References
    ----------
    Otazu, Gonzalez-Audicana, Fors, Nunez, "Introduction of sensor spectral response into image fusion methods", IEEE
    TGRS 43 (2005).
    Vivone, Alparone, Garzelli, Lolli, "Fast reproducible pansharpening based on instrument and acquisition modeling:
    AWLP revisited", Remote Sensing 11 (2019).
    """

    Settings: ClassVar[type[Settings]] = AWLPSettings
    needs_fit = True

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: interpolator, wavelet and reduction."""
        ratio = self.check_ratio(info)
        self.halo = max(interpolation_halo(ratio), -(-atrous_reach(ratio) // ratio) + 1, RESIZE_REACH)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass for the moments; a second one counts what the floor holds."""
        s = source.reduce(self._sums, merge_sums)
        n = check_count(s["n"], "the PAN")
        mean = s["total"] / n
        variance = ((s["power"] - n * mean.square()) / (n - 1)).clamp_min(0)
        low = float(s["low"] / n)
        spread = float(s["low2"] - n * low**2) / (n - 1)
        spread = spread if spread > 1e-13 * low**2 else 0.0
        slope = safe_ratio(variance.sqrt(), torch.full_like(variance, max(spread, 0.0) ** 0.5))
        floor = 0.0 if self.as_authors else self.settings.floor * abs(float(mean.mean()))
        held = source.reduce(partial(self._held, floor=floor), torch.add)
        return {"slope": slope, "floor": floor, "held": int(held), "not_positive": s["not_positive"]}

    def _sums(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        low = up.masked(tile.core(reduce_enlarge(tile["pan"].double(), up.ratio)))
        return {
            "n": torch.tensor(float(up.count), dtype=torch.float64),
            "total": up.total(),
            "power": up.power(),
            "low": low.sum(),
            "low2": low.square().sum(),
            "not_positive": (tile.core_pixels("cube") <= 0).sum(1),
        }

    def _luminance(self, up: Upsampled) -> torch.Tensor:
        bands = up.low.shape[1]
        return up.combine(torch.full((bands,), 1 / bands, dtype=torch.float64, device=up.low.device))

    def _held(self, tile: Tile, floor: float) -> torch.Tensor:
        up = Upsampled(tile, self.border)
        return (self._luminance(up)[up.valid] <= floor).sum()

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Inject the detail into the core of a tile."""
        up = Upsampled(tile, self.border)
        image = up.image()
        pan = tile["pan"].double()
        detail = tile.core(pan - atrous_lowpass(pan, up.ratio))
        luminance = self._luminance(up)
        if self.as_authors:
            share = (detail / (luminance + torch.finfo(torch.float64).eps)).to(image.dtype)
            return {"cube": image.addcmul_(image, share * per_band(state["slope"], image))}
        floor = max(float(state["floor"]), torch.finfo(torch.float32).tiny)
        share, slope = (detail / luminance.clamp_min(floor)).to(image.dtype), per_band(state["slope"], image)
        for some in band_groups(image):
            part = image[:, some]
            change = (share * slope[:, some]).clamp_(-1, self.settings.largest - 1)
            part.addcmul_(part.clamp_min(0), change)
        return {"cube": image}

    def figures(self, state: State) -> dict[str, Any]:
        """Where proportional detail means nothing: the floor, fine pixels held, coarse values at or below zero."""
        counts = state["not_positive"].tolist()
        return {
            "luminance_floor": float(state["floor"]),
            "pixels_held": int(state["held"]),
            "values_not_positive": int(sum(counts)),
            "values_not_positive_by_band": {number: count for number, count in enumerate(counts, 1) if count},
        }
