"""Classical methods against their formulas written out in NumPy, at other sizes, ratios and seeds than the stored cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from torchspectral.ops.interpolate import ideal_interp
from torchspectral.ops.mtf import mtf_filter
from torchspectral.ops.resize import imresize
from torchspectral.sharpening import fuse

Array = np.ndarray


def scene(ratio: int, rows: int, cols: int, bands: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    hs = 500 + rng.standard_normal((bands, rows, cols)).cumsum(1).cumsum(2) * 8 + rng.uniform(0, 400, (bands, 1, 1))
    pan = 700 + rng.standard_normal((1, rows * ratio, cols * ratio)).cumsum(1).cumsum(2)
    return hs, pan


def upsampled(hs: Array, ratio: int) -> Array:
    return ideal_interp(torch.from_numpy(hs), ratio, border="wrap").numpy()


def lowered(image: Array, ratio: int, gain: float = 0.3) -> Array:
    """MTF and decimation on index R k + R // 2."""
    low = mtf_filter(torch.from_numpy(image), ratio, gain, normalize=False).numpy()
    return low[:, ratio // 2 :: ratio, ratio // 2 :: ratio]


def covariance(a: Array, b: Array) -> float:
    return float(((a - a.mean()) * (b - b.mean())).sum() / (a.size - 1))


def mtf_glp_fs(hs: Array, pan: Array, ratio: int) -> Array:
    m, low = upsampled(hs, ratio), upsampled(lowered(pan, ratio), ratio)[0]
    gain = [covariance(band, pan[0]) / covariance(low, pan[0]) for band in m]
    return m + np.array(gain)[:, None, None] * (pan - low)


def mtf_glp_hpm_r(hs: Array, pan: Array, ratio: int) -> Array:
    m, low = upsampled(hs, ratio), upsampled(lowered(pan, ratio), ratio)[0]
    out = []
    for band in m:
        slope = covariance(band, low) / covariance(low, low)
        offset = band.mean() / slope - pan.mean()
        out.append(band * np.clip((pan[0] + offset) / (low + offset + np.finfo(float).eps), 0, 10))
    return np.stack(out)


def bdsd_pc(hs: Array, pan: Array, ratio: int) -> Array:
    """Least squares with one weight of the PAN from below and the bands' weights from above zero: `scipy` does it."""
    m = upsampled(hs, ratio)
    target = imresize(torch.from_numpy(m), 1 / ratio).numpy()
    low = mtf_filter(torch.from_numpy(target), ratio, 0.3, normalize=False).numpy()
    coarse = lowered(pan, ratio, PAN_GAIN)
    design = np.stack([coarse[0].ravel(), *(-band.ravel() for band in low)], 1)
    scale = 65536.0
    out = []
    for band, seen, image in zip(target, low, m, strict=True):
        weights, _ = nnls(design / scale, (band - seen).ravel() / scale)
        out.append(image + weights[0] * pan[0] - np.tensordot(weights[1:], m, 1))
    return np.stack(out)


PAN_GAIN = 0.15
FORMULAS: dict[str, Callable[[Array, Array, int], Array]] = {
    "mtf-glp-fs": mtf_glp_fs,
    "mtf-glp-hpm-r": mtf_glp_hpm_r,
    "bdsd-pc": bdsd_pc,
}


@pytest.mark.parametrize("method", FORMULAS)
@pytest.mark.parametrize(
    ("ratio", "rows", "cols", "bands", "seed"), [(2, 40, 37, 5, 1), (4, 33, 36, 3, 2), (4, 34, 38, 9, 3)]
)
def test_the_formula(method: str, ratio: int, rows: int, cols: int, bands: int, seed: int) -> None:
    hs, pan = scene(ratio, rows, cols, bands, seed)
    settings = {"compat": "authors-code"}
    ours = fuse(torch.from_numpy(hs), torch.from_numpy(pan), method, settings).numpy()
    np.testing.assert_allclose(ours, FORMULAS[method](hs, pan, ratio), atol=2e-3)
