"""BT-H: Brovey transform with haze correction."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch

from torchspectral.engine.method import Source, State, Tile
from torchspectral.ops.mtf import lp_filter_gauss
from torchspectral.ops.regression import min_norm_solve
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection, InjectionSettings, check_count, merge_sums, per_band
from torchspectral.sharpening.upsampled import Upsampled

_BINS = 8192
_SPAN = 8.0


class BTHSettings(InjectionSettings):
    """Settings of BT-H."""

    floor_quantile: float = setting(
        1e-3, "quantile of the positive intensities below which intensity is held; 0: no floor", ge=0, lt=0.5
    )


class BTH(Injection):
    """Optimised Brovey transform with haze correction.

    F_b = (M_b - m_b) P' / I + m_b with m_b = min M_b (haze), I = sum_b alpha_b (M_b - m_b) and P' the PAN with mean and
    standard deviation of I. Where I comes near zero the published formula explodes; here I is held at a small quantile
    of its positive values and P' at zero (not with ``compat="authors-code"``).

    References
    ----------
    Lolli, Alparone, Garzelli, Vivone, "Haze correction for contrast-based multispectral pansharpening", IEEE GRSL 14
    (2017).
    """

    Settings: ClassVar[type[Settings]] = BTHSettings
    needs_fit = True
    uses_mtf = True

    def _low_pan(self, tile: Tile, ratio: int) -> torch.Tensor:
        return tile.core(lp_filter_gauss(tile["pan"].double(), ratio, normalize=not self.as_authors))

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One pass for regression, haze and moments; a second one for the floor."""
        sums = source.reduce(self._sums, merge_sums)
        n = check_count(sums["n"], "the PAN")
        alpha = min_norm_solve(sums["gram"], sums["product"])
        haze, mean = sums["min_band"], sums["total"] / n
        covariance = (sums["gram"] - n * mean[:, None] * mean[None, :]) / (n - 1)
        mean_i, var_i = float(alpha @ (mean - haze)), max(float(alpha @ covariance @ alpha), 0.0)
        mean_p = float(sums["pan"] / n)
        var_p = max(float(sums["pan2"] - n * mean_p**2) / (n - 1), 0.0)
        slope = (var_i / var_p) ** 0.5 if var_p > 1e-14 * mean_p**2 else 0.0
        learned: State = {"alpha": alpha, "haze": haze, "offset": float(alpha @ haze), "slope": slope}
        learned |= {"mean_intensity": mean_i, "mean_pan": mean_p, "floor": 0.0, "held": 0}
        if not self.as_authors and self.settings.floor_quantile > 0 and var_i > 0:
            reach = _SPAN * var_i**0.5
            spectrum = partial(
                self._histogram, alpha=alpha, offset=learned["offset"], low=mean_i - reach, high=mean_i + reach
            )
            counts = source.reduce(spectrum, merge_sums)["counts"]
            learned |= self._floor(counts, mean_i - reach, 2 * reach / _BINS)
        return learned

    def _sums(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        low, image = self._low_pan(tile, up.ratio), up.image()
        held = image if up.whole else torch.where(up.valid, image, torch.inf)
        kept = up.masked(low)
        return {
            "n": torch.tensor(float(up.count), dtype=torch.float64),
            "gram": up.gram(),
            "total": up.total(),
            "product": up.dot(low),
            "min_band": held.amin((0, 2, 3)).double(),
            "pan": kept.sum(),
            "pan2": kept.square().sum(),
        }

    def _histogram(self, tile: Tile, alpha: torch.Tensor, offset: float, low: float, high: float) -> State:
        up = Upsampled(tile, self.border)
        values = (up.combine(alpha.to(up.low.device)) - offset)[up.valid].clamp(low, high)
        return {"counts": torch.histc(values.cpu(), bins=_BINS, min=low, max=high)}

    def _floor(self, counts: torch.Tensor, low: float, width: float) -> State:
        edges = low + width * torch.arange(1, len(counts) + 1, dtype=torch.float64)
        positive = torch.where(edges > 0, counts, 0.0)
        share = positive.cumsum(0) / positive.sum().clamp_min(1)
        index = int(torch.searchsorted(share, self.settings.floor_quantile))
        floor = max(float(edges[min(index, len(edges) - 1)]), 0.0)
        return {"floor": floor, "held": int(counts[edges <= floor].sum())}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Modulate the core of a tile."""
        up = Upsampled(tile, self.border)
        intensity = up.combine(state["alpha"].double()) - state["offset"]
        pan = (up.pan.double() - state["mean_pan"]) * state["slope"] + state["mean_intensity"]
        if self.as_authors:
            modulation = pan / (intensity + torch.finfo(torch.float64).eps)
        elif state["slope"] == 0:
            modulation = torch.ones_like(pan)
        else:
            floor = max(state["floor"], torch.finfo(torch.float32).tiny)
            modulation = pan.clamp_min(0) / intensity.clamp_min(floor)
        image = up.image()
        haze = per_band(state["haze"], image)
        return {"cube": image.sub_(haze).clamp_min_(0).mul_(modulation.to(image.dtype)).add_(haze)}

    def figures(self, state: State) -> dict[str, Any]:
        """Floor of the intensity and how many fine pixels it held."""
        return {"intensity_floor": float(state["floor"]), "pixels_held": int(state["held"])}
