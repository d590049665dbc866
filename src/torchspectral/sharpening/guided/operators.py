"""Linear operators of guided fusion: see a guide as the coarse sensor does, and bring coarse images to the fine grid.

A shift of the guide, the low-pass of the sensor and the decimation are one sparse matrix along each axis, so that a
trial shift costs no resampled image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.ops.axis import AxisOperator, apply, correlation, gather
from torchspectral.ops.interpolate import decimation_operator, ideal_operator
from torchspectral.ops.mtf import mtf_kernel, separable_terms

SPLINE_REACH = 12
"""Fine pixels on each side that a cubic spline is taken to depend on: its poles decay by 0.27 a pixel."""
TOLERANCE = 1e-5
"""Of low-pass kernels as sums of separable ones: a fiftieth of a count in two thousand."""
Pairs = tuple[tuple[AxisOperator, AxisOperator], ...]


def centre_offset(ratio: int, centres: str) -> float:
    """Fine pixels by which the centre of a coarse pixel's footprint lies before the pixel ``R k + R // 2``."""
    return -0.5 if centres == "footprint" and ratio % 2 == 0 else 0.0


@lru_cache(maxsize=1024)
def _cardinal(fraction: float) -> np.ndarray:
    """Taps of cubic spline interpolation at `fraction` (0..1) beyond a sample, for samples -REACH + 1 .. REACH."""
    places = np.arange(-SPLINE_REACH + 1, SPLINE_REACH + 1)
    pole = np.sqrt(3.0) - 2.0
    # Coefficients of the spline through a unit sample, then the B-spline around the wanted place.
    far = np.arange(-SPLINE_REACH - 3, SPLINE_REACH + 4)
    direct = -6 * pole / (1 - pole**2) * pole ** np.abs(far)
    taps = np.empty(places.size)
    for i, place in enumerate(places):
        t = np.abs(fraction - place - far)
        basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
        taps[i] = float(direct @ basis)
    taps[np.abs(taps) < 1e-9] = 0.0
    taps = taps / taps.sum()
    taps.setflags(write=False)
    return taps


def shift_operator(size: int, shift: float) -> AxisOperator:
    """Same-size operator whose output p is the image at ``p + shift``: cubic spline, edges repeated."""
    whole = int(np.floor(shift))
    fraction = round(shift - whole, 9)
    if fraction == 0.0:
        return gather((np.arange(size) + whole)[:, None], np.ones(1), size, "edge")
    taps = _cardinal(fraction)
    places = np.arange(-SPLINE_REACH + 1, SPLINE_REACH + 1)
    return gather(np.arange(size)[:, None] + whole + places[None, :], taps, size, "edge")


def low_pairs(
    shape: tuple[int, int], ratio: int, gain: float, shift: tuple[float, float], tolerance: float = TOLERANCE
) -> Pairs:
    """Operators of an image at ``p + shift``, low-passed and decimated: sums of a rows and a columns operator.

    Not cached: trial shifts are many. `tolerance` is that of the kernel, a share of its sum.
    """
    pairs = []
    moved = [shift_operator(n, d) if d else None for n, d in zip(shape, shift, strict=True)]
    for filters in _filters(shape, ratio, gain, tolerance):
        made = [f if m is None else f @ m for f, m in zip(filters, moved, strict=True)]
        pairs.append((made[0], made[1]))
    return tuple(pairs)


@lru_cache(maxsize=64)
def _filters(shape: tuple[int, int], ratio: int, gain: float, tolerance: float) -> Pairs:
    """Low-pass with the sensor's MTF (kernels that sum to 1) and decimation."""
    pairs = []
    terms = separable_terms(mtf_kernel(float(ratio), gain, normalize=True), tolerance)
    total = sum(down.sum() * across.sum() for down, across in terms)
    for down, across in [(down / total, across) for down, across in terms]:
        pairs.append(
            (
                decimation_operator(shape[0], ratio) @ correlation(shape[0], down, "edge"),
                decimation_operator(shape[1], ratio) @ correlation(shape[1], across, "edge"),
            )
        )
    return tuple(pairs)


@lru_cache(maxsize=32)
def fixed_low_pairs(shape: tuple[int, int], ratio: int, gain: float, shift: tuple[float, float]) -> Pairs:
    """`low_pairs` for shifts that come again with every tile."""
    return low_pairs(shape, ratio, gain, shift)


def run_pairs(image: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Apply a sum of operators, (..., y, x) to (..., y', x')."""
    out = apply(image, *pairs[0])
    for pair in pairs[1:]:
        out += apply(image, *pair)
    return out


@lru_cache(maxsize=64)
def rise_operator(size: int, ratio: int, offset: float) -> AxisOperator:
    """Ideal interpolation along one axis; with `offset` -0.5 coarse pixels stand in the middle of their footprints."""
    ideal = ideal_operator(size, ratio)
    return ideal if offset == 0.0 else shift_operator(size * ratio, -offset) @ ideal


@lru_cache(maxsize=64)
def rise_core(size: int, ratio: int, offset: float, start: int, length: int) -> AxisOperator:
    """The rows of `rise_operator` that make a tile's core."""
    whole = rise_operator(size, ratio, offset)
    return AxisOperator(whole.matrix[start * ratio : (start + length) * ratio])


@lru_cache(maxsize=32)
def round_pairs(shape: tuple[int, int], ratio: int, gain: float, offset: float) -> Pairs:
    """Interpolate, low-pass and decimate again, on the coarse grid: what fusion without detail gives back."""
    fine = (shape[0] * ratio, shape[1] * ratio)
    down = fixed_low_pairs(fine, ratio, gain, (offset, offset))
    up = [rise_operator(n, ratio, offset) for n in shape]
    return tuple((rows @ up[0], cols @ up[1]) for rows, cols in down)


def reach_of(size: int, shift: float) -> AxisOperator:
    """Mean of the samples that matter for the value at ``p + shift``."""
    places = np.arange(-1, 3) + int(np.floor(shift))
    return gather(np.arange(size)[:, None] + places[None, :], np.full(places.size, 1 / places.size), size, "edge")
