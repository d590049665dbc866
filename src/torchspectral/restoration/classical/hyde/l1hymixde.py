"""L1HyMixDe: eigen-images are denoised while the misfit is measured by absolute values, so that outliers weigh little."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from torchspectral.engine.method import (
    AnySettings,
    Gram,
    Input,
    Method,
    Output,
    Round,
    Scale,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadSettings
from torchspectral.ops.gram import add_sums, eigh_descending, gram_sums
from torchspectral.restoration.classical.hyde.adaptive_median import adaptive_median
from torchspectral.restoration.classical.hyde.eigen_denoisers import EigenDenoiser, EigenDenoiserSettings
from torchspectral.restoration.classical.hyde.units import units_of, unproject
from torchspectral.restoration.classical.tiled_wavelets import soft
from torchspectral.settings import setting


class L1HyMixDeSettings(EigenDenoiserSettings):
    """L1HyMixDe."""

    k: int | None = setting(10, "dimensions of the subspace; None: those above what noise alone would have", ge=1)
    outlier: float = setting(
        0.05,
        "p: values this far from the adaptive median are outliers at first, with the cube's largest value as 1",
        gt=0,
    )
    window: int = setting(21, "largest window of the adaptive median, odd", unit="pixel", ge=3, le=41)
    iterations: int = setting(10, "iterations at most", ge=1)
    tolerance: float = setting(1e-3, "relative change of the scene below which it stops", ge=0)


class L1HyMixDe(Method):
    """Mixed noise: min |Y - E Z|_1 + phi(Z) over eigen-images Z, phi a denoiser that is plugged in.

    An adaptive median filter marks outliers; the subspace E and the noise come from the scene in which these are
    replaced. Alternating directions in units of the noise follow: Z denoises E^T (Y - V + D), V is Y - E Z + D softly
    thresholded at 1, D gathers what is left. The arrays of the iterations lie in the
    engine's scratch space; the answer is E Z.

    State
    -----
    offset : Tensor, shape (bands,)
        Constant bands; 0 for the others.
    forward, inverse : Tensor, shapes (k, bands) and (bands, k)
        Pixels less the offset to eigen-images of unit noise, and back.
    noise : Tensor, shape (bands,)
    rounds : int
    change : float
        Relative change of the scene in the last iteration.

    References
    ----------
    Zhuang and Ng, "Hyperspectral mixed noise removal by l1-norm-based subspace representation", IEEE JSTARS 13, 2020.
    Hwang and Haddad, "Adaptive median filters: new algorithms and results", IEEE TIP 4(4), 1995.
    """

    Settings = L1HyMixDeSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    scale = Scale("max")
    needs_fit = True
    starts_from_state = True
    state_keys = ("offset", "forward", "inverse", "noise")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        if self.settings.window % 2 == 0:
            raise BadSettings(f"got window={self.settings.window}, expected an odd number of pixels")
        self.denoiser = EigenDenoiser(self.settings)
        self.multiple = self.denoiser.multiple
        self.halo = max(self.denoiser.halo, -(-(self.settings.window // 2) // self.multiple) * self.multiple)

    def prepare(self, info: SceneInfo) -> None:
        """Patches no larger than the scene."""
        self.denoiser.fit_to(info.shape)

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Outliers and subspace, then rounds of two passes each."""
        begun = "sparse" in next(iter(source.tiles()))
        if state is None or "forward" not in state:
            state = self._subspace(source)
        if not begun:
            source.map("sparse", partial(self._start, state=state))
            state = {**state, "rounds": 0, "change": 1.0}
        while state["rounds"] < self.settings.iterations and state["change"] > self.settings.tolerance:
            source.map("images", partial(self._images, state=state))
            source.map("sparse", partial(self._sparse, state=state))
            state = {**state, "rounds": state["rounds"] + 1, "change": self._change(source, state)}
            yield state, state["rounds"] / self.settings.iterations

    def _subspace(self, source: Source) -> State:
        def sums(tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
            n, total, cross = gram_sums(tile.core_pixels(self._cleaned(tile["cube"])))
            return n, total.cpu(), cross.cpu()

        n, total, cross = source.reduce(sums, add_sums)
        units = units_of(source, Gram(n, total, cross))
        if len(units.live):
            vectors = eigh_descending(units.white)[1][:, : self.settings.k or units.rank]
        else:
            vectors = units.mean.new_zeros(0, 1)
        forward, inverse = units.there(vectors), units.back(vectors)
        return {"offset": units.offset, "forward": forward, "inverse": inverse, "noise": units.noise}

    def _cleaned(self, cube: torch.Tensor) -> torch.Tensor:
        """Outliers replaced by the adaptive median."""
        median = adaptive_median(cube.flatten(0, 1), self.settings.window).reshape(cube.shape)
        return torch.where((cube - median).abs() > self.settings.outlier, median, cube)

    def _start(self, tile: Tile, state: State) -> torch.Tensor:
        """Sparse part and multiplier, (1, 2 bands, y, x), in units of the noise."""
        outliers = (tile["cube"] - self._cleaned(tile["cube"])) * _per_noise(state, tile.lead)
        return torch.cat([outliers, torch.zeros_like(outliers)], 1)

    def _images(self, tile: Tile, state: State) -> torch.Tensor:
        """Denoised eigen-images and those before, (1, 2 k, y, x)."""
        cube = tile["cube"]
        bands, k = cube.shape[1], len(state["forward"])
        sparse, rest = tile["sparse"][:, :bands], tile["sparse"][:, bands:]
        inside = (cube - _column(state["offset"], cube)) * _per_noise(state, cube) - sparse + rest
        noise = _column(state["noise"], cube)
        images = torch.einsum("kb,nbyx->nkyx", state["forward"].to(cube), inside * noise)
        new = torch.stack([self.denoiser(one) for one in images])
        old = tile["images"][:, :k] if "images" in tile else torch.zeros_like(new)
        return torch.cat([new, old], 1)

    def _sparse(self, tile: Tile, state: State) -> torch.Tensor:
        cube = tile["cube"]
        bands, k = cube.shape[1], len(state["forward"])
        found = unproject(tile["images"][:, :k], state)
        gap = (cube - found) * _per_noise(state, cube) + tile["sparse"][:, bands:]
        sparse = soft(gap, 1.0)
        return torch.cat([sparse, gap - sparse], 1)

    def _change(self, source: Source, state: State) -> float:
        k = len(state["forward"])

        def sums(tile: Tile) -> torch.Tensor:
            images = tile.core_pixels("images")
            new, old = (state["inverse"].to(images) @ part for part in (images[:k], images[k:]))
            return torch.stack([(new - old).double().square().sum(), old.double().square().sum()]).cpu()

        gap, power = source.reduce(sums, torch.add).tolist()
        return (gap / power) ** 0.5 if power > 0 else (1.0 if gap > 0 else 0.0)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Turn the eigen-images back, (n, bands, y, x)."""
        return {"cube": unproject(tile["images"][:, : len(state["forward"])], state)}

    def memory(self, size: Size) -> dict[str, int]:
        """Eight cubes: the scene, sparse part and multiplier, old and new, windows of the median; and the denoiser's."""
        k = min(self.settings.k or 40, size.bands)
        pixels = size.rows * size.cols
        fit = pixels * (10 * size.bands + 6 * k) * 4 + self.denoiser.memory(size.rows, size.cols, k)
        return {"fit": fit + 30 * pixels * 4, "apply": pixels * (2 * size.bands + 2 * k) * 4}

    def figures(self, state: State) -> dict[str, Any]:
        """Dimensions, iterations, median noise."""
        out: dict[str, Any] = {"rank": len(state["forward"]), "iterations": int(state["rounds"])}
        out["median_noise"] = float(f"{float(state['noise'].median()):.6g}")
        return out


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like.device, like.dtype)[:, None, None]


def _per_noise(state: State, like: torch.Tensor) -> torch.Tensor:
    noise = state["noise"].double()
    return _column(torch.where(noise > 0, 1 / noise.clamp_min(1e-300), 0.0), like)
