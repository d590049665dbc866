"""Embeddings with what is known about each sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from torchspectral.errors import BadInput

LEAST = 10
"""Samples that anything can be said about."""


@dataclass
class Embedded:
    """One set of samples.

    Attributes
    ----------
    name : str
    values : ndarray, shape (n, d)
        Finite.
    places : DataFrame
        Columns row and col (and scene) of each sample where they come from a grid; else empty, n rows.
    groups : ndarray of int, shape (n,), or None
        Blocks of ground.
    labels : ndarray of int, shape (n,), or None
        0 is unlabelled.
    class_names : list of str
        By number.
    spectra : ndarray, shape (n, bands), or None
        Input that the embeddings were made from.
    curves : DataFrame or None
        A row for each moment of a training: step and figures.
    first : ndarray or None
        Embeddings of the same samples before the training.
    picture : ndarray, shape (y, x, 3), or None
        The whole scene in the colours of its principal components.
    notes : list of str
    """

    name: str
    values: np.ndarray
    places: pd.DataFrame
    groups: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_names: list[str] = field(default_factory=list)
    spectra: np.ndarray | None = None
    curves: pd.DataFrame | None = None
    first: np.ndarray | None = None
    picture: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def take(self, index: np.ndarray) -> Embedded:
        """Some of the samples."""

        def of(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[index]

        return Embedded(
            self.name,
            self.values[index],
            self.places.iloc[index].reset_index(drop=True),
            of(self.groups),
            of(self.labels),
            self.class_names,
            of(self.spectra),
            self.curves,
            of(self.first),
            self.picture,
            self.notes,
        )


def finite_only(found: Embedded) -> Embedded:
    """Leave out samples with nodata, and say so.

    Raises
    ------
    BadInput
        Too few are left.
    """
    keep = np.isfinite(found.values).all(1)
    if keep.sum() < LEAST:
        raise BadInput(
            f"{found.name} has {int(keep.sum())} embeddings without nodata, expected at least {LEAST} to say anything"
        )
    if not keep.all():
        found.notes.append(f"{int((~keep).sum())} of {keep.size} samples hold nodata and were left out")
        found = found.take(np.flatnonzero(keep))
    return found
