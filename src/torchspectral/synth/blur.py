"""Blur and loss of resolution, as the restoration benchmarks make them.

References
----------
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Any

import numpy as np
from scipy import ndimage, signal, sparse

from torchspectral.errors import BadInput, BadSettings
from torchspectral.synth.draws import Draw
from torchspectral.synth.gaps import one_of
from torchspectral.synth.steps import Facts, Place, Planned, Shape, Step

LARGE = 1 << 16
"""Kernel sizes from here on (taps) are applied by Fourier transform."""


def gaussian_kernel(size: int) -> np.ndarray:
    """Gaussian kernel of `size` pixels with the deviation that belongs to it: 0.3 ((size - 1) / 2 - 1) + 0.8."""
    line = gaussian_taps(size)
    return np.outer(line, line)


def gaussian_taps(size: int) -> np.ndarray:
    """The one-dimensional factor of `gaussian_kernel`; sums to one."""
    sigma = 0.3 * ((_odd(size) - 1) / 2 - 1) + 0.8
    taps: np.ndarray = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def circle_kernel(size: int) -> np.ndarray:
    """Radial Gaussian inside a circle of radius ``size // 2``, which is its deviation too; sums to one."""
    reach = _odd(size) // 2
    place = np.arange(size) - reach
    distance = place[:, None] ** 2 + place[None, :] ** 2
    kernel = np.where(distance <= reach**2, np.exp(-distance / (2 * max(reach, 1) ** 2)), 0.0)
    total: np.ndarray = kernel / kernel.sum()
    return total


def square_kernel(size: int) -> np.ndarray:
    """Box; sums to one."""
    return np.full((_odd(size), size), 1 / size**2)


def motion_kernel(size: int, angle: float) -> np.ndarray:
    """Horizontal line of ``1 / size`` in row ``(size - 1) // 2``, turned about ``(size / 2, size / 2)``.

    Sampled as OpenCV's `warpAffine` does: bilinear, source places rounded to 1/32 pixel, zero outside; the sum is
    then not one.

    Parameters
    ----------
    size : int
    angle : float
        Counter-clockwise [deg].
    """
    line = np.zeros((_odd(size), size))
    line[(size - 1) // 2] = 1 / size
    c, s, half = cos(radians(angle)), sin(radians(angle)), size / 2
    forward = np.array([[c, s, (1 - c) * half - s * half], [-s, c, s * half + (1 - c) * half], [0, 0, 1]])
    back = np.linalg.inv(forward)
    y, x = np.mgrid[:size, :size]

    def source(m: np.ndarray) -> np.ndarray:
        steps = np.rint(1024 * (m[1] * y + m[2])).astype(np.int64) + 16 + np.rint(1024 * m[0] * x).astype(np.int64)
        return (steps >> 5) / 32

    return ndimage.map_coordinates(
        np.pad(line, 1), np.stack([source(back[1]) + 1, source(back[0]) + 1]), order=1, mode="constant", cval=0.0
    )


def _odd(size: int) -> int:
    if not isinstance(size, int | np.integer) or size < 1 or size % 2 == 0:
        raise BadSettings(f"got a kernel of {size} pixels, expected an odd number from 1")
    return int(size)


def bicubic_matrix(size: int, outputs: int) -> sparse.csr_matrix:
    """Bicubic interpolation along one axis as torch does it with ``align_corners=True`` (a = -0.75), (outputs, size)."""
    place = np.arange(outputs) * ((size - 1) / (outputs - 1) if outputs > 1 else 0.0)
    first = np.floor(place).astype(np.int64)
    t, a = place - first, -0.75

    def near(d: np.ndarray) -> np.ndarray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: np.ndarray) -> np.ndarray:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weight = np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], axis=1)
    index = np.clip(first[:, None] + np.arange(-1, 3), 0, size - 1)
    lines = np.repeat(np.arange(outputs), 4)
    return sparse.coo_matrix((weight.reshape(-1), (lines, index.reshape(-1))), shape=(outputs, size)).tocsr()


def repeat_matrix(size: int, outputs: int) -> sparse.csr_matrix:
    """Nearest neighbour along one axis: output i is input ``floor(i * size / outputs)``."""
    index = np.arange(outputs) * size // outputs
    return sparse.coo_matrix((np.ones(outputs), (np.arange(outputs), index)), shape=(outputs, size)).tocsr()


def filter_matrix(size: int, taps: np.ndarray) -> sparse.csr_matrix:
    """Correlation along one axis with zeros outside, (size, size)."""
    reach = len(taps) // 2
    offsets = [k - reach for k in range(len(taps)) if abs(k - reach) < size]
    values = [float(taps[k + reach]) for k in offsets]
    return sparse.diags(values, offsets, shape=(size, size)).tocsr()


