"""Views of an image for self-supervised training: drawn for each sample, made for a whole batch on its device.

What is drawn is a row of numbers, so that a view follows from the sample alone and not from the process or the device
that makes it. All bands of a pixel are treated alike: no view changes the shape of a spectrum, unless `spectral` or
`masked_bands` ask for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from torchspectral.errors import BadSettings

TOP, LEFT, HEIGHT, WIDTH, FLIP_ROWS, FLIP_COLS, TURN, SIGMA, GAIN, OFFSET = range(10)
KNOTS = 6
"""Of the spectral curve; its numbers stand behind the first ten, the bands that are kept behind those."""
TRIES = 10


class View(NamedTuple):
    """One view of a batch.

    Attributes
    ----------
    values : Tensor (n, bands, size, size)
        In the images' unit, 0 where nodata.
    valid : Tensor of bool (n, 1, size, size), or None
        False where most of what a pixel is drawn from is nodata; None where all images are whole.
    bands : Tensor of bool (n, bands), or None
        False where a band is masked; None where none is.
    """

    values: torch.Tensor
    valid: torch.Tensor | None = None
    bands: torch.Tensor | None = None

    @property
    def seen(self) -> torch.Tensor | None:
        """Where values may be looked at, to be broadcast to them; None: everywhere."""
        if self.bands is None:
            return self.valid
        bands = self.bands[:, :, None, None]
        return bands if self.valid is None else self.valid & bands


@dataclass(frozen=True)
class ViewPlan:
    """How views are drawn.

    Attributes
    ----------
    size : int
        Side of the view [pixel].
    scale, ratio : tuple of float
        Share of the image's area that is cut out, and its width over its height; the cut is brought to `size` by
        bilinear interpolation.
    flips, turns : bool
        Mirror in either direction; turn by quarters.
    blur : float
        Probability of a Gaussian blur, over a tenth of the view.
    sigma : tuple of float
        Of the blur [pixel].
    gain, offset : float
        Values are multiplied by 1 +- gain and moved by +- offset [the images' unit], the same for all bands.
    spectral : float
        Values are multiplied by a smooth curve over the bands within 1 +- spectral.
    masked_bands : float
        Share of the bands that are taken away.

    Raises
    ------
    BadSettings
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flips: bool = True
    turns: bool = False
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    gain: float = 0.0
    offset: float = 0.0
    spectral: float = 0.0
    masked_bands: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise BadSettings(f"got crops of {self.scale} of the image, expected two shares from above 0 to 1, rising")
        if not 0 < self.ratio[0] <= self.ratio[1] or not 0 < self.sigma[0] <= self.sigma[1]:
            raise BadSettings(
                f"got ratio {self.ratio} and sigma {self.sigma}, expected two numbers above 0 each, rising"
            )

    def draw(self, rows: int, cols: int, bands: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of one view of an image, float32; always as many, whatever the plan, for as many bands."""
        out = np.zeros(10 + KNOTS + bands, dtype=np.float32)
        out[TOP : WIDTH + 1] = self._box(rows, cols, rng)
        if self.flips:
            out[[FLIP_ROWS, FLIP_COLS]] = rng.integers(0, 2, 2)
        if self.turns:
            out[TURN] = rng.integers(0, 4)
        if self.blur and rng.random() < self.blur:
            out[SIGMA] = rng.uniform(*self.sigma)
        out[GAIN] = rng.uniform(1 - self.gain, 1 + self.gain) if self.gain else 1.0
        out[OFFSET] = rng.uniform(-self.offset, self.offset) if self.offset else 0.0
        out[10 : 10 + KNOTS] = rng.uniform(1 - self.spectral, 1 + self.spectral, KNOTS) if self.spectral else 1.0
        out[10 + KNOTS :] = 1.0
        if self.masked_bands:
            out[10 + KNOTS + rng.permutation(bands)[: int(self.masked_bands * bands)]] = 0.0
        return out

    def _box(self, rows: int, cols: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        for _ in range(TRIES):
            area = rng.uniform(*self.scale) * rows * cols
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < height <= rows and 0 < width <= cols:
                break
        else:
            height = width = max(round(min(rows, cols, math.sqrt(self.scale[1] * rows * cols))), 1)
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, cols - width + 1)
        return int(top), int(left), height, width


def make_view(images: torch.Tensor, drawn: torch.Tensor, plan: ViewPlan, valid: torch.Tensor | None = None) -> View:
    """One view of each image of a batch.

    Parameters
    ----------
    images : Tensor (n, bands, y, x)
    drawn : Tensor (n, numbers)
        Of `ViewPlan.draw`, one row an image.
    plan : ViewPlan
    valid : Tensor (n, 1, y, x), optional
        False or 0 where nodata: such pixels give nothing to their neighbours.
    """
    seen = None if valid is None or bool(valid.all()) else valid.to(images.dtype)
    values = images if seen is None else torch.where(seen > 0, images, 0)
    grid = functional.affine_grid(
        _transforms(drawn, images.shape[-2:]).to(images.dtype), [len(images), 1, plan.size, plan.size], False
    )
    values = _sampled(values, grid)
    if seen is not None:
        seen = _sampled(seen, grid)
        values, seen = values / seen.clamp(min=1e-3), (seen > 0.5).to(images.dtype)
        values = values * seen
    if plan.blur:
        values = _blurred(values, drawn[:, SIGMA], seen)
    if plan.gain or plan.offset or plan.spectral:
        values = values * _gains(drawn, images.shape[1]).to(values.dtype) + drawn[:, OFFSET, None, None, None]
        values = values if seen is None else values * seen
    bands = drawn[:, 10 + KNOTS :] > 0.5 if plan.masked_bands else None
    return View(values, None if seen is None else seen > 0.5, bands)


def _sampled(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _transforms(drawn: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Matrices (n, 2, 3) from places in the view to places in the image, both from -1 to 1."""
    rows, cols = shape
    high, wide = drawn[:, HEIGHT] / rows, drawn[:, WIDTH] / cols
    middle_x = (2 * drawn[:, LEFT] + drawn[:, WIDTH]) / cols - 1
    middle_y = (2 * drawn[:, TOP] + drawn[:, HEIGHT]) / rows - 1
    quarter = drawn[:, TURN].round().long() % 4
    cos = torch.tensor([1.0, 0.0, -1.0, 0.0], device=drawn.device)[quarter]
    sin = torch.tensor([0.0, 1.0, 0.0, -1.0], device=drawn.device)[quarter]
    across, along = wide * (1 - 2 * drawn[:, FLIP_COLS]), high * (1 - 2 * drawn[:, FLIP_ROWS])
    first = torch.stack([across * cos, -across * sin, middle_x], 1)
    return torch.stack([first, torch.stack([along * sin, along * cos, middle_y], 1)], 1)


def kernel_side(size: int) -> int:
    """Side of the blur's kernel: odd, about a tenth of the view (13 at 128 pixels)."""
    return size // 10 // 2 * 2 + 1


def _blurred(x: torch.Tensor, sigma: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """Gaussian blur with a deviation for each image (0: none), reflected at the edges; nodata gives and gets nothing."""
    side = kernel_side(x.shape[-1])
    which = torch.nonzero(sigma > 0)[:, 0]
    if side == 1 or not len(which):
        return x
    places = torch.arange(side, device=x.device) - side // 2
    weights = torch.exp(-0.5 * (places / sigma[which, None]).square())
    weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
    blurred = _convolved(x[which], weights)
    if seen is not None:
        blurred = blurred / _convolved(seen[which], weights).clamp(min=1e-3) * seen[which]
    return x.index_copy(0, which, blurred)


def _convolved(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rows and columns of each image with its own kernel (n, side)."""
    images, bands, rows, cols = x.shape
    side = weights.shape[1]
    kernels = weights.repeat_interleave(bands, 0)
    groups = images * bands
    pad = side // 2
    flat = functional.pad(x.reshape(1, groups, rows, cols), (pad, pad, pad, pad), mode="reflect")
    flat = functional.conv2d(flat, kernels[:, None, None, :], groups=groups)
    flat = functional.conv2d(flat, kernels[:, None, :, None], groups=groups)
    return flat.reshape(images, bands, rows, cols)


def _gains(drawn: torch.Tensor, bands: int) -> torch.Tensor:
    """Gain of each band, (n, bands, 1, 1): one for all times the curve through the knots."""
    place = torch.linspace(0, KNOTS - 1, bands, device=drawn.device)
    low = place.floor().clamp(max=KNOTS - 2).long()
    share = place - low
    knots = drawn[:, 10 : 10 + KNOTS]
    curve = knots[:, low] * (1 - share) + knots[:, low + 1] * share
    return (drawn[:, GAIN, None] * curve)[:, :, None, None]
