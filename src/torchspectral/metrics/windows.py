"""Metrics over sliding windows: SSIM, the universal quality index, and local correlation."""

from __future__ import annotations

from typing import ClassVar

import torch

from torchspectral.errors import BadInput, BadSettings
from torchspectral.metrics.base import Metric
from torchspectral.ops.axis import AxisOperator, gather


def window_operator(size: int, taps: torch.Tensor) -> AxisOperator:
    """Weighted sums over all whole windows along one axis, (size - taps + 1, size)."""
    import numpy as np

    count = len(taps)
    index = np.arange(size - count + 1)[:, None] + np.arange(count)[None, :]
    return gather(index, taps.numpy(), size, "edge")


def window_sums(image: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Sums of (..., y, x) over all whole windows with separable weights."""
    rows, cols = window_operator(image.shape[-2], down), window_operator(image.shape[-1], across)
    return rows.rows(cols.cols(image))


class _Windowed(Metric):
    """Metrics whose windows lie wholly inside the image and hold valid pixels only."""

    best: ClassVar[str] = "high"
    ideal: ClassVar[float] = 1.0

    def __init__(self, down: torch.Tensor, across: torch.Tensor) -> None:
        super().__init__()
        self._down, self._across = down.double(), across.double()
        self.context = len(down) - 1

    def _index(self, stats: dict[str, torch.Tensor]) -> torch.Tensor:
        """Index of every window from means, variances and covariance."""
        raise NotImplementedError

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        bands, rows, cols = output.shape
        zero = torch.zeros(bands, dtype=torch.float64, device=output.device)
        if rows < len(self._down) or cols < len(self._across):
            return {"n": zero.sum(), "index": zero}
        # Windows that start in the context rows belong to the next strip.
        starts = max(0, min(rows - len(self._down) + 1, rows - context))
        out, ref = torch.where(valid, output, 0.0), torch.where(valid, truth, 0.0)
        holes = window_sums((~valid).double()[None], torch.ones_like(self._down), torch.ones_like(self._across))[0]
        keep = (holes < 0.5)[:starts]
        total = zero.clone()
        for b in range(bands):
            total[b] = self._index(self._stats(out[b], ref[b]))[:starts][keep].sum()
        return {"n": keep.sum().double(), "index": total}

    def _stats(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        # Far from zero, squares lose the digits that the variance is made of: take a common offset off first.
        shift = y.mean()
        x, y = x - shift, y - shift
        planes = torch.stack([x, y, x * x, y * y, x * y])
        mx, my, xx, yy, xy = window_sums(planes, self._down, self._across)
        return {
            "mx": mx + shift,
            "my": my + shift,
            "vx": (xx - mx * mx).clamp_min(0),
            "vy": (yy - my * my).clamp_min(0),
            "cov": xy - mx * my,
        }

    def bands(self) -> torch.Tensor:
        """Mean index of each band."""
        return self.sums["index"] / self._counted() if self.sums else self._counted()

    def compute(self) -> float:
        """Mean over bands.

        Raises
        ------
        BadInput
            The image is smaller than the window, or no window is valid.
        """
        if not self.sums or float(self.sums["n"]) == 0:
            raise BadInput(
                f"{self.name}: no whole window of {len(self._down)} x {len(self._across)} valid pixels was compared"
            )
        return float(self.bands().mean())


class SSIM(_Windowed):
    """Structural similarity, mean over whole windows and bands (MSSIM).

    Parameters
    ----------
    data_range : float
        Span of the values: K1 and K2 are relative to it. Figures of different ranges do not compare.
    window : {"uniform", "gaussian"}
        7 x 7 box with sample covariance (scikit-image's default), or 11 x 11 Gaussian of 1.5 pixels (the paper).

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE TIP 13 (2004), eq. 13.
    """

    name: ClassVar[str] = "SSIM"

    def __init__(self, data_range: float = 1.0, window: str = "uniform") -> None:
        if not data_range > 0:
            raise BadSettings(f"got a data range of {data_range!r}, expected a positive number")
        if window not in ("uniform", "gaussian"):
            raise BadSettings(f"got window {window!r}, expected uniform or gaussian")
        if window == "uniform":
            taps, self._sample = torch.full((7,), 1 / 7, dtype=torch.float64), 49 / 48
        else:
            place = torch.arange(11, dtype=torch.float64) - 5
            taps, self._sample = torch.exp(-(place**2) / (2 * 1.5**2)), 1.0
            taps = taps / taps.sum()
        super().__init__(taps, taps)
        self.data_range = data_range

    def _index(self, stats: dict[str, torch.Tensor]) -> torch.Tensor:
        c1, c2 = (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
        mx, my = stats["mx"], stats["my"]
        vx, vy, cov = (self._sample * stats[k] for k in ("vx", "vy", "cov"))
        return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


class UQI(_Windowed):
    """Universal image quality index Q, mean over whole windows and bands.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns of the window.

    References
    ----------
    Wang, Bovik, "A universal image quality index", IEEE SPL 9 (2002), eq. 2.
    """

    name: ClassVar[str] = "UQI"

    def __init__(self, size: int | tuple[int, int] = 32) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        if height < 2 or width < 2:
            raise BadSettings(f"got a window of {height} x {width}, expected at least 2 x 2")
        super().__init__(torch.full((height,), 1 / height), torch.full((width,), 1 / width))
        # Rounding of the sums: below it a window counts as constant.
        self._small = 1e-12

    def _index(self, stats: dict[str, torch.Tensor]) -> torch.Tensor:
        mx, my = stats["mx"], stats["my"]
        power, spread = mx * mx + my * my, stats["vx"] + stats["vy"]
        flat = spread <= self._small * power
        light = torch.where(power > 0, 2 * mx * my / torch.where(power > 0, power, 1.0), 1.0)
        shape = 2 * stats["cov"] / torch.where(flat, 1.0, spread)
        return torch.where(flat, light, light * torch.where(flat, 1.0, shape))


def local_correlation(image: torch.Tensor, other: torch.Tensor, half_width: int) -> torch.Tensor:
    """Field of local correlation of two images.

    Both lose their local mean first; windows have ``2 * half_width`` pixels (rows i - w + 1 .. i + w) and see zeros
    outside the image.

    Parameters
    ----------
    image : Tensor, shape (band, y, x)
    other : Tensor, shape (band, y, x) or (1, y, x)
    half_width : int
        w, at least 1.

    Returns
    -------
    Tensor, shape (band, y, x), float64, -1..1

    References
    ----------
    Scarpa, Ciotola, "Full-resolution quality assessment for pansharpening", Remote Sens. 14 (2022), eq. 12.
    """
    if half_width < 1:
        raise BadSettings(f"got a half width of {half_width!r}, expected at least 1")
    taps = torch.ones(2 * half_width, dtype=torch.float64)

    def sums(plane: torch.Tensor) -> torch.Tensor:
        reach = (half_width - 1, half_width)
        return window_sums(torch.nn.functional.pad(plane, (*reach, *reach)), taps, taps)

    x, y = image.double(), other.double().expand_as(image)
    x, y = x - sums(x) / taps.numel() ** 2, y - sums(y) / taps.numel() ** 2
    spread = (sums(x * x).clamp_min(1e-20) * sums(y * y).clamp_min(1e-20)).sqrt()
    return (sums(x * y) / (spread + 1e-20)).clamp(-1, 1)
