"""WSRRR: reduced-rank regression whose coefficients are sparse in a wavelet domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Round, Scope, Size, Source, State, Tile
from torchspectral.ops.gram import eigh_descending
from torchspectral.restoration.classical.hyde.units import finest_noise, project, units_of, unproject
from torchspectral.restoration.classical.tiled_wavelets import (
    Pyramid,
    TiledWavelets,
    extended_pixels,
    risk_sums,
    soft,
    threshold_grid,
)
from torchspectral.restoration.subspace import at_most
from torchspectral.settings import Settings, setting


class WsrrrSettings(Settings):
    """WSRRR."""

    rank: int | None = setting(None, "rank; None: components above what noise alone would have", ge=1)
    moments: int = setting(5, "vanishing moments of the Daubechies wavelet (5: ten taps)", ge=1, le=10)
    levels: int = setting(3, "levels of the decomposition", ge=1, le=6)
    thresholds: int = setting(15, "thresholds that are tried for each sub-band and component", ge=2, le=200)
    iterations: int = setting(200, "iterations at most", ge=1)
    tolerance: float = setting(5e-3, "change of the subspace below which it stops", ge=0)


class Wsrrr(Method):
    """Wavelet-based sparse reduced-rank regression.

    The whitened scene is written as W V^T in a wavelet domain, V with orthonormal columns, W sparse: softly thresholded
    coefficients of the projected scene, one threshold of least Stein risk a sub-band and component, and the V nearest to
    the scene for these, in turn. Noise of a band: median of its finest details over 0.6745.

    Each iteration is one pass over the scene; its thresholds are those of the risks that the pass before has summed.

    State
    -----
    offset : Tensor, shape (bands,)
        Constant bands; 0 for the others.
    forward, inverse : Tensor, shapes (rank, bands) and (bands, rank)
    noise : Tensor, shape (bands,)
    thresholds : Tensor, shape (3 levels + 1, rank)
        Coarse sub-band first (never thresholded), then the finest details upwards.
    rounds : int
    change : float
        Of the subspace in the last iteration.

    References
    ----------
    Rasti, Sveinsson and Ulfarsson, "Wavelet-based sparse reduced-rank regression for hyperspectral image restoration",
    IEEE TGRS 52(10), 2014.
    """

    Settings = WsrrrSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("offset", "forward", "inverse", "noise", "thresholds")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.wavelets = TiledWavelets(self.settings.moments, self.settings.levels)
        self.halo, self.multiple = self.wavelets.halo, self.wavelets.multiple

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Noise, subspace, and rounds of one pass each."""
        at_most("rank", self.settings.rank, len(source.info.wavelength))
        if state is None or "thresholds" not in state:
            units = units_of(source, noise=finest_noise(source, self.settings.moments))
            # Outliers are not in the median of the details: they would pass for components.
            rank = min(self.settings.rank or units_of(source).rank, len(units.live))
            vectors = eigh_descending(units.white)[1][:, :rank] if rank else units.mean.new_zeros(0, 1)
            state = {
                "offset": units.offset,
                "forward": units.there(vectors),
                "inverse": units.back(vectors),
                "noise": units.noise,
                "thresholds": units.mean.new_zeros(3 * self.settings.levels + 1, max(rank, 1)),
                "copies": units.with_copies(torch.diag((units.noise > 0).double())) if rank else torch.zeros(1, 1),
                "live": units.live,
                "pixels": units.n,
                "rounds": 0,
                "change": 1.0 if rank else 0.0,
            }
            if rank:
                state["thresholds"] = self._thresholds(source.reduce(self._sums(state), _add)[0], units.n)
        yield state, 0.0
        while state["rounds"] < self.settings.iterations and state["change"] > self.settings.tolerance:
            state = self._round(source, state)
            yield state, state["rounds"] / self.settings.iterations

    def _sums(self, state: State) -> Any:
        """Risks of all sub-bands and components, and products of the whitened pixels with the thresholded components."""
        grid = threshold_grid(int(state["pixels"]), self.settings.thresholds)
        live, noise = state["live"], state["noise"]

        def sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
            images = project(tile["cube"], state)[0]
            pyramid = self.wavelets.analyse(images)
            risks = [risk_sums(pyramid.core(tile, number), grid) for number in range(1, len(pyramid.subbands))]
            clean = self._shrunk(pyramid, state)[None]
            pixels = tile.core_pixels(tile["cube"][:, live.to(tile.lead.device)])
            pixels = pixels / noise.to(pixels)[live, None]
            return torch.stack(risks), (pixels @ tile.core_pixels(clean).T).double().cpu()

        return sums

    def _thresholds(self, risks: torch.Tensor, n: int) -> torch.Tensor:
        grid = threshold_grid(n, self.settings.thresholds)
        found = grid[risks.argmin(2)]
        return torch.cat([torch.zeros_like(found[:1]), found])

    def _round(self, source: Source, state: State) -> State:
        risks, product = source.reduce(self._sums(state), _add)
        left, _, right = torch.linalg.svd(product, full_matrices=False)
        vectors, live, noise = left @ right, state["live"], state["noise"]
        forward, inverse = torch.zeros_like(state["forward"]), torch.zeros_like(state["inverse"])
        before = state["forward"][:, live] * noise[live]
        forward[:, live] = vectors.T / noise[live]
        inverse[live] = vectors * noise[live, None]
        return {
            **state,
            "forward": forward,
            "inverse": state["copies"] @ inverse,
            "thresholds": self._thresholds(risks, int(state["pixels"])),
            "rounds": state["rounds"] + 1,
            "change": float((before - vectors.T).norm() / vectors.norm()),
        }

    def _shrunk(self, pyramid: Pyramid, state: State) -> torch.Tensor:
        limits = state["thresholds"].to(pyramid.subbands[0])[:, :, None, None]
        kept = [soft(band, limit) for band, limit in zip(pyramid.subbands, limits, strict=True)]
        return self.wavelets.synthesise(pyramid.with_subbands(kept))

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Threshold the components and turn back, (n, bands, y, x)."""
        images = project(tile["cube"], state)
        clean = torch.stack([self._shrunk(self.wavelets.analyse(one), state) for one in images])
        return {"cube": unproject(clean, state)}

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy and the answer; the components with their transforms."""
        k = min(self.settings.rank or 40, size.bands)
        wide = extended_pixels(self.wavelets, size.rows, size.cols)
        need = 4 * size.rows * size.cols * size.bands * 4 + 6 * k * wide * 4
        return {"fit": need + 2 * size.bands * wide * 4, "apply": need}

    def figures(self, state: State) -> dict[str, Any]:
        """Rank, iterations, median noise; a warning where it has not settled."""
        out: dict[str, Any] = {"rank": len(state["forward"]), "iterations": int(state["rounds"])}
        out["median_noise"] = float(f"{float(state['noise'].median()):.6g}")
        if float(state["change"]) > self.settings.tolerance:
            out["warnings"] = [f"the subspace still changed by {float(state['change']):.2g} in the last iteration"]
        return out


def _add(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> tuple[Any, Any]:
    return one[0] + other[0], one[1] + other[1]
