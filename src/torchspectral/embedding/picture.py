"""A picture of embeddings: their first three principal components as colours, in strips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

STRIP_BYTES = 32 << 20
SIDE = 1200
"""Longest side of the picture [pixel]."""
LISTED = 10
GREY = 0.85


@dataclass
class Components:
    """Principal components of the vectors of a raster.

    Attributes
    ----------
    mean, axes, share : ndarray, shape (d,), (d, d) and (d,)
        Axes in rows, and their shares of the variance, largest first.
    count : int
        Vectors that they are of.
    """

    mean: np.ndarray
    axes: np.ndarray
    share: np.ndarray
    count: int

    def table(self) -> Any:
        """The first components with their shares of the variance."""
        n = min(LISTED, self.share.size)
        return pd.DataFrame(
            {"component": range(1, n + 1), "share": self.share[:n], "together": self.share[:n].cumsum()}
        )


def _strips(layers: xr.DataArray) -> Iterator[np.ndarray]:
    """Blocks (layer, y, x) of whole rows, float64."""
    rows = max(STRIP_BYTES // (8 * layers.shape[0] * layers.shape[2]), 1)
    for row in range(0, layers.shape[1], rows):
        yield np.asarray(layers[:, row : row + rows].values, dtype=np.float64)


def principal_components(layers: xr.DataArray) -> Components | None:
    """Principal components of all vectors without nodata, in two passes over the rows; None where there are too few."""
    size = layers.shape[0]
    total, count = np.zeros(size), 0
    for block in _strips(layers):
        flat = block.reshape(size, -1)
        flat = flat[:, np.isfinite(flat).all(0)]
        total, count = total + flat.sum(1), count + flat.shape[1]
    if count < 2:
        return None
    mean, cross = total / count, np.zeros((size, size))
    for block in _strips(layers):
        flat = block.reshape(size, -1)
        flat = flat[:, np.isfinite(flat).all(0)] - mean[:, None]
        cross += flat @ flat.T
    values, axes = np.linalg.eigh(cross)
    values = np.maximum(values[::-1], 0)
    axes = axes[:, ::-1].T
    # The sign of an axis is arbitrary: its largest part points up.
    axes = axes * np.sign(axes[np.arange(size), np.abs(axes).argmax(1)])[:, None]
    whole = values.sum()
    return Components(mean, axes, values / whole if whole > 0 else values, count)


def colours(layers: xr.DataArray, found: Components) -> np.ndarray:
    """The raster, thinned to `SIDE`, in the colours of its first three components: (y, x, 3), 0..1; nodata grey."""
    step = max(-(-max(layers.shape[1:]) // SIDE), 1)
    axes = found.axes[:3]
    scores = np.concatenate(
        [
            np.einsum("kd,dyx->kyx", axes, block - found.mean[:, None, None])
            for block in _strips(layers[:, ::step, ::step])
        ],
        axis=1,
    )
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile(scores, (2, 98), axis=(1, 2))
        span = np.where(high > low, high - low, 1.0)
        picture = ((scores - low[:, None, None]) / span[:, None, None]).clip(0, 1)
    while len(picture) < 3:
        picture = np.concatenate([picture, picture[-1:]])
    empty = ~np.isfinite(picture).all(0)
    picture[:, empty] = GREY
    return np.moveaxis(picture, 0, -1)


def as_png(picture: np.ndarray, least: int = 256) -> bytes:
    """A picture as PNG; small ones are enlarged by whole pixels."""
    import io

    from PIL import Image

    zoom = max(least // max(picture.shape[:2]), 1)
    wide = np.repeat(np.repeat((picture * 255).round().astype(np.uint8), zoom, 0), zoom, 1)
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    return buffer.getvalue()
