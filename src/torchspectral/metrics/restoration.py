"""Metrics as the restoration papers compute them, and figures that need no truth.

References
----------
Lai, Chen, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV 2023; Lai, Fu, "Mixed attention
network for hyperspectral image denoising", 2023 (protocol "hsir"). Bioucas-Dias, Nascimento, "Hyperspectral subspace
identification", IEEE TGRS 46 (2008) (noise by regression).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from torchspectral.errors import BadInput, BadSettings
from torchspectral.metrics.base import Metric
from torchspectral.metrics.pointwise import PSNR
from torchspectral.metrics.windows import SSIM
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.noise import regression_noise

PROTOCOL_RANGE = {"hsir": 2.0, "mp-hsir": 1.0}
"""Data range of the structural similarity in published tables. HSDT, MAN and HSIR gave scikit-image none, and its
versions before 0.20 then took 2 for floating-point images; their figures are higher than those of range 1."""


class MPSNR(PSNR):
    """Mean over bands of the peak signal-to-noise ratio [dB] with a fixed peak.

    Parameters
    ----------
    peak : float
    cap : float, optional
        Largest value that a band counts with; by default a perfect band makes the mean infinite, as in HSIR.
    """

    name: ClassVar[str] = "MPSNR"

    def __init__(self, peak: float = 1.0, cap: float | None = None) -> None:
        super().__init__(peak)
        self.cap = cap

    @property
    def perfect(self) -> int:
        """Bands without any error."""
        return int((self.mse == 0).sum())

    def bands(self) -> torch.Tensor:
        """Of each band."""
        found = super().bands()
        return found if self.cap is None else found.clamp_max(self.cap)


class MSSIM(SSIM):
    """Structural similarity with scikit-image's 7 x 7 window, mean over bands.

    Parameters
    ----------
    data_range : float, optional
        Span of the values; 1 by default.
    protocol : {"", "hsir", "mp-hsir"}
        The data range of published tables, see `PROTOCOL_RANGE`.
    """

    name: ClassVar[str] = "MSSIM"

    def __init__(self, data_range: float | None = None, protocol: str = "") -> None:
        if protocol and protocol not in PROTOCOL_RANGE:
            raise BadSettings(f"got protocol {protocol!r}, expected one of {', '.join(PROTOCOL_RANGE)}")
        if protocol and data_range not in (None, PROTOCOL_RANGE[protocol]):
            raise BadSettings(f"got data range {data_range} with protocol {protocol}, expected one of them")
        super().__init__(PROTOCOL_RANGE[protocol] if protocol else 1.0 if data_range is None else data_range)


class MeanAngle(Metric):
    """Mean spectral angle of the restoration papers [rad]: ``arccos((sum x y + e) / ((|x| + e) (|y| + e)))``.

    Parameters
    ----------
    epsilon : float
        e; identical cubes give almost, not quite, zero.
    degrees : bool
        Degrees instead of radians.
    """

    name: ClassVar[str] = "SAM"

    def __init__(self, epsilon: float = 1e-8, degrees: bool = False) -> None:
        super().__init__()
        self.epsilon, self.degrees = epsilon, degrees

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        rows = output.shape[-2] - context
        out, ref, e = output[:, :rows], truth[:, :rows], self.epsilon
        cosine = ((out * ref).sum(0) + e) / ((out.square().sum(0).sqrt() + e) * (ref.square().sum(0).sqrt() + e))
        angle = torch.acos(cosine.clamp(-1, 1))[valid[:rows]]
        return {"n": valid[:rows].sum().double(), "angle": angle.sum()}

    def compute(self) -> float:
        """Mean angle."""
        angle = float(self.sums["angle"] / self._counted()) if self.sums else float(self._counted())
        return math.degrees(angle) if self.degrees else angle


def noise_std(cube: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Standard deviation of the noise of each band, by regressing it on all the others, shape (band,).

    Parameters
    ----------
    cube : Tensor, shape (band, y, x)
        At least two bands that are not constant; constant ones get zero.
    valid : Tensor of bool, shape (y, x), optional
        Pixels that count; by default those that are finite in all bands.

    Raises
    ------
    BadInput
        Fewer valid pixels than bands, or fewer than two live bands.
    """
    pixels = _pixels(cube, valid)
    bands, n = pixels.shape
    if n <= bands:
        raise BadInput(f"got {n} valid pixels of {bands} bands, expected more pixels than bands to estimate the noise")
    centred = pixels - pixels.mean(1, keepdim=True)
    live = centred.square().mean(1) > 1e-20 * pixels.square().mean(1).clamp_min(1e-300)
    _, _, cross = gram_sums(torch.where(live[:, None], centred, 0.0))
    _, noise = regression_noise(n - int(live.sum()), cross)
    return noise.diagonal().clamp_min(0).sqrt()


