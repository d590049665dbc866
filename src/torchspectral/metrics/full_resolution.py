"""Metrics without a truth: D_lambda, D_s, D_rho and QNR of a fused image against what it was made from.

References
----------
Khan, Alparone, Chanussot, "Pansharpening quality assessment using the modulation transfer functions of instruments",
IEEE TGRS 47 (2009) (D_lambda). Alparone, Garzelli, Vivone, "Spatial consistency for full-scale assessment of
pansharpening", IGARSS 2018 (D_sR). Scarpa, Ciotola, "Full-resolution quality assessment for pansharpening", Remote
Sens. 14 (2022) (D_rho).
"""

from __future__ import annotations

from typing import Self

import torch

from torchspectral.errors import BadInput, GridMismatch
from torchspectral.metrics.q2n import Q2n
from torchspectral.metrics.windows import UQI, local_correlation
from torchspectral.ops.interpolate import check_ratio, decimate
from torchspectral.ops.mtf import HS_GAIN, mtf_filter
from torchspectral.ops.regression import min_norm_solve
from torchspectral.ops.resize import imresize


def ratio_of(fused: torch.Tensor, hs: torch.Tensor) -> int:
    """Whole ratio of the grids of (band, y, x) images.

    Raises
    ------
    GridMismatch
        There is none.
    """
    ratio, rest = divmod(fused.shape[-1], hs.shape[-1])
    if rest or ratio < 2 or fused.shape[-2] != ratio * hs.shape[-2]:
        raise GridMismatch(
            f"got a fused image of {tuple(fused.shape[-2:])} pixels over {tuple(hs.shape[-2:])}, expected a whole ratio"
        )
    return ratio


def d_lambda(
    fused: torch.Tensor,
    hs: torch.Tensor,
    *,
    gain: float = HS_GAIN,
    normalize: bool = True,
    rounding: bool = False,
    offset: int | None = None,
) -> float:
    """Spectral distortion of Khan: 1 - Q2n of the degraded fused image against the hyperspectral one.

    Parameters
    ----------
    fused : Tensor, shape (band, R * y, R * x)
    hs : Tensor, shape (band, y, x)
    gain, normalize
        Of the sensor's MTF, see `ops.mtf.mtf_kernel`; ``normalize=False`` is the benchmark's.
    rounding : bool
        See `Q2n`.
    offset : int, optional
        First pixel kept by the decimation; default R // 2. The benchmark uses 3 for every ratio.
    """
    ratio = ratio_of(fused, hs)
    low = mtf_filter(fused.double(), ratio, gain, normalize=normalize)
    low = decimate(low, ratio) if offset is None else low[..., offset::ratio, offset::ratio]
    return 1 - Q2n(rounding=rounding).update(low, hs.double()).compute()


class DsR:
    """Spatial distortion D_sR: 1 - R2 of the PAN regressed on the fused bands, no constant; sums merge over tiles."""

    def __init__(self) -> None:
        self.gram: torch.Tensor | None = None
        self.n = 0

    def update(self, fused: torch.Tensor, pan: torch.Tensor, valid: torch.Tensor | None = None) -> Self:
        """Add a tile: (band, y, x), PAN (1, y, x) and where it counts (y, x)."""
        if fused.shape[-2:] != pan.shape[-2:]:
            raise GridMismatch(f"got PAN of {tuple(pan.shape[-2:])} pixels, expected {tuple(fused.shape[-2:])}")
        rows = torch.cat([fused.flatten(1), pan.reshape(1, -1), torch.ones_like(pan).reshape(1, -1)])
        if valid is not None:
            rows = rows[:, valid.reshape(-1)]
        rows = rows.double()
        gram = rows @ rows.T
        self.gram = gram if self.gram is None else self.gram + gram
        self.n += rows.shape[1]
        return self

    def merge(self, other: DsR) -> Self:
        """Take in the sums of another instance."""
        if other.gram is not None:
            self.gram = other.gram if self.gram is None else self.gram + other.gram
            self.n += other.n
        return self

    def compute(self) -> float:
        """The distortion, 0..1.

        Raises
        ------
        BadInput
            Fewer than two pixels, or a constant PAN.
        """
        if self.gram is None or self.n < 2:
            raise BadInput("D_sR: no valid pixel was compared: nothing to measure")
        g, b = self.gram, self.gram.shape[0] - 2
        alpha = min_norm_solve(g[:b, :b], g[:b, b])
        # The rest P - sum alpha F, as a combination of the rows that the sums were made of.
        rest = torch.cat([-alpha, alpha.new_tensor([1.0, 0.0])])
        power = float(rest @ g @ rest) - float(rest @ g[:, -1]) ** 2 / self.n
        total = float(g[b, b] - g[b, -1] ** 2 / self.n)
        if total <= 0:
            raise BadInput("D_sR: the PAN is constant: there is no detail to explain")
        return min(max(power / total, 0.0), 1.0)


def d_sr(fused: torch.Tensor, pan: torch.Tensor) -> float:
    """D_sR of one pair, shapes (band, y, x) and (1, y, x). Tends to 0 with many bands: do not rank by it alone."""
    return DsR().update(fused, pan).compute()


def d_s(fused: torch.Tensor, hs: torch.Tensor, pan: torch.Tensor, *, block: int = 32) -> float:
    """Spatial distortion D_s (q = 1): mean change of the index Q between each band and the PAN, from coarse to fine."""
    ratio = ratio_of(fused, hs)
    coarse = imresize(pan.double(), 1 / ratio)
    fine = UQI(block).update(fused, pan.double().expand_as(fused)).bands()
    low = UQI(max(2, block // ratio)).update(hs, coarse.expand(hs.shape)).bands()
    return float((fine - low).abs().mean())


def d_rho(fused: torch.Tensor, pan: torch.Tensor, ratio: int) -> torch.Tensor:
    """1 - local correlation with the PAN of each band, shape (band,); windows of half width ``ratio // 2``."""
    return 1 - local_correlation(fused, pan, check_ratio(ratio) // 2).mean((-2, -1))


def qnr(
    fused: torch.Tensor,
    hs: torch.Tensor,
    pan: torch.Tensor,
    *,
    gain: float = HS_GAIN,
    normalize: bool = True,
    rounding: bool = False,
    offset: int | None = None,
) -> dict[str, float]:
    """D_lambda, D_sR and their QNR = (1 - D_lambda)(1 - D_sR); arguments as `d_lambda`."""
    spectral = d_lambda(fused, hs, gain=gain, normalize=normalize, rounding=rounding, offset=offset)
    spatial = d_sr(fused, pan)
    return {"D_lambda": spectral, "D_sR": spatial, "QNR": (1 - spectral) * (1 - spatial)}
