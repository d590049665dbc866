"""GSA: Gram-Schmidt adaptive component substitution."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from torchspectral.engine.method import SceneInfo, Source, State, Tile
from torchspectral.ops.filters import atrous_lowpass, atrous_reach
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.ops.regression import min_norm_solve
from torchspectral.sharpening.injection import Injection, check_count, merge_sums, per_band, safe_ratio
from torchspectral.sharpening.upsampled import Upsampled


class GSA(Injection):
    """Gram-Schmidt adaptive: intensity by regression of the coarse PAN on the bands, detail by covariance gains.

    With I = sum_k alpha_k M_k, F_b = M_b + g_b (P - mean P - (I - mean I)) and g_b = cov(I, M_b) / var(I).

    References
    ----------
    Aiazzi, Baronti, Selva, "Improving component substitution pansharpening through multivariate regression of MS+Pan
    data", IEEE TGRS 45 (2007).
    """

    needs_fit = True

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: the interpolator and the a trous low-pass both look over the tile's edge."""
        ratio = self.check_ratio(info)
        self.halo = max(interpolation_halo(ratio), -(-atrous_reach(ratio) // ratio) + 1)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Two streaming passes: the regression on the coarse grid, then the gains on the fine one."""
        first = source.reduce(self._coarse_sums, merge_sums)
        n_low, n = check_count(first["n_low"], "the coarse PAN", 1), check_count(first["n"], "the PAN")
        cross, bands = first["cross"], first["cross"].shape[0] - 2
        mean = cross[:, -1] / n_low
        covariance = cross - n_low * mean[:, None] * mean[None, :]
        alpha = min_norm_solve(covariance[:bands, :bands], covariance[:bands, bands])
        if not covariance[bands, bands] > 1e-13 * cross[bands, bands]:
            alpha = torch.zeros_like(alpha)  # a constant PAN, but for rounding
        explained = float(alpha @ covariance[:bands, bands])
        offset = float(alpha @ (first["fine"] / n))
        second = source.reduce(partial(self._fine_sums, alpha=alpha, offset=offset), merge_sums)
        mean_i, mean_m = second["intensity"] / n, first["fine"] / n
        spread = second["square"] - n * mean_i**2
        # Below rounding of the sums the intensity is constant: nothing to inject.
        floor = 1e-14 * (second["square"] + n * offset**2)
        spread = torch.where(spread > floor, spread, 0.0)
        gain = safe_ratio(second["product"] - n * mean_i * mean_m, spread)
        return {
            "alpha": alpha,
            "gain": gain,
            "level": float(first["pan"] / n) - offset,
            "r2": explained / max(float(covariance[bands, bands]), 1e-300),
        }

    def _coarse_sums(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        low = atrous_lowpass(tile["pan"].double(), up.ratio, decimated=True)
        rows = torch.cat([tile.core_pixels("cube").double(), tile.core_pixels(low)])
        rows = torch.cat([rows, torch.ones_like(rows[:1])])
        count = torch.tensor([rows.shape[1], up.count], dtype=torch.float64)
        fine = {"fine": up.total(), "pan": up.masked(up.pan).sum()}
        return {"n_low": count[0], "n": count[1], "cross": rows @ rows.T, **fine}

    def _fine_sums(self, tile: Tile, alpha: torch.Tensor, offset: float) -> State:
        up = Upsampled(tile, self.border)
        intensity = up.masked(up.combine(alpha.to(up.low.device)) - offset)
        return {"intensity": intensity.sum(), "square": intensity.square().sum(), "product": up.dot(intensity)}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Inject the detail into the core of a tile."""
        up = Upsampled(tile, self.border)
        # float64 for the one band of detail: the weights are large and of both signs.
        detail = up.pan.double() - state["level"] - up.combine(state["alpha"].double())
        image = up.image()
        return {"cube": image.addcmul_(per_band(state["gain"], image), detail.to(image.dtype))}

    def figures(self, state: State) -> dict[str, Any]:
        """How well the bands explain the coarse PAN."""
        return {"pan_r2": float(state["r2"])}