@dataclass
class AlongAxes(Planned):
    """A linear operator along rows and one along columns, (outputs, inputs) each; borders are theirs."""

    down: sparse.csr_matrix
    across: sparse.csr_matrix

    def shape(self, shape: Shape) -> Shape:
        """Bands stay."""
        return shape[0], self.down.shape[0], self.across.shape[0]

    def rows(self, first: int, last: int, shape: Shape) -> tuple[int, int]:
        """Rows that carry weight; where the grid stays, the rows themselves too."""
        used = self.down[first:last].indices
        if self.shape(shape) == shape:
            return min(first, int(used.min(initial=first))), max(last, int(used.max(initial=0)) + 1)
        return int(used.min()), int(used.max()) + 1

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        """Multiply; where nodata lies under an operator the rest is weighed up, and pixels without weight are nodata."""
        down = self.down[keep[0] : keep[1], place.row : place.row + block.shape[1]]
        if not isinstance(block, np.ndarray):
            dense = [draw.array(m.toarray(), block) for m in (down, self.across)]
            return dense[0] @ block @ dense[1].T
        return filled(block, lambda part: _products(part, down, self.across))


def _products(block: np.ndarray, down: sparse.csr_matrix, across: sparse.csr_matrix) -> np.ndarray:
    bands, rows, cols = block.shape
    lines = block.transpose(1, 0, 2).reshape(rows, bands * cols)
    tall = (down @ lines).reshape(down.shape[0], bands, cols)
    flat = across @ tall.transpose(2, 1, 0).reshape(cols, -1)
    return np.ascontiguousarray(flat.reshape(across.shape[0], bands, -1).transpose(1, 2, 0))


def filled(block: np.ndarray, work: Any) -> np.ndarray:
    """A linear operator on values with holes: holes carry no weight, and what rests on holes alone is one."""
    empty = np.isnan(block)
    if not empty.any():
        return np.asarray(work(block))
    out = work(np.where(empty, 0.0, block))
    whole, here = work(np.ones_like(block)), work((~empty).astype(block.dtype))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.abs(here) > 1e-6, out * (whole / here), np.nan)


@dataclass
class Kernel(Planned):
    """Correlation with a two-dimensional kernel of odd size, zeros outside."""

    kernel: np.ndarray

    def rows(self, first: int, last: int, shape: Shape) -> tuple[int, int]:
        """Half a kernel more on either side."""
        reach = self.kernel.shape[0] // 2
        return max(first - reach, 0), min(last + reach, shape[1])

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        """Correlate each band."""
        reach, top = self.kernel.shape[0] // 2, keep[0] - place.row
        if not isinstance(block, np.ndarray):
            import torch

            weight = draw.array(self.kernel, block)[None, None]
            out = torch.nn.functional.conv2d(block[:, None], weight, padding=reach)[:, 0]
            return out[:, top : top + keep[1] - keep[0]]
        turned = np.ascontiguousarray(self.kernel[::-1, ::-1])

        def one(part: np.ndarray) -> np.ndarray:
            if turned.size < LARGE:
                return np.stack([signal.convolve2d(band, turned, mode="same") for band in part])
            return np.asarray(signal.fftconvolve(part, turned[None], mode="same", axes=(1, 2)))

        return filled(block, one)[:, top : top + keep[1] - keep[0]]


@dataclass(frozen=True)
class GaussianBlur(Step):
    """Gaussian blur with one of some kernel sizes."""

    sizes: tuple[int, ...] = (9, 15, 21)

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the size."""
        facts.chosen["kernel"] = size = int(one_of(self.sizes, draw))
        taps = gaussian_taps(size)
        return AlongAxes(filter_matrix(shape[1], taps), filter_matrix(shape[2], taps))


@dataclass(frozen=True)
class KernelBlur(Step):
    """Blur by a circle, a square, or motion along a line."""

    kind: str
    size: int
    angle: float = 45.0

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Nothing to choose."""
        facts.chosen["kernel"] = self.size
        if self.kind == "motion":
            facts.chosen["angle"] = self.angle
            return Kernel(motion_kernel(self.size, self.angle))
        return Kernel((circle_kernel if self.kind == "circle" else square_kernel)(self.size))


@dataclass(frozen=True)
class Coarsen(Step):
    """Bicubic interpolation onto `factor` times fewer pixels, each of which is then repeated: the size stays.

    With ``repeat=False`` the coarse image itself is the result.
    """

    factors: tuple[int, ...] = (2, 4, 8)
    repeat: bool = True

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the factor.

        Raises
        ------
        BadInput
            The image is smaller than a coarse pixel.
        """
        facts.chosen["factor"] = factor = int(one_of(self.factors, draw))
        if min(shape[1:]) < factor:
            raise BadInput(f"got an image of {shape[1]} x {shape[2]} pixels, expected at least {factor} x {factor}")
        axes = []
        for size in shape[1:]:
            axis = bicubic_matrix(size, size // factor)
            axes.append(repeat_matrix(size // factor, size) @ axis if self.repeat else axis)
        return AlongAxes(axes[0].tocsr(), axes[1].tocsr())
