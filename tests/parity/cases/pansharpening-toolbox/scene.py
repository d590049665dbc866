"""Deterministic small pansharpening scene for the parity cases (numpy only).

make_scene(bands, lr, ratio, seed) -> dict of float32 arrays, channel first:
  gt    (bands, lr*ratio, lr*ratio)  truth, about 300..9000 (uint16-like reflectance counts)
  pan   (lr*ratio, lr*ratio)         weighted mean of the first half of the bands + slight noise
  ms_lr (bands, lr, lr)              ratio x ratio block mean of gt
  ms    (bands, lr*ratio, lr*ratio)  simple upsampling of ms_lr: pixel replication, then two running
                                     means of odd width ratio|1 along each axis (NOT the toolbox interpolator,
                                     so that a method's case does not depend on it)
  wavelengths (bands,)               linspace(450, 2300, bands) nm
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from parity_fill import make_input


def _smooth(a, width, axis):
    """Running mean of odd `width` along `axis`, edges replicated."""
    half = width // 2
    pads = [(0, 0)] * a.ndim
    pads[axis] = (half, half)
    p = np.pad(a.astype(np.float64), pads, mode="edge")
    out = np.zeros_like(a, dtype=np.float64)
    n = a.shape[axis]
    for k in range(width):
        out += np.take(p, range(k, k + n), axis=axis)
    return out / width


def make_scene(bands, lr, ratio, seed, materials=5):
    size = lr * ratio
    noise = make_input((materials, size, size), seed)
    a = noise
    for _ in range(2):
        a = _smooth(_smooth(a, 7, 1), 7, 2)
    a = a - a.min(axis=(1, 2), keepdims=True)
    a = a / a.max(axis=(1, 2), keepdims=True)
    a = a**4 + 1e-3
    a = a / a.sum(axis=0, keepdims=True)
    spectra = make_input((materials, bands), seed + 1, 500.0, 9000.0)
    spectra = _smooth(spectra, 3, 1)
    gt = np.tensordot(spectra.T, a, axes=1)
    gt = gt * (1.0 + 0.05 * (make_input((1, size, size), seed + 2) - 0.5))
    gt = gt + 20.0 * (make_input((bands, size, size), seed + 3) - 0.5)
    half = max(1, bands // 2)
    weights = np.linspace(1.0, 2.0, half)
    pan = np.tensordot(weights / weights.sum(), gt[:half], axes=1)
    pan = pan + 10.0 * (make_input((size, size), seed + 4) - 0.5)
    ms_lr = gt.reshape(bands, lr, ratio, lr, ratio).mean(axis=(2, 4))
    ms = np.repeat(np.repeat(ms_lr, ratio, axis=1), ratio, axis=2)
    for _ in range(2):
        ms = _smooth(_smooth(ms, ratio | 1, 1), ratio | 1, 2)
    return {
        "ms": ms.astype(np.float32),
        "gt": gt.astype(np.float32),
        "pan": pan.astype(np.float32),
        "ms_lr": ms_lr.astype(np.float32),
        "wavelengths": np.linspace(450.0, 2300.0, bands).astype(np.float32),
    }
