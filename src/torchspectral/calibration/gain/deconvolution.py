"""Blind deconvolution with diverse inputs: an unknown transfer function on the diagonal of Fourier space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchspectral.calibration.gain.self_cal import SelfCal
from torchspectral.calibration.gain.solving import Identifiability
from torchspectral.errors import BadInput


@dataclass(frozen=True)
class Deconvolution:
    """What blind deconvolution found.

    Attributes
    ----------
    transfer : ndarray of complex, shape (rows, cols)
        Transfer function in the order of `numpy.fft.fft2`; 1 at frequency zero.
    kernel : ndarray, shape (rows, cols)
        Point spread function, centred at (0, 0), cyclic; sums to 1.
    inputs : ndarray, shape (p, rows, cols)
    identifiability : Identifiability
    err_est : float
    """

    transfer: np.ndarray
    kernel: np.ndarray
    inputs: np.ndarray
    identifiability: Identifiability
    err_est: float


def blind_deconvolution(images: Any, support: Any, **options: Any) -> Deconvolution:
    """Find one blur and the sharp inputs of several images that it blurred, from where the inputs are not zero.

    Images are cyclic convolutions, ``y_l = h * z_l``; model "b" with D the transfer function and A_l the Fourier
    transform of the pixels that may be lit.

    Parameters
    ----------
    images : array_like, shape (p, rows, cols)
    support : array_like of bool, shape (p, rows, cols), or (rows, cols) for all
        Where each input may differ from zero. The same support for all inputs leaves shifts of blur against inputs
        open only where the support is periodic.
    **options
        Of `SelfCal`: solver, noise_var, refine, rounds, device. Memory: the square of the number of pixels.

    Raises
    ------
    BadInput
        Shapes that do not fit, or a blur that the images do not determine.

    References
    ----------
    Ling and Strohmer, "Self-Calibration and Bilinear Inverse Problems via Linear Least Squares", SIAM J. Imaging
    Sciences 11(1), 2018, the second model.
    """
    y = np.asarray(images, dtype=np.float64)
    if y.ndim != 3 or not np.isfinite(y).all():
        raise BadInput(f"got images of shape {y.shape}, expected finite numbers (p, rows, cols)")
    lit = np.broadcast_to(np.asarray(support, dtype=bool), y.shape) if np.ndim(support) in (2, 3) else None
    if lit is None or not lit.reshape(len(y), -1).any(1).all():
        raise BadInput("got no support of the images' size in which a pixel of every input is lit")
    p, rows, cols = y.shape
    size = rows * cols
    eye = np.fft.fft2(np.eye(size).reshape(size, rows, cols)).reshape(size, size).T / np.sqrt(size)
    spectra = np.fft.fft2(y).reshape(p, size) / np.sqrt(size)
    row = np.zeros(size)
    row[0] = 1.0
    found = SelfCal("b", w=row, **options).fit(spectra, [eye[:, lit[n].ravel()] for n in range(p)])
    transfer = found.d / found.d[0]
    inputs = np.zeros((p, size))
    for n in range(p):
        inputs[n, lit[n].ravel()] = np.real(np.asarray(found.x[n]) * found.d[0])
    kernel = np.real(np.fft.ifft2(transfer.reshape(rows, cols)))
    return Deconvolution(
        transfer.reshape(rows, cols), kernel, inputs.reshape(y.shape), found.identifiability, found.err_est
    )
