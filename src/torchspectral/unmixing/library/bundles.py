"""Pieces of mixture analysis with bundles: bands, normalisation, classes, draws of spectra and of noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from torchspectral.errors import BadInput, BadSettings, MissingMetadata

EMIT_REGIONS = ((0.0, 440.0), (1310.0, 1490.0), (1770.0, 2050.0), (2440.0, 2880.0))
"""Wavelengths [nm] that EMIT's production leaves out: noisy ends and water vapour."""

DARK_REGIONS = ((1300.0, 1500.0), (1800.0, 2000.0))
"""Wavelengths [nm] that the brightness does not count."""

Normalisation = Literal["none", "brightness", "l2"] | float


def outside(wavelength: np.ndarray, regions: Sequence[Sequence[float]]) -> np.ndarray:
    """Bands, as booleans, that lie in none of the regions [nm]; bands of unknown wavelength count as outside.

    Raises
    ------
    BadSettings
        A region is no pair of numbers in order.
    """
    keep = np.ones(len(wavelength), dtype=bool)
    for region in regions:
        if len(region) != 2 or not region[0] <= region[1]:
            raise BadSettings(f"got the wavelength region {list(region)}, expected [first, last] in nm")
        keep &= ~((wavelength >= region[0]) & (wavelength <= region[1]))
    return keep


def sizes(spectra: torch.Tensor, rule: Normalisation, wavelength: np.ndarray) -> torch.Tensor:
    """What each spectrum (bands, n) is divided by, (n,): 1 where the size is not positive.

    Raises
    ------
    MissingMetadata
        The rule needs wavelengths that the bands do not have.
    BadSettings
        The wavelength lies beyond the bands.
    """
    if rule == "none":
        return torch.ones_like(spectra[0])
    if rule == "l2":
        found = spectra.norm(dim=0)
    elif rule == "brightness":
        keep = torch.from_numpy(outside(wavelength, DARK_REGIONS)).to(spectra.device)
        keep = keep if bool(keep.any()) else torch.ones_like(keep)
        found = spectra[keep].square().mean(0).sqrt()
    else:
        if not np.isfinite(wavelength).any():
            raise MissingMetadata(f"normalisation at {rule} nm needs wavelengths, the scene has none: set them")
        gap = np.abs(wavelength - float(rule))
        spacing = np.nanmedian(np.abs(np.diff(np.sort(wavelength)))) if len(wavelength) > 1 else 20.0
        if np.nanmin(gap) > max(2 * spacing, 20.0):
            raise BadSettings(
                f"got normalisation={rule}, expected none, brightness, l2 or a wavelength [nm] that a used band has: the "
                f"nearest lies {np.nanmin(gap):.0f} nm off"
            )
        found = spectra[int(np.nanargmin(gap))] / 0.5
    return torch.where(found > 0, found, 1.0)


def classes_of(names: Sequence[str], given: Sequence[str]) -> list[str]:
    """Class of each spectrum: as given, else its name without the number that tells it from its namesakes.

    Raises
    ------
    BadSettings
        Not one class for each spectrum.
    """
    if given:
        if len(given) != len(names):
            raise BadSettings(f"got {len(given)} classes for {len(names)} spectra, expected one for each")
        return [str(c) for c in given]
    known = set(names)
    found = []
    for name in names:
        stem, _, number = name.rpartition(" ")
        found.append(stem if number.isdigit() and stem in known else name)
    return found


def draw_evenly(classes: Sequence[str], count: int, random: np.random.Generator, bootstrap: bool) -> list[int]:
    """`count` spectra, one of each class in turn, classes and spectra in random order; all of them where fewer."""
    members = _members(classes)
    order = [list(members)[i] for i in random.permutation(len(members))]
    pools = {
        name: list(random.choice(members[name], len(members[name]), replace=True))
        if bootstrap
        else list(random.permutation(members[name]))
        for name in order
    }
    chosen: list[int] = []
    for place in range(max(len(m) for m in members.values())):
        chosen += [int(pools[name][place]) for name in order if place < len(pools[name])]
    return sorted(set(chosen[:count] if count > 0 else chosen))


