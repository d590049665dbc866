"""Metrics that compare pixel by pixel: RMSE, MAE, PSNR, R2, ERGAS, SAM."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from torchspectral.errors import BadSettings
from torchspectral.metrics.base import Metric


class _PerBand(Metric):
    """Sums that the pointwise metrics share."""

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        rows = output.shape[-2] - context
        keep = valid[:rows].reshape(-1)
        out, ref = output[:, :rows].flatten(1)[:, keep], truth[:, :rows].flatten(1)[:, keep]
        error = out - ref
        n = torch.tensor(float(ref.shape[1]), dtype=torch.float64, device=ref.device)
        mean = ref.mean(1) if ref.shape[1] else ref.new_zeros(ref.shape[0])
        spread = (ref - mean[:, None]).square().sum(1)
        if self.sums:  # Chan's update keeps the sum of squares about the mean exact
            before, old = self.sums["n"], self.sums["truth"] / self.sums["n"].clamp_min(1)
            spread = spread + (mean - old).square() * before * n / (before + n).clamp_min(1)
        sums = {"n": n, "squares": error.square().sum(1), "truth": ref.sum(1), "spread": spread}
        sums["absolute"] = error.abs().sum(1)
        top = ref.amax(1) if ref.shape[1] else ref.new_full((ref.shape[0],), -math.inf)
        return {**sums, "max_truth": top}

    def merge(self, other: Metric) -> _PerBand:
        """Take in the sums of another instance."""
        if self.sums and other.sums:
            a, b = self.sums, other.sums
            gap = a["truth"] / a["n"].clamp_min(1) - b["truth"] / b["n"].clamp_min(1)
            extra = gap.square() * a["n"] * b["n"] / (a["n"] + b["n"]).clamp_min(1)
            self._add(b)
            self.sums["spread"] = self.sums["spread"] + extra
        else:
            self._add(other.sums)
        return self

    @property
    def mse(self) -> torch.Tensor:
        """Mean squared error of each band."""
        return self.sums["squares"] / self._counted()


class RMSE(_PerBand):
    """Root of the mean squared error over all bands and pixels; of each band in `bands`."""

    name: ClassVar[str] = "RMSE"

    def bands(self) -> torch.Tensor:
        """Root mean squared error of each band."""
        return self.mse.sqrt()

    def compute(self) -> float:
        """Over all bands at once."""
        return float(self.mse.mean().sqrt())


class MAE(_PerBand):
    """Mean absolute error."""

    name: ClassVar[str] = "MAE"

    def bands(self) -> torch.Tensor:
        """Mean absolute error of each band."""
        return self.sums["absolute"] / self._counted()


class PSNR(_PerBand):
    """Peak signal-to-noise ratio [dB], mean over bands (MPSNR); infinite where a band is perfect.

    Parameters
    ----------
    peak : float, optional
        Peak value. By default the largest value of the truth over all bands.
    """

    name: ClassVar[str] = "PSNR"
    best: ClassVar[str] = "high"
    ideal: ClassVar[float] = math.inf

    def __init__(self, peak: float | None = None) -> None:
        super().__init__()
        if peak is not None and not peak > 0:
            raise BadSettings(f"got a peak of {peak!r}, expected a positive number")
        self.peak = peak

    def bands(self) -> torch.Tensor:
        """Of each band."""
        mse = self.mse
        peak = self.peak if self.peak is not None else float(self.sums["max_truth"].max())
        return 10 * torch.log10(peak**2 / mse)


class R2(_PerBand):
    """Coefficient of determination, mean over bands; 0 for a constant truth that is not met exactly."""

    name: ClassVar[str] = "R2"
    best: ClassVar[str] = "high"
    ideal: ClassVar[float] = 1.0

    def bands(self) -> torch.Tensor:
        """Of each band."""
        self._counted()
        squares, spread = self.sums["squares"], self.sums["spread"]
        flat = (squares == 0).double()
        return torch.where(spread > 0, 1 - squares / spread.clamp_min(torch.finfo(torch.float64).tiny), flat)


class ERGAS(_PerBand):
    """Relative dimensionless global error in synthesis: 100 / ratio * sqrt(mean_b MSE_b / mean_b^2).

    Bands whose truth has mean zero are left out.

    Parameters
    ----------
    ratio : float
        Resolution ratio, coarse pixel over fine pixel.

    References
    ----------
    Wald, "Quality of high resolution synthesised images: is there a simple criterion?", 2000.
    """

    name: ClassVar[str] = "ERGAS"

    def __init__(self, ratio: float = 1.0) -> None:
        super().__init__()
        if not ratio > 0:
            raise BadSettings(f"got ratio {ratio!r}, expected a positive number")
        self.ratio = ratio

    def _relative(self) -> torch.Tensor:
        mean = self.sums["truth"] / self._counted()
        return torch.where(mean != 0, self.mse / mean.square(), torch.nan)

    def bands(self) -> torch.Tensor:
        """Of each band alone; NaN where its mean is zero."""
        return 100 / self.ratio * self._relative().sqrt()

    def compute(self) -> float:
        """Over all bands."""
        return 100 / self.ratio * math.sqrt(float(self._relative().nanmean()))


class SAM(Metric):
    """Mean spectral angle [degrees]; pixels where either spectrum is zero count as 0."""

    name: ClassVar[str] = "SAM"

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        rows = output.shape[-2] - context
        keep = valid[:rows]
        out, ref = output[:, :rows], truth[:, :rows]
        lengths = (out.square().sum(0) * ref.square().sum(0)).sqrt()
        cosine = (out * ref).sum(0) / torch.where(lengths > 0, lengths, 1.0)
        angle = torch.where(lengths > 0, torch.acos(cosine.clamp(-1, 1)), 0.0)
        return {"n": keep.sum().double(), "angle": torch.rad2deg(angle[keep].sum())}

    def compute(self) -> float:
        """Mean angle [degrees]."""
        return float(self.sums["angle"] / self._counted()) if self.sums else float(self._counted())
