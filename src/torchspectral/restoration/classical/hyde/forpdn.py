"""FORPDN: first-order differences along the bands are penalised, sub-band by sub-band of a wavelet transform."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.ops.gram import eigh_descending
from torchspectral.restoration.classical.hyde.units import Units, units_of
from torchspectral.restoration.classical.tiled_wavelets import TiledWavelets, extended_pixels
from torchspectral.settings import Settings, setting

WEIGHTS = torch.logspace(-6, 8, 281, dtype=torch.float64)
"""Weights that are tried, in units of the noise."""


class ForpdnSettings(Settings):
    """FORPDN."""

    moments: int = setting(5, "vanishing moments of the Daubechies wavelet (5: ten taps)", ge=1, le=10)
    levels: int = setting(5, "levels of the decomposition", ge=1, le=6)


class Forpdn(Method):
    """First-order roughness penalty denoising.

    Each wavelet sub-band w of the scene gives way to the x that minimises (w - x)^T N^-1 (w - x) + weight |D x|^2, N the
    noise variances of the bands and D the differences between neighbouring bands: one bands x bands matrix, whose
    weight is the one of least Stein risk. Noise of a band by regression on the others; the mean spectrum is set aside
    and not smoothed.

    State
    -----
    mean, noise : Tensor, shape (bands,)
    smoothers : Tensor, shape (3 levels + 1, bands, bands)
        Coarse sub-band first, then the finest details upwards.
    weights : Tensor, shape (3 levels + 1,)

    References
    ----------
    Rasti, Sveinsson, Ulfarsson and Benediktsson, "Hyperspectral image denoising using first order spectral roughness
    penalty in wavelet domain", IEEE JSTARS 7(6), 2014.
    """

    Settings = ForpdnSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("mean", "noise", "smoothers")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.wavelets = TiledWavelets(self.settings.moments, self.settings.levels)
        self.halo, self.multiple = self.wavelets.halo, self.wavelets.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Sums over the pixels, then the covariance of each sub-band: two passes."""
        if state is not None and "smoothers" in state:
            return state
        units = units_of(source)
        bands, count = len(units.mean), 3 * self.settings.levels + 1
        smoothers, weights = units.mean.new_zeros(count, bands, bands), units.mean.new_zeros(count)
        if len(units.live) > 1:
            crosses, sizes = source.reduce(self._sums(units), lambda a, b: (a[0] + b[0], a[1] + b[1]))
            for number in range(count):
                smoother, weights[number] = _smoother(units, crosses[number], float(sizes[number]))
                smoothers[number] = units.with_copies(smoother)
        else:
            smoothers += torch.diag((units.noise > 0).double())
        return {"mean": units.mean, "noise": units.noise, "smoothers": smoothers, "weights": weights}

    def _sums(self, units: Units) -> Any:
        live, scale = units.live, units.noise[units.live]

        def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
            cube = tile["cube"][0, live.to(tile.lead.device)]
            images = (cube - units.mean.to(cube)[live, None, None]) / scale.to(cube)[:, None, None]
            pyramid = self.wavelets.analyse(images)
            crosses, sizes = [], []
            for number in range(len(pyramid.subbands)):
                core = pyramid.core(tile, number).flatten(1)
                crosses.append((core @ core.T).double().cpu())
                sizes.append(core.shape[1])
            return torch.stack(crosses), torch.tensor(sizes)

        return sums

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Smooth each sub-band along the bands, (n, bands, y, x)."""
        cube = tile["cube"]
        mean = state["mean"].to(cube.device, cube.dtype)[:, None, None]
        if len(mean) != cube.shape[1]:
            raise BandMismatch(
                f"the smoothers are of {len(mean)} bands and the cube has {cube.shape[1]}: fit it on this scene"
            )
        smoothers = state["smoothers"].to(cube.device, cube.dtype)
        out = []
        for one in cube:
            pyramid = self.wavelets.analyse(one - mean)
            kept = [torch.einsum("cb,byx->cyx", m, w) for m, w in zip(smoothers, pyramid.subbands, strict=True)]
            out.append(self.wavelets.synthesise(pyramid.with_subbands(kept)) + mean)
        return {"cube": torch.stack(out)}

    def memory(self, size: Size) -> dict[str, int]:
        """All bands, mirrored, with their transforms."""
        wide = extended_pixels(self.wavelets, size.rows, size.cols) * size.bands * 4
        return {"fit": 5 * wide, "apply": 6 * wide}

    def figures(self, state: State) -> dict[str, Any]:
        """Weight of the coarse sub-band and of the finest details."""
        values = [float(f"{v:.4g}") for v in state["weights"].tolist()]
        return {"weight_coarse": values[0], "weights_finest": values[1:4]}


def _smoother(units: Units, cross: torch.Tensor, n: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix over all bands for one sub-band, and its weight.

    In units of noise, with D the differences times the noise and D^T D = U d U^T, the smoother is U / (1 + weight d) U^T;
    its risk is sum s (weight d / (1 + weight d))^2 + 2 n / (1 + weight d) with s = u^T C u, up to a constant.
    """
    live, scale = units.live, units.noise[units.live]
    # Relative to the noise: the weights then mean the same in all units.
    steps = torch.diag(scale / scale.mean()).diff(dim=0)
    values, vectors = eigh_descending(steps.T @ steps)
    values = values.clamp_min(0)
    power = ((vectors.T @ cross) * vectors.T).sum(1)
    share = 1 / (1 + WEIGHTS[:, None] * values)
    risk = (power * (1 - share).square() + 2 * n * share).sum(1)
    best = int(risk.argmin())
    inner = (vectors * share[best]) @ vectors.T
    out = units.mean.new_zeros(len(units.mean), len(units.mean))
    out[live[:, None], live[None, :]] = scale[:, None] * inner / scale[None, :]
    return out, WEIGHTS[best]
