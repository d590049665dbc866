"""What methods share that put a simplex around the pixels: their coordinates, the first simplex, the passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from torchspectral.engine.method import Gram, Size, Source, State
from torchspectral.ops.gram import CHUNK, covariance, lapack_axes
from torchspectral.ops.vca import vca
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.base import Extraction, ExtractionSettings
from torchspectral.unmixing.picking import collect

SPHERE_RIDGE = 1e-8


class EnclosingSettings(ExtractionSettings):
    """How many endmembers, of how many pixels."""

    most_pixels: int = setting(1_000_000, "of larger scenes a seeded sample of this many pixels is used", ge=100)


@dataclass(frozen=True)
class Affine:
    """Coordinates in the affine hull: k numbers a pixel.

    Attributes
    ----------
    forward : Tensor, shape (k, bands)
    shift : Tensor, shape (k,)
        coordinates = forward pixel + shift.
    backward : Tensor, shape (bands, k)
    origin : Tensor, shape (bands,)
        spectrum = backward coordinates + origin.
    plain : Tensor, shape (k, k)
        Takes whitened coordinates to those along the principal axes and the mean: whitened ones have no axes of their
        own for VCA to draw in.
    """

    forward: torch.Tensor
    shift: torch.Tensor
    backward: torch.Tensor
    origin: torch.Tensor
    plain: torch.Tensor

    @classmethod
    def of(cls, n: int, total: torch.Tensor, cross: torch.Tensor, k: int, spherise: bool) -> Affine:
        """From the sums of the pixels."""
        mean = total / n
        values, vectors = lapack_axes(covariance(n, total, cross))
        axes = vectors[:, : k - 1]
        rest = mean - axes @ (axes.T @ mean)
        if spherise:
            deviation = (values[: k - 1].clamp_min(0) + SPHERE_RIDGE * values[0]).sqrt()
            forward = torch.cat([(axes / deviation).T, torch.zeros_like(mean)[None]]) / k**0.5
            shift = -forward @ mean
            shift[-1] = k**-0.5
            backward = torch.cat([axes * deviation, torch.zeros_like(mean)[:, None]], dim=1) * k**0.5
            plain = torch.diag(torch.cat([deviation, torch.zeros_like(deviation[:1])]))
            plain[:, -1] = torch.cat([axes.T @ mean, rest.norm()[None]])
            return cls(forward, shift, backward, mean, plain * k**0.5)
        up = rest / rest.norm().clamp_min(torch.finfo(torch.float64).tiny)
        basis = torch.cat([axes, up[:, None]], dim=1)
        # The projected pixel is U U'(y - mean) + mean: its coordinate along `up` is the mean's.
        forward = basis.T @ (axes @ axes.T)
        return cls(
            forward,
            basis.T @ (mean - axes @ (axes.T @ mean)),
            basis,
            torch.zeros_like(mean),
            torch.eye(k, dtype=mean.dtype),
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Coordinates (k, n), float64, of pixels (bands, n)."""
        forward, shift = self.forward.to(pixels.device), self.shift.to(pixels.device)[:, None]
        parts = [
            forward @ pixels[:, start : start + CHUNK].to(torch.float64) + shift
            for start in range(0, pixels.shape[1], CHUNK)
        ]
        return torch.cat(parts, dim=1)

    def spectra(self, vertices: torch.Tensor) -> torch.Tensor:
        """Spectra (k, bands) of vertices (k, k), one a column."""
        return (self.backward @ vertices + self.origin[:, None]).T.contiguous()


def first_simplex(x: torch.Tensor, plain: torch.Tensor, seed: int) -> torch.Tensor:
    """Vertices (k, k), one a column, by VCA of coordinates (k, n), which hold no noise outside their subspace."""
    return x[:, vca(plain @ x, len(x), seed, snr=float("inf")).indices]


class Enclosing(Extraction):
    """Endmembers that are no pixels: the vertices of a simplex around them; what each method does is its `enclose`.

    State
    -----
    As `Extraction`, and
    volume : float
        Of the simplex, over that of VCA's.
    sampled : int
        Pixels used, of scenes with more.
    """

    Settings = EnclosingSettings
    told: tuple[str, ...] = ("volume", "sampled")

    def enclose(self, x: torch.Tensor, start: torch.Tensor) -> State:
        """Vertices (k, k), one a column, around coordinates x (k, n), and what else the state holds.

        Parameters
        ----------
        x : Tensor, shape (k, n)
        start : Tensor, shape (k, k)
            VCA's vertices, one a column; pixels may lie outside of them.
        """
        raise NotImplementedError

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """One pass more than the sums: k numbers of every pixel (or of a sample) are held."""
        s = self.settings
        space = Affine.of(gram.n, gram.total, gram.cross, k, getattr(s, "spherise", True))
        sampled = gram.n > s.most_pixels
        if sampled:
            x = space(source.sample(s.most_pixels).cpu())
        else:
            x, index = collect(source, space)
            x = x[:, torch.argsort(index)]
        start = first_simplex(x, space.plain, seed)
        found = dict(self.enclose(x, start))
        vertices = found.pop("vertices")
        growth = float(torch.linalg.det(vertices).abs() / torch.linalg.det(start).abs())
        told: dict[str, Any] = {"endmembers": space.spectra(vertices), "volume": round(growth, 6), **found}
        return told | ({"sampled": s.most_pixels} if sampled else {})

    def memory(self, size: Size) -> dict[str, int]:
        """Six float64 arrays of k numbers a pixel, for at most `most_pixels`."""
        k = self.settings.most if self.settings.k == "auto" else self.settings.k
        held = min(size.rows * size.cols, self.settings.most_pixels)
        own = held * k * 8 * 6 + size.rows * size.cols * size.bands * 8
        return {"fit": own, "apply": size.rows * size.cols * size.bands * 4}