def draw_any(total: int, count: int, random: np.random.Generator, bootstrap: bool) -> list[int]:
    """`count` of `total` spectra whatever their class; all of them where fewer."""
    many = total if count <= 0 else min(count, total)
    return sorted({int(i) for i in random.choice(total, many, replace=bootstrap)})


def combinations(
    classes: Sequence[str],
    kind: str,
    sizes_: Sequence[int],
    most: int,
    random: np.random.Generator,
) -> dict[int, list[tuple[int, ...]]]:
    """Models by their number of spectra: one spectrum a class, or any.

    Parameters
    ----------
    kind : {"class-even", "all"}
    sizes_ : sequence of int
        Spectra of a model; none: as many as there are classes.
    most : int
        Models of each size, drawn at random where there are more; -1: all.

    Raises
    ------
    BadSettings
        A size that cannot be had.
    BadInput
        More than ten million models.
    """
    members = _members(classes)
    limit = len(members) if kind == "class-even" else len(classes)
    out: dict[int, list[tuple[int, ...]]] = {}
    for size in sizes_ or (len(members),):
        if not 1 <= size <= limit:
            raise BadSettings(f"got models of {size} spectra, expected 1 to {limit}")
        if kind == "class-even":
            total = sum(math.prod(len(members[c]) for c in chosen) for chosen in itertools.combinations(members, size))
        else:
            total = math.comb(len(classes), size)
        if total > 10_000_000:
            raise BadInput(
                f"the library makes {total} models of {size} spectra, expected at most 10000000: thin it out"
            )
        every = (
            (
                m
                for chosen in itertools.combinations(members, size)
                for m in itertools.product(*(members[c] for c in chosen))
            )
            if kind == "class-even"
            else itertools.combinations(range(len(classes)), size)
        )
        if 0 < most < total:
            wanted = set(random.choice(total, most, replace=False).tolist())
            out[size] = [m for n, m in enumerate(every) if n in wanted]
        else:
            out[size] = list(every)
    return out


def _members(classes: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        members.setdefault(name, []).append(index)
    return members


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_ONE = -4658895280553007687  # 0xBF58476D1CE4E5B9
_TWO = -7723592293110705685  # 0x94D049BB133111EB


def noise(pixels: torch.Tensor, seed: int, draw: int, kind: str) -> torch.Tensor:
    """Random numbers (bands, n), float64: uniform in -1..1, or standard normal.

    They follow from the pixel's own values, the seed and the draw, so that tiles, batches and workers change nothing;
    equal pixels get equal numbers.
    """
    bits = pixels.to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    band = torch.arange(1, len(bits) + 1, device=bits.device)[:, None]
    key = _mix(bits + band * _GOLDEN).sum(0, keepdim=True)
    counter = key + band * _GOLDEN + _wrapped(seed * 1_000_003 + draw)
    one = _unit(_mix(counter))
    if kind == "uniform":
        return 2 * one - 1
    other = _unit(_mix(counter ^ _ONE))
    return (-2 * (1 - one).log()).sqrt() * torch.cos(2 * math.pi * other)


def _mix(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser on int64, which wrap."""
    z = (z ^ _right(z, 30)) * _ONE
    z = (z ^ _right(z, 27)) * _TWO
    return z ^ _right(z, 31)


def _right(z: torch.Tensor, count: int) -> torch.Tensor:
    """Logical shift."""
    return (z >> count) & ((1 << (64 - count)) - 1)


def _unit(z: torch.Tensor) -> torch.Tensor:
    return _right(z, 11).to(torch.float64) * 2.0**-53


def _wrapped(number: int) -> int:
    number = (number * 0x9E3779B97F4A7C15) % (1 << 64)
    return number - (1 << 64) if number >= 1 << 63 else number
