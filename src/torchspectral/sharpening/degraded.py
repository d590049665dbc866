"""Lazy arrays of Wald's protocol: the image as a coarser sensor would have seen it, and a PAN made of bands."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from torchspectral.geo.lazy import LazyArray, read_window
from torchspectral.ops.mtf import kernel_size, mtf_filter

GROUP_BYTES = 128 << 20


class DegradedArray(LazyArray):
    """(band, y, x) filtered with the sensor's MTF and decimated, window by window.

    A coarse pixel is nodata where any fine pixel of its footprint is; elsewhere nodata carries no weight.

    Parameters
    ----------
    source : Variable, dims (band, y, x)
        Rows and columns are multiples of `ratio`.
    ratio : int
    gains : ndarray, shape (band,)
        MTF gain of each band.
    normalize : bool
        See `ops.mtf.mtf_kernel`.
    rounding : {"none", "round", "truncate"}
    nodata : float or int or None
        Of an integer source.
    noise : ndarray, shape (band,), optional
        Standard deviation of Gaussian noise, the same whatever window is read.
    seed : int
    """

    def __init__(
        self,
        source: xr.Variable,
        ratio: int,
        gains: np.ndarray,
        *,
        normalize: bool,
        rounding: str,
        nodata: float | int | None,
        noise: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        bands, rows, cols = source.shape
        super().__init__((bands, rows // ratio, cols // ratio), source.dtype)
        self.source, self.ratio, self.gains = source, ratio, np.asarray(gains, dtype=np.float64)
        self.normalize, self.rounding, self.nodata = normalize, rounding, nodata
        self.noise, self.seed = noise, seed

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Degrade the window that holds the indices, some bands at a time."""
        bands, rows, cols = indices
        ratio, margin = self.ratio, -(-(kernel_size(self.ratio) // 2) // self.ratio)
        top, bottom = max(int(rows.min()) - margin, 0), min(int(rows.max()) + 1 + margin, self.shape[1])
        left, right = max(int(cols.min()) - margin, 0), min(int(cols.max()) + 1 + margin, self.shape[2])
        fine = slice(top * ratio, bottom * ratio), slice(left * ratio, right * ratio)
        size = (fine[0].stop - fine[0].start) * (fine[1].stop - fine[1].start) * 8
        step = max(1, GROUP_BYTES // size)
        out = np.empty((bands.size, rows.size, cols.size), dtype=self.dtype)
        for start in range(0, bands.size, step):
            group = bands[start : start + step]
            values = read_window(self.source, group, *fine)
            coarse = self._degrade(values, self.gains[group])
            picked = coarse[:, (rows - top)[:, None], (cols - left)[None, :]]
            out[start : start + step] = self._stored(picked, group, rows, cols)
        return out

    def _degrade(self, values: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Filter and decimate; NaN where a footprint has a hole."""
        empty = self._empty(values)
        image = torch.from_numpy(np.where(empty, 0, values).astype(np.float64))
        low = self._filter(image, gains)
        if empty.any():
            weight = self._filter(torch.from_numpy((~empty).astype(np.float64)), gains)
            rows, cols = low.shape[-2:]
            hole = torch.from_numpy(empty).reshape(-1, rows, self.ratio, cols, self.ratio).any(4).any(2)
            level = self._filter(torch.ones_like(image[:1]), gains[:1]) if not self.normalize else 1.0
            low = torch.where(hole, torch.nan, low / weight.clamp_min(1e-6) * level)
        return low.numpy()

    def _filter(self, image: torch.Tensor, gains: np.ndarray) -> torch.Tensor:
        def one(part: torch.Tensor, gain: float) -> torch.Tensor:
            return mtf_filter(part, self.ratio, gain, normalize=self.normalize, decimated=True)

        levels, which = np.unique(gains, return_inverse=True)
        if levels.size == 1:
            return one(image, float(levels[0]))
        out = image.new_empty((image.shape[0], image.shape[1] // self.ratio, image.shape[2] // self.ratio))
        for number, level in enumerate(levels):
            index = torch.from_numpy(np.flatnonzero(which == number))
            out[index] = one(image[index], float(level))
        return out

    def _empty(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f":
            return ~np.isfinite(values)
        return values == self.nodata if self.nodata is not None else np.zeros(values.shape, dtype=bool)

    def _stored(self, values: np.ndarray, bands: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        if self.noise is not None:
            values = values + self.noise[bands][:, None, None] * self._noise(bands, rows, cols)
        if self.rounding != "none":
            values = np.rint(values) if self.rounding == "round" else np.trunc(values)
        if self.dtype.kind == "f":
            return values
        limits = np.iinfo(self.dtype)
        hole = np.isnan(values)
        kept = np.clip(np.where(hole, 0, values), limits.min, limits.max).astype(self.dtype)
        if self.nodata is not None and hole.any():
            kept[hole] = self.nodata
        return kept

    def _noise(self, bands: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        out = np.empty((bands.size, rows.size, cols.size))
        for i, band in enumerate(bands):
            for j, row in enumerate(rows):
                draw = np.random.Generator(np.random.Philox(key=[self.seed, int(band) << 32 | int(row)]))
                out[i, j] = draw.standard_normal(self.shape[2])[cols]
        return out


class BandMean(LazyArray):
    """(1, y, x): mean of some bands, float32; NaN where any of them is nodata."""

    def __init__(self, source: xr.Variable, bands: np.ndarray, nodata: float | int | None) -> None:
        super().__init__((1, *source.shape[1:]), np.float32)
        self.source, self.bands, self.nodata = source, np.asarray(bands), nodata

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Average a window, some bands at a time."""
        _, rows, cols = indices
        window = slice(int(rows.min()), int(rows.max()) + 1), slice(int(cols.min()), int(cols.max()) + 1)
        total = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start))
        step = max(1, GROUP_BYTES // (total.size * 8))
        for start in range(0, self.bands.size, step):
            values = read_window(self.source, self.bands[start : start + step], *window).astype(np.float64)
            if self.nodata is not None:
                values[values == self.nodata] = np.nan
            total += values.sum(0)
        mean = (total / self.bands.size)[(rows - window[0].start)[:, None], (cols - window[1].start)[None, :]]
        return np.repeat(mean[None].astype(np.float32), indices[0].size, axis=0)
