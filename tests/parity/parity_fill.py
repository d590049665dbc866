"""Deterministic inputs and weights of the parity cases.

The seeds and the order of draws are facts of the case format; recipe modules beside the cases import this too.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def fill_array(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 value of the state entry `key`, seeded by the CRC of its name."""
    draw = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF).standard_normal(shape if shape else None)
    noise = np.asarray(draw).astype(np.float32)
    if key.endswith("running_var"):
        value = 1.0 + 0.1 * np.abs(noise)
    elif len(shape) <= 1:
        value = (1.0 if key.endswith("weight") else 0.0) + 0.1 * noise
    else:
        value = noise / np.sqrt(max(math.prod(shape[1:]), 1))
    return np.asarray(value, dtype=np.float32)


def fill_state_dict(state: dict[str, Any], skip: Sequence[str] = ()) -> dict[str, Any]:
    """Fill every floating tensor in place, except keys that have a part of `skip` in them."""
    import torch

    for key, tensor in state.items():
        if tensor.is_floating_point() and not any(part in key for part in skip):
            value = fill_array(key, tuple(tensor.shape)).reshape(tuple(tensor.shape))
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(value).to(tensor.dtype))
    return state


def make_input(shape: Sequence[int], seed: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Uniform float32 values in [low, high)."""
    return (low + (high - low) * np.random.RandomState(seed).random_sample(shape)).astype(np.float32)
