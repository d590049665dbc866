"""Vertex component analysis from sums and streamed projections: no array is larger than bands x bands or k x n.

The scene is needed three times at most: once for its sums (`gram.gram_sums`), once, in the low-SNR branch, for the
largest norm of its projections, and then either once more, to keep k numbers a pixel, or once for each endmember.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from torchspectral.errors import BadInput
from torchspectral.ops.gram import CHUNK, covariance, eigh_descending, gram_sums, lapack_axes, rank_of

DIMMEST = 1e-3
"""Pixels whose projection on the mean direction is below this share of the mean's are left out: dividing by it would
send shadow and water noise to the far corners of the simplex."""

_TIE = 1e-10


@dataclass(frozen=True)
class VcaProjection:
    """How pixels are turned into k coordinates.

    Attributes
    ----------
    k : int
        Endmembers to find.
    snr : float
        Estimated signal-to-noise ratio [dB]; inf where nothing is left outside the signal subspace.
    high_snr : bool
        Whether the projective projection (divide by the mean direction) is used.
    axes : Tensor, shape (bands, k) or (bands, k - 1)
    origin : Tensor, shape (bands,)
        Subtracted before projecting; zero in the high-SNR branch.
    centre : Tensor, shape (k,)
        Projected mean, high-SNR branch.
    height : float
        Constant last coordinate, low-SNR branch: the largest norm of the projected pixels.
    """

    k: int
    snr: float
    high_snr: bool
    axes: torch.Tensor
    origin: torch.Tensor
    centre: torch.Tensor
    height: float = 1.0

    def reduced(self, pixels: torch.Tensor) -> torch.Tensor:
        """Coordinates in the signal subspace, (d, n) float64, of pixels (bands, n)."""
        axes = self.axes.to(pixels.device)
        shift = (axes.T @ self.origin.to(pixels.device))[:, None]
        parts = [
            axes.T @ pixels[:, start : start + CHUNK].to(torch.float64) - shift
            for start in range(0, pixels.shape[1], CHUNK)
        ]
        return torch.cat(parts, dim=1) if parts else axes.new_zeros((axes.shape[1], 0))

    def largest_norm(self, pixels: torch.Tensor) -> float:
        """Largest norm of the reduced pixels."""
        x = self.reduced(pixels)
        return float(x.norm(dim=0).max()) if x.shape[1] else 0.0

    def with_height(self, height: float) -> VcaProjection:
        """The same projection with the low-SNR branch's constant coordinate."""
        return replace(self, height=height)

    def coordinates(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the draws look at, (k, n): pixels too dim to be placed are zero, and so are never extreme."""
        x = self.reduced(pixels)
        if not self.high_snr:
            return torch.cat([x, torch.full_like(x[:1], self.height)])
        centre = self.centre.to(x.device)
        depth = centre @ x
        kept = depth > DIMMEST * (centre @ centre)
        return torch.where(kept, x / torch.where(kept, depth, 1.0), 0.0)

    def denoised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (bands, n) projected onto the signal subspace, float64."""
        return self.axes.to(pixels.device) @ self.reduced(pixels) + self.origin.to(pixels.device)[:, None]


def estimate_snr(n: int, total: torch.Tensor, cross: torch.Tensor, k: int) -> float:
    """Signal-to-noise ratio [dB] of a scene of k endmembers, from its sums; inf or NaN-free.

    References
    ----------
    Nascimento and Bioucas-Dias, "Vertex component analysis", TGRS 43(4), 2005, eq. (13).
    """
    mean = total / n
    values, _ = eigh_descending(covariance(n, total, cross))
    power = float(cross.diagonal().sum()) / n
    signal = float(values[:k].clamp_min(0).sum()) + float(mean @ mean)
    share = k / cross.shape[0]
    noise = power - signal
    if noise <= 1e-12 * power or signal <= share * power:
        return float("inf") if noise <= 1e-12 * power else float("-inf")
    return 10.0 * float(np.log10((signal - share * power) / noise))


def check_span(n: int, total: torch.Tensor, cross: torch.Tensor, k: int) -> None:
    """Refuse more endmembers than there are pixels, or than what the scene spans around its mean allows.

    Parameters
    ----------
    n, total, cross : int, Tensor (bands,), Tensor (bands, bands)
        Count, sums and cross products, float64.
    k : int
        Endmembers.

    Raises
    ------
    BadInput
        Fewer pixels than endmembers, or pixels that do not span as many dimensions.
    """
    if n < k:
        raise BadInput(f"got {n} valid pixels for {k} endmembers, expected at least as many pixels as endmembers")
    bands = cross.shape[0]
    if k > bands + 1:
        raise BadInput(
            f"got k={k} with {bands} bands, expected at most {bands + 1}: use more bands or fewer endmembers"
        )
    values, _ = eigh_descending(covariance(n, total, cross))
    power = float(cross.diagonal().sum()) / n
    # The covariance is compared with the whole power: what rounding leaves of a constant scene is no dimension.
    dimensions = int((values > 1e-11 * power).sum()) if power > 0 else 0
    if dimensions < k - 1:
        raise BadInput(
            f"the pixels of this scene span {dimensions} dimensions around their mean, which allows at most "
            f"{dimensions + 1} endmembers, got k={k}: ask for fewer endmembers or use more pixels or bands"
        )


def vca_projection(n: int, total: torch.Tensor, cross: torch.Tensor, k: int, snr: float | None = None) -> VcaProjection:
    """Choose the branch and the subspace from the sums of the valid pixels.

    Parameters
    ----------
    n, total, cross : int, Tensor (bands,), Tensor (bands, bands)
        Count, sums and cross products, float64.
    k : int
        Endmembers, at least 2.
    snr : float, optional
        Signal-to-noise ratio [dB]; estimated where not given.

    Raises
    ------
    BadInput
        Fewer pixels than endmembers, or pixels that do not span as many dimensions.
    """
    if k < 2:
        raise BadInput(f"got k={k}, expected at least 2 endmembers: one alone leaves nothing to unmix")
    if not bool(torch.isfinite(cross).all()):
        raise BadInput("got pixels with infinite values, expected finite ones or nodata: mask them first")
    check_span(n, total, cross, k)
    mean = total / n
    found = estimate_snr(n, total, cross, k) if snr is None else float(snr)
    high = not found < 15.0 + 10.0 * np.log10(k)
    if high:
        values, vectors = lapack_axes(cross / n)
        high = rank_of(values, 1e-12) >= k  # k = bands + 1, or a flat through the origin, has no projective form
    if high:
        axes = vectors[:, :k]
        return VcaProjection(k, found, True, axes, torch.zeros_like(mean), axes.T @ mean)
    _, vectors = lapack_axes(covariance(n, total, cross))
    return VcaProjection(k, found, False, vectors[:, : k - 1], mean, mean.new_zeros(k))


@dataclass(frozen=True)
class Extreme:
    """The pixel found farthest along a direction.

    Attributes
    ----------
    score : float
        Absolute projection on the direction.
    index : int
        Row-major index of the pixel in the scene: among equals the first one is taken, however the scene was cut.
    coordinates : Tensor, shape (k,)
    spectrum : Tensor, shape (bands,)
        Empty where the search runs on coordinates alone.
    """

    score: float
    index: int
    coordinates: torch.Tensor
    spectrum: torch.Tensor

    def farther(self, other: Extreme) -> Extreme:
        """The farther of two; of equals the earlier pixel."""
        if abs(self.score - other.score) <= _TIE * max(self.score, other.score):
            return self if self.index <= other.index else other
        return self if self.score > other.score else other


def find_extreme(
    coordinates: torch.Tensor, direction: torch.Tensor, index: torch.Tensor, pixels: torch.Tensor | None = None
) -> Extreme | None:
    """Farthest of the given pixels along a direction; None where there are none.

    Parameters
    ----------
    coordinates : Tensor, shape (k, n)
    direction : Tensor, shape (k,)
    index : Tensor of int64, shape (n,)
        Row-major scene index of each pixel.
    pixels : Tensor, shape (bands, n), optional
        Whose column is returned as the spectrum.
    """
    if coordinates.shape[1] == 0:
        return None
    scores = (direction.to(coordinates.device) @ coordinates).abs()
    top = float(scores.max())
    near = (scores >= top * (1 - _TIE)).nonzero()[:, 0]
    at = int(near[index[near].argmin()])
    empty = coordinates.new_zeros(0)
    spectrum = pixels[:, at].to(torch.float64).cpu() if pixels is not None else empty
    return Extreme(float(scores[at]), int(index[at]), coordinates[:, at].cpu(), spectrum)


class VcaDraws:
    """The sequence of random directions, each orthogonal to the vertices found so far.

    Parameters
    ----------
    k : int
    seed : int or sequence of int
        Of `numpy.random.default_rng`; one uniform vector in [0, 1)^k is drawn for each endmember.
    """

    def __init__(self, k: int, seed: int | Sequence[int]) -> None:
        self._random = np.random.default_rng(seed)
        self._vertices = np.zeros((k, k))
        self._vertices[-1, 0] = 1.0
        self.found: list[Extreme] = []

    def direction(self) -> torch.Tensor:
        """Next direction, unit norm, (k,)."""
        draw = self._random.random((len(self._vertices), 1))
        rest = draw - self._vertices @ (np.linalg.pinv(self._vertices) @ draw)
        return torch.from_numpy(rest[:, 0] / np.linalg.norm(rest))

    def accept(self, extreme: Extreme | None) -> None:
        """Take the farthest pixel as the next vertex.

        Raises
        ------
        BadInput
            No pixel stands out any more.
        """
        scale = max((float(v.coordinates.norm()) for v in self.found), default=0.0)
        if extreme is None or extreme.score <= 1e-9 * scale:
            raise BadInput(
                f"only {len(self.found)} pixels of this scene differ enough to be endmembers, expected "
                f"{len(self._vertices)}: ask for fewer endmembers"
            )
        self._vertices[:, len(self.found)] = extreme.coordinates.numpy()
        self.found.append(extreme)


@dataclass(frozen=True)
class VcaResult:
    """Endmembers of one scene.

    Attributes
    ----------
    endmembers : Tensor, shape (k, bands)
        In the order of extraction, float64.
    indices : Tensor of int64, shape (k,)
        Row-major pixel numbers.
    snr : float
        Estimated [dB].
    high_snr : bool
        Branch taken.
    """

    endmembers: torch.Tensor
    indices: torch.Tensor
    snr: float
    high_snr: bool


def vca(pixels: torch.Tensor, k: int, seed: int = 0, *, snr: float | None = None, denoise: bool = True) -> VcaResult:
    """Vertex component analysis of pixels in memory.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
        Finite spectra; any scale.
    k : int
        Endmembers.
    seed : int
        Of the random directions.
    snr : float, optional
        Signal-to-noise ratio [dB]; estimated where not given.
    denoise : bool
        Return the chosen pixels projected onto the signal subspace (as published), or as they are.

    Raises
    ------
    BadInput
        Too few pixels, bands or dimensions for k.

    References
    ----------
    Nascimento and Bioucas-Dias, "Vertex component analysis: a fast algorithm to unmix hyperspectral data",
    IEEE TGRS 43(4), 2005.
    """
    sums = gram_sums(pixels)
    projection = vca_projection(*sums, k, snr)
    if not projection.high_snr:
        projection = projection.with_height(projection.largest_norm(pixels))
    coordinates = projection.coordinates(pixels)
    index = torch.arange(pixels.shape[1], device=pixels.device)
    draws = VcaDraws(k, seed)
    for _ in range(k):
        draws.accept(find_extreme(coordinates, draws.direction(), index, pixels))
    spectra = torch.stack([e.spectrum for e in draws.found], dim=1)
    if denoise:
        spectra = projection.denoised(spectra)
    indices = torch.tensor([e.index for e in draws.found])
    return VcaResult(spectra.T.contiguous(), indices, projection.snr, projection.high_snr)
