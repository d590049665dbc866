"""What a degradation is made of: steps that are planned once a scene and applied to blocks of rows.

A `Step` draws what holds for the whole scene (`plan`) and gives a `Planned`, which changes blocks of whole rows. A
`Planned` that looks around tells which rows it needs. Values are in the working scale, 0..1; nodata (NaN) stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.synth.draws import Draw

Shape = tuple[int, int, int]
"""Bands, rows, columns."""

REMOVED, STRIPE, IMPULSE = 1, 2, 4
"""Bits of the mask: the value was set to zero; it carries a stripe; it was replaced by salt or pepper."""


@dataclass
class Facts:
    """What a scene tells a step, and what the steps tell of themselves.

    Attributes
    ----------
    wavelength : ndarray, shape (bands,), optional
        [nm].
    cirrus : ndarray, shape (y', x'), optional
        A map of cirrus, 0..1, of any size.
    light : callable, optional
        Gives the mean of the brightest pixels of each band, shape (bands,), for a share of the pixels.
    order : ndarray, optional
        Bands in the order in which the steps of a mixture take them.
    bands : dict of str to ndarray
        What was done to each band.
    chosen : dict
        Numbers that hold for the scene.
    """

    wavelength: np.ndarray | None = None
    cirrus: np.ndarray | None = None
    light: Any = None
    order: np.ndarray | None = None
    bands: dict[str, np.ndarray] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass
class Place:
    """Where a block lies: band numbers, first row, and the shape of the whole scene."""

    bands: np.ndarray
    row: int
    shape: Shape

    @classmethod
    def whole(cls, shape: Shape) -> Place:
        """The whole scene."""
        return cls(np.arange(shape[0]), 0, shape)

    def positions(self, bands: np.ndarray) -> list[tuple[int, int]]:
        """Pairs (number, position in the block) of those of `bands` that the block holds, in the order of `bands`."""
        where = {int(b): i for i, b in enumerate(self.bands)}
        return [(int(b), where[int(b)]) for b in bands if int(b) in where]


class Planned:
    """A step whose choices are made. The defaults are those of a step that works on each pixel alone."""

    flags = False
    """Whether `apply` marks pixels."""

    def shape(self, shape: Shape) -> Shape:
        """Shape of the result."""
        return shape

    def rows(self, first: int, last: int, shape: Shape) -> tuple[int, int]:
        """Input rows that the output rows first..last-1 need."""
        return first, last

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        """Change a block.

        Parameters
        ----------
        block : ndarray or Tensor, shape (bands, rows, columns)
            Left as it is.
        place : Place
            Of the input block.
        draw : Draw
        mask : ndarray of uint8 or bool tensor-like, optional
            Gets the flags, where asked for.
        keep : (int, int)
            Output rows that are wanted, first and last + 1, counted in the whole result.
        """
        raise NotImplementedError


class Step:
    """One kind of damage."""

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose what holds for the whole scene.

        Raises
        ------
        BadInput, MissingMetadata
            The scene is too small, or something is not known of it.
        """
        raise NotImplementedError
