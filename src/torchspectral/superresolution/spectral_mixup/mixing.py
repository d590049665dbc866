"""Spectral mixup: half of each spectrum is replaced by a random linear mixture of its bands.

References
----------
Li, Dai, Konukoglu, Van Gool, "Hyperspectral image super-resolution with spectral mixup and heterogeneous datasets",
arXiv 2101.07589 (2021), with the normalisation of the authors' code: one scalar, not one a column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from torchspectral.errors import BadSettings

if TYPE_CHECKING:
    import torch

Images = TypeVar("Images", np.ndarray, "torch.Tensor")


def mixing_matrix(
    bands: int, generator: np.random.Generator | None = None, *, uniform: np.ndarray | None = None
) -> np.ndarray:
    """A random matrix whose columns sum to 1 on the average, float32 (bands, bands).

    Parameters
    ----------
    bands : int
    generator : numpy.random.Generator, optional
        By default a new one without a seed.
    uniform : ndarray, shape (bands, bands), optional
        What would be drawn from 0..1.

    Raises
    ------
    BadSettings
    """
    if bands < 1:
        raise BadSettings(f"got {bands} bands to mix, expected at least 1")
    if uniform is None:
        uniform = (generator or np.random.default_rng()).random((bands, bands))
    drawn = np.asarray(uniform, dtype=np.float64)
    if drawn.shape != (bands, bands):
        raise BadSettings(f"got numbers of shape {drawn.shape}, expected ({bands}, {bands})")
    return (drawn / drawn.sum(0).mean()).astype(np.float32)


def mix_spectra(images: Images, matrix: np.ndarray) -> Images:
    """``(x + x R) / 2``: each pixel's spectrum, as a row, times the matrix, averaged with itself.

    Input, interpolated input and truth of a sample must be mixed with the same matrix; as it acts on spectra alone,
    mixing and losing resolution may be done in either order. NaN in a band makes all bands of the pixel NaN.

    Parameters
    ----------
    images : ndarray or Tensor, shape (..., bands, y, x)
        Reflectance or another scale of about 0..1, which it keeps on the average.
    matrix : ndarray, shape (bands, bands), or (n, bands, bands) for one matrix a sample
        See `mixing_matrix`.

    Raises
    ------
    BadSettings
        The sizes differ.
    """
    bands = images.shape[-3]
    if matrix.shape[-2:] != (bands, bands):
        raise BadSettings(f"got a matrix of {matrix.shape} for {bands} bands, expected ({bands}, {bands})")
    if isinstance(images, np.ndarray):
        flat = images.reshape(*images.shape[:-2], -1)
        mixed = np.swapaxes(matrix, -2, -1).astype(images.dtype) @ flat
        return (images + mixed.reshape(images.shape)) / 2
    import torch

    weight = torch.from_numpy(np.ascontiguousarray(np.swapaxes(matrix, -2, -1))).to(images)
    return (images + (weight @ images.flatten(-2)).view(images.shape)) / 2