def stripe_index(cube: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute difference of the means of neighbouring columns, shape (band,), in the cube's units.

    Parameters
    ----------
    cube : Tensor, shape (band, y, x)
    valid : Tensor of bool, shape (y, x), optional
        By default the values that are finite.

    Raises
    ------
    BadInput
        No two neighbouring columns have values.
    """
    x = cube.double()
    keep = x.isfinite() if valid is None else x.isfinite() & valid
    count = keep.sum(1)
    means = torch.where(keep, x, 0.0).sum(1) / count.clamp_min(1)
    pairs = (count[:, 1:] > 0) & (count[:, :-1] > 0)
    if not bool(pairs.any()):
        raise BadInput("no two neighbouring columns have valid pixels: there are no stripes to measure")
    gaps = (means[:, 1:] - means[:, :-1]).abs()
    return torch.where(pairs, gaps, 0.0).sum(1) / pairs.sum(1).clamp_min(1)


def residual_autocorrelation(
    residual: torch.Tensor, lag: tuple[int, int] = (0, 1), valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Correlation of what a method removed with itself, `lag` rows and columns away, of each band, -1..1.

    White noise has none; structure of the scene in it is signal that was lost. Constant bands give 0.

    Parameters
    ----------
    residual : Tensor, shape (band, y, x)
        Before less after.
    lag : (int, int)
        Rows and columns, not negative.
    valid : Tensor of bool, shape (y, x), optional
        By default the values that are finite.

    Raises
    ------
    BadSettings, BadInput
        The lag is negative, zero or larger than the image.
    """
    down, across = lag
    if min(down, across) < 0 or (down, across) == (0, 0):
        raise BadSettings(f"got lag {lag}, expected rows and columns from 0, not both 0")
    rows, cols = residual.shape[-2:]
    if down >= rows or across >= cols:
        raise BadInput(f"got a lag of {lag} in an image of {rows} x {cols} pixels, expected a smaller one")
    x = residual.double()
    keep = x.isfinite() if valid is None else x.isfinite() & valid
    x = torch.where(keep, x, 0.0)
    mean = x.sum((1, 2)) / keep.sum((1, 2)).clamp_min(1)
    x = torch.where(keep, x - mean[:, None, None], 0.0)
    one, other = x[:, : rows - down, : cols - across], x[:, down:, across:]
    both = keep[:, : rows - down, : cols - across] & keep[:, down:, across:]
    power = (x.square().sum((1, 2)) / keep.sum((1, 2)).clamp_min(1)).clamp_min(1e-300)
    product = torch.where(both, one * other, 0.0).sum((1, 2)) / both.sum((1, 2)).clamp_min(1)
    return (product / power).clamp(-1, 1)


def _pixels(cube: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    if cube.ndim != 3:
        raise BadInput(f"got values of shape {tuple(cube.shape)}, expected (band, y, x)")
    keep = cube.isfinite().all(0) if valid is None else valid & cube.isfinite().all(0)
    return cube[:, keep].double()
