"""From cubes and RGB images to the eight pseudo-colours of the auxiliary task.

References
----------
Li, Dai, Konukoglu, Van Gool, arXiv 2101.07589 (2021): the numbers of the authors' files.
"""

from __future__ import annotations

import numpy as np

from torchspectral.errors import BadInput, BandMismatch

RGB_TO_EIGHT = np.array(
    [
        [1.0, 0.66, 0.34, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.34, 0.76, 1.0, 0.75, 0.5, 0.25, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0],
    ]
)
"""Rows red, green, blue. The third column sums to 1.1, as published; `rgb_to_eight` can mend it."""

CAMERA = np.array(
    [
        [16, 72, 173, 267, 325, 314, 256, 166, 68, 14, 3, 32, 100, 200, 319, 449, 598, 744, 859, 948, 952, 873, 726,
         549, 366, 227, 129, 69, 35, 17, 8],
        [2, 7, 18, 33, 53, 76, 109, 157, 215, 287, 390, 514, 645, 742, 815, 840, 845, 810, 736, 659, 558, 447, 337,
         240, 152, 91, 51, 27, 13, 7, 3],
        [73, 330, 824, 1316, 1667, 1690, 1479, 1116, 654, 352, 185, 95, 51, 26, 12, 3] + [0] * 15,
    ]
).T * 1e-4  # fmt: skip
"""Response of the camera in red, green and blue at 400, 410, .. 700 nm, (31, 3)."""
CAMERA_NM = np.arange(400.0, 701.0, 10.0)


def rgb_to_eight(mended: bool = False) -> np.ndarray:
    """Matrix (3, 8) from red, green, blue to pseudo-colours; `mended` has 0.66 where the authors' has 0.76."""
    matrix = RGB_TO_EIGHT.copy()
    if mended:
        matrix[1, 2] = 0.66
    return matrix


def cube_to_eight(wavelength: np.ndarray, mended: bool = False) -> np.ndarray:
    """Matrix (bands, 8) from a cube to pseudo-colours.

    Parameters
    ----------
    wavelength : ndarray, shape (bands,)
        Band centres [nm].
    mended : bool
        See `rgb_to_eight`.

    Returns
    -------
    ndarray, shape (bands, 8), float32
        The authors' own numbers for 400, 410, .. 700 nm; for other bands the camera's response between them, each
        colour normalised to sum 1 over the bands.

    Raises
    ------
    BandMismatch
        The bands do not see red, green and blue.
    """
    wave = np.asarray(wavelength, dtype=np.float64)
    if wave.shape == CAMERA_NM.shape and np.allclose(wave, CAMERA_NM, atol=0.5):
        response = CAMERA
    else:
        known = np.where(np.isfinite(wave), wave, -1.0)
        response = np.stack([np.interp(known, CAMERA_NM, line, left=0, right=0) for line in CAMERA.T], 1)
        sums = response.sum(0)
        if wave.size == 0 or (sums <= 0).any() or known.max() < 600 or known[known > 0].min(initial=np.inf) > 500:
            raise BandMismatch(
                "the RGB task needs bands from 400 to 700 nm, which the scenes lack: give a projection of your own "
                "(projection=FILE.csv), or set rgb_batches=0 and unlabelled_batches=0"
            )
        response = response / sums
    matrix: np.ndarray = (response @ rgb_to_eight(mended)).astype(np.float32)
    return matrix


def read_projection(path: str, bands: int, colours: int) -> np.ndarray:
    """A projection of the user's own from a table of numbers, (bands, colours), none negative.

    Raises
    ------
    BadInput
        The file is no such table.
    BandMismatch
        It has another shape.
    """
    try:
        matrix = np.loadtxt(path, delimiter="," if path.lower().endswith(".csv") else None, ndmin=2, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no table of numbers ({' '.join(str(error).split())[:120]})") from None
    if matrix.shape != (bands, colours):
        raise BandMismatch(f"{path}: got {matrix.shape[0]} x {matrix.shape[1]} numbers, expected {bands} x {colours}")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise BadInput(f"{path}: got negative numbers or none, expected a response from 0")
    return matrix


def project(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Each pixel's spectrum times a matrix: (.., bands, y, x) to (.., colours, y, x)."""
    made: np.ndarray = np.einsum("bk,...byx->...kyx", matrix, images)
    return made
