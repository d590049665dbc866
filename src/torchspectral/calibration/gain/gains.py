"""The value that gain calibration gives: gains of every detector and band, with errors and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.errors import BadInput


@dataclass(frozen=True)
class Gains:
    """Relative gains: calibrated = gain * raw + offset.

    Attributes
    ----------
    gain : ndarray, shape (bands, detectors), or (bands, 1) where all detectors have the same
        Multiplies raw values; their mean over detectors (over bands where there is one detector) is 1. NaN: never seen.
    offset : ndarray, the same shape
        In units of the raw values; after the dark was taken off, where one was given.
    error : ndarray, the same shape
        Expected standard error of the gain; NaN where unknown.
    wavelength : ndarray, shape (bands,)
        nm; NaN where unknown.
    number : ndarray of int, shape (bands,)
        The product's band numbers.
    record : dict
        Plain values: method, sensor, line range, SNR, spectral gap, residuals before and after on held-out data, ...
    """

    gain: np.ndarray
    offset: np.ndarray
    error: np.ndarray
    wavelength: np.ndarray
    number: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bands = len(self.number)
        if self.gain.ndim != 2 or len(self.gain) != bands or self.wavelength.shape != (bands,):
            raise BadInput(f"got gains of shape {self.gain.shape} for {bands} bands, expected (bands, detectors)")
        if self.offset.shape != self.gain.shape or self.error.shape != self.gain.shape:
            raise BadInput("got offsets or errors of another shape than the gains, expected the same")

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and detectors."""
        return self.gain.shape[0], self.gain.shape[1]

    @classmethod
    def make(
        cls,
        gain: Any,
        *,
        offset: Any = None,
        error: Any = None,
        wavelength: Any = None,
        number: Any = None,
        record: dict[str, Any] | None = None,
    ) -> Gains:
        """From gains (bands, detectors); what is not given is unknown (offsets 0)."""
        values = np.atleast_2d(np.asarray(gain, dtype=np.float64))
        bands = len(values)
        return cls(
            values,
            np.where(np.isnan(values), np.nan, 0.0) if offset is None else np.asarray(offset, dtype=np.float64),
            np.full(values.shape, np.nan) if error is None else np.asarray(error, dtype=np.float64),
            np.full(bands, np.nan) if wavelength is None else np.asarray(wavelength, dtype=np.float64),
            np.arange(1, bands + 1) if number is None else np.asarray(number, dtype=np.int64),
            dict(record or {}),
        )
