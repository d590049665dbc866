"""Augmentation of patches: flips, quarter turns and a gain, the same for all roles of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def turn(arrays: Mapping[str, np.ndarray], code: int) -> dict[str, np.ndarray]:
    """One of the eight symmetries of the square.

    Parameters
    ----------
    arrays : mapping of str to ndarray, shape (channel, y, x)
        Squares that show the same ground.
    code : int
        0..7: quarter turns (code % 4), then mirrored where code > 3.
    """
    out = {}
    for role, array in arrays.items():
        turned = np.rot90(array, code % 4, axes=(-2, -1))
        out[role] = np.ascontiguousarray(turned[..., ::-1] if code > 3 else turned)
    return out


def jitter_gain(
    arrays: Mapping[str, np.ndarray], amount: float, rng: np.random.Generator, roles: Sequence[str]
) -> dict[str, np.ndarray]:
    """Multiply `roles` by one gain, as another illumination would; other roles are left alone.

    Parameters
    ----------
    amount : float
        The gain is uniform in 1 - amount .. 1 + amount.
    """
    gain = np.float32(rng.uniform(1 - amount, 1 + amount))
    return {role: array * gain if role in roles else array for role, array in arrays.items()}


def jitter_spectrum(
    arrays: Mapping[str, np.ndarray], amount: float, rng: np.random.Generator, roles: Sequence[str], knots: int = 6
) -> dict[str, np.ndarray]:
    """Multiply `roles` by a smooth spectral curve, linear between `knots` gains of 1 +- amount.

    Roles of one channel take the curve's mean, so that a panchromatic role stays consistent with its cube.
    """
    gains = rng.uniform(1 - amount, 1 + amount, knots)
    out = dict(arrays)
    for role in roles:
        bands = arrays[role].shape[0]
        curve = np.interp(np.linspace(0, knots - 1, bands), np.arange(knots), gains) if bands > 1 else gains.mean()
        out[role] = (arrays[role] * np.reshape(curve, (-1, 1, 1))).astype(np.float32)
    return out


def augment(
    arrays: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    *,
    flips: bool = True,
    jitter: float = 0.0,
    spectral: float = 0.0,
    scaled: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """All augmentations that are asked for; draws from `rng` in a fixed order.

    Parameters
    ----------
    arrays : mapping of str to ndarray, shape (channel, y, x)
    rng : numpy.random.Generator
    flips : bool
    jitter, spectral : float
        Amounts of `jitter_gain` and `jitter_spectrum`; 0 is none.
    scaled : sequence of str
        Roles that the two multiply.
    """
    out = dict(arrays)
    if flips:
        out = turn(out, int(rng.integers(8)))
    if jitter:
        out = jitter_gain(out, jitter, rng, scaled)
    if spectral:
        out = jitter_spectrum(out, spectral, rng, scaled)
    return out
