"""From the bands of a scene to those of a network and back, by wavelength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchspectral.errors import BandMismatch, MissingMetadata

LEAST_COVERAGE = 0.5
"""Share of the network's range that a scene must cover."""


GRIDS = {(31, 6): (400.0, 700.0), (100, 7): (400.0, 1000.0), (31, 7): (400.0, 1000.0)}
"""First and last wavelength [nm] for a number of bands and tasks: the paper's two configurations, and ours in small."""


def model_grid(bands: int, tasks: int) -> np.ndarray | None:
    """Wavelengths of the known configurations [nm]; None for others."""
    ends = GRIDS.get((bands, tasks))
    return None if ends is None else np.linspace(*ends, bands)


def interpolation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Matrix (target, source) of linear interpolation; beyond the ends the nearest band is taken.

    Parameters
    ----------
    source, target : ndarray
        Wavelengths [nm], in any order; equal ones share.
    """
    order = np.argsort(source, kind="stable")
    place, first = np.unique(source[order], return_index=True)
    count = np.diff(np.append(first, source.size))
    group = np.zeros((place.size, source.size))
    group[np.repeat(np.arange(place.size), count), order] = np.repeat(1 / count, count)
    weights = np.stack([np.interp(target, place, row) for row in np.eye(place.size)], axis=1)
    out: np.ndarray = weights @ group
    return out


@dataclass(frozen=True)
class Bridge:
    """How a scene's bands meet a network's.

    Attributes
    ----------
    there : ndarray, shape (network bands, scene bands)
        To the network.
    back : ndarray, shape (scene bands, network bands)
        From the network; rows of untouched bands are zero.
    touched : ndarray of bool, shape (scene bands,)
        Bands within the network's range.
    """

    there: np.ndarray
    back: np.ndarray
    touched: np.ndarray

    @classmethod
    def build(cls, scene: np.ndarray, network: np.ndarray) -> Bridge:
        """Bridge between wavelengths [nm].

        Raises
        ------
        MissingMetadata
            The scene has no wavelengths.
        BandMismatch
            It covers less than half of the network's range.
        """
        if not np.isfinite(scene).all():
            raise MissingMetadata(
                f"the scene has no wavelengths and the network's {network.size} bands lie at {network.min():g} to "
                f"{network.max():g} nm: set the coordinate 'wavelength'"
            )
        step = (network.max() - network.min()) / max(network.size - 1, 1)
        touched = (scene >= network.min() - step / 2) & (scene <= network.max() + step / 2)
        inside = np.clip(scene[touched], network.min(), network.max())
        covered = float(np.ptp(inside)) / max(float(np.ptp(network)), 1e-9) if inside.size > 1 else 0.0
        if covered < LEAST_COVERAGE:
            raise BandMismatch(
                f"{inside.size} bands of the scene lie within the network's range, {network.min():g} to "
                f"{network.max():g} nm, and cover {covered:.0%} of it, expected at least {LEAST_COVERAGE:.0%}: take "
                "weights for this sensor (torchspectral train restore --method mp-hsir-remote)"
            )
        there = np.zeros((network.size, scene.size))
        there[:, touched] = interpolation(scene[touched], network)
        back = np.zeros((scene.size, network.size))
        back[touched] = interpolation(network, scene[touched])
        return cls(there, back, touched)
