"""Z-PNN's sensors and what it makes of an image before it learns: kernels, phases, Wald's degradation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from torchspectral.errors import GridMismatch
from torchspectral.ops.axis import apply, correlation
from torchspectral.ops.mtf import HS_GAIN, separable_terms
from torchspectral.sharpening.zero_shot.correlation import correlation_field
from torchspectral.sharpening.zero_shot.losses import loss_taps


@dataclass(frozen=True)
class SensorValues:
    """What the authors set for a sensor: MTF gains at Nyquist, weight of the structural loss, rate, kernels of PNN."""

    gains: tuple[float, ...]
    beta: float
    learning_rate: float
    kernels: tuple[int, int, int] = (9, 5, 5)


SENSORS = {
    "WV3": SensorValues((0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315), 0.36, 1e-5),
    "WV2": SensorValues((*(0.35,) * 7, 0.27), 0.36, 1e-5),
    "GE1": SensorValues((0.23,) * 4, 0.25, 5e-5),
    "QB": SensorValues((0.34, 0.32, 0.30, 0.22), 0.25, 5e-5),
    "IKONOS": SensorValues((0.26, 0.28, 0.29, 0.28), 0.25, 5e-5, (5, 5, 5)),
}
OTHER = SensorValues((), 0.36, 1e-5)
"""For any other sensor; its gains are those of the scene, or 0.3."""

ALIASES = {
    "worldview-3": "WV3", "worldview-2": "WV2", "geoeye-1": "GE1", "quickbird": "QB", "quickbird-2": "QB",
    "ikonos": "IKONOS", "ikonos-2": "IKONOS",
}  # fmt: skip


def sensor_values(name: str, bands: int, known_gain: float = 0.0) -> SensorValues:
    """Values of a sensor, one gain a band.

    Parameters
    ----------
    name : str
        A key of `SENSORS`, a longer name (``worldview-3``), or anything else.
    bands : int
    known_gain : float
        MTF gain of the scene's sensor where it is none of these; 0: unknown.

    Raises
    ------
    GridMismatch
        The sensor has another number of bands.
    """
    key = ALIASES.get(name.lower(), name.upper())
    found = SENSORS.get(key)
    if found is None:
        gain = known_gain if 0 < known_gain < 1 else HS_GAIN
        return SensorValues((gain,) * bands, OTHER.beta, OTHER.learning_rate, OTHER.kernels)
    if len(found.gains) != bands:
        raise GridMismatch(
            f"got {bands} bands, {key} has {len(found.gains)}: pick its bands (bands=), or give sensor=other"
        )
    return found


@lru_cache(maxsize=64)
def smooth_kernel(ratio: int, gain: float, taps: int | None = None) -> np.ndarray:
    """MTF kernel of Z-PNN, shape (taps, taps), read-only: non-negative, of sum 1.

    Its window is a Kaiser window along the columns alone.

    Parameters
    ----------
    ratio : int
    gain : float
        Amplitude at Nyquist, 0..1.
    taps : int, optional
        Odd; default 41 at ratio 4.
    """
    size = loss_taps(ratio) if taps is None else taps
    sigma = np.sqrt(((size - 1) / (2 * ratio)) ** 2 / (-2 * np.log(gain)))
    axis = np.arange(size) - (size - 1) / 2
    response = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * sigma**2))
    response[response < np.finfo(np.float64).eps * response.max()] = 0
    response /= response.max()
    spatial = np.real(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(response))))
    kernel = np.clip(spatial * np.kaiser(size, 0.5)[None, :], 0, None)
    kernel /= kernel.sum()
    kernel.setflags(write=False)
    return kernel


def replicated_filter(image: torch.Tensor, kernel: np.ndarray, grow: int = 0) -> torch.Tensor:
    """Filtering with repeated edges, float64, of the same size or larger by `grow` on each side."""
    image = image.double()
    if grow:
        image = torch.nn.functional.pad(image, (grow,) * 4, mode="replicate")
    rows, cols = image.shape[-2:]
    out = torch.zeros_like(image)
    for down, across in separable_terms(np.asarray(kernel)):
        out += apply(image, correlation(rows, down, "edge"), correlation(cols, across, "edge"))
    return out


def phases(
    low: torch.Tensor,
    pan: torch.Tensor,
    kernel: np.ndarray,
    *,
    counts: float = 0.0,
    valid: torch.Tensor | None = None,
) -> list[tuple[int, int]]:
    """Which of the R x R fine pixels each band's coarse pixels fall on best.

    For each place (i, j) the low-passed PAN is decimated there; the place of the largest mean local correlation with
    the band is its phase.

    Parameters
    ----------
    low : Tensor, shape (n, bands, y, x)
    pan : Tensor, shape (n, 1, R * y, R * x)
    kernel : ndarray
        Of the first band.
    counts : float
        Raw numbers a working unit: the low-passed PAN is rounded to them, as the authors do; 0: it is not.
    valid : Tensor, shape (n, 1, y, x), optional

    Returns
    -------
    list of (int, int), one a band
    """
    ratio = pan.shape[-1] // low.shape[-1]
    smooth = replicated_filter(pan, kernel)
    if counts:
        smooth = (smooth * counts).round() / counts
    weight = torch.ones_like(low[:, :1]) if valid is None else valid
    score = torch.full((low.shape[1], ratio, ratio), -np.inf, dtype=torch.float64)
    for i in range(ratio):
        for j in range(ratio):
            part = smooth[..., i::ratio, j::ratio]
            field = correlation_field(low.double(), part, 2)
            score[:, i, j] = (field * weight).sum((0, 2, 3)).cpu() / weight.sum().cpu()
    best = score.flatten(1).argmax(1)
    return [(int(b) // ratio, int(b) % ratio) for b in best]


def reduced(
    ms: torch.Tensor, pan: torch.Tensor, ratio: int, gains: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair at reduced resolution, as the authors evaluate: each as a sensor of `ratio` times larger pixels sees it.

    Parameters
    ----------
    ms : Tensor, shape (bands, y, x)
    pan : Tensor, shape (1, R * y, R * x)
    ratio : int
    gains : sequence of float
        MTF gain of each band.

    Returns
    -------
    ms, pan : Tensor
        ``(bands, y // R, x // R)`` and ``(1, y, x)``, float64; the given `ms` is the reference.
    """
    from scipy import ndimage

    rows, cols = ms.shape[-2:]
    small = []
    for band, gain in zip(ms, gains, strict=True):
        kernel = smooth_kernel(ratio, gain)
        wide = torch.nn.functional.pad(band[None, None].double(), (kernel.shape[0] // 2 + 1,) * 4, mode="replicate")
        seen = torch.nn.functional.conv2d(wide, torch.from_numpy(kernel.copy()).to(wide)[None, None])[0, 0]
        small.append(_resized(ndimage, seen.cpu().numpy(), (rows // ratio, cols // ratio), 0))
    return torch.from_numpy(np.stack(small)), torch.from_numpy(
        _resized(ndimage, pan[0].double().cpu().numpy(), (rows, cols), 3)[None]
    )


def _resized(ndimage: object, image: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Spline resizing after a Gaussian of (factor - 1) / 2 pixels, clipped to the image's range."""
    from scipy.ndimage import gaussian_filter, zoom

    factors = np.array(image.shape) / np.array(shape)
    smooth = gaussian_filter(image, np.maximum(0, (factors - 1) / 2), mode="mirror")
    out = zoom(smooth, 1 / factors, order=order, mode="mirror", grid_mode=True)
    return np.clip(out, image.min(), image.max())
