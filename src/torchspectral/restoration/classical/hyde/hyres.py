"""HyRes and HyMiNoR: sparse wavelet coefficients of principal components, without a parameter to set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Scale, Scope, Size, Source, State, Tile
from torchspectral.ops.gram import eigh_descending
from torchspectral.restoration.classical.hyde.units import project, units_of, unproject
from torchspectral.restoration.classical.tiled_wavelets import (
    Pyramid,
    TiledWavelets,
    extended_pixels,
    risk_sums,
    soft,
    threshold_grid,
)
from torchspectral.settings import Settings, setting

AT_ONCE = 1 << 24
"""Pixels of components that are transformed at a time."""


class HyResSettings(Settings):
    """HyRes."""

    moments: int = setting(5, "vanishing moments of the Daubechies wavelet (5: ten taps)", ge=1, le=10)
    levels: int = setting(5, "levels of the decomposition", ge=1, le=6)
    thresholds: int = setting(15, "thresholds that are tried for each component", ge=2, le=200)
    compat: Literal["paper", "authors-code"] = setting(
        "paper", "largest threshold: sqrt(2 log pixels), or sqrt(log 15) as in the authors' program"
    )


class HyRes(Method):
    """Hyperspectral restoration by sparse and low-rank modelling.

    Bands are divided by their noise, which regression on the others tells; the principal components of what results are
    thresholded softly in a wavelet domain, each at the threshold of least Stein risk, and as many are kept as make the
    summed risk least. The mean spectrum is set aside.

    State
    -----
    offset : Tensor, shape (bands,)
        Mean spectrum.
    forward, inverse : Tensor, shapes (k, bands) and (bands, k)
    noise : Tensor, shape (bands,)
        Standard deviation in the cube's units.
    thresholds : Tensor, shape (k,)

    References
    ----------
    Rasti, Ulfarsson and Ghamisi, "Automatic hyperspectral image restoration using sparse and low-rank modeling", IEEE
    GRSL 14(12), 2017.
    """

    Settings = HyResSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("offset", "forward", "inverse", "noise", "thresholds")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.wavelets = TiledWavelets(self.settings.moments, self.settings.levels)
        self.halo, self.multiple = self.wavelets.halo, self.wavelets.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Sums over the pixels, then the risk of each component at each threshold: two passes."""
        if state is not None and "thresholds" in state:
            return state
        units = units_of(source)
        if not len(units.live):
            empty = units.mean.new_zeros(0, 1)
            found: State = {"thresholds": units.mean.new_zeros(1)}
            return found | self._basis(units.mean, units.there(empty), units.back(empty), units.noise)
        scale = units.noise[units.live]
        centred = units.spread[units.live][:, units.live] / torch.outer(scale, scale)
        vectors = eigh_descending(centred)[1]
        every = self._basis(units.mean, units.there(vectors), units.back(vectors), units.noise)
        most = math.sqrt(math.log(15)) if self.settings.compat == "authors-code" else None
        grid = threshold_grid(units.n, self.settings.thresholds, most)

        def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
            risks, powers = [], []
            for pyramid in self._pyramids(tile, every):
                cores = [pyramid.core(tile, number) for number in range(len(pyramid.subbands))]
                risk = torch.stack([risk_sums(core, grid) for core in cores[1:]]).sum(0)
                # The coarse image is kept as it is: its risk is that of its noise.
                coarse = cores[0].flatten(1).double()
                risks.append(risk + coarse.shape[1])
                powers.append(
                    torch.stack([core.flatten(1).double().square().sum(1) - core[0].numel() for core in cores]).sum(0)
                )
            return torch.cat(risks), torch.cat(powers).cpu()

        risk, absent = source.reduce(sums, lambda a, b: (a[0] + b[0], a[1] + b[1]))
        best = risk.min(1)
        rank = 1 + int((best.values - absent).cumsum(0).argmin())
        return {**every, "thresholds": grid[best.indices[:rank]]} | {
            "forward": every["forward"][:rank],
            "inverse": every["inverse"][:, :rank],
        }

    @staticmethod
    def _basis(offset: torch.Tensor, forward: torch.Tensor, inverse: torch.Tensor, noise: torch.Tensor) -> State:
        return {"offset": offset, "forward": forward, "inverse": inverse, "noise": noise}

    def _pyramids(self, tile: Tile, state: State) -> Iterator[Pyramid]:
        """Transforms of the components of a tile, some at a time."""
        rows, cols = tile.lead.shape[-2:]
        some = max(1, AT_ONCE // extended_pixels(self.wavelets, rows, cols))
        for forward in state["forward"].split(some):
            images = project(tile["cube"], {"offset": state["offset"], "forward": forward})[0]
            yield self.wavelets.analyse(images)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Threshold the components and turn back, (n, bands, y, x)."""
        images = project(tile["cube"], state)
        limits = state["thresholds"].to(images.device, images.dtype)[:, None, None]
        rows, cols = images.shape[-2:]
        some = max(1, AT_ONCE // extended_pixels(self.wavelets, rows, cols))
        for one in images:
            for start in range(0, len(one), some):
                part = slice(start, start + some)
                pyramid = self.wavelets.analyse(one[part])
                kept = [pyramid.subbands[0], *(soft(d, limits[part]) for d in pyramid.subbands[1:])]
                one[part] = self.wavelets.synthesise(pyramid.with_subbands(kept))
        return {"cube": unproject(images, state)}

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy, the components and the answer; a few images with their transforms."""
        pixels, wide = size.rows * size.cols, extended_pixels(self.wavelets, size.rows, size.cols)
        need = 5 * pixels * size.bands * 4 + 8 * max(AT_ONCE, wide) * 4
        return {"fit": need, "apply": need}

    def figures(self, state: State) -> dict[str, Any]:
        """Rank and median noise."""
        return {"rank": len(state["forward"]), "median_noise": float(f"{float(state['noise'].median()):.6g}")}


class HyMiNoRSettings(HyResSettings):
    """HyMiNoR."""

    weight: float = setting(10.0, "lambda, of the differences between bands against the data", ge=0)
    mu_data: float = setting(0.5, "mu1, penalty of the split data term", gt=0)
    mu_bands: float = setting(0.5, "mu2, penalty of the split differences", gt=0)
    iterations: int = setting(50, "iterations of the second step", ge=1)


class HyMiNoR(HyRes):
    """Mixed Gaussian and sparse noise: HyRes, then min |H - X|_1 + weight |D X|_1 with D the differences between bands.

    The second step works on each spectrum by itself, by alternating directions; the cube is divided by its largest
    value, so that the penalties mean the same everywhere.

    References
    ----------
    Rasti, Ghamisi and Benediktsson, "Hyperspectral mixed Gaussian and sparse noise reduction", IEEE GRSL 17(3), 2020.
    """

    Settings = HyMiNoRSettings
    scale = Scale("max")

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """HyRes, then the sparse step along the bands, (n, bands, y, x)."""
        cube = super().apply(tile, state)["cube"]
        if cube.shape[1] < 2:
            return {"cube": cube}
        live = (state["noise"] > 0).nonzero()[:, 0].to(cube.device)
        if len(live) > 1:
            flat = cube[:, live].movedim(1, 0)
            cube[:, live] = self._sparse(flat.reshape(len(live), -1)).reshape(flat.shape).movedim(0, 1)
        return {"cube": cube}

    def _sparse(self, data: torch.Tensor) -> torch.Tensor:
        """Alternating directions on spectra (bands, pixels)."""
        s, bands = self.settings, len(data)
        steps = torch.eye(bands, dtype=torch.float64).diff(dim=0)
        normal = s.mu_data * torch.eye(bands, dtype=torch.float64) + s.mu_bands * steps.T @ steps
        inverse = torch.linalg.inv(normal)
        to_data = (inverse * s.mu_data).to(data)
        to_steps = (inverse @ steps.T * s.mu_bands).to(data)
        rest, of_rest = torch.zeros_like(data), torch.zeros_like(data)
        slopes, of_slopes = torch.zeros_like(data[1:]), torch.zeros_like(data[1:])
        x = data
        for _ in range(s.iterations):
            x = to_data @ (data - rest - of_rest) + to_steps @ (slopes - of_slopes)
            gap, slope = data - x, x.diff(dim=0)
            rest = soft(gap - of_rest, 1 / s.mu_data)
            slopes = soft(slope + of_slopes, s.weight / s.mu_bands)
            of_rest += rest - gap
            of_slopes += slope - slopes
        return x

    def memory(self, size: Size) -> dict[str, int]:
        """As HyRes, and ten cubes of the second step."""
        found = super().memory(size)
        return found | {"apply": max(found["apply"], 12 * size.rows * size.cols * size.bands * 4)}
